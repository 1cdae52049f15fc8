"""The he/she concept on all-MiniLM-L6-v2: can it be trusted, and does moving along it change the pronoun and no more?
And a concept with many words, present and past: does it carry a verb over that it was not fitted to?

    python tests/benchmarks/concepts.py --out concepts.jsonl
    python tests/benchmarks/concepts.py verbs --out verbs.jsonl

Writes a JSON line a finding, and goes on from the file if it is stopped; at the end prints the summary. The magnitude
of each layer is chosen on shipped templates (of those of MAGNITUDES at which most of them flip, the middle one) and not
on the pairs; the 50 pairs are in no template. Every sentence is edited both ways, with random directions of equal norm
in the same run. All texts are real tokens, each measured exactly. An edit sets out from the sentence itself; that an
unmoved activation is read back without knowing the sentence is checked with `reconstruct`.

The verbs are fitted on 30 in four frames; twelve others in two other frames are edited, present to past: at natural
magnitudes, at the advised one, as far as the first other text, and along the pair's own difference. Beside the random
direction "walk -> walking", of the same verbs and frames, is moved along.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from wikitext import CORPUS, ordinary

import tl_dream as td
from tl_dream.concepts.significance import wilson

MAGNITUDES = (1.0, 1.25, 1.5, 2.0)
RANDOMS = 3

PAIRS = """
{he|she} is a doctor
{he|she} is a nurse
{he|she} was a famous painter in vienna
{he|she} wants to be a firefighter
{he|she} lost the keys in the market
{he|she} sells old books near the river
{he|she} kissed the queen on the cheek
{he|she} broke a window with a ball
{he|she} has three sons and a daughter
{he|she} dreams of a house by the sea
{he|she} lost her keys in the market
{he|she} lost his keys in the market
{he|she} told her mother about the exam
{he|she} told his brother about the exam
{he|she} and her dog walked along the beach
{he|she} hurt his knee on the stairs
{he|she} cannot swim
{he|she} sings
where is {he|she} now ?
who is {he|she} ?
is {he|she} hungry ?
does {he|she} work for the government ?
can {he|she} repair this engine ?
why did {he|she} leave the party so early ?
the dentist said {he|she} was tired
the king believed that {he|she} was a witch
the mechanic fixed the car while {he|she} waited
the boy knew that {he|she} had lied
the girl knew that {he|she} had lied
the ship that {he|she} built sank in a storm
the cake {he|she} baked was eaten by the dog
the train left before {he|she} reached the platform
my sister thinks {he|she} is very funny
my uncle thinks {he|she} is very funny
our boss was angry because {he|she} came late again
their neighbour hopes that {he|she} moves out soon
in the garden {he|she} planted roses and lilies
at school {he|she} hated mathematics
on the plane {he|she} read a long novel
in 2003 {he|she} won the nobel prize
after the concert {he|she} signed a thousand records
when the rain stopped , {he|she} went for a walk
if the weather is good , {he|she} will climb the mountain
although it was cold , {he|she} did not wear a coat
a tall stranger asked if {he|she} could stay the night
the committee decided that {he|she} should lead the project
as an engineer {he|she} earned more than the minister
nobody could prove that {he|she} had taken the money
it was late when {he|she} finally called the police
the best chess player in the village is {he|she}
""".strip().split("\n")

ZERO_OTHERS = 50

FITTED = """walk walked walking|talk talked talking|play played playing|call called calling|help helped helping
look looked looking|live lived living|turn turned turning|start started starting|move moved moving
open opened opening|wait waited waiting|stay stayed staying|run ran running|sing sang singing|write wrote writing
speak spoke speaking|drive drove driving|eat ate eating|drink drank drinking|sleep slept sleeping
fight fought fighting|fall fell falling|come came coming|go went going|begin began beginning|leave left leaving
win won winning|know knew knowing|stand stood standing"""
FITTED_IN = ("they {} here every day .", "the people {} again in the evening .", "we {} very often .",
             "my friends {} with the children .")  # fmt: skip
HELD_OUT = """watch watched|kill killed|smile smiled|jump jumped|cry cried|swim swam|fly flew|ride rode|meet met
lose lost|pay paid|build built"""
HELD_OUT_IN = ("some men {} near the river .", "the two sisters {} all night , i think .")
"""Neither the verbs nor the frames were looked at while the method was made."""

NATURAL_SIZES = (1.25, 4.0)


class Ledger:
    """JSON lines by key; what is there is not measured again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[str, Any] = {}
        if path.exists():
            self.lines = {(line := json.loads(text))["key"]: line for text in path.read_text("utf-8").splitlines()}

    def get(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """The finding of this key, measured now if it is not there."""
        if key not in self.lines:
            line = {"key": key, **measure()}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.lines[key] = line
        return self.lines[key]


def sentences_for_zero(count: int) -> list[str]:
    """Short sentences of WikiText-2, drawn at random; without the corpus the pairs."""
    if not CORPUS.is_file():
        return [pair.replace("{he|she}", "she") for pair in PAIRS][:count]
    return ordinary(count, seed=0, shortest=6, longest=14)


def zero(model: Any, concepts: Any, text: str) -> dict[str, Any]:
    """Magnitude 0 at every word of a sentence in turn would be the same target: one move of nothing, at every layer."""
    found = td.edit_concept(model, concepts, text, pos=1, magnitudes=[0.0], progress=False)
    changed = [row.layer for row in found.rows if row.changed]
    worst = max(row.loss for row in found.rows)
    return {"text": text, "changed_layers": changed, "worst_loss": worst, "measured": found.settings["measured"]}


def blind(model: Any, text: str, layers: tuple[int, ...]) -> dict[str, Any]:
    """The sentence read back from its unmoved activation alone, layer by layer."""
    found = {layer: td.reconstruct(model, text, layer=layer, rivals=0, progress=False) for layer in layers}
    wrong = {layer: result.text for layer, result in found.items() if not result.exact}
    return {"text": text, "wrong": wrong, "seconds": round(sum(result.cost.seconds for result in found.values()), 1)}


def flips(found: Any, word: str, control: str | None) -> list[dict[str, Any]]:
    """Of every row of one control: the layer, the magnitude, whether the pronoun became `word`, other words changed."""
    (at,) = found.pos
    return [
        {
            "layer": row.layer,
            "magnitude": row.magnitude,
            "flipped": row.tokens[at] == word,
            "others": sum(change.pos != at for change in row.changed),
            "others_concept": sum(change.pos != at and change.kind == "concept" for change in row.changed),
            "gap": round(row.gap, 4),
            "text": row.text,
        }
        for row in found.rows
        if row.control == control and row.magnitude != 0
    ]


def edit(model: Any, concepts: Any, pair: str, turn: int, sizes: dict[int, list[float]]) -> dict[str, Any]:
    """Move "he" towards "she" (turn 1) or back (turn -1), each layer at its own magnitudes, with controls."""
    word, other = ("he", "she") if turn > 0 else ("she", "he")
    text = pair.replace("{he|she}", word)
    rows: dict[str, list[Any]] = {"concept": [], "random": [], "shuffled": [], "opposite": []}
    began = time.perf_counter()
    groups: dict[tuple[float, ...], list[int]] = {}
    for layer, magnitudes in sizes.items():
        groups.setdefault(tuple(turn * magnitude for magnitude in magnitudes), []).append(layer)
    for magnitudes, layers in groups.items():
        found = td.edit_concept(
            model,
            concepts,
            text,
            pos=word,
            magnitudes=magnitudes,
            layers=layers,
            controls=True,
            randoms=RANDOMS,
            progress=False,
        )
        for control, into in rows.items():
            into += flips(found, other, None if control == "concept" else control)
    return {"text": text, "seconds": round(time.perf_counter() - began, 2), **rows}


def choose(model: Any, concepts: Any, ledger: Ledger, templates: int) -> dict[int, float]:
    """The magnitude a layer at which most of some templates flip, both ways; of several the middle, lower one."""
    lines = td.load_templates("he_she").side(False)
    some = lines[:: max(1, len(lines) // templates)][:templates]
    won: dict[tuple[int, float], list[bool]] = {}
    for item in some:
        start, end = item.span
        pair = item.text[:start] + "{he|she}" + item.text[end:]
        for turn in (1, -1):
            sizes = {layer: list(MAGNITUDES) for layer in concepts.layers}
            line = ledger.get(
                f"choice {turn:+d} {pair}", lambda p=pair, t=turn, s=sizes: edit(model, concepts, p, t, s)
            )
            for row in line["concept"]:
                good = row["flipped"] and row["others"] <= 1
                won.setdefault((row["layer"], abs(row["magnitude"])), []).append(good)
    chosen = {}
    for layer in concepts.layers:
        shares = {size: sum(won[layer, size]) / len(won[layer, size]) for size in MAGNITUDES}
        best = [size for size in MAGNITUDES if shares[size] == max(shares.values())]
        chosen[layer] = best[(len(best) - 1) // 2]
        print(f"layer {layer}: templates flipped {shares}; chosen {chosen[layer]}")
    return chosen


def show(title: str, right: int, count: int) -> None:
    if not count:
        return
    low, high = wilson(right, count)
    print(f"{title}: {right} of {count} = {right / count:.1%} [{low:.1%}, {high:.1%}]")


def report(lines: list[dict[str, Any]], layers: tuple[int, ...]) -> None:
    """Flips and other words by layer, under the concept and the controls."""
    for control in ("concept", "random", "shuffled", "opposite"):
        rows = [row for line in lines for row in line[control]]
        for layer in (*layers, None):
            mine = [row for row in rows if layer in (None, row["layer"])]
            place = f"{control}, " + ("all layers" if layer is None else f"layer {layer}")
            show(
                f"{place}: pronoun flipped, at most one other word",
                *_count(mine, lambda r: r["flipped"] and r["others"] <= 1),
            )
            if layer is None:
                show(f"{place}: pronoun flipped", *_count(mine, lambda r: r["flipped"]))
                show(f"{place}: nothing else changed", *_count(mine, lambda r: r["others"] == 0))
                told = [row for row in mine if "others_concept" in row]  # a file from before that was noted goes on too
                show(f"{place}: another word changed with the concept", *_count(told, lambda r: r["others_concept"]))
            elif control == "concept":
                gaps = sorted(row["gap"] for row in mine)
                print(f"    median gap {gaps[len(gaps) // 2]:.2f}, magnitude {abs(mine[0]['magnitude'])}")


def _count(rows: list[Any], good: Callable[[Any], bool]) -> tuple[int, int]:
    return sum(bool(good(row)) for row in rows), len(rows)


def forms(text: str) -> list[list[str]]:
    return [line.split() for line in text.replace("\n", "|").split("|")]


def verbs_concept(model: Any, form: int) -> Any:
    """From the present to the past (1) or to the -ing form (2), fitted on all verbs in all frames."""
    rows = [(frame, verb) for verb in forms(FITTED) for frame in FITTED_IN]
    present, other = ([frame.format("{" + verb[at] + "}") for frame, verb in rows] for at in (0, form))
    return td.fit_concepts(model, td.read_examples(other, present))


def own_difference(model: Any, concepts: Any, text: str, word: str, past: str) -> Any:
    """The concept with every direction replaced by what parts the two words in this very sentence."""
    found = []
    for vector in concepts:
        here, there = (td.replaced_activation(model, text, w, pos=word, layer=vector.layer) for w in (word, past))
        step = (there - here).sum(0).cpu()
        found.append(replace(vector, direction=step / step.norm(), scale=float(step.norm())))
    return type(concepts)(tuple(found))


def verb_edit(model: Any, text: str, word: str, past: str, concepts: Any, other: Any = None) -> dict[str, Any]:
    """One held-out verb moved from the present to the past; of every row the word that came out. With another concept
    the controls alone."""
    began, rows = time.perf_counter(), []

    def run(how: str, concept: Any, **options: Any) -> None:
        controls = {} if other is None else {"controls": True, "other": other}
        found = td.edit_concept(model, concept, text, pos=word, progress=False, **options, **controls)
        (at,) = found.pos
        for row in found.rows:
            if row.magnitude != 0 and (row.control is None) == (other is None):
                others, size = sum(change.pos != at for change in row.changed), row.magnitude
                control = row.control or "concept"
                rows.append([how, control, row.layer, round(size, 3), row.tokens[at], others, round(row.gap, 3)])

    for vector in concepts:
        if (advised := vector.evidence.carrying.advised) is not None:
            run("advised", vector, magnitudes=[advised])
    run("least", concepts, magnitudes="least")
    if other is None:
        for size in NATURAL_SIZES:
            run(f"{size:g}", concepts, magnitudes=[size])
        for size in (1.0, 2.0):
            run(f"own difference {size:g}", own_difference(model, concepts, text, word, past), magnitudes=[size])
    return {"text": text, "word": word, "past": past, "seconds": round(time.perf_counter() - began, 1), "rows": rows}


def verbs(given: argparse.Namespace, model: Any, ledger: Ledger) -> None:
    """The table of present and past."""
    concepts, other = verbs_concept(model, 1), verbs_concept(model, 2)
    print(concepts)
    held = [
        (HELD_OUT_IN[i % len(HELD_OUT_IN)].format(word), word, past) for i, (word, past) in enumerate(forms(HELD_OUT))
    ]
    held = held[: given.pairs]
    lines = [ledger.get(f"verb {one[0]}", lambda o=one: verb_edit(model, *o, concepts)) for one in held]
    lines += [
        ledger.get(f"controls {one[0]}", lambda o=one: verb_edit(model, *o, concepts, other))
        for one in held[: given.controls]
    ]
    every = [(line["past"], line["word"], *row) for line in lines for row in line["rows"]]
    for how, control in dict.fromkeys((row[2], row[3]) for row in every):
        mine = [row for row in every if row[2:4] == (how, control)]
        for layer in (*concepts.layers, None):
            some = [row for row in mine if layer in (None, row[4])]
            place = f"{how}, {control}, " + ("all layers" if layer is None else f"layer {layer}")
            show(f"{place}: became its past", *_count(some, lambda row: row[6] == row[0]))
            if layer is None:
                show(f"{place}: no word of it changed", *_count(some, lambda row: row[6] == row[1] and row[7] == 0))
                show(f"{place}: another word changed too", *_count(some, lambda row: row[7] > 0))
            elif control == "concept" and some:
                sizes, gaps = (sorted(row[at] for row in some) for at in (5, 8))
                print(f"    median magnitude {sizes[len(sizes) // 2]}, gap {gaps[len(gaps) // 2]}")
    for row in every:
        if row[2:4] == ("least", "concept") and row[6] != row[0]:
            print(f"failed at layer {row[4]}, magnitude {row[5]}: {row[0]}, but {row[6]}")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("part", nargs="?", choices=("he_she", "verbs"), default="he_she")
    options.add_argument("--out", type=Path, default=Path("concepts.jsonl"), help="JSON lines; gone on from if there")
    options.add_argument("--pairs", type=int, default=len(PAIRS))
    options.add_argument("--controls", type=int, default=len(PAIRS), help="verbs that the controls are measured on")
    options.add_argument("--zeros", type=int, default=ZERO_OTHERS)
    options.add_argument("--blind", type=int, default=50, help="sentences read back without knowing them")
    options.add_argument("--templates", type=int, default=12, help="that the magnitudes are chosen on")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    ledger = Ledger(given.out)
    model = td.load_model("minilm")
    if given.part == "verbs":
        verbs(given, model, ledger)
        return
    concepts = td.fit_concepts(model, random_concepts=200)
    print(concepts)
    for vector in concepts:
        e = vector.evidence
        ledger.get(
            f"accuracy {vector.layer}",
            lambda e=e: {"accuracy": e.accuracy, "interval": e.interval, "p": e.p_value, "p_corrected": e.p_corrected},
        )
    zeros = [
        ledger.get(f"zero {text}", lambda t=text: zero(model, concepts, t)) for text in sentences_for_zero(given.zeros)
    ]
    show("magnitude 0 changes nothing at any layer", *_count(zeros, lambda line: not line["changed_layers"]))
    texts = sentences_for_zero(given.blind) if given.blind else []
    reads = [ledger.get(f"blind {text}", lambda t=text: blind(model, t, concepts.layers)) for text in texts]
    show("read back at every layer without knowing it", *_count(reads, lambda line: not line["wrong"]))
    chosen = choose(model, concepts, ledger, given.templates)
    sizes = {layer: [size] for layer, size in chosen.items()}
    both = []
    for pair in PAIRS[: given.pairs]:
        for turn in (1, -1):
            key = f"pair {turn:+d} {sorted(chosen.items())} {pair}"
            both.append(ledger.get(key, lambda p=pair, t=turn: edit(model, concepts, p, t, sizes)))
    if both:
        report(both, concepts.layers)
    failed = [
        (line["text"], row) for line in both for row in line["concept"] if not row["flipped"] or row["others"] > 1
    ]
    for text, row in failed:
        print(f"failed at layer {row['layer']}, gap {row['gap']}: {text} -> {row['text']}")
    print(f"{sum(line['seconds'] for line in both) / max(1, len(both)):.1f} s a sentence, all layers and controls")


if __name__ == "__main__":
    main()
