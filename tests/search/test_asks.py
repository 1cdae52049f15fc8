"""The room search.asks: what searches look at by themselves is run once for all, and to each the same as alone."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from tests.support.search import START, TEXTS
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import Host, attached
from tl_dream.search import engine
from tl_dream.search.asks import Look, Search
from tl_dream.search.engine import run, run_many


def looking(
    host: Host, names: list[str], texts: list[str], soft: bool = False, patient: bool = False
) -> Search[object]:
    """The sum of squares at some hooks, and the number of each text; of soft texts the gradients too."""
    ids = [host.vocabulary.read(text).ids for text in texts]

    def read(found: Mapping[str, Tensor], which: list[int]) -> Tensor:
        total = sum(found[name].square().flatten(1).sum(1) for name in names)
        return torch.stack([total, torch.tensor(which).to(total)], 1)

    embeddings = [host.W_E[list(row)] for row in ids] if soft else None
    answer = yield Look(host, tuple(names), ids, read, embeddings, patient)
    return answer.values, answer.pulls


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shape of every forward pass."""
    shapes: list[tuple[int, int]] = []
    plain = engine.forward

    def counted(host: Host, ids: Tensor, names: list[str], **more: object) -> object:
        shapes.append(tuple(ids.shape))
        return plain(host, ids, names, **more)

    monkeypatch.setattr(engine, "forward", counted)
    return shapes


def test_a_text_that_several_look_at_is_run_once(encoder: torch.nn.Module, passes: list[tuple[int, int]]) -> None:
    other = START.replace("sun", "moon")
    with attached(encoder) as host:
        hooks = [host.resolve("block_out", layer) for layer in (0, 1, 2)]
        alone = [run(host, looking(host, [hook], [START, other])) for hook in hooks]
        passes.clear()
        hosts = [host.apart() for _ in hooks]
        together = dict(
            run_many(host, [(n, looking(hosts[n], [hook], [START, other])) for n, hook in enumerate(hooks)], 10)
        )
        assert passes == [(2, 7)]
        for n, hook in enumerate(hooks):
            assert [v[1] for v in together[n][0]] == [0, 1]
            assert [v[0] for v in together[n][0]] == pytest.approx([v[0] for v in alone[n][0]], rel=1e-5)
            ids = torch.tensor([host.vocabulary.read(START).ids])
            assert together[n][0][0][0] == pytest.approx(
                forward(host, ids, [hook])[hook].detach().square().sum().item(), rel=1e-5
            )
        assert [own.meter.forwards for own in hosts] == [2, 2, 2]
        assert [own.meter.forward_tokens for own in hosts] == [14, 28, 42]


def test_soft_texts_of_like_length_share_a_pass(encoder: torch.nn.Module, passes: list[tuple[int, int]]) -> None:
    """Of seven and five tokens, padded to the longer; not with nine. Values and gradients are those of each alone."""
    with attached(encoder) as host:
        hook = host.resolve("block_out", 1)
        alone = [run(host, looking(host, [hook], [text], soft=True)) for text in TEXTS]
        assert len(passes) == 3
        passes.clear()
        together = dict(
            run_many(host, [(n, looking(host, [hook], [text], soft=True)) for n, text in enumerate(TEXTS)], 10)
        )
        assert sorted(passes) == [(1, 9), (2, 7)]
        for n, (values, pulls) in enumerate(alone):
            assert together[n][0][0][0] == pytest.approx(values[0][0], rel=1e-5)
            assert together[n][1][0].shape == pulls[0].shape
            assert torch.allclose(together[n][1][0], pulls[0], rtol=1e-4, atol=1e-5) and bool(pulls[0].any())


def test_nothing_is_padded_where_it_would_be_seen(encoder: torch.nn.Module, passes: list[tuple[int, int]]) -> None:
    """By a hook of the user's, or where real texts are scored."""
    with attached(encoder) as host:
        hook = host.resolve("block_out", 1)
        dict(run_many(host, [(n, looking(host, [hook], [text])) for n, text in enumerate(TEXTS)], 10))
        assert sorted(length for _, length in passes) == sorted(len(host.vocabulary.read(text).ids) for text in TEXTS)
    handle = encoder.hook_dict["blocks.0.hook_normalized_resid_post"].register_forward_hook(lambda *_: None)
    try:
        with attached(encoder) as host:
            passes.clear()
            dict(run_many(host, [(n, looking(host, [hook], [text], soft=True)) for n, text in enumerate(TEXTS)], 10))
            assert len(passes) == 3
    finally:
        handle.remove()


def test_what_can_wait_is_run_with_those_that_come_later(
    encoder: torch.nn.Module, passes: list[tuple[int, int]]
) -> None:
    def late(host: Host, hook: str) -> Search[object]:
        for text in TEXTS:
            yield from looking(host, [hook], [text])
        return (yield from looking(host, [hook], [START + " dog"], patient=True))

    with attached(encoder) as host:
        hooks = [host.resolve("block_out", layer) for layer in (0, 1)]
        searches = [("early", looking(host, hooks[:1], [START + " dog"], patient=True)), ("late", late(host, hooks[1]))]
        found = dict(run_many(host, searches, 10))
        assert len(passes) == 4 and set(found) == {"early", "late"}


def test_a_look_that_fails_spoils_no_other(encoder: torch.nn.Module) -> None:
    def broken(host: Host, hook: str) -> Search[object]:
        def read(found: object, which: object) -> Tensor:
            raise ZeroDivisionError("mine")

        yield Look(host, (hook,), [host.vocabulary.read(START).ids], read)

    with attached(encoder) as host:
        hook = host.resolve("block_out", 1)
        found = dict(run_many(host, [("bad", broken(host, hook)), ("good", looking(host, [hook], [START]))], 10))
    assert isinstance(found["bad"], ZeroDivisionError) and found["good"][0][0][0] > 0
