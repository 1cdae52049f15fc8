"""How much faster the scans are than plain loops, as ratios in one run.

    python tests/benchmarks/scans.py

Token search: the loop is `model(ids)`, one sentence a token, as the article's code does it; it is timed on a sample,
half of it before the search and half after, and extrapolated to the vocabulary. The share of the peak is the matrix
products that the search still does, by the clock, over what a large product of the same dtype reaches alone.
Corpus search: every line of WikiText-2's validation split, for 1,000 neurons at once and for one.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

import tl_dream as td

TEXT = (
    "job duties for professional painters include removing old paint , priming surfaces , choosing materials , "
    "selecting and mixing colors and cleaning up job sites"
)
POS, UNIT = 5, 42
CORPUS = Path(__file__).resolve().parents[3] / "shared/data/corpus/wikitext2_valid.txt"


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP/s of a large matrix product."""
    matrix = torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(6):
        began = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best


def matrix_products(model: object, positions: int, depth: int) -> float:
    """FLOP a token that are left of a search that reads one position of block `depth`."""
    d, mlp = model.cfg.d_model, model.cfg.d_mlp
    rest = 2 * (d * d + 2 * d * mlp)  # output projection and MLP of a row
    if depth == 0:
        return 2 * 3 * d * d + rest
    whole = positions * (2 * 3 * d * d + rest + 4 * positions * d)
    return 2 * 3 * d * d + positions * rest + (depth - 1) * whole + positions * 2 * 2 * d * d + 2 * d * d + rest


def loop_seconds(model: object, ids: torch.Tensor, tokens: torch.Tensor) -> float:
    """Mean wall time of a sentence in the plain loop."""
    began = time.perf_counter()
    with torch.no_grad():
        for token in tokens:
            row = ids.clone()
            row[0, POS] = token
            model(row)
    return (time.perf_counter() - began) / len(tokens)


def search_table(model: object, sample: int, precision: str) -> None:
    tokens = model.tokenizer(TEXT)["input_ids"]
    ids = torch.tensor([tokens])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(1000, model.cfg.d_vocab - 1000, (2 * sample,), generator=generator)
    peaks = {"float32": peak(torch.float32), "bfloat16": peak(torch.bfloat16)}
    print(f"matrix product alone: {peaks['float32'] / 1e9:.0f} GFLOP/s fp32, {peaks['bfloat16'] / 1e9:.0f} bf16\n")
    print(
        f"token search, {len(tokens)} tokens   loop, s   search, s    ratio   CPU s   share of peak   scored one by one"
    )
    loop_seconds(model, ids, drawn[:3])
    for layer in (0, model.cfg.n_layers - 1):
        goal = td.neuron("block_out", layer=layer, unit=UNIT, pos=POS)
        before = loop_seconds(model, ids, drawn[:sample])
        cpu = time.process_time()
        table = td.token_search(model, goal, TEXT, pos=POS, precision=precision, progress=False)
        cpu = time.process_time() - cpu
        after = loop_seconds(model, ids, drawn[sample:])
        loop = (before + after) / 2 * table.evaluated
        done = matrix_products(model, len(tokens), layer) * table.evaluated
        share = done / table.cost.seconds / peaks[table.screen.split(",")[0]]
        print(
            f"  block {layer:<18}{loop:11.0f}{table.cost.seconds:12.1f}{loop / table.cost.seconds:8.0f}x"
            f"{cpu:8.1f}{share:15.1%}{table.rescored:20}"
        )


def corpus_table(model: object, layers: list[int]) -> None:
    if not CORPUS.is_file():
        print(f"no corpus at {CORPUS}")
        return
    print("\ncorpus search      one neuron, s   1,000 neurons, s   ratio   ratio of CPU s   lines scored   skipped")
    for layer in layers:
        goals = [td.neuron("mlp_post", layer=layer, unit=unit) for unit in range(1000)]
        times, cpus = [], []
        for goal in (goals[0], goals):
            cpu = time.process_time()
            found = td.corpus_search(model, goal, CORPUS, progress=False)
            cpus.append(time.process_time() - cpu)
            result = found if goal is not goals else found[0]
            times.append(result.cost.seconds)
        skipped = ", ".join(f"{count} {reason}" for reason, count in result.skipped.items())
        print(
            f"  mlp_post {layer:<8}{times[0]:15.1f}{times[1]:19.1f}{times[1] / times[0]:8.2f}{cpus[1] / cpus[0]:17.2f}"
            f"{result.scored:15}   {skipped}"
        )


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument(
        "--sample", type=int, default=40, help="sentences of the loop timed before and after; 0 skips the token search"
    )
    options.add_argument("--precision", default="auto", help="of the token search's screen: auto, bf16 or full")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--layers", type=int, nargs="*", default=[5], help="layers of the corpus search")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    model = td.load_model("minilm")
    print(f"all-MiniLM-L6-v2 on {type(model).__name__}, torch {torch.__version__}, {given.threads} thread(s)")
    if given.sample:
        search_table(model, given.sample, given.precision)
    corpus_table(model, given.layers)


if __name__ == "__main__":
    main()
