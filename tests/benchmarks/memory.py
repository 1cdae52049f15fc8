"""Peak memory of what the package does, each in a process of its own, on all-MiniLM-L6-v2.

    python tests/benchmarks/memory.py
    python tests/benchmarks/memory.py --only "one dream" "64 dreams side by side"

Budgets are small: memory goes with what is under way at once, not with how long it takes. What is counted is resident
memory, the interpreter, torch and the model included (the first row).
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from reconstruction import ARTICLE
from wikitext import ordinary, sentences

import tl_dream as td

UNIT, TEXT = ("mlp_post", 4, 414), "i hate kickshaws ."


def goal(number: int = UNIT[2]) -> td.Objective:
    return td.neuron(UNIT[0], layer=UNIT[1], unit=number, pos=2)


def jobs(model: Any, method: str) -> object:
    return list(td.dream_many(model, [(goal(i), TEXT) for i in range(64)], method=method, budget=10_000))


def concept(model: Any) -> object:
    found = td.fit_concepts(model, "he_she", layers=5)
    return td.edit_concept(model, found, "he wants to be a doctor .", pos="he", magnitudes=1.25)


CASES: dict[str, Callable[[Any], object]] = {
    "the model alone": lambda model: td.score(model, goal(), TEXT),
    "one dream": lambda model: td.dream(model, goal(), TEXT, budget=40_000),
    "64 dreams side by side": lambda model: jobs(model, "auto"),
    "64 dreams side by side, gcg": lambda model: jobs(model, "gcg"),
    "annealing, 64 starts": lambda model: td.dream(
        model, goal(), TEXT, method=td.Annealing(steps=20), starts=64, budget=None
    ),
    "exact search of the vocabulary": lambda model: td.token_search(model, goal(), ARTICLE, pos=3),
    "corpus search, 1,000 neurons": lambda model: td.corpus_search(
        model, [goal(i) for i in range(1000)], sentences(), top=10
    ),
    "reconstruction, 28 tokens, layer 5": lambda model: td.reconstruct(model, ARTICLE, layer=5),
    "24 reconstructions at once": lambda model: list(
        td.reconstruct_many(model, [(text, layer) for text in ordinary(4, 11) for layer in range(6)])
    ),
    "a concept fitted, and an edit": concept,
    "a portrait": lambda model: td.portrait(model, UNIT, sentences(), budget=4_000, tokens=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    if given.case is not None:
        torch.set_num_threads(given.threads)
        model, began = td.load_model("minilm"), time.process_time()
        CASES[given.case](model)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"| {given.case} | {peak:.2f} | {time.process_time() - began:.0f} |")
        return
    print("| | GiB | CPU s |\n|---|---|---|", flush=True)
    for name in given.only:
        command = [sys.executable, str(Path(__file__)), "--case", name, "--threads", str(given.threads)]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
