"""Processes and clusters do what one process does, also where workers are killed."""

import builtins
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import dask
import pandas
import psutil
import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.sweeps import keys, lines, load, loader, processes, same_rows, swept
from tl_dream.models import attached, model_hash
from tl_dream.sweeps import engines
from tl_dream.sweeps.jobs import Job
from tl_dream.sweeps.kinds import Dreams
from tl_dream.sweeps.workers import Work, packed, run_chunk


@pytest.fixture(scope="module")
def whole(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pandas.DataFrame:
    out = tmp_path_factory.mktemp("whole")
    swept(tiny_folder, out)
    return td.read_sweep(out)


@pytest.fixture
def quick() -> Iterator[None]:
    """Workers of Dask that begin with all they need imported."""
    import distributed  # noqa: F401  # which fills Dask's settings

    processes()
    with dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}):
        yield


def server_pid() -> int | None:
    """Of the process that makes processes."""
    return forkserver._forkserver._forkserver_pid


def kill_one(out: Path, after: int, killed: list[int], among: Any) -> threading.Thread:
    """SIGKILL, once the journals hold so many rows, to the busiest of these processes."""

    def wait() -> None:
        while lines(out) < after:
            time.sleep(0.005)
        (victim, *_) = sorted(among(), key=lambda one: -sum(one.cpu_times()[:2]))
        victim.send_signal(signal.SIGKILL)
        killed.append(victim.pid)

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def packs(pipe: Any) -> None:
    goal = td.custom(lambda acts: acts["x"][:, 1, 3] - acts["x"][:, 1, 5], {"x": ("mlp_post", 1)})
    jobs = [(goal, "the red dog"), (td.neuron("mlp_post", layer=1, unit=3) - 0.5 * td.logit("dog", pos=1), "the cat")]
    pipe.send(packed([Job(goal, start, 0) for goal, start in jobs]))


def does(pipe: Any, folder: Path) -> None:
    jobs, model = pipe.recv(), load(str(folder))
    with attached(model) as host:
        work = Work("a" * 16, model_hash(host), 5.0, Dreams(budget=300), None)
    pipe.send(run_chunk(work, packed(loader(folder)), jobs, None))


@pytest.mark.slow
def test_objectives_of_your_own_go_to_other_processes(tiny_folder: Path) -> None:
    """From one to another: what the tests check of types can't be sent."""
    (here, first), (sent, second) = multiprocessing.Pipe(), multiprocessing.Pipe()
    both = [
        processes().Process(target=packs, args=(first,)),
        processes().Process(target=does, args=(second, tiny_folder)),
    ]
    for process in both:
        process.start()
    assert here.poll(120), "they can't be packed"
    sent.send(here.recv())
    assert sent.poll(120), "they can't be done"
    rows = sent.recv()
    for process in both:
        process.join()
    assert len(rows) == 2 and all("result" in row for row in rows)


@pytest.mark.slow
def test_processes_of_which_one_is_killed(tiny_folder: Path, tmp_path: Path, whole: pandas.DataFrame) -> None:
    """Each of the four takes seconds to import torch."""
    threads, environment, killed = torch.get_num_threads(), dict(os.environ), list[int]()
    thread = kill_one(
        tmp_path, 5, killed, lambda: [one for one in psutil.Process().children() if one.pid != server_pid()]
    )
    status = swept(tiny_folder, tmp_path, workers=2)
    thread.join()
    assert [path.name for path in sorted(tmp_path.glob("worker-*.jsonl"))] == ["worker-0.jsonl", "worker-1.jsonl"]
    assert min(path.read_bytes().count(b"\n") for path in tmp_path.glob("worker-*.jsonl")) > 5, "both had their share"
    assert torch.get_num_threads() == threads and dict(os.environ) == environment
    assert killed and any("workers died" in notice for notice in status.notices)
    assert sorted(keys(tmp_path)) == sorted(whole.key) and same_rows(td.read_sweep(tmp_path), whole)


@pytest.mark.slow
def test_a_cluster_of_which_a_worker_is_killed(
    quick: None, tiny_folder: Path, tmp_path: Path, whole: pandas.DataFrame
) -> None:
    killed: list[int] = []
    thread = kill_one(tmp_path, 5, killed, lambda: psutil.Process(server_pid()).children())
    status = swept(tiny_folder, tmp_path, engine="dask", workers=2, threads=1)
    thread.join()
    assert killed and status.done == 30
    assert sorted(keys(tmp_path)) == sorted(whole.key) and same_rows(td.read_sweep(tmp_path), whole)


@pytest.mark.slow
def test_a_running_scheduler(quick: None, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a worker; with one; and with one that has another model."""
    from distributed import LocalCluster

    jobs = "mlp_post:0:0-4"
    with LocalCluster(n_workers=0, threads_per_worker=2, dashboard_address=None, silence_logs=50) as cluster:
        address = cluster.scheduler_address
        options: dict[str, Any] = {
            "prompt": "the dog",
            "budget": 300,
            "engine": "dask",
            "scheduler": address,
            "threads": 1,
        }
        with monkeypatch.context() as soon:
            soon.setattr(engines, "START", 0.2)
            with says("has had no worker for 0 seconds", f"`dask worker {address}`", "same command again"):
                td.sweep(loader(tiny_folder), jobs, out=tmp_path, **options)
        assert td.sweep_status(tmp_path).left == 5
        cluster.scale(1)
        assert td.sweep(loader(tiny_folder), jobs, out=tmp_path, **options).done == 5
        with says("a worker loaded another model"):
            other = td.load_model(str(tiny_folder), dtype=torch.float64)
            td.sweep(Once(other, tiny_folder), jobs, out=tmp_path / "b", **options)


class Once:
    """Loads one model here, and another one where it was sent to."""

    def __init__(self, model: Any, folder: Path) -> None:
        self.model, self.folder = model, folder

    def __call__(self) -> Any:
        return self.model

    def __reduce__(self) -> Any:
        return loader, (self.folder,)


def test_no_scheduler(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "ANSWER", 0.2)
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
