"""What reconstruction reaches and costs on all-MiniLM-L6-v2.

    python tests/benchmarks/reconstruction.py article            # the article's sentence, and a hundred of its steps
    python tests/benchmarks/reconstruction.py corpus --out F     # sentences of WikiText-2, every layer
    python tests/benchmarks/reconstruction.py noise --out F      # the breaking curve: what damage leaves
    python tests/benchmarks/reconstruction.py dear --out F       # other hooks than block_out, deep down
    python tests/benchmarks/reconstruction.py together           # many at once against one by one
    python tests/benchmarks/reconstruction.py lengths            # 64 and 128 tokens
    python tests/benchmarks/reconstruction.py length --source D  # a protein BERT's layer 7, 20 to 110 tokens
    python tests/benchmarks/reconstruction.py parts              # targets that are a part of an activation
    python tests/benchmarks/reconstruction.py depth              # a random encoder of twelve layers, both backends

Every record is a JSON line. With --out it goes to a file, and a run that was stopped goes on where it ended; the
figures at the end are those of the file. Run with OMP_NUM_THREADS=1 on a busy machine; `cpu` is the process's own time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from wikitext import ordinary

import tl_dream as td

ARTICLE = (
    "job duties for professional painters include removing old paint , priming surfaces , choosing materials , "
    "selecting and mixing colors and cleaning up job sites"
)
DAMAGES = [*(f"noise {s}" for s in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2)), "bf16", "int8", "top 64", "top 16"]


def in_any_order(result: Any) -> int:
    """Searched tokens that are the text's, wherever they stand."""
    found, true = (Counter(text.tokens[i] for i in result.free) for text in (result.best, result.truth))
    return (found & true).total()


def record(result: Any, cpu: float, **more: Any) -> dict[str, Any]:
    certificate = result.certificate
    return {
        **more,
        **{key: value for key, value in result.summary().items() if key != "tokens"},
        "any order": in_any_order(result),
        "cpu": round(cpu, 2),
        "stopped": result.stopped,
        "forwards": result.cost.forwards,
        "error": certificate.error,
        "margin": certificate.margin,
        "rival": None if certificate.rival is None else [certificate.rival.token, certificate.rival.other],
    }


def measured(run: Callable[[], Any], **more: Any) -> dict[str, Any]:
    began = time.process_time()
    result = run()
    return record(result, time.process_time() - began, **more)


def resumed(jobs: Iterable[tuple[Any, Callable[[], dict[str, Any]]]], out: str | None) -> Iterator[dict[str, Any]]:
    """The records of all jobs (key, call); those that are in the file already are not run again."""
    done = {}
    if out is not None and Path(out).exists():
        for line in Path(out).read_text("utf-8").splitlines():
            done[json.dumps(json.loads(line)["key"])] = json.loads(line)
    for key, call in jobs:
        found = done.get(json.dumps(key))
        if found is None:
            found = {"key": key, **call()}
            line = json.dumps(found)
            print(line, flush=True)
            if out is not None:
                with open(out, "a", encoding="utf-8") as file:
                    file.write(line + "\n")
        yield found


def tell(records: list[dict[str, Any]], by: str = "layer") -> None:
    """The figures of reconstructions, in all and apart."""
    for value in [None, *sorted({r[by] for r in records})]:
        some = [r for r in records if value is None or r[by] == value]
        cpu = sorted(r["cpu"] for r in some)
        print(
            f"{'all' if value is None else f'{by} {value}':>10}: {sum(r['exact'] for r in some)} exact and "
            f"{sum(r['certified'] for r in some)} certified of {len(some)}, "
            f"{sum(r['certified'] and not r['exact'] for r in some)} false certificates, "
            f"{sum(r['right'] for r in some)} of {sum(r['total'] for r in some)} tokens; "
            f"seconds median {statistics.median(r['seconds'] for r in some):.1f}, CPU median "
            f"{statistics.median(cpu):.1f}, 90% {cpu[int(0.9 * (len(cpu) - 1))]:.1f}, most {cpu[-1]:.1f}; "
            f"smallest margin {min(r['margin'] for r in some):.0f}"
        )


def article(given: argparse.Namespace) -> None:
    model = td.load_model("minilm", backend=given.backend)
    records = []
    for layer in range(6):
        records.append(measured(lambda: td.reconstruct(model, ARTICLE, layer=layer, progress=False)))  # noqa: B023
        print(json.dumps(records[-1]), flush=True)
    tell(records)
    print(f"six layers: {sum(r['seconds'] for r in records):.1f} s, {sum(r['cpu'] for r in records):.1f} CPU s")
    for layer in (0, 5):
        slow = measured(
            lambda: td.reconstruct(model, ARTICLE, layer=layer, method="article", steps=100, rivals=0, progress=False)  # noqa: B023
        )
        steps = 100 * slow["cpu"]
        ours = records[layer]["cpu"]
        print(
            f"layer {layer}: a hundred of the article's steps take {slow['cpu']:.1f} CPU s, its 10,000 {steps:.0f}; "
            f"auto takes {ours:.1f}: {steps / ours:.0f} times faster"
        )


