"""`essential`: planted units, whose essential tokens are known."""

import math

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.portraits import COUNT, EITHER, FOLLOWED, TOKEN, A, B, C, goal

REPLACEMENTS = ["indifferent", "mask", "mean"]


def of(model: torch.nn.Module, unit: int, text: object, **options: object) -> td.EssentialTokens:
    return td.essential(model, goal(unit), text, **options)


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize("seed", range(3))
def test_the_tokens_that_were_planted(known: torch.nn.Module, replacement: str, seed: int) -> None:
    options = {"replacement": replacement, "seed": seed}
    one = of(known, TOKEN, "the red moon sees a cat", **options)
    assert one.short == "... moon ..." and one.minimal and not one.pairs
    assert one.drops[2] == pytest.approx(one.whole.score, abs=1e-3)
    two = of(known, FOLLOWED, "the moon and a moon river sees", **options)
    assert two.short == "... moon river ..." and two.kept == (5, 6) and two.minimal
    assert [(pair.first, pair.second, pair.kind) for pair in two.pairs] == [(5, 6, "both")]
    either = of(known, EITHER, "a bread sees the moon and a cat", **options)
    assert either.short == "... bread ..." and either.minimal
    assert [(pair.first, pair.second, pair.kind) for pair in either.pairs] == [(2, 6, "either")]
    count = of(known, COUNT, "moon and a moon in the moon .", **options)
    assert count.short == "moon ... moon ... moon ..." and count.minimal


def test_a_text_that_does_not_turn_the_unit_on_says_so(known: torch.nn.Module) -> None:
    on, off = (of(known, EITHER, f"a {word} sees the {word} and a cat") for word in ("bread", "dog"))
    assert on.fired is True and "does not turn" not in str(on) and off.fired is False and off.pairs == ()
    assert "the text does not turn the unit on: shares of so little say nothing, and no pair is looked for" in str(off)
    assert td.EssentialTokens.from_json(off.to_json()) == off
    assert td.essential(known, td.neuron("block_out", layer=1, unit=1, pos=2), "the red dog").fired is None


def test_it_is_the_smallest_set_of_all(encoder: torch.nn.Module) -> None:
    """Of a random unit, against every set of its words scored by plain text with [MASK] in the others' place."""
    text = "i hate my small old house ."
    words = text.split()
    for unit in (3, 5, 8):
        objective = td.neuron("block_out", layer=1, unit=unit, pos=4)
        found = td.essential(encoder, objective, text, replacement="mask", keep=0.8)
        rows = [[w if i >> at & 1 else "[MASK]" for at, w in enumerate(words)] for i in range(1 << len(words))]
        scores = td.score(encoder, objective, [" ".join(row) for row in rows]).tolist()
        base, whole = scores[0], scores[-1]
        assert found.base == pytest.approx(base, abs=1e-5) and found.whole.score == pytest.approx(whole, abs=1e-5)
        if whole <= base:
            assert found.kept == () and "add nothing" in str(found)
            continue
        enough = [i for i, score in enumerate(scores) if score >= base + 0.8 * (whole - base)]
        smallest = min(bin(i).count("1") for i in enough)
        best = max((i for i in enough if bin(i).count("1") == smallest), key=lambda i: scores[i])
        assert found.minimal and found.kept == tuple(at + 1 for at in range(len(words)) if best >> at & 1)
        assert found.kept_score == pytest.approx(scores[best], abs=1e-5)
        alone = [scores[1 << at] for at in range(len(words))]
        without = [scores[len(scores) - 1 - (1 << at)] for at in range(len(words))]
        assert found.alone == pytest.approx(alone, abs=1e-5) and found.without == pytest.approx(without, abs=1e-5)


def test_a_set_that_is_not_proved_says_so(encoder: torch.nn.Module) -> None:
    objective, text = td.neuron("block_out", layer=1, unit=3, pos=4), "i hate my small old house ."
    first = td.essential(encoder, objective, text)
    objective = objective if first.whole.score > first.base else -objective
    sure, unsure = (td.essential(encoder, objective, text, keep=0.5, budget=budget) for budget in (400_000, 0))
    assert sure.minimal and len(sure.kept) <= len(unsure.kept)
    assert not unsure.minimal and "not all were tried" in str(unsure)


def test_dreams_and_lines_of_a_corpus(known: torch.nn.Module) -> None:
    objective = goal(TOKEN, "fish")
    dream = td.dream(known, objective, td.Prompt("the dog fish a cat", free=[2, 3]), budget=6000)
    assert dream.best.tokens[3] == A
    found = td.essential(known, objective, dream)
    assert found.tokens == (A,) and found.free == (2, 3) and found.whole.text == dream.best.text
    assert td.essential(known, goal(TOKEN), dream.best).tokens == (A,)
    hit = td.corpus_search(known, goal(EITHER), ["the dog", f"i see the {C} and the {B}"]).top[0]
    assert td.essential(known, goal(EITHER), hit).short == f"... {C} ..."


def test_it_prints_and_comes_back(known: torch.nn.Module) -> None:
    found = of(known, FOLLOWED, "the moon river sees")
    assert td.EssentialTokens.from_json(found.to_json()) == found
    assert "only together: moon (2) and river (3)" in str(found) and "no fewer do" in str(found)
    frame = found.to_frame()
    assert list(frame[frame.essential].token) == [A, B] and list(frame.pos) == list(found.free)


def test_bad_input(known: torch.nn.Module, encoder: torch.nn.Module, tiny_causal: torch.nn.Module) -> None:
    with says("keep = 0", "above 0"):
        of(known, TOKEN, "the moon", keep=0)
    with says("unknown replacement 'maks'", "mask"):
        of(known, TOKEN, "the moon", replacement="maks")
    with says("has no mask token", "indifferent"):
        td.essential(tiny_causal, td.neuron("mlp_post", layer=1, unit=3), " a red dog", replacement="mask")
    with says("reads words", "indifferent"):
        judge = td.fluency(td.count_bigrams(known, ["the moon", "the dog"]))
        td.essential(known, goal(TOKEN) + judge, "the moon", replacement="mean")
    nothing = td.custom(lambda acts: acts["x"][:, 1, 3] * math.nan, {"x": ("mlp_post", 1)}, name="nothing")
    with says("scores nan", "check the objective"):
        td.essential(encoder, nothing, "the dog")
