"""What every method of `dream` makes of the same start for the same forward-tokens, on random units of MiniLM.

    python tests/benchmarks/searches.py --out searches.jsonl --figure searches.png

Units of every layer, of block_out, mlp_post and z in turn, drawn at random. Each starts from its best sentence of
WikiText-2's validation split (its paragraphs split into sentences; of at most `--longest` tokens), and from an ordinary
one, drawn at random with the position that is read. The budget of a unit is what `--sentences` passes of its sentence
up to its layer cost. A line of JSON a case is added to the file as it is done, and a second start leaves done cases
alone. The article's preset, anneal and pez draw nothing, so they run once; the others with three seeds from the best
sentence, with one from the ordinary one.

    python tests/benchmarks/searches.py --clock --out clock.jsonl --threads 1

The default search against a plain GCG loop over Hugging Face's own model (`plain_gcg.py`), from an ordinary sentence,
with the default budget and three seeds each (what the loop finds depends on its seed): CPU seconds at equal
forward-tokens, scores at equal CPU seconds. Of the loop both the tokens it ends on and what their text scores.

    python tests/benchmarks/searches.py --anchors --threads 1

Three units that are known to be hard, each from a sentence of the same corpus with the default budget: five seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from dataclasses import replace
from pathlib import Path

import torch
from plain_gcg import PlainGCG
from wikitext import CORPUS, ordinary, sentences

import tl_dream as td
from tl_dream.concepts.significance import wilson

HOOKS = {"block_out": 384, "mlp_post": 1536, "z": 384}
METHODS = ("article", "anneal", "pez", "gcg", "epo", "auto")
ONCE = ("article", "anneal", "pez")
BUDGET = 400_000


ANCHORS = (
    (2, 291, 9, "The Washington Post reported growing resentment in the nation towards the United States ."),
    (1, 130, 10, 'Smith commented that Grant was " born to be a Who villain .'),
    (1, 253, 8, "The hearing took place in Blythe 's absence ."),
)
"""Layer, unit of block_out, position, start."""


def draw_units(count: int, seed: int) -> list[tuple[str, int, int]]:
    """Hooks in turn, layers in turn, the unit at random."""
    generator = torch.Generator().manual_seed(seed)
    hooks = list(HOOKS)
    found = []
    for i in range(count):
        hook = hooks[i % len(hooks)]
        found.append((hook, (i // len(hooks)) % 6, int(torch.randint(HOOKS[hook], (1,), generator=generator))))
    return found


def some_position(model: object, text: str, seed: int) -> int:
    """A word's, at random."""
    return random.Random(f"{seed} {text}").randrange(1, len(model.tokenizer(text)["input_ids"]) - 1)


def unit_of(row: dict[str, object]) -> str:
    """The unit of a case."""
    return f"{row['hook']} {row['layer']} {row['unit']}"


def at_budget(curve: list[list[float]], start: float, spent: float) -> float:
    """The best score after so many forward-tokens."""
    return max([score for tokens, score in curve if tokens <= spent], default=start)


def done_cases(out: Path) -> dict[str, dict[str, object]]:
    """The lines of a file by their case."""
    lines = out.read_text().splitlines() if out.is_file() else []
    return {row["case"]: row for row in map(json.loads, lines)}


def add_line(out: Path, row: dict[str, object]) -> None:
    with out.open("a") as file:
        file.write(json.dumps(row) + "\n")


def run_cases(given: argparse.Namespace) -> None:
    done = done_cases(given.out)
    model = td.load_model("minilm")
    units = draw_units(given.units, given.seed)
    goals = [td.neuron(hook, layer=layer, unit=unit) for hook, layer, unit in units]
    texts = sentences()
    found = td.corpus_search(model, goals, texts, top=1, max_tokens=given.longest, progress=False)
    judge = td.fluency(td.count_bigrams(model, texts))
    for (hook, layer, unit), result, other in zip(units, found, ordinary(given.units, given.seed), strict=True):
        hit = result.top[0]
        pos = some_position(model, other, given.seed)
        for start, text, at in (("corpus best", hit.text, hit.pos), ("ordinary", other, pos)):
            goal = td.neuron(hook, layer=layer, unit=unit, pos=at)
            tokens = len(model.tokenizer(text)["input_ids"])
            budget = given.sentences * tokens * (layer + 1)
            for method in METHODS:
                for seed in range(1 if method in ONCE or start == "ordinary" else 3):
                    case = f"{hook} {layer} {unit} {method} {seed} {budget} {start}"
                    if case in done:
                        continue
                    settings = {"article": replace(td.ARTICLE, steps=None), "epo": td.EPO(fluency=judge)}
                    options = {"method": settings.get(method, method), "budget": budget, "seed": seed}
                    began = time.process_time()
                    dream = td.dream(model, goal, text, **options, progress=False)
                    cpu = time.process_time() - began
                    history = dream.history
                    best, curve = dream.start.score, []
                    for spent, score in zip(history.forward_tokens, history.hard_score, strict=True):
                        best = max(best, score)
                        curve.append([spent, best])
                    row = {
                        "case": case,
                        "hook": hook,
                        "layer": layer,
                        "unit": unit,
                        "pos": at,
                        "tokens": tokens,
                        "from": start,
                        "method": method,
                        "seed": seed,
                        "budget": budget,
                        "spent": dream.cost.forward_tokens,
                        "corpus": hit.score,
                        "start": dream.start.score,
                        "best": dream.best.score,
                        "cpu": round(cpu, 2),
                        "stopped": dream.stopped,
                        "text": dream.best.text,
                        "curve": curve,
                    }
                    add_line(given.out, row)
                    print(f"{case}: {dream.start.score:.3f} -> {dream.best.score:.3f}, {cpu:.1f} s", flush=True)


