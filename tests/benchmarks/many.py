"""Dreams side by side (`dream_many`) against one after the other (`dream`), of the same jobs at the same budget.

python tests/benchmarks/many.py --jobs 64 --threads 2
"""

from __future__ import annotations

import argparse
import random
import time

import torch

import tl_dream as td

TEXTS = (
    "The old man walked slowly along the river with his small brown dog .",
    "She opened the letter and read it twice before she said a word .",
    "Prices of oil fell sharply in the last week of the year .",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=64)
    parser.add_argument("--budget", type=int, default=60_000, help="forward-tokens a job")
    parser.add_argument("--hook", default="block_out")
    parser.add_argument("--layers", type=int, nargs="+", default=[2], help="each job takes one of them")
    parser.add_argument("--texts", type=int, default=1, help="sentences to start from, up to 3")
    parser.add_argument("--width", type=int, default=None, help="jobs side by side")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    model = td.load_model("minilm").to(given.device)
    draw = random.Random(given.seed)
    jobs = [
        (td.neuron(given.hook, layer=draw.choice(given.layers), unit=draw.randrange(384), pos=4), text)
        for text in (draw.choice(TEXTS[: given.texts]) for _ in range(given.jobs))
    ]
    td.dream(model, *jobs[0], budget=4_000)  # what is made once
    clocks = {}
    began = time.perf_counter(), time.process_time()
    alone = [td.dream(model, *job, budget=given.budget) for job in jobs]
    clocks["dream, one after the other"] = time.perf_counter() - began[0], time.process_time() - began[1]
    began = time.perf_counter(), time.process_time()
    ended = {one.number: one.dream for one in td.dream_many(model, jobs, budget=given.budget, width=given.width)}
    clocks["dream_many"] = time.perf_counter() - began[0], time.process_time() - began[1]
    spent = sum(one.cost.forward_tokens for one in alone)
    print(f"{given.jobs} jobs, {given.budget} forward-tokens each, {given.threads} threads, {given.device}")
    for name, (wall, cpu) in clocks.items():
        print(f"{name:28} {wall:8.1f} s  {cpu:8.1f} CPU s  {spent / wall:10,.0f} forward-tokens/s")
    first, second = clocks.values()
    print(f"throughput: {first[0] / second[0]:.2f} times; CPU seconds: {first[1] / second[1]:.2f} times less")
    same = sum(ended[n].best.ids == one.best.ids for n, one in enumerate(alone))
    means = [sum(one.best.score for one in some) / len(jobs) for some in (alone, ended.values())]
    print(f"the same text: {same} of {len(jobs)}; mean score {means[0]:.4f} and {means[1]:.4f}")


if __name__ == "__main__":
    main()
