"""What jobs are called, and which are none."""

import json
from dataclasses import asdict

import numpy
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tl_dream.models.host import attached
from tl_dream.sweeps.jobs import Job, Settings, jobs_of, started_from

GOAL = td.neuron("block_out", layer=1, unit=3)


def made(model: torch.nn.Module, given: object, prompt: object = "the dog", seeds: range = range(1)) -> list[Job]:
    with attached(model) as host:
        return jobs_of(host, given, prompt, seeds)


def test_every_unit_and_pair_with_every_seed(encoder: torch.nn.Module) -> None:
    given = ["mlp_post:0:1-2", td.Unit("z", 1, 4, 2), (GOAL, "the red dog"), "mlp_post:0:2"]
    found = made(encoder, given, seeds=range(5, 7))
    names = ["mlp_post:0:1", "mlp_post:0:2", "z:1:head=2:4", f"{GOAL!r} from the red dog"]
    assert [job.key for job in found] == [f"{name}@{seed}" for seed in (5, 6) for name in names]
    assert [job.prompt for job in found] == 2 * (3 * ["the dog"] + ["the red dog"])
    assert repr(found[2].objective) == repr(td.neuron("z", layer=1, head=2, unit=4))
    assert found[3].objective is GOAL
    listed = [job.described() for job in found]
    assert json.loads(json.dumps(listed)) == listed
    assert listed[2] == {"key": "z:1:head=2:4@5", "hook": "z", "layer": 1, "unit": 4, "head": 2, "seed": 5}
    assert made(encoder, td.Unit("z", 1, 4, 2)) == made(encoder, "z:1:head=2:4")


def test_units_start_from_their_own_sentences(encoder: torch.nn.Module) -> None:
    found = made(encoder, ["mlp_post:0:1-2", (GOAL, "the red dog")], None)
    hits = {f"mlp_post:0:{unit}": [{"text": f"dog {unit}"}, {"text": "cat"}] for unit in (1, 2)}
    assert [job.prompt for job in started_from(found, hits)] == [["dog 1", "cat"], ["dog 2", "cat"], "the red dog"]
    assert [job.key for job in started_from(found, hits)] == [job.key for job in found]


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        ([], "there is no job"),
        (None, "jobs is a NoneType"),
        (3, "jobs is a int"),
        ([3], "a job is 3"),
        ([(GOAL,)], "(objective, prompt) pairs"),
        ([("mlp_post:0:1", "the dog")], "(objective, prompt) pairs"),
        ([(GOAL, None)], "give a sentence"),
        ([(GOAL, "the dog"), (GOAL, "the dog")], "two jobs are the same"),
    ],
)
def test_no_jobs(encoder: torch.nn.Module, given: object, complaint: str) -> None:
    with says(complaint):
        made(encoder, given)


def test_settings_as_a_manifest_tells_them() -> None:
    allowed = numpy.array([True, False])
    told = Settings(td.Annealing(steps=7), 500, allowed, [numpy.int64(3), "cat"], None, True).described()
    assert told == {
        "method": {"kind": "Annealing", **asdict(td.Annealing(steps=7))},
        "budget": 500,
        "allowed": [True, False],
        "banned": [3, "cat"],
        "max_changes": None,
        "retokenize": True,
    }
    assert json.loads(json.dumps(told)) == told