def run_clock(given: argparse.Namespace) -> None:
    done = done_cases(given.out)
    model = td.load_model("minilm")
    units: dict[str, list[dict[str, object]]] = {}
    for (hook, layer, unit), text in zip(
        draw_units(given.units, given.seed), ordinary(given.units, given.seed), strict=True
    ):
        pos = some_position(model, text, given.seed)
        goal = td.neuron(hook, layer=layer, unit=unit, pos=pos)
        for seed in range(given.seeds):
            case = f"{hook} {layer} {unit} {pos} {text} {seed}"
            if case not in done:
                began = time.process_time()
                dream = td.dream(model, goal, text, budget=BUDGET, seed=seed, progress=False)
                cpu = time.process_time() - began
                plain = PlainGCG(hook, layer, unit, pos)
                curve = plain.run(text, BUDGET, cpu, seed)
                at_tokens = [(seconds, score) for spent, seconds, score, _ in curve if spent <= BUDGET][-1]
                in_time, ids = [(score, ids) for _, seconds, score, ids in curve if seconds <= cpu][-1]
                done[case] = {
                    "case": case,
                    "hook": hook,
                    "auto": dream.best.score,
                    "cpu": cpu,
                    "plain_cpu": at_tokens[0],
                    "plain": at_tokens[1],
                    "plain_in_time": in_time,
                    "plain_text": plain.score_text(ids),
                }
                add_line(given.out, done[case])
            row = done[case]
            units.setdefault(f"{hook} {layer} {unit}", []).append(row)
            print(
                f"{case}: auto {row['auto']:.3f} in {row['cpu']:.1f} CPU s; plain gcg {row['plain']:.3f} in "
                f"{row['plain_cpu']:.1f}, {row['plain_in_time']:.3f} in the seconds of auto, "
                f"{row['plain_text']:.3f} read anew from its text",
                flush=True,
            )
    rows = [row for own in units.values() for row in own]
    ratios = [row["cpu"] / row["plain_cpu"] for row in rows]
    cpu, plain_cpu = (statistics.median(row[key] for row in rows) for key in ("cpu", "plain_cpu"))
    auto, plain = (statistics.mean(row[key] for row in rows) for key in ("auto", "plain"))
    print(
        f"{len(units)} units, {given.seeds} seeds, {BUDGET:,} forward-tokens: auto takes "
        f"{statistics.median(ratios):.2f} times the CPU seconds of a plain GCG loop in the median, {max(ratios):.2f} "
        f"at most ({cpu:.1f} and {plain_cpu:.1f} s), and scores {auto:.2f} against {plain:.2f} in the mean"
    )
    no_text = sum(row["plain_text"] < row["plain_in_time"] - 1e-3 for row in rows)
    print(f"plain gcg ends on tokens that its text is not read as: {no_text}/{len(rows)}")
    for key, told in (("plain_in_time", "its tokens"), ("plain_text", "its text, read anew")):
        for name, cases in (("single runs", [[row] for row in rows]), ("medians of a unit's seeds", units.values())):
            won = sum(
                statistics.median(r["auto"] for r in own) > statistics.median(r[key] for r in own) for own in cases
            )
            low, high = wilson(won, len(cases))
            print(
                f"in the same seconds auto is higher than {told}, {name}: {won}/{len(cases)} = {won / len(cases):.0%} "
                f"[{low:.0%}, {high:.0%}]"
            )


def run_anchors() -> None:
    model = td.load_model("minilm")
    for layer, unit, pos, text in ANCHORS:
        goal = td.neuron("block_out", layer=layer, unit=unit, pos=pos)
        found = [td.dream(model, goal, text, seed=seed, progress=False) for seed in range(5)]
        scores = [dream.best.score for dream in found]
        before, after = found[0].start.score, statistics.median(scores)
        seconds = statistics.median(dream.cost.seconds for dream in found)
        shown = ", ".join(f"{score:.3f}" for score in scores)
        print(
            f"layer {layer}, unit {unit}, position {pos}: {before:.3f} -> {after:.3f} "
            f"in the median of five seeds ({shown}), {seconds:.1f} s each"
        )


