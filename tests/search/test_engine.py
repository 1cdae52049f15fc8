"""The room search.engine: many searches share passes, and feel nothing of each other."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.support.search import GOAL, START, TEXTS, UNIT, batch_of
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import Host, attached
from tl_dream.objectives.objective import Objective
from tl_dream.search import engine
from tl_dream.search.batch import Ask, Look, Search, Together
from tl_dream.search.best_seen import BestSeen
from tl_dream.search.engine import run, run_all, run_many


def asking(
    host: Host, goal: Objective, texts: list[str], rounds: int = 1, slopes: bool = False
) -> Search[list[object]]:
    """Asks for the scores of some sentences, again and again, and for their slopes."""
    batch, found = batch_of(host, texts), []
    starts = [(row, sentence.ids) for row, sentence in enumerate(batch.sentences)]
    for _ in range(rounds):
        answer = yield Ask(host, batch, (goal,), starts, slopes=slopes)
        found.append((answer.values, answer.slopes if slopes else None))
    return found


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of every forward pass."""
    rows: list[int] = []
    plain = engine.evaluate_parts

    def counted(host: Host, parts: object, ids: torch.Tensor, **options: object) -> object:
        rows.append(len(ids))
        return plain(host, parts, ids, **options)

    monkeypatch.setattr(engine, "evaluate_parts", counted)
    return rows


@pytest.mark.parametrize("slopes", [False, True])
def test_searches_share_passes_and_get_what_they_get_alone(
    encoder: torch.nn.Module, passes: list[int], slopes: bool
) -> None:
    """Other units and points of one block, sums and means: one pass for those as deep, charged to each."""
    goals = [
        UNIT,
        -2 * UNIT,
        td.neuron("block_out", layer=1, unit=3),
        td.neuron("block_out", layer=1, unit=8, reduce="mean"),
    ]
    with attached(encoder) as host:
        alone = [run(host, asking(host, goal, [START, START], slopes=slopes)) for goal in goals]
        passes.clear()
        hosts = [host.apart() for _ in goals]
        searches = [
            (n, asking(own, goal, [START, START], 3, slopes))
            for n, (own, goal) in enumerate(zip(hosts, goals, strict=True))
        ]
        together = dict(run_many(host, searches, width=10))
    assert passes == [8, 8, 8]
    assert {own.meter.forwards for own in hosts} == {6 * (1 + slopes)}
    for n, ((values, steep),) in enumerate(alone):
        for again, slope in together[n]:
            torch.testing.assert_close(torch.tensor(again), torch.tensor(values))
            assert not slopes or all(torch.allclose(a, b, atol=1e-6) for a, b in zip(slope, steep, strict=True))


