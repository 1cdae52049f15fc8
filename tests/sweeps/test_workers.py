"""What does the jobs: a row for each, whatever becomes of it."""

import multiprocessing
import os
import pickle
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import loader
from tl_dream.models import attached, model_hash
from tl_dream.sweeps import workers
from tl_dream.sweeps.jobs import Job
from tl_dream.sweeps.journal import read_journal
from tl_dream.sweeps.kinds import Dreams
from tl_dream.sweeps.workers import Work, packed, run_chunk, run_here, run_process

KIND = Dreams(budget=500)
JOBS = [Job(td.Unit("mlp_post", 0, unit), "the red dog", seed) for seed in (0, 1) for unit in range(4)]


def work(model: torch.nn.Module, **changes: Any) -> Work:
    with attached(model) as host:
        return replace(Work("a" * 16, model_hash(host), 5.0, KIND, None), **changes)


@pytest.mark.slow
def test_every_job_gives_a_row_that_is_its_dream(encoder: torch.nn.Module, tmp_path: Path) -> None:
    run_here(work(encoder), encoder, JOBS, tmp_path)
    rows = list(read_journal(tmp_path / "worker-0.jsonl"))
    assert len(rows) == len(JOBS) and {row["key"] for row in rows} == {job.key for job in JOBS}
    for row in rows:
        (job,) = (job for job in JOBS if job.key == row["key"])
        alone = td.dream(encoder, job.objective, job.start, budget=500, seed=job.seed)
        result = td.Dream.from_json(row["result"])
        assert result.best.text == alone.best.text and result.seed == job.seed
        assert result.best.score == pytest.approx(alone.best.score, abs=1e-5)
        assert (row["sweep"], row["session"], row["device"]) == ("a" * 16, 5.0, "cpu")
        assert abs(row["ended"] - time.time()) < 300


def test_a_job_that_fails_says_why_and_no_other_fails(encoder: torch.nn.Module) -> None:
    def broken(acts: Any) -> torch.Tensor:
        raise RuntimeError("mine")

    jobs = [
        JOBS[0],
        Job(td.custom(broken, {"x": ("mlp_post", 1)}), "the red dog", 0),
        Job(td.neuron("mlp_post", layer=1, unit=999), "the red dog", 0),
        JOBS[1],
    ]
    rows = {row["key"]: row for row in work(encoder).rows(encoder, jobs)}
    assert "result" in rows[jobs[0].key] and "result" in rows[jobs[3].key]
    assert "mine" in rows[jobs[1].key]["error"]["message"]
    assert rows[jobs[2].key]["error"]["kind"] == "DreamError"
    assert "unit 999 does not exist" in rows[jobs[2].key]["error"]["message"]


def test_a_broken_machine_ends_the_sweep(encoder: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STREAK", 3)

    def run(*_: object) -> Any:
        for number in range(len(JOBS)):
            yield number, None, RuntimeError("CUDA error") if number else td.DreamError("x")

    monkeypatch.setattr(Dreams, "run", run)
    rows = []
    with says("the last 3 jobs failed one after the other", "CUDA error", "same command again"):
        for row in work(encoder).rows(encoder, [replace(job, seed=0) for job in JOBS]):
            rows.append(row)
    assert [row["error"]["kind"] for row in rows] == ["DreamError", *3 * ["RuntimeError"]]


def test_a_worker_with_another_model(
    tiny_checkpoint: Callable[..., Path], encoder: torch.nn.Module, tmp_path: Path
) -> None:
    other = loader(tiny_checkpoint(seed=5))
    with says("a worker loaded another model", "same checkpoint"):
        run_process(work(encoder), packed(other), packed(JOBS), tmp_path, 0, 1, os.getppid())
    assert not list(tmp_path.glob("*.jsonl"))
    with says("a worker loaded another model"):
        run_chunk(work(encoder), packed(other), packed(JOBS), None)


def test_a_chunk_loads_the_model_once(encoder: torch.nn.Module, tiny_folder: Path, tmp_path: Path) -> None:
    log = tmp_path / "loads"

    def load() -> torch.nn.Module:
        with log.open("a") as file:
            file.write("x")
        return td.load_model(str(tiny_folder))

    threads, pickled = torch.get_num_threads(), packed(load)
    for at in (0, 2):
        rows = run_chunk(work(encoder), pickled, packed(JOBS[at : at + 2]), threads)
        assert {row["key"] for row in rows} == {job.key for job in JOBS[at : at + 2]}
        assert pickle.loads(pickle.dumps(rows)) == rows
    assert log.read_text() == "x" and torch.get_num_threads() == threads


def test_a_process_whose_parent_has_gone_writes_nothing(
    encoder: torch.nn.Module, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "_end_with", lambda parent: None)
    run_process(work(encoder), packed(loader(tiny_folder)), packed(JOBS), tmp_path, 0, 1, os.getppid() + 1)
    assert (tmp_path / "worker-0.jsonl").read_bytes() == b""
    run_process(work(encoder), packed(loader(tiny_folder)), packed(JOBS[:1]), tmp_path, 0, 1, os.getppid())
    assert len(list(read_journal(tmp_path / "worker-0.jsonl"))) == 1


def test_what_cannot_be_sent(tmp_path: Path) -> None:
    with (tmp_path / "open").open("w") as file, says("can't be sent to another process", "give units"):
        packed(td.custom(lambda acts: file.name, {"x": ("mlp_post", 1)}))


def watcher(parent: int) -> None:
    workers._end_with(parent)


def begetter(pipe: Any) -> None:
    child = multiprocessing.get_context("spawn").Process(target=watcher, args=(os.getpid(),))
    child.start()
    pipe.send(child.pid)
    time.sleep(60)


@pytest.mark.slow
def test_a_worker_ends_with_its_parent() -> None:
    spawn = multiprocessing.get_context("spawn")
    mine, theirs = spawn.Pipe()
    parent = spawn.Process(target=begetter, args=(theirs,))
    parent.start()
    child = mine.recv()
    time.sleep(1.0)
    os.kill(child, 0)
    os.kill(parent.pid, signal.SIGKILL)
    parent.join()
    for _ in range(600):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("it lives on")
