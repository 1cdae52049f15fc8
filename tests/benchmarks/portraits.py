"""What portraits must show: planted units found exactly, random directions seldom taken for units, and what tells units
of MiniLM from random directions, with intervals; seconds a portrait and a unit of an atlas.

    python tests/benchmarks/portraits.py planted
    python tests/benchmarks/portraits.py placebo --units 30 --hook mlp_post --layer 2
    python tests/benchmarks/portraits.py portrait --hook mlp_post --layer 2 --unit 291
    python tests/benchmarks/portraits.py atlas --units 8 --out /tmp/atlas
    python tests/benchmarks/portraits.py pages --units 10000 --out /tmp/pages
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import tempfile
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

import tl_dream as td  # noqa: E402
from tl_dream.models import attached  # noqa: E402
from tl_dream.portraits.comparison import MEASURES, Compared, best_of, compare, standing, starts_of  # noqa: E402
from tl_dream.portraits.placebos import LINES, directions, sampled, word_values  # noqa: E402


def wilson(hits: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The 95% interval of a share."""
    if not count:
        return 0.0, 1.0
    share = hits / count
    middle, half = share + z * z / (2 * count), z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, (middle - half) / (1 + z * z / count)), min(1.0, (middle + half) / (1 + z * z / count))


def told(hits: int, count: int) -> str:
    low, high = wilson(hits, count)
    return f"{hits} of {count} ({hits / count:.0%}, {low:.0%} to {high:.0%})"


def compared(host: Any, goals: list[Any], texts: list[str], budget: int, seed: int) -> list[Compared]:
    """As a portrait compares: two dreams each, from the best sentence of the sample and from a random one."""
    sentences = sampled(host, texts, LINES, seed)
    best = best_of(host, goals, [one.text for one in sentences])
    starts = [starts_of(host, goal, one, sentences, 2, seed) for goal, one in zip(goals, best, strict=True)]
    values = word_values(host, goals, sentences).double()
    return compare(host, goals, starts, values, best, budget=budget, allowed="no_special no_unused", seed=seed)


def taken(some: list[Compared], others: list[Compared], count: int, draw: random.Random) -> list[Any]:
    """Where each of `some` stands among `count` of the others, itself left out."""
    return [standing(one, draw.sample([other for other in others if other is not one], count)) for one in some]


def planted(given: argparse.Namespace) -> None:
    from tests.support.portraits import CORPUS, COUNT, EITHER, FOLLOWED, TOKEN, A, B, C, goal, write_planted

    with tempfile.TemporaryDirectory() as folder:
        model = td.load_model(str(write_planted(Path(folder))))
    texts = {
        TOKEN: f"the red {A} is a cat",
        FOLLOWED: f"the {A} and a {A} {B} is cold",
        EITHER: f"a {C} is the dog and a cat",
        COUNT: f"{A} and a {A} in the {A} .",
    }
    wanted = {TOKEN: {A}, FOLLOWED: {A, B}, EITHER: {A, C}, COUNT: {A}}
    few = [A, B, C, *"dog cat red blue small old house tree sun".split()]
    for unit, text in texts.items():
        carried = td.essential(model, goal(unit), text)
        start = f"the {B} and a cat are cold ." if unit == FOLLOWED else "the dog and a cat are cold ."
        least = td.minimal_dream(model, goal(unit), start, above=3.0, budget=6000, allowed=few)
        fakes = td.placebo(model, goal(unit), CORPUS, count=14)
        found = td.diverse_dreams(model, goal(unit), start, placebos=fakes, budget=4000)
        common = {token for one in (*found.common, *found.neighbourhoods) for token in one.tokens}
        changed = [least.best.tokens[i] for i in least.changed]
        right = set(carried.tokens) <= wanted[unit] and set(changed) <= wanted[unit] and common == wanted[unit]
        print(f"{unit}: essential {carried.short!r}; changed {changed}; common {sorted(common)}:", end=" ")
        print("right" if right else "WRONG")
    with attached(model) as host:
        sentences = sampled(host, CORPUS, LINES, 0)
        every = directions(
            host, td.neuron("block_out", layer=0, unit=3), sentences[0], given.directions, "random", 3, 1
        )
        found = compared(host, every, CORPUS, 800, 0)
    stand = taken(found[:100], found, 20, random.Random(0))
    print(
        f"random directions of block_out taken for units: {told(sum(one.distinguished for one in stand), len(stand))}"
    )