@pytest.mark.parametrize("slopes", [False, True])
def test_small_passes_are_one_however_deep(
    encoder: torch.nn.Module, passes: list[int], monkeypatch: pytest.MonkeyPatch, slopes: bool
) -> None:
    """As on a GPU: what is read in other blocks is as alone, and costs as much."""

    def searching(goal: Objective, own: Host) -> Search[object]:
        batch = batch_of(own, [START, START])
        seen = yield from BestSeen.of(own, goal, batch)
        yield from seen.take_trunk(10_000)
        texts = [(row, sentence.ids) for row, sentence in enumerate(batch.sentences)]
        answer = yield Ask(own, batch, (goal,), texts, seen.trunk, slopes=slopes)
        return answer.values, [slope.tolist() for slope in answer.slopes]

    goals = [td.neuron(hook, layer=layer, unit=3, pos=2) for hook in ("block_out", "z") for layer in range(3)]
    with attached(encoder) as host:
        alone = [run(host, searching(goal, host.apart())) for goal in goals]
        hosts = [host.apart() for _ in goals]
        passes.clear()
        monkeypatch.setattr(engine, "few_passes", lambda device: True)
        together = dict(
            run_many(
                host, [(n, searching(goal, own)) for n, (goal, own) in enumerate(zip(goals, hosts, strict=True))], 10
            )
        )
    assert passes[-1] == 2 * len(goals)
    for n, (values, steep) in enumerate(alone):
        torch.testing.assert_close(torch.tensor(together[n][0]), torch.tensor(values), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(torch.tensor(together[n][1]), torch.tensor(steep), atol=1e-6, rtol=1e-4)
    spent = [own.meter.forward_tokens for own in hosts]
    assert spent[0] * 3 == spent[2] and spent[3:] == spent[:3]


def test_what_can_share_no_pass_does_not(encoder: torch.nn.Module, passes: list[int]) -> None:
    """Other lengths, deeper blocks, hooks outside of the blocks: each is right, and none is padded or run deeper."""
    goals = [UNIT, td.neuron("block_out", layer=2, unit=5, pos=2), td.neuron("full_embed", unit=1, pos=2), td.fluency()]
    with attached(encoder) as host:
        hosts = [host.apart() for _ in goals]
        searches = [(n, asking(own, goal, TEXTS)) for n, (own, goal) in enumerate(zip(hosts, goals, strict=True))]
        found = dict(run_many(host, searches, width=10))
        lengths = [len(host.vocabulary.encode(text)) for text in TEXTS]
    for n, goal in enumerate(goals):
        values = torch.tensor([value for (value,) in found[n][0][0]])
        torch.testing.assert_close(values, td.score(encoder, goal, TEXTS), atol=1e-5, rtol=0)
    assert len(passes) == len(goals) * len(set(lengths))
    assert [own.meter.forward_tokens for own in hosts[:2]] == [2 * sum(lengths), 3 * sum(lengths)]


def test_one_that_fails_spoils_no_other(encoder: torch.nn.Module) -> None:
    def bad(acts: dict[str, torch.Tensor]) -> torch.Tensor:
        raise ZeroDivisionError("mine")

    goals = [UNIT, td.custom(bad, {"x": ("block_out", 1)}), td.neuron("block_out", layer=1, unit=3)]
    with attached(encoder) as host:
        found = dict(run_many(host, [(n, asking(host, goal, [START])) for n, goal in enumerate(goals)], width=5))
        assert isinstance(found[1], ZeroDivisionError)
        for n in (0, 2):
            assert found[n][0][0][0][0] == pytest.approx(td.score(host, goals[n], START).item(), abs=1e-6)
        with pytest.raises(ZeroDivisionError, match="mine"):
            run(host, asking(host, goals[1], [START]))
        with pytest.raises(ZeroDivisionError, match="mine"):
            run_all(host, (asking(host, goal, [START]) for goal in goals), 2)
        both = run_all(host, (asking(host, goal, [START]) for goal in (goals[2], goals[0])), 2)
        assert [one[0][0][0][0] for one in both] == pytest.approx([found[n][0][0][0][0] for n in (2, 0)], abs=1e-6)


@pytest.mark.parametrize("slopes", [False, True])
def test_where_memory_runs_out_the_pass_is_halved(
    encoder: torch.nn.Module, passes: list[int], monkeypatch: pytest.MonkeyPatch, slopes: bool
) -> None:
    plain = engine.evaluate_parts

    def small(host: Host, parts: object, ids: torch.Tensor, **options: object) -> object:
        if len(ids) > 3:
            raise RuntimeError("CUDA out of memory")
        return plain(host, parts, ids, **options)

    with attached(encoder) as host:
        whole = run(host, asking(host, GOAL, [START] * 10, slopes=slopes))
        monkeypatch.setattr(engine, "evaluate_parts", small)
        passes.clear()
        parts = run(host, asking(host, GOAL, [START] * 10, slopes=slopes))
    assert max(passes) <= 3 and sum(passes) == 10
    torch.testing.assert_close(torch.tensor(parts[0][0]), torch.tensor(whole[0][0]))
    assert not slopes or torch.allclose(torch.stack(parts[0][1]), torch.stack(whole[0][1]), atol=1e-6)


def test_only_so_many_go_on_at_once(encoder: torch.nn.Module) -> None:
    begun: list[int] = []

    def searches(host: Host) -> object:
        for n in range(9):
            begun.append(n)
            yield n, asking(host, GOAL, [START], rounds=n % 3 + 1)

    with attached(encoder) as host:
        results = run_many(host, searches(host), width=3)
        ended = [next(results)[0]]
        assert len(begun) <= 4
        ended += [key for key, _ in results]
    assert sorted(ended) == list(range(9)) and ended != sorted(ended)


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
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The shape of every forward pass."""
    found: list[tuple[int, int]] = []
    plain = engine.forward

    def counted(host: Host, ids: Tensor, names: list[str], **more: object) -> object:
        found.append(tuple(ids.shape))
        return plain(host, ids, names, **more)

    monkeypatch.setattr(engine, "forward", counted)
    return found


def test_a_text_that_several_look_at_is_run_once(encoder: torch.nn.Module, shapes: list[tuple[int, int]]) -> None:
    other = START.replace("sun", "moon")
    with attached(encoder) as host:
        hooks = [host.resolve("block_out", layer) for layer in (0, 1, 2)]
        alone = [run(host, looking(host, [hook], [START, other])) for hook in hooks]
        shapes.clear()
        hosts = [host.apart() for _ in hooks]
        together = dict(
            run_many(host, [(n, looking(hosts[n], [hook], [START, other])) for n, hook in enumerate(hooks)], 10)
        )
        assert shapes == [(2, 7)]
        for n, hook in enumerate(hooks):
            assert [v[1] for v in together[n][0]] == [0, 1]
            assert [v[0] for v in together[n][0]] == pytest.approx([v[0] for v in alone[n][0]], rel=1e-5)
            ids = torch.tensor([host.vocabulary.read(START).ids])
            assert together[n][0][0][0] == pytest.approx(
                forward(host, ids, [hook])[hook].detach().square().sum().item(), rel=1e-5
            )
        assert [own.meter.forwards for own in hosts] == [2, 2, 2]
        assert [own.meter.forward_tokens for own in hosts] == [14, 28, 42]


def test_soft_texts_of_like_length_share_a_pass(encoder: torch.nn.Module, shapes: list[tuple[int, int]]) -> None:
    """Of seven and five tokens, padded to the longer; not with nine. Values and gradients are those of each alone."""
    with attached(encoder) as host:
        hook = host.resolve("block_out", 1)
        alone = [run(host, looking(host, [hook], [text], soft=True)) for text in TEXTS]
        assert len(shapes) == 3
        shapes.clear()
        together = dict(
            run_many(host, [(n, looking(host, [hook], [text], soft=True)) for n, text in enumerate(TEXTS)], 10)
        )
        assert sorted(shapes) == [(1, 9), (2, 7)]
        for n, (values, pulls) in enumerate(alone):
            assert together[n][0][0][0] == pytest.approx(values[0][0], rel=1e-5)
            assert together[n][1][0].shape == pulls[0].shape
            assert torch.allclose(together[n][1][0], pulls[0], rtol=1e-4, atol=1e-5) and bool(pulls[0].any())


def test_nothing_is_padded_where_it_would_be_seen(encoder: torch.nn.Module, shapes: list[tuple[int, int]]) -> None:
    """By a hook of the user's, or where real texts are scored."""
    with attached(encoder) as host:
        hook = host.resolve("block_out", 1)
        dict(run_many(host, [(n, looking(host, [hook], [text])) for n, text in enumerate(TEXTS)], 10))
        assert sorted(length for _, length in shapes) == sorted(len(host.vocabulary.read(text).ids) for text in TEXTS)
    handle = encoder.hook_dict["blocks.0.hook_normalized_resid_post"].register_forward_hook(lambda *_: None)
    try:
        with attached(encoder) as host:
            shapes.clear()
            dict(run_many(host, [(n, looking(host, [hook], [text], soft=True)) for n, text in enumerate(TEXTS)], 10))
            assert len(shapes) == 3
    finally:
        handle.remove()


def test_what_can_wait_is_run_with_those_that_come_later(
    encoder: torch.nn.Module, shapes: list[tuple[int, int]]
) -> None:
    def late(host: Host, hook: str) -> Search[object]:
        for text in TEXTS:
            yield from looking(host, [hook], [text])
        return (yield from looking(host, [hook], [START + " dog"], patient=True))

    with attached(encoder) as host:
        hooks = [host.resolve("block_out", layer) for layer in (0, 1)]
        searches = [("early", looking(host, hooks[:1], [START + " dog"], patient=True)), ("late", late(host, hooks[1]))]
        found = dict(run_many(host, searches, 10))
        assert len(shapes) == 4 and set(found) == {"early", "late"}


def test_a_look_that_fails_spoils_no_other(encoder: torch.nn.Module) -> None:
    def broken(host: Host, hook: str) -> Search[object]:
        def read(found: object, which: object) -> Tensor:
            raise ZeroDivisionError("mine")

        yield Look(host, (hook,), [host.vocabulary.read(START).ids], read)

    with attached(encoder) as host:
        hook = host.resolve("block_out", 1)
        found = dict(run_many(host, [("bad", broken(host, hook)), ("good", looking(host, [hook], [START]))], 10))
    assert isinstance(found["bad"], ZeroDivisionError) and found["good"][0][0][0] > 0


def halves(items: list[int]) -> list[float]:
    """Work that several searches share: numbers halved; 13 is refused, and more than four do not fit."""
    if len(items) > 4:
        raise RuntimeError("CUDA out of memory")
    if 13 in items:
        raise ValueError("thirteen")
    CALLS.append(len(items))
    return [item / 2 for item in items]


CALLS: list[int] = []


def test_work_without_a_pass_is_done_at_once_and_before_the_next_pass(
    encoder: torch.nn.Module, passes: list[int]
) -> None:
    """Also where memory runs out; one that fails spoils no other; and passes stay full meanwhile."""

    def halving(number: int, times: int) -> Search[object]:
        got = []
        for _ in range(times):
            got.append((yield Together(halves, number)))
        return got, (yield from asking(host, UNIT, [START]))

    with attached(encoder) as host:
        CALLS.clear()
        searches = [(n, halving(n, 1 + n % 3)) for n in (1, 2, 3, 4, 5, 6, 13)]
        ended = dict(run_many(host, searches, width=7))
    assert isinstance(ended[13], ValueError) and passes == [6]
    assert all(ended[n][0] == [n / 2] * (1 + n % 3) for n in range(1, 7))
    assert max(CALLS) == 4 or set(CALLS[:6]) == {1}, "13 was among the first: each alone then"
    assert 4 in CALLS, "those that go on share their work"
