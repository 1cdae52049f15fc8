"""The rows a changed token changes, against the model itself."""

import pytest
import torch

from tl_dream.models.bert_trunk import BertBlocks, can_stand_in
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.scans import incremental_bert
from tl_dream.scans.incremental_bert import ROW_POINTS, IncrementalBert

SENTENCE = "i hate the red dog ."


@pytest.mark.parametrize("depth", range(3))
@pytest.mark.parametrize("pos", [0, 2, 7])
def test_every_point_is_the_models(tiny_encoder64: torch.nn.Module, depth: int, pos: int) -> None:
    tokens = torch.arange(8, 60)
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids = torch.tensor(host.vocabulary.encode(SENTENCE))
        batch = ids.repeat(len(tokens), 1)
        batch[:, pos] = tokens
        names = [host.resolve(point, depth) for point in ROW_POINTS]
        hooks = can_stand_in(host, names)
        assert hooks is not None
        want = forward(host, batch, names)
        for read in ([2], [7], [1, 2, 4], list(range(len(ids)))):
            got = IncrementalBert(host, ids, pos, hooks, read, torch.float64)(tokens)
            for name in names:
                assert got[name].shape == want[name].shape, name
                error = (got[name] - want[name])[:, read].abs().max()
                assert error < 1e-11, (name, read, error)


def test_several_layers_in_one_pass(tiny_encoder64: torch.nn.Module) -> None:
    tokens = torch.arange(8, 30)
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids = torch.tensor(host.vocabulary.encode(SENTENCE))
        batch = ids.repeat(len(tokens), 1)
        batch[:, 2] = tokens
        names = [host.resolve("block_out", layer) for layer in range(3)] + [host.resolve("mlp_post", 1)]
        got = IncrementalBert(host, ids, 2, can_stand_in(host, names), [4], torch.float64)(tokens)
        want = forward(host, batch, names)
        for name in names:
            torch.testing.assert_close(got[name][:, 4], want[name][:, 4], rtol=0, atol=1e-11)


@pytest.mark.parametrize("read", [[4], [0, 7], [0, 1, 2, 3]])
@pytest.mark.parametrize("points", [["block_out"], ["q", "z"], ["mlp_post", "resid_post"]])
def test_few_rows_of_the_last_block_without_keys_and_values(
    tiny_encoder64: torch.nn.Module, read: list[int], points: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, taken = torch.arange(8, 30), []
    whole = BertBlocks._attend_few
    monkeypatch.setattr(BertBlocks, "_attend_few", lambda *given: (taken.append(1), whole(*given))[1])
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids = torch.tensor(host.vocabulary.encode(SENTENCE))
        batch = ids.repeat(len(tokens), 1)
        batch[:, 2] = tokens
        names = [host.resolve(point, 2) for point in points]
        got = IncrementalBert(host, ids, 2, can_stand_in(host, names), read, torch.float64)(tokens)
        want = forward(host, batch, names)
    assert len(taken) == (len(read) < 4), "it pays for few rows only"
    for name in names:
        torch.testing.assert_close(got[name][:, read], want[name][:, read], rtol=0, atol=1e-11)


@pytest.mark.parametrize("read", [[2], [4], [1, 2, 4]])
def test_rows_that_hold_still_are_at_their_mean(
    tiny_encoder64: torch.nn.Module, read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a single token the mean is its own row: nothing is lost. Of others the far rows stay behind."""
    monkeypatch.setattr(incremental_bert, "SAMPLE", 1)
    with attached(tiny_encoder64) as host, torch.no_grad():
        ids = torch.tensor(host.vocabulary.encode(SENTENCE))
        names = [host.resolve(point, layer) for layer, point in ((1, "mlp_post"), (2, "q"), (2, "z"), (2, "block_out"))]
        hooks = can_stand_in(host, names)
        whole = IncrementalBert(host, ids, 2, hooks, read, torch.float64)
        near = IncrementalBert(host, ids, 2, hooks, read, torch.float64, near=1)
        assert near.rows_run == len({1, 2, 3, *read})
        want, got = ({k: v.clone() for k, v in rows(torch.tensor([0, 40])).items()} for rows in (whole, near))
    for name in names:
        torch.testing.assert_close(got[name][0, read], want[name][0, read], rtol=0, atol=1e-11)
        assert torch.isnan(got[name][:, 7]).all()
    error = (got[names[-1]] - want[names[-1]])[1, read].abs().max()
    assert 1e-4 < error < 1


def test_what_is_not_read_is_not_a_number(tiny_encoder: torch.nn.Module) -> None:
    with attached(tiny_encoder) as host:
        ids = torch.tensor(host.vocabulary.encode(SENTENCE))
        name = host.resolve("block_out", 2)
        got = IncrementalBert(host, ids, 2, can_stand_in(host, [name]), [4], torch.float32)(torch.arange(8, 12))[name]
    assert torch.isfinite(got[:, 4]).all() and torch.isnan(got[:, [0, 1, 2, 3, 5, 6, 7]]).all()


def test_bf16_is_close(tiny_encoder: torch.nn.Module) -> None:
    tokens = torch.arange(8, 60)
    with attached(tiny_encoder) as host:
        ids = torch.tensor(host.vocabulary.encode(SENTENCE))
        name = host.resolve("block_out", 2)
        hooks = can_stand_in(host, [name])
        exact, narrow = (
            IncrementalBert(host, ids, 2, hooks, [4], dtype)(tokens)[name][:, 4].clone()
            for dtype in (torch.float32, torch.bfloat16)
        )
    error = (exact - narrow).abs()
    assert 0 < error.max() < 0.2
    assert torch.cosine_similarity(exact.flatten(), narrow.flatten(), dim=0) > 0.999


def test_it_stands_back_where_it_does_not_know(
    tiny_encoder: torch.nn.Module, tiny_causal: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    with attached(tiny_encoder) as host, torch.no_grad():
        name = host.resolve("block_out", 0)
        assert can_stand_in(host, [name]) == {name: (0, "block_out")}
        forward(host, torch.tensor([[4, 30, 5]]), [name])  # transformers wires the modules at the first pass
        assert can_stand_in(host, [name]) is not None
        assert can_stand_in(host, [name, host.resolve("pattern", 0)], ROW_POINTS) is None
        monkeypatch.setattr(host.model.cfg, "act_fn", "quick_gelu")
        assert can_stand_in(host, [name]) is None
    with attached(tiny_causal) as host:
        assert can_stand_in(host, [host.resolve("block_out", 0)]) is None


@pytest.mark.parametrize("permanent", [False, True])
def test_it_stands_back_for_a_users_hook(tiny_encoder: torch.nn.Module, permanent: bool) -> None:
    with attached(tiny_encoder) as host:
        name = host.resolve("block_out", 0)
        point = host.point(host.resolve("mlp_post", 1))
        point.add_hook(lambda activation, hook: None, is_permanent=permanent)
        try:
            assert can_stand_in(host, [name]) is None
        finally:
            point.remove_hooks("fwd", including_permanent=True)
        assert can_stand_in(host, [name]) is not None


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_it_stands_back_for_a_plain_torch_hook(tiny_encoder: torch.nn.Module, kind: str) -> None:
    with attached(tiny_encoder) as host:
        name = host.resolve("block_out", 0)
        module = next(iter(tiny_encoder.blocks[1].children()))
        handle = getattr(module, kind)(lambda *given: None)
        try:
            assert can_stand_in(host, [name]) is None
        finally:
            handle.remove()
        assert can_stand_in(host, [name]) is not None
