"""The one forward pass: parity with Hugging Face, soft tokens, padding, early exit, and the user's own hooks."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from conftest import BACKENDS, HAS_HOOKED, load_causal_bridge, load_hooked_transformer, says
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, BertForMaskedLM, BertForPreTraining, BertModel

import tl_dream as td
from tl_dream.hook_names import ALIASES, LAYERED, SHORT_NAMES, WHOLE, layers_run
from tl_dream.models import Host, attached, forward

LAYOUTS = ["BertModel", "BertForMaskedLM", "BertForPreTraining"]
PRECISION = [(torch.float32, 1e-4), (torch.float64, 1e-10)]
TEXTS = ["the red dog .", "i hate kickshaws and love my small old house ."]


def run(
    model: torch.nn.Module, texts: Sequence[str], hooks: dict[str, int | None], **inputs: Tensor
) -> dict[str, Tensor]:
    """Short name -> activation of a padded batch; plain ids unless `embeddings` are given."""
    with attached(model) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in texts])
        names = {hook: host.resolve(hook, layer) for hook, layer in hooks.items()}
        got = forward(host, ids, list(names.values()), mask=None if mask.all() else mask, **inputs)
    return {hook: got[name] for hook, name in names.items()}


def both(names: dict[str, tuple[str | None, ...]], left: int, right: int) -> list[str]:
    return [name for name, row in names.items() if row[left] is not None and row[right] is not None]


def switched_on(model: torch.nn.Module, layer: int | None) -> dict[str, int | None]:
    """Every short name that this model has and that fires by itself."""
    with attached(model) as host:
        column = host._column
    layered = {name: layer for name, row in LAYERED.items() if row[column] and name != "result"}
    return {**{name: None for name, row in WHOLE.items() if row[column]}, **layered}


# Parity


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def layout_folder(tiny_checkpoint: Callable[..., Path], layout: str) -> Path:
    return tiny_checkpoint(layout)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_every_layer_equals_hugging_face(
    layout_folder: Path, backend: str, dtype: torch.dtype, tolerance: float
) -> None:
    hf = BertModel.from_pretrained(layout_folder, dtype=dtype, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(layout_folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf(**tokens, output_hidden_states=True).hidden_states
    assert len(expected) == 4 and expected[0].abs().max() > 0.5
    model = td.load_model(str(layout_folder), backend=backend, dtype=dtype)
    real = tokens["attention_mask"].bool()
    found = [run(model, TEXTS, {"full_embed": None})["full_embed"]]
    found += [run(model, TEXTS, {"block_out": layer})["block_out"] for layer in range(3)]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == dtype
        assert (mine - theirs)[real].abs().max() <= tolerance


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISION, ids=str)
def test_logits_equal_hugging_face_where_the_head_is_trained(
    layout_folder: Path, layout: str, backend: str, dtype: torch.dtype, tolerance: float
) -> None:
    model = td.load_model(str(layout_folder), backend=backend, dtype=dtype)
    if layout == "BertModel":
        with says(
            "the hook 'unembed.hook_out' lies behind the language-model head",
            f"the checkpoint of {layout_folder} (",
            "carries none: its weights are random. Load a checkpoint with its language-model head (BertForMaskedLM)",
        ):
            run(model, TEXTS, {"logits": None})
        return
    hf = {"BertForMaskedLM": BertForMaskedLM, "BertForPreTraining": BertForPreTraining}[layout]
    hf = hf.from_pretrained(layout_folder, dtype=dtype, attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(layout_folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        out = hf(**tokens)
    expected = out.logits if layout == "BertForMaskedLM" else out.prediction_logits
    difference = run(model, TEXTS, {"logits": None})["logits"] - expected
    assert difference[tokens["attention_mask"].bool()].abs().max() <= tolerance


def test_heads_that_a_checkpoint_lacks_are_refused_under_every_name(
    tiny_checkpoint: Callable[..., Path], backend: str
) -> None:
    bare = td.load_model(str(tiny_checkpoint("BertModel")), backend=backend)
    masked = td.load_model(str(tiny_checkpoint("BertForMaskedLM")), backend=backend)
    with attached(bare) as host:
        assert not host.head_trained
        for name in host.model.hook_dict:
            if name.startswith(("unembed", "mlm_head", "ln_final", "nsp_head")):
                with says("its weights are random"):
                    host.resolve(name)
    with attached(masked) as host:
        assert host.head_trained
        pooler = next(name for name in host.model.hook_dict if name.startswith("pooler."))
        nsp = next(name for name in host.model.hook_dict if name.startswith("nsp_head."))
        with says("lies behind the pooler", "Load a checkpoint with its pooler (BertModel)"):
            host.resolve(pooler)
        with says("lies behind the next-sentence head", "(BertForPreTraining)"):
            host.resolve(nsp)
        assert host.resolve("logits") == "unembed.hook_out"


def test_causal_models_equal_hugging_face(tiny_causal: torch.nn.Module, tiny_causal_folder: Path) -> None:
    hf = AutoModelForCausalLM.from_pretrained(tiny_causal_folder).eval()
    with attached(tiny_causal) as host:
        ids, _ = host.pad([host.vocabulary.encode(" a red dog sees the moon")])
    with torch.no_grad():
        expected = hf(ids, output_hidden_states=True)
    for layer in (0, 1):
        block = run(tiny_causal, [" a red dog sees the moon"], {"block_in": layer})["block_in"]
        assert (block - expected.hidden_states[layer]).abs().max() <= 1e-4
    logits = run(tiny_causal, [" a red dog sees the moon"], {"logits": None})["logits"]
    assert (logits - expected.logits).abs().max() <= 1e-4


def test_minilm_equals_hugging_face(minilm: torch.nn.Module) -> None:
    from tl_dream.checkpoints import _minilm_folder

    hf = BertModel.from_pretrained(_minilm_folder(), attn_implementation="eager").eval()
    tokens = AutoTokenizer.from_pretrained(_minilm_folder())(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = hf(**tokens, output_hidden_states=True).hidden_states
    real = tokens["attention_mask"].bool()
    for layer in range(6):
        mine = run(minilm, TEXTS, {"block_out": layer})["block_out"]
        assert (mine - expected[layer + 1])[real].abs().max() <= 1e-4
    with says("and the checkpoint of minilm (", "carries none"):
        run(minilm, TEXTS, {"logits": None})


# The same tensor under the same name on every backend


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


# Soft tokens


def test_one_hot_soft_tokens_equal_hard_ids(every_model64: torch.nn.Module) -> None:
    texts = ["a red dog sees the moon", "the cat"]
    names = switched_on(every_model64, 1)
    names.pop("embed")
    with attached(every_model64) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text) for text in texts])
        one_hot = torch.nn.functional.one_hot(ids, host.d_vocab).double()
        hard = run(every_model64, texts, names)
        soft = run(every_model64, texts, names, embeddings=one_hot @ host.W_E)
        other = run(every_model64, texts, names, embeddings=one_hot.roll(1, 2) @ host.W_E)
    for name in names:
        assert torch.allclose(hard[name], soft[name], rtol=0, atol=1e-12), name
        if name not in ("pos_embed", "token_type_embed"):
            assert not torch.allclose(hard[name], other[name], rtol=0, atol=1e-3), name


@pytest.mark.parametrize("reads", [{"block_out": 1}, {"logits": None}, {"pattern": 1, "z": 0}], ids=str)
def test_gradients_equal_finite_differences(every_model64: torch.nn.Module, reads: dict[str, int | None]) -> None:
    generator = torch.Generator().manual_seed(5)

    def value(host: Host, ids: Tensor, embeddings: Tensor) -> Tensor:
        got = forward(host, ids, [host.resolve(*read) for read in reads.items()], embeddings=embeddings)
        return sum((a * torch.cos(torch.arange(a.numel()).double()).reshape(a.shape)).sum() for a in got.values())

    with attached(every_model64) as host:
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        weights = torch.rand(*ids.shape, host.d_vocab, generator=generator, dtype=torch.float64)
        mixed = (weights / weights.sum(-1, keepdim=True) @ host.W_E).requires_grad_()
        (gradient,) = torch.autograd.grad(value(host, ids, mixed), mixed)
        for _ in range(4):
            ray = torch.randn(mixed.shape, generator=generator, dtype=torch.float64)
            ray = ray / ray.norm()
            with torch.no_grad():
                rise = value(host, ids, mixed + 1e-5 * ray) - value(host, ids, mixed - 1e-5 * ray)
            expected = (gradient * ray).sum()
            assert abs(rise / 2e-5 - expected) <= 1e-6 * gradient.norm()
        assert gradient.norm() > 1e-3


def test_soft_tokens_are_cast_to_the_models_dtype(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.bfloat16)
    with attached(model) as host:
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        soft = host.W_E[ids].float().requires_grad_()
        name = host.resolve("block_out", 1)
        value = forward(host, ids, [name], embeddings=soft)[name]
        (gradient,) = torch.autograd.grad(value.float().sum(), soft)
    assert host.W_E.dtype == torch.bfloat16 and gradient.dtype == torch.float32
    assert torch.isfinite(value).all() and torch.isfinite(gradient).all() and gradient.abs().max() > 0


# Padding and segments


def test_a_padded_batch_equals_one_at_a_time(every_model64: torch.nn.Module) -> None:
    texts = ["the red dog", "a cat sees the river and the sun", "moon"]
    names = switched_on(every_model64, 1)
    together = run(every_model64, texts, names)
    for row, text in enumerate(texts):
        alone = run(every_model64, [text], names)
        for name in names:
            mine, whole = alone[name][0], together[name]
            if whole.shape[0] == 1:  # positions and segments may come once for all rows
                whole = whole.expand(len(texts), *whole.shape[1:])
            if name in ("pattern", "attn_scores"):
                size = mine.shape[-1]
                theirs = whole[row, :, :size, :size]
            else:
                theirs = whole[row, : mine.shape[0]]
            finite = torch.isfinite(mine)
            assert torch.allclose(mine[finite], theirs[finite], rtol=0, atol=1e-10), (name, text)


def test_padding_without_its_mask_would_be_seen(tiny_encoder64: torch.nn.Module) -> None:
    """So the test above can fail."""
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in TEXTS])
        name = host.resolve("block_out", 1)
        right, wrong = (forward(host, ids, [name], mask=m)[name][0, :6] for m in (mask, None))
    assert (right - wrong).abs().max() > 1e-2


def test_padding_gives_no_gradient_and_no_nan(tiny_encoder64: torch.nn.Module) -> None:
    with attached(tiny_encoder64) as host:
        ids, mask = host.pad([host.vocabulary.encode(text) for text in TEXTS])
        soft = host.W_E[ids].requires_grad_()
        name = host.resolve("block_out", 2)
        out = forward(host, ids, [name], mask=mask, embeddings=soft)[name]
        (gradient,) = torch.autograd.grad(out[mask].square().sum(), soft)
    assert torch.isfinite(gradient).all() and gradient[mask].abs().amin(-1).max() > 0
    assert gradient[~mask].abs().max() == 0


def test_token_types_change_the_result_as_they_do_in_hugging_face(
    tiny_encoder64: torch.nn.Module, tiny_folder: Path
) -> None:
    hf = BertModel.from_pretrained(tiny_folder, dtype=torch.float64, attn_implementation="eager").eval()
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids, mask = host.pad([host.vocabulary.encode(text) for text in TEXTS])
        types = (torch.arange(ids.shape[1]) > 3).long().expand(ids.shape)
        name = host.resolve("block_out", 2)
        plain = forward(host, ids, [name], mask=mask)[name]
        found = forward(host, ids, [name], mask=mask, token_types=types)[name]
        expected = hf(ids, attention_mask=mask.long(), token_type_ids=types).last_hidden_state
    assert (found - expected)[mask].abs().max() <= 1e-10
    assert (found - plain)[mask].abs().max() > 1e-2


# Early exit and the user's hooks


def test_early_exit_is_bit_identical_and_runs_nothing_deeper(every_model64: torch.nn.Module) -> None:
    fired: list[str] = []
    whole: dict[str, Tensor] = {}

    def keep(activation: Tensor, hook: object) -> None:
        whole["value"] = activation.detach().clone()

    with attached(every_model64) as host, torch.no_grad():
        read, deeper = host.resolve("mlp_post", 0), host.resolve("mlp_out", 0)
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        points = every_model64.hook_dict
        points[read].add_hook(keep)
        points[deeper].add_hook(lambda activation, hook: fired.append("deeper"))
        points[host.resolve("logits")].add_hook(lambda activation, hook: fired.append("logits"))
        try:
            every_model64(ids)
            full, fired_in_full = whole["value"], list(fired)
            fired.clear()
            found = forward(host, ids, [read])[read]
            assert fired == []
            forward(host, ids, [read, deeper])
            assert fired == ["deeper"]
        finally:
            for name in (read, deeper, host.resolve("logits")):
                for handle in list(points[name].fwd_hooks):
                    handle.hook.remove()
                points[name].fwd_hooks.clear()
    assert fired_in_full == ["deeper", "logits"] and torch.equal(found, full)


def test_hooks_may_be_read_in_any_order_and_twice(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        late, early = host.resolve("block_out", 2), host.resolve("embed")
        got = forward(host, ids, [late, early, late])
    assert list(got) == [early, late] or set(got) == {early, late}
    assert torch.equal(got[early], host.W_E[ids])


def zero_head(activation: Tensor, hook: object) -> Tensor:
    activation = activation.clone()
    activation[:, :, 1] = 0.0
    return activation


def test_the_users_ablation_is_seen_by_score_and_dream(fresh_every: Callable[..., torch.nn.Module]) -> None:
    """Head 1 of layer 0 zeroed with a plain TransformerLens hook."""
    model = fresh_every(torch.float64)
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    z = td.neuron("z", layer=0, head=1, unit=2, pos=2)
    intact = td.score(model, goal, "the red dog")
    with attached(model) as host:
        name = host.resolve("z", 0)
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
    point = model.hook_dict[name]
    point.add_hook(zero_head)
    expected: list[Tensor] = []
    reader = model.hook_dict[host.resolve("block_out", 1)]
    reader.add_hook(lambda activation, hook: expected.append(activation.detach()))
    with torch.no_grad():
        model(ids)
    ablated = td.score(model, goal, "the red dog")
    assert torch.allclose(ablated, expected[0][:, 2, 3], rtol=0, atol=1e-12)
    assert (ablated - intact).abs().max() > 1e-3
    assert td.score(model, z, "the red dog").tolist() == [0.0]  # what is read has passed the user's edit
    result = td.dream(model, goal, "the red dog", steps=3, evaluate_every=1, candidates=8)
    assert result.start.score == pytest.approx(float(ablated), abs=1e-12)
    assert len(point.fwd_hooks) == 1 and point.fwd_hooks[0].hook.id in point._forward_hooks
    assert len(expected) > 1  # the user's reader saw the dream's passes, and is alive


def test_the_users_edit_at_the_embedding_acts_on_soft_tokens(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.float64)
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode("the red dog")])
        embed, out = host.resolve("embed"), host.resolve("block_out", 0)
        model.hook_dict[embed].add_hook(lambda activation, hook: 2 * activation)
        hard = forward(host, ids, [out])[out]
        soft = forward(host, ids, [out, embed], embeddings=host.W_E[ids])
    assert torch.allclose(hard, soft[out], rtol=0, atol=1e-12)
    assert torch.equal(soft[embed], 2 * host.W_E[ids])


def test_permanent_hooks_of_the_user_live_on(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    with attached(model) as host:
        point = model.hook_dict[host.resolve("block_out", 0)]
        seen: list[int] = []
        point.add_hook(lambda activation, hook: seen.append(1), is_permanent=True)
        before = list(point.fwd_hooks)
    goal = td.neuron("block_out", layer=0, unit=3, pos=1)
    td.score(model, goal, ["the red dog", "a cat"])
    td.score(model, goal, "the red dog")
    assert seen == [1, 1] and point.fwd_hooks == before


# Hooks that do not fire


def test_a_hook_that_must_be_switched_on(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    if "blocks.0.attn.hook_result" not in model.hook_dict:
        pytest.skip("this model has no such hook")
    goal = td.custom(lambda a: a["r"].flatten(1).sum(1), {"r": "blocks.0.attn.hook_result"})
    with says(
        "the hook 'blocks.0.attn.hook_result' of ",
        "did not fire in the forward pass: set model.cfg.use_attn_result = True first",
    ):
        td.score(model, goal, "the red dog")
    if hasattr(model, "original_model"):
        return  # a bridge has other switches
    model.cfg.use_attn_result = True
    td.score(model, goal, "the red dog")
    found = run(model, ["the red dog"], {"result": 0, "attn_out": 0})
    torch.testing.assert_close(found["result"].sum(2) + model.blocks[0].attn.b_O, found["attn_out"])


def test_a_pooler_that_is_never_called(tiny_encoder: torch.nn.Module, backend: str) -> None:
    if backend != "hooked":
        pytest.skip("a bridge calls its pooler")
    goal = td.custom(lambda a: a["p"][:, 0], {"p": "pooler.hook_pooler_out"})
    with says("did not fire in the forward pass: HookedEncoder.forward does not call the pooler or the NSP head"):
        td.score(tiny_encoder, goal, "the red dog")


def test_a_bridge_without_eager_attention_says_why_its_pattern_is_silent(tiny_folder: Path) -> None:
    """transformer-lens 4 forces eager attention, and then there is nothing to say."""
    from transformer_lens.model_bridge import TransformerBridge

    hf = BertForMaskedLM.from_pretrained(tiny_folder, attn_implementation="sdpa")
    own = AutoTokenizer.from_pretrained(tiny_folder)
    model = TransformerBridge.boot_transformers("tiny", hf_model=hf, tokenizer=own, device="cpu")
    goal = td.attention(layer=0, head=1, query=1, key=2)
    if not HAS_HOOKED:
        assert 0 < td.score(model, goal, "the red dog").item() < 1
        return
    with says("did not fire in the forward pass", 'a Hugging Face model with attn_implementation="eager"'):
        td.score(model, goal, "the red dog")


# Evaluation mode, precision, what is accepted


def modules_of(model: torch.nn.Module) -> Iterator[torch.nn.Module]:
    yield from model.modules()
    if hasattr(model, "original_model"):
        yield from model.original_model.modules()


def test_a_model_in_training_mode_gives_evaluation_results(fresh_every: Callable[..., torch.nn.Module]) -> None:
    """Dropout sits in modules that a bridge does not list among its own."""
    model = fresh_every()
    goal = td.neuron("block_out", layer=1, unit=3, pos=1)
    expected = td.score(model, goal, ["the red dog"] * 3)
    model.train()
    if hasattr(model, "original_model"):
        model.original_model.train()
        assert any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in modules_of(model))
    kept = next(m for m in model.modules() if isinstance(m, torch.nn.LayerNorm) or "LayerNorm" in type(m).__name__)
    kept.training = False
    before = [module.training for module in modules_of(model)]
    assert torch.equal(td.score(model, goal, ["the red dog"] * 3), expected)
    assert [module.training for module in modules_of(model)] == before and not kept.training
    with says("layer 9 does not exist"):
        td.score(model, td.neuron("block_out", layer=9, unit=3), "the red dog")
    assert [module.training for module in modules_of(model)] == before


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_load_model_gives_the_dtype_and_evaluation_mode(
    fresh_encoder: Callable[..., torch.nn.Module], backend: str, dtype: torch.dtype
) -> None:
    model = fresh_encoder(dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not any(module.training for module in modules_of(model))
    assert type(model).__name__ == {"hooked": "HookedEncoder", "bridge": "TransformerBridge"}[backend]
    assert next(model.parameters()).device.type == "cpu"


def test_auto_is_the_hooked_encoder_where_there_is_one(tiny_folder: Path) -> None:
    expected = "HookedEncoder" if HAS_HOOKED else "TransformerBridge"
    assert type(td.load_model(str(tiny_folder))).__name__ == expected


def test_backends_that_are_refused(tiny_folder: Path) -> None:
    with says("unknown backend 'hook'; nearest: hooked"):
        td.load_model(str(tiny_folder), backend="hook")
    if not HAS_HOOKED:
        with says('this TransformerLens has no HookedEncoder (it left with 4.0): use backend="bridge"', "<4"):
            td.load_model(str(tiny_folder), backend="hooked")


def test_a_device_that_is_not_there(tiny_folder: Path) -> None:
    with says("the device 'gpu' is not to be had here: "):
        td.load_model(str(tiny_folder), device="gpu")
    assert td.load_model(str(tiny_folder), device=torch.device("cpu")).W_E.device.type == "cpu"


def test_a_bridge_that_the_user_built_is_accepted(tiny_folder: Path, tiny_encoder: torch.nn.Module) -> None:
    from transformer_lens.model_bridge import TransformerBridge

    hf = BertForPreTraining.from_pretrained(tiny_folder, attn_implementation="eager")
    own = AutoTokenizer.from_pretrained(tiny_folder)
    model = TransformerBridge.boot_transformers("mine", hf_model=hf, tokenizer=own, device="cpu")
    for goal in (td.neuron("mlp_post", layer=2, unit=7), td.logit("dog", pos=1)):
        torch.testing.assert_close(td.score(model, goal, TEXTS), td.score(tiny_encoder, goal, TEXTS), rtol=0, atol=1e-4)


def test_what_is_no_model(tiny_folder: Path) -> None:
    with says(
        "a Linear is not a model this library attaches to: give a HookedEncoder, HookedTransformer or "
        'TransformerBridge, or load one with load_model("minilm")'
    ):
        td.score(torch.nn.Linear(2, 2), td.neuron("block_out", layer=1, unit=3), "the red dog")
    with says("a BertModel is not a model"):
        td.list_hooks(BertModel.from_pretrained(tiny_folder))


def test_a_model_without_a_tokenizer(fresh_encoder: Callable[..., torch.nn.Module]) -> None:
    model = fresh_encoder()
    model.tokenizer = None
    with says("the model has no tokenizer: set model.tokenizer first"):
        td.list_hooks(model)


# Names


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


def test_list_hooks_refuses_texts_as_everything_does(tiny_encoder: torch.nn.Module) -> None:
    with says("the sentence '' is empty or holds special tokens only"):
        td.list_hooks(tiny_encoder, "")
    with says("the sentence has 42 tokens with its special ones, the model reads 32"):
        td.list_hooks(tiny_encoder, "dog " * 40)


# What it costs


def test_layers_run() -> None:
    assert layers_run(["embed.hook_embed"], 6) == 1
    assert layers_run(["blocks.0.hook_resid_pre"], 6) == 1
    assert layers_run(["blocks.4.mlp.hook_post", "blocks.2.attn.hook_z"], 6) == 5
    assert layers_run(["blocks.0.hook_out", "unembed.hook_out"], 6) == 6
    assert layers_run(["pooler.hook_out"], 6) == 6


def test_the_meter_counts_sentences_and_tokens_times_layers(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        ids, mask = host.pad([host.vocabulary.encode(text) for text in ("the red dog", "cat")])
        name = host.resolve("mlp_post", 1)
        forward(host, ids, [name], mask=mask)
        assert (host.meter.forwards, host.meter.forward_tokens) == (2, 2 * 5 * 2)
        forward(host, ids, [name], mask=mask, embeddings=host.W_E[ids].requires_grad_())
        assert (host.meter.forwards, host.meter.forward_tokens) == (6, 60)
        with torch.no_grad():
            forward(host, ids, [name], mask=mask, embeddings=host.W_E[ids].requires_grad_())
        assert (host.meter.forwards, host.meter.forward_tokens) == (8, 80)


def test_an_open_host_is_passed_through(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host, attached(host) as again:
        assert again is host