def placebo(given: argparse.Namespace) -> None:
    model, texts = td.load_model("minilm"), corpus(given)
    draw = random.Random(given.seed)
    width = {"mlp_post": 1536}.get(given.hook, 384)
    units = [td.neuron(given.hook, layer=given.layer, unit=i) for i in draw.sample(range(width), given.units)]
    with attached(model) as host:
        sentences = sampled(host, texts, LINES, given.seed)
        drawn = [
            directions(host, units[0], sentences[0], count, kind, 3, given.seed + i)
            for i, (count, kind) in enumerate(((given.units, "random"), (20, "random"), (20, "mixture")))
        ]
        goals, began = [*units, *(one for some in drawn for one in some)], time.process_time()
        found = iter(compared(host, goals, texts, given.budget, given.seed))
        own, fakes, judges, mixtures = (list(islice(found, len(some))) for some in (units, *drawn))
    if given.out:  # to try other rules on the same dreams
        values = {"units": own, "random directions": fakes, "judges": judges, "mixtures": mixtures}
        plain = {name: [one.values for one in some] for name, some in values.items()}
        Path(given.out).write_text(json.dumps(plain), "utf-8")
    print(
        f"{given.hook} {given.layer}: {given.units} units, {given.units} random directions, each among 20 others; "
        f"{given.budget:,} forward-tokens a dream; {time.process_time() - began:.0f} CPU s"
    )
    for others, against in ((judges, "random directions"), (mixtures, "mixtures of three units")):
        for name, some in (("units", own), ("random directions", fakes)):
            stand = [standing(one, others) for one in some]
            out = sum(one.distinguished for one in stand)
            print(f"among 20 {against}, {name}: stand out: {told(out, len(stand))}")
            for i, (measure, _) in enumerate(MEASURES):
                beyond = sum(one.measures[i].beyond == 0 for one in stand)
                middle = [fmean(one.values[i] for one in group) for group in (some, others)]
                print(f"  {measure}: {middle[0]:.2f}, the 20 {middle[1]:.2f}; beyond them {told(beyond, len(stand))}")


def corpus(given: argparse.Namespace) -> list[str]:
    import wikitext

    if given.corpus:
        wikitext.CORPUS = Path(given.corpus)
    return wikitext.sentences()


def portrait(given: argparse.Namespace) -> None:
    model, texts = td.load_model("minilm"), corpus(given)
    began = time.perf_counter(), time.process_time()
    page = td.portrait(model, (given.hook, given.layer, given.unit), texts, seed=given.seed)
    print(page)
    print(f"{time.perf_counter() - began[0]:.1f} s, {time.process_time() - began[1]:.1f} CPU s")
    if given.out:
        page.save(given.out)


def atlas(given: argparse.Namespace) -> None:
    model, texts = td.load_model("minilm"), corpus(given)
    draw = random.Random(given.seed)
    units = [(given.hook, given.layer, i) for i in sorted(draw.sample(range(384), given.units))]
    began = time.perf_counter(), time.process_time()
    index = td.atlas(model, units, texts, out=given.out, seed=given.seed)
    cpu = time.process_time() - began[1]
    largest = max(file.stat().st_size for file in index.parent.rglob("*.html"))
    out = sum(td.Portrait.load(file).distinguished for file in index.parent.glob("units/*.json"))
    print(
        f"{given.units} units: {time.perf_counter() - began[0]:.0f} s, {cpu:.0f} CPU s, {cpu / given.units:.1f} a unit"
    )
    print(f"largest page {largest / 1000:.0f} KB; {out} stand out from random directions")


def pages(given: argparse.Namespace) -> None:
    """As many pages as asked for of portraits made up, and how long a browser takes to show the index."""
    from tests.portraits.test_atlases import CHROMIUM, TYPED, made, opened
    from tl_dream.portraits.atlases import write_pages

    folder = Path(given.out)
    (folder / "units").mkdir(parents=True, exist_ok=True)
    units = [
        (replace(one, place=f"layer {i * 6 // given.units}"), page) for i, (one, page) in enumerate(made(given.units))
    ]
    began = time.process_time()
    write_pages(folder, units, [], {"model": "tiny", "corpus": "lines.txt"})
    size = (folder / "units.js").stat().st_size / 1e6
    print(f"{given.units} pages written in {time.process_time() - began:.1f} CPU s; units.js {size:.1f} MB")
    if CHROMIUM is None:
        print("no chromium here")
        return
    clock = """
        const began = performance.now(); at("q").value = "moon"; update();
        document.body.dataset.ms = performance.now() - began;
        document.body.dataset.cells = document.querySelectorAll(".grid a").length;
    """
    with tempfile.TemporaryDirectory() as profile:
        began = time.perf_counter()
        dom, console = opened(folder / "index.html", Path(profile), clock)
        wall = time.perf_counter() - began
        told = {name: dom.split(f'data-{name}="')[1].split('"')[0] for name in ("ms", "cells")}
        print(
            f"index in chromium: {told['cells']} cells; a search takes {float(told['ms']):.0f} ms; {wall:.1f} s in all"
        )
        print(f"console: {console or 'silent'}")
        dom, console = opened(folder / "index.html", Path(profile), TYPED % "moon")
        answers = json.loads(dom.split('data-told="')[1].split('"')[0].replace("&quot;", '"'))
        print(
            f"typed, sorted and moved by keys: {len(answers['found'])} rows for 'moon'; console: {console or 'silent'}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["planted", "placebo", "portrait", "atlas", "pages"])
    parser.add_argument("--hook", default="mlp_post")
    parser.add_argument("--layer", type=int, default=2)
    parser.add_argument("--unit", type=int, default=291)
    parser.add_argument("--units", type=int, default=30)
    parser.add_argument("--directions", type=int, default=120)
    parser.add_argument("--budget", type=int, default=4_000, help="forward-tokens a dream, of placebo")
    parser.add_argument("--corpus", help="WikiText-2's validation split; default: ../shared/data/corpus")
    parser.add_argument("--out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    {"planted": planted, "placebo": placebo, "portrait": portrait, "atlas": atlas, "pages": pages}[given.what](given)


if __name__ == "__main__":
    main()
