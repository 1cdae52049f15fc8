"""BERT's blocks by themselves, against the model's own forward pass."""

from collections.abc import Callable

import pytest
import torch

import tl_dream as td
from tl_dream.models.bert_trunk import POINTS, BertTrunk, can_stand_in
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached

TEXTS = ["i hate the red dog .", "the red dog hates me .", "i see the sun and the moon"]


def padded(host):
    rows = [host.vocabulary.encode(text) for text in TEXTS]
    assert len({len(row) for row in rows}) > 1
    return host.pad(rows)


@pytest.mark.parametrize("read", [None, [1, 4]])
@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("soft", [False, True])
def test_every_point_is_the_models(tiny_encoder64: torch.nn.Module, depth: int, read, soft: bool) -> None:
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids, mask = padded(host)
        soft_rows = {"embeddings": torch.randn(*ids.shape, host.W_E.shape[1], dtype=host.W_E.dtype)} if soft else {}
        for shown in (mask, None):
            for points in (POINTS, ("q", "z"), ("pattern",), ("mlp_pre",), ("block_in", "resid_mid")):
                names = [host.resolve(point, depth) for point in points]
                hooks = can_stand_in(host, names)
                assert hooks is not None
                want = forward(host, ids, names, mask=shown, **soft_rows)
                before = host.meter.forward_tokens
                few = None if read is None else torch.tensor([read] * len(ids))
                got = BertTrunk(host, hooks)(ids, mask=shown, read=few, **soft_rows)
                assert host.meter.forward_tokens - before == ids.numel() * (depth + 1), "charged as the model's pass"
                for point, name in zip(points, names, strict=True):
                    assert got[name].shape == want[name].shape, name
                    axis = 2 if point == "pattern" else 1
                    for row in range(len(ids)):
                        seen = [i for i in (read or range(ids.shape[1])) if shown is None or bool(mask[row, i])]
                        a, b = (
                            part[row].index_select(axis - 1, torch.tensor(seen)) for part in (got[name], want[name])
                        )
                        assert (a - b).abs().max() < 1e-11, (name, row)


@pytest.mark.parametrize("hook, depth", [("block_out", 2), ("mlp_pre", 1), ("pattern", 2), ("z", 0)])
def test_gradients_are_the_models(tiny_encoder64: torch.nn.Module, hook: str, depth: int) -> None:
    with attached(tiny_encoder64) as host:
        ids, mask = padded(host)
        name = host.resolve(hook, depth)
        pulls = []
        for run in (BertTrunk(host, can_stand_in(host, [name])), None):
            soft = host.W_E[ids].clone().requires_grad_()
            if run is None:
                value = forward(host, ids, [name], embeddings=soft, mask=mask)[name]
            else:
                value = run(ids, embeddings=soft, mask=mask, read=torch.tensor([[2]] * len(ids)))[name]
            one = value[:, :, 2] if hook == "pattern" else value[:, 2]
            pulls.append(torch.autograd.grad(one.flatten(1)[:, :7].sin().sum(), soft)[0])
        assert pulls[0].abs().max() > 1e-6
        torch.testing.assert_close(*pulls, rtol=0, atol=1e-11)


def test_a_model_with_parts_of_others_is_left_to_itself(fresh_encoder: Callable[..., torch.nn.Module]) -> None:
    """A search climbed what the model was before; an ablation by `nn.Identity` ended it with an AttributeError."""
    model = fresh_encoder()
    bridge = hasattr(model, "original_model")
    layer = model.original_model.bert.encoder.layer[0] if bridge else model.blocks[0]
    mlp = layer.intermediate if bridge else layer.mlp
    goal, text = td.neuron("mlp_post", layer=1, unit=3), "i hate the red dog ."

    def stands_in() -> bool:
        with attached(model) as host:
            return can_stand_in(host, [host.resolve("block_out", 1)]) is not None

    model.add_module("head", torch.nn.Tanh())  # what the residual stream does not go through may be anything
    assert stands_in()
    mlp.forward = lambda x: x  # as accelerate and many a notebook do it
    assert not stands_in()
    del mlp.forward
    assert stands_in()
    if not bridge:
        mlp.act_fn, before = torch.relu, mlp.act_fn
        assert not stands_in()
        mlp.act_fn = before
        layer.ln1 = torch.nn.Identity()
    else:
        mlp.dense = torch.nn.Sequential(mlp.dense, torch.nn.Tanh())
    assert not stands_in()
    found = td.dream(model, goal, text, budget=400)
    assert found.best.score == pytest.approx(float(td.score(model, goal, found.best.text)), abs=1e-4)


def test_a_hooked_or_narrow_model_is_left_to_itself(fresh_encoder: Callable[..., torch.nn.Module]) -> None:
    model = fresh_encoder()
    with attached(model) as host:
        name = host.resolve("block_out", 1)
        assert can_stand_in(host, [name]) is not None
        handle = host.point(name)
        model.add_hook(name, lambda value, hook: value + 1)
        assert can_stand_in(host, [name]) is None
        model.reset_hooks()
        assert handle is host.point(name) and can_stand_in(host, [name]) is not None
    with attached(fresh_encoder(dtype=torch.float16)) as host:
        assert can_stand_in(host, [host.resolve("block_out", 1)]) is None