def corpus(given: argparse.Namespace) -> None:
    model = td.load_model("minilm", backend=given.backend)
    jobs = [
        (
            [given.seed, i, layer],
            lambda text=text, layer=layer: measured(
                lambda: td.reconstruct(model, text, layer=layer, progress=False), truth=text
            ),
        )
        for i, text in enumerate(ordinary(given.count, given.seed, 8, 30))
        for layer in range(6)
    ]
    tell(list(resumed(jobs, given.out)))


def together(given: argparse.Namespace) -> None:
    """The sentences of `corpus` at six layers in one batch and one by one, in one run."""
    model = td.load_model("minilm", backend=given.backend)
    jobs = [(text, layer) for text in ordinary(given.count, given.seed, 8, 30) for layer in range(6)]
    list(td.reconstruct_many(model, jobs[:1], progress=False))  # what is read from disk
    began, clock = time.process_time(), time.perf_counter()
    many = {one.number: one.reconstruction for one in td.reconstruct_many(model, jobs, progress=False)}
    spent = [(time.process_time() - began, time.perf_counter() - clock)]
    began, clock = time.process_time(), time.perf_counter()
    alone = [td.reconstruct(model, text, layer=layer, progress=False) for text, layer in jobs]
    spent.append((time.process_time() - began, time.perf_counter() - clock))
    for (cpu, wall), name, found in zip(
        spent, ("in one batch", "one by one"), ([many[i] for i in range(len(jobs))], alone), strict=True
    ):
        exact, certain = sum(one.exact for one in found), sum(one.certified for one in found)
        print(
            f"{name}: {cpu:.0f} CPU s, {wall:.0f} s on {torch.get_num_threads()} threads, {exact} exact and {certain} "
            f"certified of {len(found)}"
        )
    cpu, wall = (spent[1][k] / spent[0][k] for k in (0, 1))
    same = sum(many[i].best.ids == one.best.ids for i, one in enumerate(alone))
    rivals = sum(many[i].certificate.rival == one.certificate.rival for i, one in enumerate(alone))
    print(
        f"{spent[1][0] / spent[0][0]:.2f} times the throughput in CPU s, {spent[1][1] / spent[0][1]:.2f} by the clock"
    )
    print(f"the same text {same} times of {len(jobs)}, the same closest rival {rivals} times")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def length(given: argparse.Namespace) -> None:
    """How the cost grows: the heavy chain of trastuzumab, cut off, at layer 7 of AntiBERTy (see `brute_force.py`)."""
    from brute_force import load

    model = load(Path(given.source))
    chain = (
        "EVQLVESGGGLVQPGGSLRLSCAASGFNIKDTYIHWVRQAPGKGLEWVARIYPTNGYTRYADSVKGRFTISADTSKNTAYLQMNSLRAEDTAVYYCSRWGGDGFYAMDY"
        "WGQGTLVTVSS"
    )
    print("tokens   exact   certified   forwards   CPU s   margin")
    for tokens in (20, 30, 50, 80, 110):
        row = measured(lambda: td.reconstruct(model, " ".join(chain[: tokens - 2]), layer=7, progress=False))  # noqa: B023
        told = f"{tokens:6}{row['exact']!s:>8}{row['certified']!s:>12}{row['forwards']:11}{row['cpu']:8.1f}"
        print(f"{told}{row['margin']:12.0f}", flush=True)


def noise(given: argparse.Namespace) -> None:
    from dataclasses import asdict

    model = td.load_model("minilm", backend=given.backend)

    def kept(text: str, layer: int, damage: str, seed: int) -> dict[str, Any]:
        began = time.process_time()
        found = td.kept_tokens(model, text, layers=[layer], damages=[damage], rivals=0, seed=seed, progress=False)
        record = asdict(found.records[0])
        del record["alternatives"]
        return {**record, "cpu": round(time.process_time() - began, 2)}

    jobs = [
        (
            [given.seed, i, layer, damage],
            lambda text=text, layer=layer, damage=damage, i=i: kept(text, layer, damage, i),
        )
        for i, text in enumerate(ordinary(given.count, given.seed, 8, 30))
        for layer in range(6)
        for damage in DAMAGES
    ]
    records = list(resumed(jobs, given.out))
    print(f"\n{'share kept (right):':>20}" + "".join(f"{f'layer {layer}':>16}" for layer in range(6)))
    for damage in DAMAGES:
        cells = []
        for layer in range(6):
            some = [r for r in records if (r["layer"], r["damage"]) == (layer, damage)]
            total = sum(r["total"] for r in some)
            shares = [sum(r[what] for r in some) / total for what in ("kept", "right")]
            cells.append(f"{shares[0]:.1%} ({shares[1]:.1%})")
        print(f"{damage:>20}" + "".join(f"{cell:>16}" for cell in cells))
    print(f"{len({r['key'][1] for r in records})} sentences, {sum(r['cpu'] for r in records) / 60:.1f} CPU minutes")
    print(f"the blind search missed a better text in {sum(r['missed'] for r in records)} of {len(records)} cases")


