"""The room models.hooks."""

from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import BACKENDS, HAS_HOOKED, load_causal_bridge, load_hooked_transformer, says
from tests.support.models import TEXTS, run, switched_on
from tl_dream.models.hooks import ALIASES, LAYERED, SHORT_NAMES, WHOLE, layers_run
from tl_dream.models.host import attached


def both(names: dict[str, tuple[str | None, ...]], left: int, right: int) -> list[str]:
    return [name for name, row in names.items() if row[left] is not None and row[right] is not None]


@pytest.fixture(scope="module")
def encoders(tiny_folder: Path) -> list[torch.nn.Module]:
    if not HAS_HOOKED:
        pytest.skip("this TransformerLens has no HookedEncoder to compare with")
    return [td.load_model(str(tiny_folder), backend=b, dtype=torch.float64) for b in BACKENDS]


@pytest.fixture(scope="module")
def causals(tiny_causal_folder: Path) -> list[torch.nn.Module]:
    if not HAS_HOOKED:
        pytest.skip("this TransformerLens has no HookedTransformer to compare with")
    return [load(tiny_causal_folder, dtype=torch.float64) for load in (load_hooked_transformer, load_causal_bridge)]


def equal_everywhere(models: list[torch.nn.Module], names: dict[str, int | None], texts: list[str]) -> None:
    left, right = (run(model, texts, names) for model in models)
    wrong = [name for name in names if not torch.allclose(left[name], right[name], rtol=0, atol=1e-10)]
    assert not wrong, wrong
    assert all(left[name].abs().max() > 0.01 for name in names if name != "token_type_embed")


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_short_names_mean_the_same_tensor_on_hooked_encoder_and_bridge(
    encoders: list[torch.nn.Module], layer: int
) -> None:
    names = dict.fromkeys((*both(LAYERED, 0, 1), *ALIASES), layer)
    assert len(names) == 14
    equal_everywhere(encoders, {**names, **dict.fromkeys(both(WHOLE, 0, 1))}, TEXTS[:1])


@pytest.mark.parametrize("layer", [0, 1])
def test_short_names_mean_the_same_tensor_on_hooked_transformer_and_bridge(
    causals: list[torch.nn.Module], layer: int
) -> None:
    names = dict.fromkeys(both(LAYERED, 2, 3), layer)
    assert len(names) == 13
    equal_everywhere(causals, {**names, **dict.fromkeys(both(WHOLE, 2, 3))}, [" a red dog sees the moon"])


def test_short_names_are_what_they_say(tiny_encoder64: torch.nn.Module) -> None:
    """Anchored to sums that hold in every BERT, so that one backend alone is checked too."""
    got = run(tiny_encoder64, TEXTS[:1], switched_on(tiny_encoder64, 1))
    previous = run(tiny_encoder64, TEXTS[:1], {"block_out": 0})["block_out"]
    close = {"rtol": 0.0, "atol": 1e-10}
    torch.testing.assert_close(got["block_in"], previous, **close)
    torch.testing.assert_close(got["resid_mid"], got["block_in"] + got["attn_out"], **close)
    torch.testing.assert_close(got["mlp_post"], torch.nn.functional.gelu(got["mlp_pre"]), **close)
    torch.testing.assert_close(got["pattern"].sum(-1), torch.ones_like(got["pattern"][..., 0]), **close)
    z = torch.einsum("bhqk,bkhd->bqhd", got["pattern"], got["v"])
    torch.testing.assert_close(got["z"], z, **close)
    scores = torch.einsum("bqhd,bkhd->bhqk", got["q"], got["k"]) / got["q"].shape[-1] ** 0.5
    torch.testing.assert_close(got["pattern"], scores.softmax(-1), **close)
    norm = torch.nn.functional.layer_norm(got["resid_post"], got["resid_post"].shape[-1:], eps=1e-12)
    unit = torch.stack([norm[0, :, 3], torch.ones_like(norm[0, :, 3])], 1)
    affine = torch.linalg.lstsq(unit, got["block_out"][0, :, 3, None]).solution
    torch.testing.assert_close((unit @ affine)[:, 0], got["block_out"][0, :, 3], **close)  # LayerNorm of resid_post
    with attached(tiny_encoder64) as host:
        ids, _ = host.pad([host.vocabulary.encode(TEXTS[0])])
        torch.testing.assert_close(got["embed"], host.W_E[ids], **close)
    total = got["embed"] + got["pos_embed"] + got["token_type_embed"]
    assert not torch.allclose(total, got["full_embed"], atol=0.1)  # full_embed stands after its LayerNorm


