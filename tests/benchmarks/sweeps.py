"""What sweeps must show.

python tests/benchmarks/sweeps.py kills     a sweep of 200 units, killed five times at random, against the whole one
python tests/benchmarks/sweeps.py workers   two worker processes against one
python tests/benchmarks/sweeps.py dask      a local Dask cluster of two workers, one killed in the middle
python tests/benchmarks/sweeps.py rate      a sample of all block_out units of MiniLM, projected to all of them
python tests/benchmarks/sweeps.py plan      every mlp_post unit of larger models on 1, 8 and 64 GPUs
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pandas
import psutil
import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import tl_dream as td  # noqa: E402

CLOCK = ["seconds", "ended"]
MODELS = {  # layers, d_model, d_mlp
    "BERT-base": (12, 768, 3072),
    "BERT-large": (24, 1024, 4096),
    "GPT-2 XL": (48, 1600, 6400),
}
SENTENCE = 16
"""Tokens, special ones included."""


def load(name: str) -> Any:
    """On one thread, as a worker of two has it."""
    torch.set_num_threads(1)
    return td.load_model(name)


def sentences(given: str | None) -> list[str]:
    """Of a corpus, those of 8 to 24 words; without one those that the package ships."""
    from tl_dream.search.other_starts import ordinary_sentences

    lines = list(ordinary_sentences()) if given is None else Path(given).read_text("utf-8").splitlines()
    return [line.strip() for line in lines if 8 <= len(line.split()) <= 24 and "<unk>" not in line]


def differences(one: pandas.DataFrame, other: pandas.DataFrame) -> str:
    """Of two tables but for the clock."""
    assert one.key.tolist() == other.key.tolist()
    said = []
    for name in one.columns.drop(CLOCK):
        a, b = one[name], other[name]
        off = (a != b) & ~(a.isna() & b.isna())
        if off.any() and a.dtype.kind == "f":
            said.append(f"{name}: {off.sum()} differ, by at most {numpy.abs(a - b).max():.1e}")
        elif off.any():
            said.append(f"{name}: {off.sum()} DIFFER")
    return "; ".join(said) or "none, to the last bit"


def rows(out: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in out.glob("worker-*.jsonl"))


def child(arguments: dict[str, Any]) -> None:
    """A sweep in this process, from the command line of `begin`."""
    model = functools.partial(load, arguments.pop("model"))
    td.sweep(model, arguments.pop("jobs"), **arguments, progress=False)


def begin(**arguments: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, __file__, "child", json.dumps(arguments, default=str)], cwd=ROOT)


class Watch:
    """CPU seconds of every process that this one starts, and one of them killed where that is asked for."""

    def __init__(self, kill_at: Callable[[], bool] | None = None) -> None:
        self.seconds: dict[int, float] = {}
        self.killed: int | None = None
        self._kill_at, self._over = kill_at, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Watch:
        self._began = time.perf_counter(), time.process_time()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.own = time.perf_counter() - self._began[0], time.process_time() - self._began[1]
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.1):
            for process in psutil.Process().children(recursive=True):
                try:
                    self.seconds[process.pid] = sum(process.cpu_times()[:2])
                except psutil.Error:
                    continue
            if self._kill_at is not None and self.killed is None and self._kill_at():
                self.killed = max(self.seconds, key=lambda pid: self.seconds[pid])
                os.kill(self.killed, signal.SIGKILL)


def kills(given: argparse.Namespace) -> None:
    from tests.conftest import write_bert

    draw = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "model").mkdir()
        write_bert(folder / "model")
        corpus = folder / "corpus.txt"
        corpus.write_text("\n".join(["the red dog hates me .", "the cat sees a moon", "a red dog is not warm"]))
        options = {
            "model": folder / "model",
            "jobs": f"mlp_post:0-2:random={given.units // 2}",
            "corpus": corpus,
            "budget": 1500,
            "seeds": 2,
            "width": 16,
        }
        assert begin(**options, out=folder / "whole").wait() == 0
        out = folder / "killed"
        for number in range(given.kills):
            process = begin(**options, out=out)
            end = rows(out) + draw.randrange(1, given.units // given.kills)
            while rows(out) < end and process.poll() is None:
                time.sleep(0.002)
            time.sleep(draw.random() * 0.05)
            process.kill()
            print(f"kill {number + 1}: {rows(out)} rows in the journal, exit status {process.wait()}", flush=True)
        assert begin(**options, out=out).wait() == 0
        whole, killed = td.read_sweep(folder / "whole"), td.read_sweep(out)
        print(f"{rows(out)} rows of {len(killed)} jobs in the end; the whole sweep has {len(whole)}")
        print(f"differences, row for row: {differences(whole, killed)}")


def workers(given: argparse.Namespace) -> None:
    model, corpus = functools.partial(load, "minilm"), sentences(given.corpus)
    options = {"corpus": corpus, "sentences": 3, "budget": given.budget, "progress": False, "engine": "joblib"}
    pattern = f"block_out:0-5:random={given.units}"
    walls, longest, tables = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for count in (1, 2):
            with Watch() as watch:
                td.sweep(model, pattern, out=f"{name}/{count}", workers=count, threads=1, **options)
            own = sorted(watch.seconds.values(), reverse=True)[:count]
            print(
                f"{count} worker(s): {watch.wall:.0f} s by the clock, {watch.own:.0f} CPU s in the sweep itself, "
                f"{', '.join(f'{seconds:.0f}' for seconds in own)} CPU s in the workers",
                flush=True,
            )
            walls.append(watch.wall)
            longest.append(watch.own + own[0])
            tables.append(td.read_sweep(f"{name}/{count}"))
        print(
            f"two workers against one: {walls[0] / walls[1]:.2f} times by the clock of this machine (load: "
            f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} processors)"
        )
        print(f"by CPU seconds, the sweep itself and its longest worker: {longest[0] / longest[1]:.2f} times")
        print(f"differences: {differences(*tables)}")


def dask(given: argparse.Namespace) -> None:
    model, corpus = functools.partial(load, "minilm"), sentences(given.corpus)
    options = {"corpus": corpus, "sentences": 3, "budget": given.budget, "progress": False}
    pattern = f"block_out:0-5:random={given.units}"
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "dask"
        with Watch(kill_at=lambda: rows(out) >= given.units // 3) as watch:
            status = td.sweep(model, pattern, out=out, engine="dask", workers=2, threads=1, **options)
        print(f"one of two workers killed (process {watch.killed}) after {given.units // 3} of {given.units} jobs")
        print(status)
        td.sweep(model, pattern, out=Path(name) / "here", **options)
        print(
            f"differences to this process alone: {differences(td.read_sweep(Path(name) / 'here'), td.read_sweep(out))}"
        )


def rate(given: argparse.Namespace) -> None:
    """1,000 sentences of 16 tokens are another budget in every layer; so every layer is a sweep of its own."""
    model, corpus = functools.partial(load, "minilm"), sentences(given.corpus)
    per_layer = -(-given.units // 6)
    cpu = seconds = done = tokens = 0.0
    with tempfile.TemporaryDirectory() as name:
        for layer in range(6):
            budget = 1000 * SENTENCE * (layer + 1)
            out = f"{name}/{layer}"
            before = time.perf_counter(), time.process_time()
            td.sweep(
                model, f"block_out:{layer}:random={per_layer}", out=out, corpus=corpus, budget=budget, progress=False
            )
            found = td.read_sweep(out)
            cpu += time.process_time() - before[1]
            seconds += time.perf_counter() - before[0]
            done += len(found)
            tokens += found.forward_tokens.sum()
            print(
                f"layer {layer}: {len(found)} units, {found.forwards.median():.0f} sentences each, score "
                f"{found.score.mean():.2f} (best of {len(corpus):,} sentences: {found.corpus_score.mean():.2f}; above "
                f"it in {(found.score > found.corpus_score).mean():.0%}), {cpu:.0f} CPU s so far",
                flush=True,
            )
    print(
        f"{done:.0f} units in {cpu:.0f} CPU seconds of one thread ({seconds:.0f} s by the clock): {cpu / done:.2f} CPU "
        f"s a unit, {tokens / cpu:,.0f} forward-tokens a CPU second"
    )
    print(f"all 2,304 units on two cores: {2304 * cpu / done / 2 / 3600:.2f} hours")


def plan(given: argparse.Namespace) -> None:
    """What a GPU does is given (--rate); what one processor core must do beside it is measured here."""
    host_seconds, row = _host_share(given)
    written = _rows_a_second(row)
    print(
        f"measured here: {1000 * host_seconds:.0f} ms of one core a dream of 1,000 sentences, beside the model's "
        f"passes; a row is {len(row) / 1000:.1f} kB; one process writes {written:,.0f} of them a second to the disk"
    )
    print(
        f"given: {given.rate / 1e6:.1f} million forward-tokens a second with gradients for BERT-base (the others by "
        f"d_model ** 2), {given.price:.2f} dollars a GPU hour, {given.load:.0f} s to start a worker, {SENTENCE} tokens "
        "a sentence"
    )
    heads = "model; units; forward-tokens a dream; GPU s; core s; 1 GPU; 8 GPUs; 64 GPUs; dollars; journals"
    head = [*heads.split("; "), "rows a second at 64"]
    print(f"\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for name, (layers, d_model, d_mlp) in MODELS.items():
        units, tokens = layers * d_mlp, 1000 * SENTENCE * (layers + 1) / 2
        device = tokens / (given.rate * (768 / d_model) ** 2)
        each = device + host_seconds
        hours = [(units * each / gpus + given.load) / 3600 for gpus in (1, 8, 64)]
        told = " | ".join(f"{hour:.1f} h" if hour < 72 else f"{hour / 24:.1f} days" for hour in hours)
        print(
            f"| {name} | {units:,} | {tokens:,.0f} | {device:.3f} | {host_seconds:.3f} | {told} | "
            f"{hours[0] * given.price:,.0f} | {units * len(row) / 1e9:.1f} GB | {64 / each:.0f} of {written:,.0f} |"
        )
    base = 1000 * SENTENCE * 6.5 / given.rate
    print(
        f"\nThe first bottleneck is the core beside the GPU: of a dream of BERT-base the GPU computes {base:.3f} s and "
        f"the core {host_seconds:.3f} s, so that the GPU waits {host_seconds / (base + host_seconds):.0%} of the time; "
        f"{(base + host_seconds) / base:.1f} workers a GPU (processes that take turns on it) fill it. The journal "
        f"of a cluster, which one client writes, is full at {written * (base + host_seconds):,.0f} GPUs."
    )


def _host_share(given: argparse.Namespace) -> tuple[float, bytes]:
    """Core seconds of a dream that are not the model's passes, and a row of a journal."""
    from tl_dream.search.engine import Engine

    inside = [0.0]
    real = Engine._run

    def timed(*arguments: Any) -> None:
        before = time.thread_time()
        real(*arguments)
        inside[0] += time.thread_time() - before

    model, draw = load("minilm"), random.Random(given.seed)
    options = {"prompt": draw.sample(sentences(given.corpus), 3), "budget": 56_000, "progress": False}
    clocks = []
    with tempfile.TemporaryDirectory() as name:
        td.sweep(model, "mlp_post:0:0", out=f"{name}/first", **options)  # what is made once
        Engine._run = timed  # type: ignore[method-assign]
        try:
            for _ in range(2):  # the second finds nothing to do: what it takes is no dream's
                inside[0], began = 0.0, time.thread_time()
                # 1,000 sentences in the mean of the layers
                td.sweep(model, f"mlp_post:0-5:random={given.units}", out=f"{name}/all", **options)
                clocks.append(time.thread_time() - began - inside[0])
        finally:
            Engine._run = real  # type: ignore[method-assign]
        lines = (Path(name) / "all" / "worker-0.jsonl").read_bytes().splitlines(keepends=True)
    return (clocks[0] - clocks[1]) / given.units, sorted(lines, key=len)[len(lines) // 2]


def _rows_a_second(row: bytes) -> float:
    from tl_dream.sweeps.journal import Journal

    told, clocks = json.loads(row), list[float]()
    with tempfile.TemporaryDirectory() as name, Journal(Path(name), 0) as journal:
        for _ in range(300):
            began = time.perf_counter()
            journal.append(told)
            clocks.append(time.perf_counter() - began)
    return 1 / statistics.median(clocks)  # whatever else the machine does meanwhile


def main() -> None:
    if sys.argv[1:2] == ["child"]:
        child(json.loads(sys.argv[2]))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "workers", "dask", "rate", "plan"])
    parser.add_argument("--units", type=int, help="[200 for kills, 100 for rate, 40]")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--budget", type=int, default=20_000, help="forward-tokens a unit")
    parser.add_argument("--corpus", help="a text file, a sentence a line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=2.5e6, help="forward-tokens a second of BERT-base on a GPU")
    parser.add_argument("--price", type=float, default=2.5, help="dollars a GPU hour")
    parser.add_argument("--load", type=float, default=60.0, help="seconds to start a worker")
    given = parser.parse_args()
    given.units = given.units or {"kills": 200, "rate": 100}.get(given.what, 40)
    torch.set_num_threads(1)
    {"kills": kills, "workers": workers, "dask": dask, "rate": rate, "plan": plan}[given.what](given)


if __name__ == "__main__":
    main()