def dear(given: argparse.Namespace) -> None:
    """Hooks inside of a block, whose activation holds less of the row's own word than `block_out`."""
    model = td.load_model("minilm", backend=given.backend)
    drawn = ordinary(200, given.seed, 8, 24)
    by_length = {len(model.tokenizer(text)["input_ids"]): text for text in reversed(drawn)}
    texts = {tokens: by_length[tokens] for tokens in (12, 25)}
    jobs = [
        (
            [given.seed, hook, layer, tokens],
            lambda text=text, hook=hook, layer=layer, tokens=tokens: measured(
                lambda: td.reconstruct(model, text, hook=hook, layer=layer, progress=False),
                hook=hook,
                length=tokens,
            ),
        )
        for tokens, text in texts.items()
        for hook in ("z", "attn_out", "mlp_post", "mlp_out")
        for layer in (4, 5)
    ]
    print("hook      layer   tokens   right   certified   CPU s")
    for row in resumed(jobs, given.out):
        shares = f"{row['right']}/{row['total']}"
        print(f"{row['hook']:10}{row['layer']:5}{row['length']:9}{shares:>8}{row['certified']!s:>12}{row['cpu']:8.1f}")


def lengths(given: argparse.Namespace) -> None:
    model = td.load_model("minilm", backend=given.backend)
    words = " ".join(ordinary(40, given.seed, 8, 30))
    ids = model.tokenizer(words)["input_ids"]
    records = []
    for length in (64, 128):
        text = td.Prompt(ids=[*ids[: length - 1], ids[-1]])
        for layer in range(6):
            records.append(
                measured(lambda: td.reconstruct(model, text, layer=layer, progress=False), length=length)  # noqa: B023
            )
            print(json.dumps({**records[-1], "text": None}), flush=True)
    tell(records, "length")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def parts(given: argparse.Namespace) -> None:
    """Some positions or one unit, read back from nothing and with five of the seven words given."""
    text = "the old painter was mixing colors ."
    model = td.load_model("minilm", backend=given.backend)
    start = td.Prompt("the old dog was seeing colors .", free=["dog", "seeing"])
    for name, part in {
        "three positions of layer 2": {"layer": 2, "positions": [1, 3, 5]},
        "one position of layer 3": {"layer": 3, "positions": 4},
        "[CLS] at layer 0": {"layer": 0, "positions": 0},
        "one unit of layer 0": {"layer": 0, "units": 5},
    }.items():
        for words, first in (("no word", None), ("five words", start)):
            row = measured(lambda: td.reconstruct(model, text, first, **part, progress=False))  # noqa: B023
            done = {key: row[key] for key in ("right", "any order", "total", "certified", "error", "cpu", "text")}
            print(json.dumps({"target": name, "given": words, **done}), flush=True)


def depth(given: argparse.Namespace) -> None:
    """Twelve random layers: as BERT is initialised, and with weights so large that every layer scrambles its input."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from transformers import BertForPreTraining

    from tests import conftest

    def initialised(folder: Path) -> Path:
        path = conftest.write_bert(folder, layers=12)
        config = BertForPreTraining.from_pretrained(path).config
        torch.manual_seed(0)
        BertForPreTraining(config).save_pretrained(path)
        return path

    for name, make in (("as initialised", initialised), ("scrambling", lambda f: conftest.write_bert(f, layers=12))):
        records = []
        for backend in conftest.BACKENDS:
            with tempfile.TemporaryDirectory() as folder:
                model = td.load_model(str(make(Path(folder))), backend=backend)
                for layer in range(12):
                    records.append(
                        measured(
                            lambda: td.reconstruct(
                                model,  # noqa: B023
                                "the red dog was old .",
                                layer=layer,  # noqa: B023
                                budget=given.budget,
                                progress=False,
                            ),
                            weights=name,
                            backend=backend,
                        )
                    )
                    print(json.dumps(records[-1]), flush=True)
        print(name)
        tell(records)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument(
        "what", choices=("article", "corpus", "noise", "dear", "together", "lengths", "length", "parts", "depth")
    )
    options.add_argument("--count", type=int, default=50, help="sentences")
    options.add_argument("--seed", type=int, default=0, help="of their choice")
    options.add_argument("--budget", type=int, default=10_000, help="of depth")
    options.add_argument("--backend", default="auto")
    options.add_argument("--out", help="JSON lines; what is there is not run again")
    options.add_argument("--source", help="of length: the unpacked wheel of AntiBERTy")
    options.add_argument("--threads", type=int, default=1)
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    globals()[given.what](given)


if __name__ == "__main__":
    main()
