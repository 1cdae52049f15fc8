"""Processes and clusters do what one process does, also where workers are killed."""

import builtins
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas
import psutil
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import OPTIONS, PATTERN, keys, lines, load, loader, same_rows

pytestmark = pytest.mark.slow
"""Every process that is started takes seconds to import torch."""


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    out = tmp_path_factory.mktemp("whole")
    td.sweep(loader(tiny_folder), PATTERN, out=out, **OPTIONS)
    return td.read_sweep(out)


def kill_one(out: Path, after: int, killed: list[int]) -> threading.Thread:
    """SIGKILL, once the journals hold so many rows, to one of the processes that compute."""

    def wait() -> None:
        while lines(out) < after:
            time.sleep(0.005)
        every = psutil.Process().children(recursive=True)
        (victim, *_) = sorted(every, key=lambda one: -sum(one.cpu_times()[:2]))
        victim.send_signal(signal.SIGKILL)
        killed.append(victim.pid)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


PAIRS = """
import sys
import tl_dream as td
from tests.support.sweeps import loader
if __name__ == "__main__":
    goal = td.custom(lambda acts: acts["x"][:, 1, 3] - acts["x"][:, 1, 5], {"x": ("mlp_post", 1)})
    jobs = [(goal, "the red dog"), (td.neuron("mlp_post", layer=1, unit=3) - 0.5 * td.logit("dog", pos=1), "the cat")]
    print(td.sweep(loader(sys.argv[1]), jobs, out=sys.argv[2], budget=500, engine="joblib"))
"""


def test_objectives_of_your_own_go_to_other_processes(tiny_folder: Path, tmp_path: Path) -> None:
    """In an interpreter of its own: what the tests check of types can't be sent."""
    command = [sys.executable, "-c", PAIRS, tiny_folder, tmp_path / "out"]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.stdout.startswith("2 of 2 jobs are done"), done.stderr
    assert len(td.read_sweep(tmp_path / "out")) == 2


def test_processes_of_which_one_is_killed(tiny_folder: Path, tmp_path: Path, whole: pandas.DataFrame) -> None:
    threads, environment, killed = torch.get_num_threads(), dict(os.environ), list[int]()
    thread = kill_one(tmp_path, 5, killed)
    status = td.sweep(loader(tiny_folder), PATTERN, out=tmp_path, workers=2, **OPTIONS)
    thread.join()
    assert [path.name for path in sorted(tmp_path.glob("worker-*.jsonl"))] == ["worker-0.jsonl", "worker-1.jsonl"]
    assert min(path.read_bytes().count(b"\n") for path in tmp_path.glob("worker-*.jsonl")) > 5, "both had their share"
    assert torch.get_num_threads() == threads and dict(os.environ) == environment
    assert killed and any("workers died" in notice for notice in status.notices)
    assert sorted(keys(tmp_path)) == sorted(whole.key) and same_rows(td.read_sweep(tmp_path), whole)


def test_a_cluster_of_which_a_worker_is_killed(tiny_folder: Path, tmp_path: Path, whole: pandas.DataFrame) -> None:
    killed: list[int] = []
    thread = kill_one(tmp_path, 5, killed)
    status = td.sweep(loader(tiny_folder), PATTERN, out=tmp_path, engine="dask", workers=2, **OPTIONS)
    thread.join()
    assert killed and status.done == 48
    assert sorted(keys(tmp_path)) == sorted(whole.key) and same_rows(td.read_sweep(tmp_path), whole)


def test_a_running_scheduler(tiny_folder: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    options: dict[str, Any] = {"prompt": "the dog", "budget": 300, "engine": "dask"}
    with LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=None, silence_logs=50) as cluster:
        jobs = ["mlp_post:0:0-4", td.Unit("mlp_post", 1, 999)]
        status = td.sweep(loader(tiny_folder), jobs, out=tmp_path, scheduler=cluster.scheduler_address, **options)
        assert status.done == 5 and "999" in status.failures[0].why
        with says("a worker loaded another model"):
            other = td.load_model(str(tiny_folder), dtype=torch.float64)
            td.sweep(Once(other, tiny_folder), jobs, out=tmp_path / "b", scheduler=cluster.scheduler_address, **options)


class Once:
    """Loads one model here, and another one where it was sent to."""

    def __init__(self, model: Any, folder: Path) -> None:
        self.model, self.folder = model, folder

    def __call__(self) -> Any:
        return self.model

    def __reduce__(self) -> Any:
        return Other, (self.folder,)


class Other:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self) -> Any:
        return load(str(self.folder))


def test_no_scheduler(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{held.getsockname()[1]}"
    options = {"prompt": "the dog", "budget": 300, "engine": "dask", "out": tmp_path}
    for scheduler in (address, "no address at all"):
        with says("no Dask scheduler can be reached at", "dask scheduler"):
            td.sweep(loader(tiny_folder), "mlp_post:0:0-4", scheduler=scheduler, **options)
    real = builtins.__import__

    def without(name: str, *args: Any) -> Any:
        if name == "distributed":
            raise ImportError("No module named 'distributed'")
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", without)
    with says('pip install "tl-dream[cluster]"'):
        td.sweep(loader(tiny_folder), "mlp_post:0:0-4", **options)
