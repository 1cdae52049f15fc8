"""Ctrl-C in the middle of a run: it goes on to the user, and brings the result so far as its `partial`; and the clock,
which ends a run with what it has found."""

import inspect
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
from torch import Tensor, nn

import tl_dream as td
from tests.conftest import says
from tests.test_conformance import CALLS as FUNCTIONS
from tests.test_conformance import unchanged
from tl_dream.models.host import Meter
from tl_dream.results.base import SavedResult
from tl_dream.results.dreams import ScoredText

TEXT = "i hate the red dog ."
GOAL = td.neuron("block_out", layer=1, unit=3, pos=2)
SETS = td.read_examples(
    [f"the {{dog}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
    [f"the {{moon}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
)
FEW = {"budget": 60, "rivals": 0}
UNIT = td.neuron("block_out", layer=1, unit=3)
PAGE = {"placebos": 2, "seeds": 2, "budget": 600, "fluent": False, "tokens": False}
LINES = [f"the red dog {word}" for word in ("sees", "hates", "loves", "is", "was", "had")]


@cache
def concept(model: nn.Module) -> td.ConceptVector:
    return td.fit_concept(model, SETS, layer=1, random_concepts=50, bootstraps=2)


Call = Callable[[Any], Any]
# how many passes go by first, of the call that is interrupted
CALLS: dict[str, tuple[int, Call]] = {
    "auto": (40, lambda m: td.dream(m, GOAL, TEXT, budget=3_000)),
    "anneal": (12, lambda m: td.dream(m, GOAL, [TEXT, "a cat"], method=td.Annealing(steps=20, evaluate_every=2))),
    "pez": (12, lambda m: td.dream(m, GOAL, TEXT, method=td.PEZ(steps=20))),
    "dream epo": (6, lambda m: td.dream(m, GOAL, TEXT, method="epo", budget=9_000)),
    "one word": (9, lambda m: td.dream(m, GOAL, TEXT, free="red")),
    "gcg": (8, lambda m: td.gcg(m, GOAL, TEXT, budget=9_000)),
    "epo": (6, lambda m: td.epo(m, GOAL, TEXT, budget=9_000)),
    "corpus_search": (4, lambda m: td.corpus_search(m, GOAL, LINES, shard_lines=1)),
    "corpus_search of two": (4, lambda m: td.corpus_search(m, [GOAL, GOAL * 2], LINES, shard_lines=1)),
    "token_search": (20, lambda m: td.token_search(m, GOAL, TEXT, pos="red", top=3)),
    "similar_tokens": (20, lambda m: td.similar_tokens(m, GOAL, TEXT, pos="red", k=3)),
    "reconstruct": (15, lambda m: td.reconstruct(m, TEXT, layer=1, budget=60)),
    "its certificate": (22, lambda m: td.reconstruct(m, "the red dog", layer=0, rivals="all", budget=300)),
    "article": (20, lambda m: td.reconstruct(m, TEXT, layer=1, method="article", steps=30)),
    "reconstruct_layers": (37, lambda m: td.reconstruct_layers(m, "the red dog", layers=[0, 1], **FEW)),
    "kept_tokens": (150, lambda m: td.kept_tokens(m, "the red dog", layers=[0], damages=["int8", "bf16"], **FEW)),
    "portrait": (150, lambda m: td.portrait(m, UNIT, LINES, **PAGE)),
    "a portrait's dreams by seed": (20, lambda m: td.portrait(m, UNIT, LINES, **PAGE)),
    "minimal_dream": (40, lambda m: td.minimal_dream(m, GOAL, TEXT, above=1e9, budget=3_000)),
    "diverse_dreams": (60, lambda m: td.diverse_dreams(m, GOAL, TEXT, count=3, budget=1_000)),
    "essential": (8, lambda m: td.essential(m, GOAL, TEXT)),
    "edit_concept": (
        5,
        lambda m: td.edit_concept(m, concept(m), "the dog hates a star", pos=2, magnitudes=[-1, 1]),
    ),
}


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """Counts the passes of the model; the one after `at` is interrupted, and with `again` every later one as well."""
    book: dict[str, Any] = {"count": 0, "at": None, "again": False, "raised": KeyboardInterrupt}
    add = Meter.add

    def counted(*given: Any, **named: Any) -> None:
        add(*given, **named)
        book["count"] += 1
        over = book["at"] is not None and book["count"] - book["at"]
        if over and (over == 1 or over > 1 and book["again"]):
            raise book["raised"]

    monkeypatch.setattr(Meter, "add", counted)
    monkeypatch.setattr("tl_dream.reconstruction.layers.SIDE_BY_SIDE", 1)  # so few jobs would all end at once
    yield book


@pytest.mark.parametrize("name", CALLS)
def test_an_interrupt_brings_the_result_so_far(encoder: nn.Module, passes: dict[str, Any], name: str) -> None:
    at, call = CALLS[name]
    concept(encoder)
    passes["count"] = 0
    whole, total = call(encoder), passes["count"]
    assert total > at, f"{total} passes in all"
    passes.update(count=0, at=at)
    with unchanged(encoder), pytest.raises(KeyboardInterrupt) as caught:
        call(encoder)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert type(partial) is type(whole)
    found: tuple[tuple[SavedResult, SavedResult], ...] = ((partial, whole),)
    if isinstance(partial, tuple):
        found = tuple(zip(partial, whole, strict=True))
    for one, end in found:
        assert type(one).from_json(one.to_json()) == one
        if name != "similar_tokens":
            assert one.stopped == "interrupted" != end.stopped and "interrupted" in str(one)  # type: ignore[attr-defined]
        best = getattr(one, "best", None)
        if isinstance(best, ScoredText):
            assert best.score <= end.best.score and (one.start is None or best.score >= _score(one.start))  # type: ignore[attr-defined]
            if "reconstruct" not in name and name not in ("article", "its certificate"):
                assert best.score == pytest.approx(float(td.score(encoder, GOAL, [best.text])), abs=1e-5)


def _score(start: Any) -> float:
    return start.scored.score if hasattr(start, "scored") else start.score


def test_an_interrupt_before_anything_was_found_has_no_partial(encoder: nn.Module, passes: dict[str, Any]) -> None:
    passes["at"] = 0
    for name in ("auto", "corpus_search", "token_search", "reconstruct", "edit_concept"):
        passes["count"] = 0
        with pytest.raises(KeyboardInterrupt) as caught:
            CALLS[name][1](encoder)
        assert caught.value.partial is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["auto", "anneal", "token_search", "reconstruct", "edit_concept"])
def test_a_second_interrupt_ends_it(encoder: nn.Module, passes: dict[str, Any], name: str) -> None:
    passes.update(at=CALLS[name][0], again=True)
    with unchanged(encoder), pytest.raises(KeyboardInterrupt):
        CALLS[name][1](encoder)
    assert passes["count"] <= CALLS[name][0] + 2


@pytest.mark.parametrize("name", ["auto", "anneal", "epo", "corpus_search", "token_search", "reconstruct"])
def test_an_error_brings_it_too(encoder: nn.Module, passes: dict[str, Any], name: str) -> None:
    at, call = CALLS[name]
    passes.update(at=at, raised=td.DreamError("enough"))
    with pytest.raises(td.DreamError, match="^enough$") as caught:
        call(encoder)
    assert caught.value.partial.stopped == "failure"


@pytest.mark.parametrize("method", ["auto", "anneal", "pez", "gcg", "epo"])
def test_an_error_of_the_users_brings_it_too(encoder: nn.Module, method: str) -> None:
    """A callback that fails late (a full disk, a connection that broke) costs no work."""
    seen: list[td.Progress] = []

    def record(now: td.Progress) -> None:
        seen.append(now)
        if len(seen) == 3:
            raise ConnectionError("mine")

    with unchanged(encoder), pytest.raises(ConnectionError, match="^mine$") as caught:
        td.dream(encoder, GOAL, TEXT, method=method, callback=record)
    partial = caught.value.partial  # type: ignore[attr-defined]
    assert partial.stopped == "failure" and partial.best.score >= seen[-1].best_scores[0] - 1e-5


def test_what_fails_while_the_partial_is_made_counts_less(encoder: nn.Module) -> None:
    calls: list[int] = []

    def mine(acts: dict[str, Tensor]) -> Tensor:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        if len(calls) > 3:
            raise KeyError("the user's")
        return acts["x"][:, 1, 3]

    with pytest.raises(KeyboardInterrupt) as caught:
        td.token_search(encoder, td.custom(mine, {"x": ("mlp_post", 1)}), TEXT, pos="red", top=3)
    assert caught.value.partial is None  # type: ignore[attr-defined]


TIMED = [name for name in FUNCTIONS if "seconds" in inspect.signature(getattr(td, name.partition(":")[0])).parameters]
ENDLESS = "gcg epo reconstruct essential diverse_dreams minimal_dream portrait".split()
SURE = ("matched", "settled", "complete")
"""Why a call ends in time."""


@pytest.mark.parametrize("name", TIMED)
def test_a_call_ends_when_its_seconds_are_over(encoder: nn.Module, name: str) -> None:
    """With what was found by then, and there is always something, however large its budget."""
    endless = {"budget": 10**8} if name in ENDLESS else {}
    run, goal, vector = FUNCTIONS[name].run, td.neuron("mlp_post", layer=1, unit=3), concept(encoder)
    began = time.process_time()
    with unchanged(encoder):
        found = run(encoder, goal, vector, seconds=1e-9, **endless)
    assert time.process_time() - began < 20
    for one in found if isinstance(found, list) else [found]:
        result = getattr(one, "dream", None) or getattr(one, "reconstruction", None) or one
        stopped = getattr(result, "stopped", "seconds")
        assert stopped == "seconds" or "reconstruct" in name and stopped in SURE, str(result)
        if isinstance(result, SavedResult):
            assert type(result).from_json(result.to_json()) == result
            assert "seconds" in str(result) or name == "similar_tokens" or stopped != "seconds"
    with says("seconds = 0: give a number above 0"):
        run(encoder, goal, vector, seconds=0)


def test_every_budget_has_a_clock_beside_it() -> None:
    functions = {name: inspect.signature(getattr(td, name.partition(":")[0])).parameters for name in FUNCTIONS}
    without = {name for name, given in functions.items() if "budget" in given and "seconds" not in given}
    assert without == {"sweep"}, "a sweep is ended by Ctrl-C and goes on where it was"
