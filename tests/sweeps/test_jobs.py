"""What jobs are called, which are none, and what a corpus, searched once for all of them, has them start from."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import CORPUS
from tl_dream.models.host import attached
from tl_dream.sweeps import jobs as room
from tl_dream.sweeps.jobs import Job, Kind, Recorded, describe_corpus, find_starts, jobs_of, read_starts
from tl_dream.sweeps.kinds import Dreams, Portraits, Reconstructions

GOAL = td.neuron("block_out", layer=1, unit=3)


def made(
    model: torch.nn.Module,
    given: object,
    prompt: object = "the dog",
    seeds: range = range(1),
    kind: Kind | None = None,
) -> list[Job]:
    with attached(model) as host:
        return jobs_of(host, kind or Dreams(), given, prompt, seeds)


def test_every_unit_and_pair_with_every_seed(encoder: torch.nn.Module) -> None:
    given = ["mlp_post:0:1-2", td.Unit("z", 1, 4, 2), (GOAL, "the red dog"), "mlp_post:0:2"]
    found = made(encoder, given, seeds=range(5, 7))
    names = ["mlp_post:0:1", "mlp_post:0:2", "z:1:head=2:4", f"{GOAL!r} from the red dog"]
    assert [job.key for job in found] == [f"{name}@{seed}" for seed in (5, 6) for name in names]
    assert [job.start for job in found] == 2 * (3 * ["the dog"] + ["the red dog"])
    assert repr(found[2].objective) == repr(td.neuron("z", layer=1, head=2, unit=4))
    assert found[3].objective is GOAL
    listed = [job.described() for job in found]
    assert json.loads(json.dumps(listed)) == listed
    assert listed[2] == {"key": "z:1:head=2:4@5", "hook": "z", "layer": 1, "unit": 4, "head": 2, "seed": 5}
    assert made(encoder, td.Unit("z", 1, 4, 2)) == made(encoder, "z:1:head=2:4")


def test_every_unit_and_objective_to_portray(encoder: torch.nn.Module) -> None:
    found = made(encoder, ["mlp_post:0:1", GOAL, "mlp_post:0:1"], None, range(2), Portraits())
    assert [job.key for job in found] == [f"{name}@{seed}" for seed in (0, 1) for name in ("mlp_post:0:1", repr(GOAL))]
    assert all(job.searched for job in found)
    assert found[1].described() == {"key": f"{GOAL!r}@0", "objective": repr(GOAL), "prompt": None, "seed": 0}


def test_every_text_at_every_layer(encoder: torch.nn.Module, tmp_path: Path) -> None:
    file = tmp_path / "texts.txt"
    file.write_text("the dog\n\n a cat \nthe dog\n")
    found = made(encoder, file, None, range(2), Reconstructions(layers=[2, 0]))
    names = [f"block_out:{layer}:{text}" for text in ("the dog", "a cat") for layer in (2, 0)]
    assert [job.key for job in found] == [f"{name}@{seed}" for seed in (0, 1) for name in names]
    assert found[0].goal == Recorded("block_out", 2, "the dog") and not any(job.searched for job in found)
    assert found[0].described() == {"key": found[0].key, "hook": "block_out", "layer": 2, "truth": "the dog", "seed": 0}
    assert [job.goal.layer for job in made(encoder, "a dog", None, kind=Reconstructions())] == [0, 1, 2]


@pytest.mark.parametrize(
    ("kind", "given", "complaint"),
    [
        (Dreams(), [], "there is no job"),
        (Dreams(), None, "jobs is a NoneType"),
        (Dreams(), 3, "jobs is a int"),
        (Dreams(), [3], "a job is 3"),
        (Dreams(), [(GOAL,)], "(objective, prompt) pairs"),
        (Dreams(), [("mlp_post:0:1", "the dog")], "(objective, prompt) pairs"),
        (Dreams(), [(GOAL, None)], "give a sentence"),
        (Dreams(), [(GOAL, "the dog"), (GOAL, "the dog")], "two jobs are the same"),
        (Portraits(), [("mlp_post", 1, 3)], "give patterns of units (see `units`), units, or objectives"),
        (Portraits(), "mlp_post:0:9-5", "names no unit"),
        (Portraits(), [GOAL, GOAL], "two jobs are the same"),
        (Portraits(), [td.Unit("mlp_post", 1, 999)], "unit 999 does not exist"),
        (Portraits(), [GOAL + td.logit("dog", pos=1)], "has no placebo"),
        (Reconstructions(), [3], "a job is 3: give texts, or a file"),
        (Reconstructions(), [], "there is no job"),
        (Reconstructions(layers=0), ["the dog", "\ud800 dog"], "is no Unicode"),
        (Dreams(), [(GOAL, "\ud800 dog")], "is no Unicode"),
        (Reconstructions(), Path("nowhere.txt"), "can't read 'nowhere.txt'"),
        (Reconstructions(layers=[7]), "a dog", "layer 7"),
        (Reconstructions(layers=[]), "a dog", "no layer given"),
        (Reconstructions(hook="mlp_pots"), "a dog", "nearest: mlp_post"),
    ],
)
def test_no_jobs(encoder: torch.nn.Module, kind: Kind, given: object, complaint: str) -> None:
    with says(complaint):
        made(encoder, given, kind=kind)


def find(model: torch.nn.Module, folder: Path, texts: object = CORPUS, kind: Kind | None = None) -> list[Job]:
    """With a pair among them, that does not start from a corpus."""
    kind = kind or Dreams()
    given: list[Any] = ["mlp_post:0-1:0-3", *([(GOAL, "the red dog")] if isinstance(kind, Dreams) else [])]
    with attached(model) as host:
        jobs = jobs_of(host, kind, given, None, range(2))
        find_starts(host, kind, jobs, texts, column=None, sentences=3, folder=folder, progress=False)
        return kind.started(host, jobs, read_starts(folder), texts, None)


def test_they_start_from_what_a_corpus_search_finds(encoder: torch.nn.Module, tmp_path: Path) -> None:
    texts = [*CORPUS, "a dog\u2028 the moon"]
    assert read_starts(tmp_path) == {}
    jobs, found = find(encoder, tmp_path, texts), read_starts(tmp_path)
    units = td.units(encoder, "mlp_post:0-1:0-3")
    for number, unit in enumerate(units):
        search = td.corpus_search(encoder, unit.objective(), texts, top=3)
        top = found[str(unit)]["top"]
        assert [hit["line"] for hit in top] == [hit.line for hit in search.top]
        assert [hit["score"] for hit in top] == pytest.approx([hit.score for hit in search.top], abs=1e-5)
        for job in (jobs[number], jobs[number + len(units) + 1]):
            assert job.name == str(unit) and job.start == list(search.texts())
    assert len(found) == len(units) and jobs[len(units)].start == "the red dog"
    assert os.listdir(tmp_path) == ["starts.jsonl"], "the checkpoint of the pass is gone"
    lines = (tmp_path / "starts.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "starts.jsonl").write_text("".join(lines[:-1]))
    assert len(read_starts(tmp_path, list(found)[:-1])) == len(found) - 1
    with says("nothing of mlp_post:1:3", "delete it, and the corpus is searched again"):
        read_starts(tmp_path, found)


def test_portraits_start_from_the_whole_search_and_a_sample(encoder: torch.nn.Module, tmp_path: Path) -> None:
    for job in find(encoder, tmp_path, kind=Portraits()):
        best, sample = job.start
        assert best.top == td.corpus_search(encoder, job.objective, CORPUS, top=3).top
        assert sample == CORPUS, "all of so few"


def test_they_are_found_once_and_a_pass_goes_on(
    encoder: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **options: object) -> object:
        Path(str(options["checkpoint"])).write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(room, "corpus_search", interrupted)
    with pytest.raises(KeyboardInterrupt):
        find(encoder, tmp_path)
    assert os.listdir(tmp_path) == ["starts.checkpoint"]
    monkeypatch.undo()
    with says("starts.checkpoint", "JSON"):  # it is read, so a good one goes on
        find(encoder, tmp_path)
    (tmp_path / "starts.checkpoint").unlink()
    find(encoder, tmp_path)
    monkeypatch.setattr(room, "corpus_search", interrupted)
    find(encoder, tmp_path)


def test_a_corpus_is_told_by_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "corpus.txt"
    file.write_text("\n".join(CORPUS) + "\n")
    told = describe_corpus(file, None, 3)
    assert told | {"digest": ""} == {"name": str(file), "lines": 5, "digest": "", "sentences": 3}
    file.write_text("\n".join([*CORPUS[:-1], "another"]) + "\n")
    assert describe_corpus(file, None, 3)["digest"] != told["digest"]
    listed = describe_corpus(CORPUS, None, 3)
    assert listed == describe_corpus({"text": CORPUS}, "text", 3) | {"name": listed["name"]}
    assert listed["digest"] != describe_corpus(CORPUS[::-1], None, 3)["digest"]
    with says("can be read only once"):
        describe_corpus(iter(CORPUS), None, 3)
    with says("there is no file"):
        describe_corpus("nowhere.txt", None, 3)


@pytest.mark.parametrize("content", ["{", "[]\n", '{"unit": "a"}\n', '{"unit": "a", "top": [{"score": 1}]}\n'])
def test_a_broken_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "starts.jsonl").write_text(content)
    with says("starts.jsonl", "is broken", "delete it"):
        read_starts(tmp_path)
