"""What the tests of several rooms share: sweeps. Run as a program it is a sweep that may be killed:
python -m tests.support.sweeps MODEL OUT [WORKERS]"""

import functools
import json
import signal
import subprocess
import sys
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
PATTERN = "mlp_post:0-2:0-7"
OPTIONS: dict[str, Any] = {"corpus": CORPUS, "budget": 700, "width": 6, "seeds": 2}
CLOCK = ["seconds", "ended"]
"""Columns that say when, not what."""


def load(folder: str) -> torch.nn.Module:
    """A model for a worker, on one thread."""
    torch.set_num_threads(1)
    return td.load_model(folder)


def loader(folder: Path) -> Any:
    return functools.partial(load, str(folder))


def begin(model: Path, out: Path, workers: int = 1) -> subprocess.Popen[bytes]:
    """A sweep in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", __name__, str(model), str(out), str(workers)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def lines(out: Path) -> int:
    """Rows that the journals hold."""
    return sum(path.read_bytes().count(b"\n") for path in out.glob("worker-*.jsonl"))


def kill_after(process: subprocess.Popen[bytes], out: Path, rows: int, seconds: float = 120.0) -> int:
    """SIGKILL once the journals hold so many rows; gives how many they held then, and how it had ended."""
    ends = time.monotonic() + seconds
    while lines(out) < rows and process.poll() is None and time.monotonic() < ends:
        time.sleep(0.005)
    held = lines(out)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended by itself"
    return held


def keys(out: Path) -> list[str]:
    """Of every row of every journal."""
    return [json.loads(line)["key"] for path in out.glob("worker-*.jsonl") for line in path.read_bytes().splitlines()]


def same_rows(one: pandas.DataFrame, other: pandas.DataFrame) -> bool:
    """The same jobs with the same outcome; float32 scores to their rounding."""
    assert list(one.columns) == list(other.columns) and len(one) == len(other)
    for name in one.columns.drop(CLOCK):
        a, b = one[name], other[name]
        if a.dtype.kind == "f":
            numpy.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
        else:
            pandas.testing.assert_series_equal(a, b)
    return True


if __name__ == "__main__":
    torch.set_num_threads(1)
    td.sweep(loader(Path(sys.argv[1])), PATTERN, out=sys.argv[2], workers=int(sys.argv[3]), **OPTIONS)