def summarize(rows: list[dict[str, object]], start: str) -> list[dict[str, object]]:
    """Print the table of the cases from one kind of start; the cases of units that are done with all methods."""
    rows = [row for row in rows if row["from"] == start]
    units: dict[str, dict[str, list[dict[str, object]]]] = {}
    for row in rows:
        units.setdefault(unit_of(row), {}).setdefault(row["method"], []).append(row)
    units = {name: runs for name, runs in units.items() if all(method in runs for method in METHODS)}
    if not units:
        print("no unit is done with all methods yet")
        return []
    finals = {
        name: {method: statistics.median(row["best"] for row in runs[method]) for method in METHODS}
        for name, runs in units.items()
    }
    count = len(units)
    print(
        f"\n{count} units from {start} sentences, medians over the seeds; first: within 0.1% of the unit's best method"
    )
    before, corpus = (statistics.mean(units[name]["auto"][0][key] for name in units) for key in ("start", "corpus"))
    print(f"mean of the starts {before:.3f}, of the best sentences of the corpus {corpus:.3f}")
    print("method    mean score   CPU seconds   above the corpus best             first or tied")
    for method in METHODS:
        gains = [finals[name][method] - units[name][method][0]["corpus"] for name in units]
        above = sum(gain > 0 for gain in gains)
        top = {name: max(finals[name].values()) for name in units}
        first = sum(finals[name][method] >= top[name] - 1e-3 * abs(top[name]) for name in units)
        shares = "   ".join(
            f"{hits:3}/{count} = {hits / count:4.0%} [{low:.0%}, {high:.0%}]".ljust(30)
            for hits in (above, first)
            for low, high in [wilson(hits, count)]
        )
        mean = statistics.mean(finals[name][method] for name in units)
        cpu = statistics.median(row["cpu"] for name in units for row in units[name][method])
        print(f"{method:8}{mean:12.3f}{cpu:14.2f}   {shares}")
    shares = []
    for name, runs in units.items():
        goal = finals[name]["gcg"]
        reached = [
            min([tokens for tokens, score in row["curve"] if score >= goal], default=math.inf) / row["budget"]
            for row in runs["auto"]
        ]
        shares.append(statistics.median(reached))
    print(f"auto reaches gcg's final score after {statistics.median(shares):.1%} of the budget (median of the units)")
    lost = [
        name for name in units if min(row["best"] for row in units[name]["auto"]) <= units[name]["auto"][0]["corpus"]
    ]
    print(f"units where a seed of auto is not above the corpus best: {', '.join(lost) or 'none'}")
    return [row for row in rows if unit_of(row) in units]


def gain_curves(rows: list[dict[str, object]]) -> dict[str, list[tuple[float, float]]]:
    """For each method the gain at shares of the budget, gcg's gain on the same unit being 1, in the median."""
    goal: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == "gcg":
            goal.setdefault(unit_of(row), []).append(row["best"] - row["corpus"])
    shares = [step / 200 for step in range(201)]
    return {
        method: [
            (
                share,
                statistics.median(
                    (at_budget(row["curve"], row["corpus"], share * row["budget"]) - row["corpus"])
                    / statistics.median(goal[unit_of(row)])
                    for row in rows
                    if row["method"] == method
                ),
            )
            for share in shares
        ]
        for method in METHODS
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--out", type=Path, default=Path("searches.jsonl"))
    options.add_argument("--figure", type=Path, help="score against forward-tokens, all units")
    options.add_argument("--units", type=int, default=30)
    options.add_argument("--seed", type=int, default=7, help="of the draw of units")
    options.add_argument("--seeds", type=int, default=3, help="with --clock: of the searches")
    options.add_argument("--sentences", type=int, default=1000, help="the budget")
    options.add_argument("--longest", type=int, default=24, help="tokens of a start at most")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--only-summary", action="store_true")
    options.add_argument("--anchors", action="store_true", help="the three hard units alone")
    options.add_argument("--clock", action="store_true", help="CPU seconds against a plain GCG loop")
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    if given.anchors:
        run_anchors()
        return
    if not CORPUS.is_file():
        print(f"no corpus at {CORPUS}")
        return
    if given.clock:
        run_clock(given)
        return
    if not given.only_summary:
        run_cases(given)
    lines = list(done_cases(given.out).values())
    rows = summarize(lines, "corpus best")
    summarize(lines, "ordinary")
    if given.figure and rows:
        from tl_dream import plotting

        ax = plotting.cost_curves(
            gain_curves(rows), xlabel="share of the budget", ylabel="gain over the corpus best (gcg's last: 1)"
        )
        ax.set_title(f"median over the units and seeds, {given.sentences:,} sentences", loc="left")
        ax.set_ylim(bottom=0)
        plotting.save_figure(ax.figure, given.figure)


if __name__ == "__main__":
    main()
