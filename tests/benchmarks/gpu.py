"""What a GPU makes of it, in under four minutes: throughput, parity with the CPU, the same seed twice.

    python tests/benchmarks/gpu.py --model minilm                    # on the GPU there is
    python tests/benchmarks/gpu.py --device cpu --quick              # the same on the CPU, small

Every line stands beside what it is compared with, in the same run: `dream_many` beside one dream, an annealing step of
many dreams beside the article's step (`dream_step.py`), a corpus search for many neurons beside one. Token search runs
on a BERT of `--base` layers as BERT-base, with random weights (a search costs the same whatever they are).
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dream_step import TEXT, article_step
from transformers import BertConfig, BertModel

import tl_dream as td

GOAL = td.neuron("block_out", layer=2, unit=7, pos=5)


def timed(device: torch.device, function: Callable[[], object]) -> tuple[float, object]:
    """Seconds of a call, all that it set going on the device included."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    began = time.perf_counter()
    found = function()
    wait()
    return time.perf_counter() - began, found


def jobs(model: torch.nn.Module, count: int) -> list[tuple[td.Objective, str]]:
    width, layers = model.cfg.d_model, model.cfg.n_layers
    at = [(n % layers, 31 * n % width) for n in range(count)]
    return [(td.neuron("block_out", layer=layer, unit=unit, pos=5), TEXT) for layer, unit in at]