def test_a_full_name_means_itself(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        assert host.resolve("blocks.1.attn.hook_pattern") == "blocks.1.attn.hook_pattern"
        assert host.resolve("resid_pre", 1) == host.resolve("block_in", 1)
        assert host.resolve("block_out", 2) in tiny_encoder.hook_dict


@pytest.mark.parametrize(
    ("hook", "layer", "parts"),
    [
        ("mlp_pots", 1, ["unknown hook 'mlp_pots'; nearest: mlp_post", "`tl-dream hooks` lists them all."]),
        ("blocks.1.mlp.hook_pots", None, ["unknown hook 'blocks.1.mlp.hook_pots'; nearest: blocks.", "hook_"]),
        ("blocks.9.attn.hook_pattern", None, ["unknown hook 'blocks.9.attn.hook_pattern'; nearest: blocks."]),
        ("mlp_post", None, ["the hook 'mlp_post' is one of every layer: give layer= (0 to 2)"]),
        ("mlp_post", 3, ["layer 3 does not exist: ", "has layers 0 to 2"]),
        ("mlp_post", -1, ["layer -1 does not exist: ", "has layers 0 to 2"]),
        ("logits", 1, ["the hook 'logits' is the model's, not a layer's: leave layer= out"]),
        (
            "blocks.1.attn.hook_pattern",
            1,
            ["'blocks.1.attn.hook_pattern' is a full hook name and says its layer itself: leave layer= out"],
        ),
    ],
)
def test_names_and_layers_that_are_not_there(
    tiny_encoder: torch.nn.Module, hook: str, layer: int | None, parts: list[str]
) -> None:
    with attached(tiny_encoder) as host, says(*parts):
        host.resolve(hook, layer)


def test_a_short_name_that_this_backend_has_not_got(every_model64: torch.nn.Module) -> None:
    with attached(every_model64) as host:
        missing = [n for n, row in {**LAYERED, **WHOLE}.items() if row[host._column] is None]
        for name in missing:
            with says(f"{host.name} has no hook for {name!r}; `tl-dream hooks` lists those it has"):
                host.resolve(name, 0 if name in LAYERED else None)
        assert bool(missing) == (host.kind != "encoder")


def test_list_hooks(every_model64: torch.nn.Module) -> None:
    hooks = td.list_hooks(every_model64, "the red dog")
    assert len({info.name for info in hooks}) == len(hooks)
    assert {id(every_model64.hook_dict[info.name]) for info in hooks} == {
        id(point) for point in every_model64.hook_dict.values()
    }
    silent = [info.shape is None for info in hooks]
    assert silent == sorted(silent)  # those that did not fire come last
    shorts = {info.short: info for info in hooks if info.short}
    with attached(every_model64) as host:
        names = [name for name in SHORT_NAMES if {**LAYERED, **WHOLE}[name][host._column]]
        for name in names:
            layer = 1 if name in LAYERED else None
            if host.causal and name == "resid_post":
                continue  # no LayerNorm between it and block_out: one hook, listed once
            info = shorts[f"{name}, layer=1" if layer else name]
            assert info.name == host.resolve(name, layer)
            if name != "result":
                assert info.shape == tuple(run(every_model64, ["the red dog"], {name: layer})[name].shape)
    order = [info.name for info in hooks]
    assert order.index(shorts["block_in, layer=1"].name) < order.index(shorts["block_out, layer=1"].name)


def test_layers_run() -> None:
    assert layers_run(["embed.hook_embed"], 6) == 1
    assert layers_run(["blocks.0.hook_resid_pre"], 6) == 1
    assert layers_run(["blocks.4.mlp.hook_post", "blocks.2.attn.hook_z"], 6) == 5
    assert layers_run(["blocks.0.hook_out", "unembed.hook_out"], 6) == 6
    assert layers_run(["pooler.hook_out"], 6) == 6
