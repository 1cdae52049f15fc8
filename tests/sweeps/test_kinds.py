"""Every kind of job: it comes to what the call for one comes to, says why it failed, and is told in a row."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import CORPUS
from tl_dream.models.host import attached
from tl_dream.portraits import portraying
from tl_dream.sweeps.jobs import Job, Kind, Recorded
from tl_dream.sweeps.kinds import Dreams, Portraits, Reconstructions

QUICK: dict[str, Any] = {"placebos": 2, "seeds": 1, "budget": 150}
SHORT: dict[str, Any] = {"rivals": 2, "budget": 100}


def ran(kind: Kind, model: torch.nn.Module, jobs: Sequence[Job], width: int | None = None, seed: int = 0) -> list[Any]:
    """What every job came to, in their order: a result or an error."""
    found = sorted(kind.run(model, jobs, seed, width, {}), key=lambda ended: ended[0])
    assert [number for number, _, _ in found] == list(range(len(jobs)))
    for _, result, error in found:
        assert (result is None) != (error is None) and (result is None or isinstance(result, kind.result))
    return [result or error for _, result, error in found]


def portrayed(model: torch.nn.Module, *goals: Any, seed: int = 0, corpus: Sequence[str] = tuple(CORPUS)) -> list[Job]:
    searches = [td.corpus_search(model, Job(goal, None, seed).objective, list(corpus), top=8) for goal in goals]
    return [Job(goal, (search, list(corpus)), seed) for goal, search in zip(goals, searches, strict=True)]


def test_portraits_are_those_of_portrait(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side or not; and what random directions of a hook come to is found once."""
    drawn: list[str] = []
    real = portraying.directions

    def directions(host: Any, goal: td.Objective, *more: Any) -> Any:
        drawn.append(repr(goal))
        return real(host, goal, *more)

    monkeypatch.setattr(portraying, "directions", directions)
    jobs, found = portrayed(encoder, *(td.Unit("mlp_post", 1, unit) for unit in (3, 5, 7)), seed=4), dict[str, Any]()
    kind = Portraits(**QUICK)
    first, _, last = (page for some in (jobs[:2], jobs[2:]) for _, page, _ in kind.run(encoder, some, 4, None, found))
    assert len(drawn) == 1 and isinstance(first, td.Portrait) and isinstance(last, td.Portrait)
    for job, page in ((jobs[0], first), (jobs[2], last)):
        alone = td.portrait(encoder, job.objective, CORPUS, **QUICK, fluent=False, tokens=False, seed=4)
        assert [one.essential.whole.text for one in page.dreams] == [one.essential.whole.text for one in alone.dreams]
        assert page.standing.deviations == pytest.approx(alone.standing.deviations, abs=1e-3)
        assert page.corpus.top == alone.corpus.top and page.settings == alone.settings
        assert (page.common, page.counts, page.seed) == (alone.common, alone.counts, 4)
    told, best = Portraits.told(first.to_json()), first.best.whole
    assert best.score == pytest.approx(max(one.essential.whole.score for one in first.dreams), abs=1e-5)
    assert (told["text"], told["score"], told["essential"]) == (best.text, best.score, first.best.short)
    assert told["height"] == pytest.approx((best.score - first.mean) / first.deviation)
    assert (told["deviations"], told["verdict"]) == (first.standing.deviations, first.standing.verdict)
    assert told["distinguished"] is first.distinguished


def test_a_portrait_that_fails_fails_alone(encoder: torch.nn.Module) -> None:
    """A unit that never varies and one that breaks, and a good one side by side with them."""
    silent = 0 * td.neuron("mlp_post", layer=1, unit=3)
    broken = td.neuron("mlp_post", layer=1, unit=999)
    (good,) = portrayed(encoder, td.Unit("mlp_post", 1, 3))
    jobs = [Job(silent, good.start, 0), good, Job(broken, good.start, 0)]
    never, page, unknown = ran(Portraits(**{**QUICK, "placebos": 0}), encoder, jobs)
    with says("never varies"):
        raise never
    with says("unit 999 does not exist"):
        raise unknown
    assert page.standing is None and Portraits.told(page.to_json())["deviations"] is None


def test_reconstructions_are_those_of_reconstruct(encoder: torch.nn.Module) -> None:
    goals = [Recorded("mlp_out", layer, text) for text, layer in (("the red dog", 0), ("dog " * 99, 1), ("a cat .", 2))]
    kind = Reconstructions(hook="mlp_out", **SHORT)
    for goal, found in zip(goals, ran(kind, encoder, [Job(goal, None, 3) for goal in goals], seed=3), strict=True):
        if goal.layer == 1:
            with says("tokens"):
                raise found
            continue
        alone = td.reconstruct(encoder, goal.truth, hook="mlp_out", layer=goal.layer, seed=3, **SHORT)
        assert (found.text, found.truth.text, found.certified) == (alone.text, alone.truth.text, alone.certified)
        assert found.settings == alone.settings and found.seed == 3
        told = Reconstructions.told(found.to_json())
        assert told == {
            name: getattr(found, name) for name in "text right total exact certified loss gap stopped".split()
        }


def test_options_as_a_manifest_tells_them() -> None:
    allowed = numpy.array([True, False])
    told = Dreams(td.Annealing(steps=7), 500, allowed, [numpy.int64(3), "cat"], None, True).described()
    assert told == {
        "what": "dreams",
        "method": {"kind": "Annealing", **asdict(td.Annealing(steps=7))},
        "budget": 500,
        "allowed": [True, False],
        "banned": [3, "cat"],
        "max_changes": None,
        "retokenize": True,
    }
    more = [Portraits(seeds=numpy.int64(3)).described(), Reconstructions(layers=range(2)).described()]
    assert more[0] == {"what": "portraits", **vars(Portraits()), "seeds": 3} and more[1]["layers"] == [0, 1]
    assert json.loads(json.dumps([told, *more])) == [told, *more]


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        (Dreams(method="guess"), "unknown method"),
        (Dreams(allowed="no_specials"), "allowed"),
        (Portraits(placebos=1), "placebos = 1"),
        (Portraits(seeds=0), "seeds = 0"),
        (Portraits(allowed="no_specials"), "allowed"),
        (Reconstructions(method="gcg"), "unknown method 'gcg'"),
        (Reconstructions(steps=3), 'steps= goes with method="article"'),
        (Reconstructions(rivals=-1), "rivals = -1"),
        (Reconstructions(budget=0), "budget = 0"),
        (Reconstructions(allowed="no_specials"), "allowed"),
    ],
)
def test_options_that_are_none(encoder: torch.nn.Module, kind: Kind, complaint: str) -> None:
    with attached(encoder) as host, says(complaint):
        kind.try_out(host, None)
