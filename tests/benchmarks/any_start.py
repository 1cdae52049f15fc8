"""Whether a dream fires its unit from any start: random units of MiniLM, each from ordinary sentences.

    python tests/benchmarks/any_start.py --out any_start.jsonl

60 units: 20 of mlp_post and 10 each of block_out, z, resid_mid and entries of attention patterns, drawn at random with
the position that is read; each from ten ordinary sentences of WikiText-2's validation split, with the budget that 1,000
passes of the sentence up to the unit's layer cost. The baseline of a unit is its best among all sentences of the split
(an attention entry's between the same positions). A line of JSON a case is added to the file as it is done, and a
second start leaves done cases alone; `--processes` shares the units out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from searches import add_line, done_cases, wilson
from wikitext import CORPUS, ordinary, sentences

import tl_dream as td

COUNTS = {"mlp_post": 20, "block_out": 10, "z": 10, "resid_mid": 10, "pattern": 10}
WIDTHS = {"mlp_post": 1536, "block_out": 384, "z": 384, "resid_mid": 384}
SHORTEST = 8
"""Words of a sentence at least, so that every position read is one of its words."""


def draw_units(seed: int) -> list[tuple[str, dict[str, int]]]:
    """Of every hook as many as `COUNTS` says: its name, and the options that choose the unit and the position."""
    draw = torch.Generator().manual_seed(seed)

    def number(count: int, first: int = 0) -> int:
        return first + int(torch.randint(count, (1,), generator=draw))

    found = []
    for hook, count in COUNTS.items():
        for _ in range(count):
            unit = {"layer": number(6), "pos": number(SHORTEST, 1)}
            unit |= (
                {"head": number(12), "key": number(SHORTEST, 1)}
                if hook == "pattern"
                else {"unit": number(WIDTHS[hook])}
            )
            found.append((hook, unit))
    return found


def run_unit(job: tuple[int, str, dict[str, int], float, list[str], int, list[str]]) -> list[dict[str, object]]:
    """The dreams of a unit from every sentence."""
    number, hook, unit, corpus, texts, passes, done = job
    torch.set_num_threads(1)
    model = td.load_model("minilm")
    goal, rows = td.neuron(hook, **unit), []
    for seed, text in enumerate(texts):
        case = f"{number} {hook} {unit} {text}"
        if case in done:
            continue
        budget = passes * len(model.tokenizer(text)["input_ids"]) * (unit["layer"] + 1)
        began = time.process_time()
        dream = td.dream(model, goal, text, budget=budget, seed=seed, progress=False)
        row = {"case": case, "hook": hook, "unit": number, "corpus": corpus, "start": dream.start.score}
        row |= {"best": dream.best.score, "fired": dream.fired, "cpu": time.process_time() - began}
        row |= {"spent": dream.cost.forward_tokens, "budget": budget, "stopped": dream.stopped, "text": dream.best.text}
        rows.append(row)
    return rows


def corpus_bests(model: object, units: list[tuple[str, dict[str, int]]]) -> list[float]:
    """Every unit's best sentence of the corpus: at any position, an attention entry's at its own."""
    goals = [
        td.neuron(hook, **(unit if hook == "pattern" else {k: v for k, v in unit.items() if k != "pos"}))
        for hook, unit in units
    ]
    texts = sentences(SHORTEST, 30)
    return [one.top[0].score for one in td.corpus_search(model, goals, texts, top=1, progress=False)]


def show(rows: list[dict[str, object]]) -> None:
    print("\nhook          dreams   above the corpus best          fired   start   corpus   dream   CPU seconds (most)")
    for hook in (*COUNTS, "all"):
        some = [row for row in rows if hook in (row["hook"], "all")]
        if not some:
            continue
        above = sum(row["best"] > row["corpus"] for row in some)
        low, high = wilson(above, len(some))
        fired = [row["fired"] for row in some if row["fired"] is not None]
        share = f"{above}/{len(some)} = {above / len(some):.1%} [{low:.0%}, {high:.0%}]"
        start, corpus, best, cpu = (
            statistics.median(row[key] for row in some) for key in ("start", "corpus", "best", "cpu")
        )
        print(
            f"{hook:12}{len(some):8}   {share:28}{sum(fired):3}/{len(fired):<3}"
            f"{start:8.2f}{corpus:9.2f}{best:8.2f}{cpu:8.1f} ({max(row['cpu'] for row in some):.1f})"
        )
    for row in rows:
        if row["best"] <= row["corpus"]:
            print(f"not above: {row['case']}: {row['start']:.3f} -> {row['best']:.3f}, corpus {row['corpus']:.3f}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--out", type=Path, default=Path("any_start.jsonl"))
    options.add_argument("--seed", type=int, default=0, help="of the draw of units and sentences")
    options.add_argument("--starts", type=int, default=10)
    options.add_argument("--sentences", type=int, default=1000, help="the budget")
    options.add_argument("--processes", type=int, default=2)
    given = options.parse_args()
    if not CORPUS.is_file():
        print(f"no corpus at {CORPUS}")
        return
    units, texts = draw_units(given.seed), ordinary(given.starts, given.seed, SHORTEST)
    done = done_cases(given.out)
    bests = corpus_bests(td.load_model("minilm"), units)
    jobs = [
        (i, hook, unit, best, texts, given.sentences, list(done))
        for i, ((hook, unit), best) in enumerate(zip(units, bests, strict=True))
    ]
    with ProcessPoolExecutor(given.processes) as pool:
        for rows in pool.map(run_unit, jobs):
            for row in rows:
                add_line(given.out, row)
                done[row["case"]] = row
                print(json.dumps(row), flush=True)
    show([row for row in done.values() if row["case"].endswith(tuple(texts))])


if __name__ == "__main__":
    main()
