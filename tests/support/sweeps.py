"""What the tests of several rooms share: sweeps, and processes that may be killed."""

import functools
import json
import multiprocessing
import signal
import time
from pathlib import Path
from typing import Any

import numpy
import pandas
import torch

import tl_dream as td

CORPUS = [
    "the red dog hates me .",
    "the cat sees a moon",
    "a red dog is not warm",
    "the sun loves the river",
    "she can see the dog and the moon .",
]
PATTERN = "mlp_post:0-2:0-4"
OPTIONS: dict[str, Any] = {"corpus": CORPUS, "budget": 700, "width": 6, "seeds": 2}
SWEEPS: dict[str, tuple[Any, dict[str, Any]]] = {
    "dreams": (PATTERN, OPTIONS),
    "portraits": (
        "mlp_post:0:2-5",
        {"corpus": CORPUS, "what": td.Portraits(placebos=2, seeds=1, budget=100), "width": 1},
    ),
    "reconstructions": (CORPUS, {"what": td.Reconstructions(layers=[0, 2], rivals=2, budget=50), "width": 2}),
}
"""Jobs and options of each kind."""
CLOCK = ["seconds", "ended"]
"""Columns that say when, not what."""


def load(folder: str) -> torch.nn.Module:
    """A model for a worker, on one thread."""
    torch.set_num_threads(1)
    return td.load_model(folder)


def loader(folder: Path) -> Any:
    return functools.partial(load, str(folder))


def processes() -> Any:
    """What makes processes that begin with all they need imported, and without what the tests check of types."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([__name__, "transformer_lens", "distributed", "tl_dream.sweeps", "tl_dream.models"])
    return made


def swept(model: Path, out: Path, kind: str = "dreams", **more: Any) -> td.SweepStatus:
    """One of SWEEPS."""
    jobs, options = SWEEPS[kind]
    return td.sweep(loader(model), jobs, out=out, **(options | more))


def begin(model: Path, out: Path, kind: str = "dreams", **more: Any) -> Any:
    """The same in a process of its own."""
    process = processes().Process(target=swept, args=(model, out, kind), kwargs=more)
    process.start()
    return process


def lines(out: Path) -> int:
    """Rows that the journals hold."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("worker-*.jsonl"))


def kill_after(process: Any, out: Path, rows: int, seconds: float = 120.0) -> int:
    """SIGKILL once the journals hold so many rows; gives how many they held then."""
    ends = time.monotonic() + seconds
    while lines(out) < rows and process.is_alive() and time.monotonic() < ends:
        time.sleep(0.005)
    held = lines(out)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it ended by itself"
    return held


def keys(out: Path) -> list[str]:
    """Of every row of every journal."""
    return [json.loads(line)["key"] for path in out.glob("worker-*.jsonl") for line in path.read_bytes().splitlines()]


def same_rows(one: pandas.DataFrame, other: pandas.DataFrame) -> bool:
    """The same jobs with the same outcome; float32 scores to their rounding. What a portrait costs is its share of what
    was done side by side."""
    assert list(one.columns) == list(other.columns) and len(one) == len(other)
    shared = ["forwards", "forward_tokens"] if "essential" in one else []
    for name in one.columns.drop([*CLOCK, *shared]):
        a, b = one[name], other[name]
        if a.dtype.kind == "f":
            numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            pandas.testing.assert_series_equal(a, b)
    return True