def dreams(model: torch.nn.Module, device: torch.device, count: int, budget: int) -> None:
    many = jobs(model, count)
    td.dream(model, *many[0], budget=budget // 4, progress=False)  # what is made once
    one, alone = timed(device, lambda: td.dream(model, *many[0], budget=budget, progress=False))
    wall, found = timed(device, lambda: list(td.dream_many(model, many, budget=budget, width=count, progress=False)))
    failed = [job.error for job in found if job.error is not None]
    assert not failed, failed[0]
    rates = alone.cost.forward_tokens / one, sum(job.dream.cost.forward_tokens for job in found) / wall
    print(f"dreams: one {rates[0]:,.0f} forward-tokens a second, {count} side by side {rates[1]:,.0f}", end="")
    print(f" ({rates[1] / rates[0]:.1f} times; {wall:.1f} s)")
    same = next(job.dream for job in found if job.number == 0)
    told = "the same text" if same.best.ids == alone.best.ids else "another text"
    mean = sum(job.dream.best.score for job in found) / count
    print(f"        the first of them as alone: {told}; in the mean they end at {mean:.4f}")


def processes(name: str, device: str, number: int, count: int, budget: int) -> None:
    """The same dreams by several processes on the one device: what Python itself does is done on as many cores."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(number, load, (name, device, context.Barrier(number))) as pool:
        pool.starmap(share, [(n, number, count, 2_000) for n in range(number)], 1)  # what is made once
        began = time.perf_counter()
        spent = sum(pool.starmap(share, [(n, number, count, budget) for n in range(number)], 1))
        wall = time.perf_counter() - began
    print(f"        by {number} processes {spent / wall:,.0f} ({wall:.1f} s)")


WORKER: dict[str, Any] = {}


def load(name: str, device: str, all_ready: Any) -> None:
    """What a process holds."""
    torch.set_num_threads(1)
    WORKER.update(model=td.load_model(name, backend="hooked", device=device), all_ready=all_ready)


def share(which: int, number: int, count: int, budget: int) -> int:
    """A process's share of the dreams; the forward-tokens they took."""
    WORKER["all_ready"].wait()
    mine = jobs(WORKER["model"], count)[which::number]
    found = td.dream_many(WORKER["model"], mine, budget=budget, width=len(mine), progress=False)
    return sum(job.dream.cost.forward_tokens for job in found)


def annealing(model: torch.nn.Module, device: torch.device, count: int, steps: int) -> None:
    step = article_step(model, head=False)
    step()
    article, _ = timed(device, lambda: [step() for _ in range(10)])
    for parameter in model.parameters():
        parameter.grad = None
    way = td.Annealing(steps=steps, evaluate_every=steps)
    last = model.cfg.n_layers - 1
    goal = td.neuron("block_out", layer=last, unit=42, pos=5)
    td.dream(model, goal, TEXT, method=td.Annealing(steps=2), progress=False)
    wall, _ = timed(device, lambda: td.dream(model, goal, TEXT, method=way, starts=count, progress=False))
    print(
        f"annealing: the article's step {article * 100:.1f} ms; a step of {count} dreams {1e3 * wall / steps:.1f} ms,",
        end="",
    )
    print(f" {article / 10 * count / (wall / steps):.0f} times the throughput")


def token_search(tokenizer: Any, device: torch.device, layers: int, width: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        heads = max(1, width // 64)
        config = BertConfig(
            num_hidden_layers=layers, hidden_size=width, num_attention_heads=heads, intermediate_size=4 * width
        )
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        model = td.load_model(str(Path(folder)), device=str(device))
    goal = td.neuron("block_out", layer=layers - 1, unit=7, pos=5)
    td.token_search(model, goal, TEXT, pos=5, top=3, allowed=range(2000, 2400), progress=False)
    wall, table = timed(device, lambda: td.token_search(model, goal, TEXT, pos=5, top=20, progress=False))
    print(f"token search: {layers} layers of {width}, read at the last: {wall:.2f} s, {table.screen}")


def corpus(model: torch.nn.Module, device: torch.device, lines: int, neurons: int) -> None:
    words = TEXT.split()
    texts = [
        " ".join(words[n % 7 :] + [words[n % len(words)], words[n * n % len(words)], f"{n}"]) for n in range(lines)
    ]
    last = model.cfg.n_layers - 1
    units = [td.neuron("block_out", layer=last, unit=unit % model.cfg.d_model) for unit in range(neurons)]
    td.corpus_search(model, units[:1], texts[:64], progress=False)
    one, _ = timed(device, lambda: td.corpus_search(model, units[:1], texts, progress=False))
    all_of, _ = timed(device, lambda: td.corpus_search(model, units, texts, progress=False))
    print(f"corpus: {lines} lines for one neuron {one:.2f} s, for {neurons} {all_of:.2f} s ({all_of / one:.2f} times)")


def parity(model: torch.nn.Module, name: str, budget: int) -> None:
    first, again = (td.dream(model, GOAL, TEXT, budget=budget, seed=3, progress=False) for _ in range(2))
    print(f"the same seed twice: {'the same bits' if first.best == again.best else 'NOT the same'}")
    cpu = td.load_model(name, backend="hooked", device="cpu")
    texts = [first.best.text, TEXT, "the red dog ."]
    gap = (td.score(model, GOAL, texts).cpu() - td.score(cpu, GOAL, texts)).abs().max()
    here, there = (td.dream(each, GOAL, TEXT, budget=budget, seed=3, progress=False) for each in (model, cpu))
    print(f"against the CPU: scores within {gap:.1e}; dreams {here.best.score:.4f} here, {there.best.score:.4f} there")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", default="minilm", help="minilm, or a folder that holds it")
    parser.add_argument("--budget", type=int, help="forward-tokens a dream (200,000)")
    parser.add_argument("--quick", action="store_true", help="small, for a CPU")
    given = parser.parse_args(argv)
    device, quick = torch.device(given.device), given.quick
    model = td.load_model(given.model, backend="hooked", device=given.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {given.model} in {model.W_E.dtype}, {len(TEXT.split())} words")
    began = time.perf_counter()
    budget = given.budget or (2_000 if quick else 200_000)
    dreams(model, device, 4 if quick else 256, budget)
    processes(given.model, given.device, 1 if quick else 4, 4 if quick else 256, budget)
    annealing(model, device, 4 if quick else 256, 3 if quick else 100)
    token_search(model.tokenizer, device, 2 if quick else 12, 64 if quick else 768)
    corpus(model, device, 100 if quick else 2_460, 20 if quick else 1_000)
    parity(model, given.model, 2_000 if quick else 100_000)
    if device.type == "cuda":
        print(f"memory: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB at most")
    print(f"{time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()
