"""`placebo`: directions with a unit's mean and deviation, read as the unit is read."""

import pytest
import torch

import tl_dream as td
from tests.conftest import says
from tests.support.portraits import CORPUS, TOKEN, goal
from tl_dream.models import attached
from tl_dream.objectives import BatchContext
from tl_dream.portraits.placebos import sampled, word_values

TEXTS = CORPUS[:8]


def words(model: torch.nn.Module, objective: td.Objective) -> torch.Tensor:
    """What an objective gives at every word of TEXTS, as a corpus search shows it."""
    hits = td.corpus_search(model, objective, TEXTS, top=len(TEXTS)).top
    return torch.tensor([value for hit in sorted(hits, key=lambda hit: hit.line) for value in hit.activations[1:-1]])


@pytest.mark.parametrize("kind", ["both", "random", "mixture"])
def test_mean_and_deviation_are_the_units(encoder: torch.nn.Module, kind: str) -> None:
    unit = td.neuron("block_out", layer=1, unit=3, pos=2, reduce="min")
    own = words(encoder, unit)
    fakes = td.placebo(encoder, unit, TEXTS, count=6, kind=kind)
    assert len(fakes) == 6
    made = torch.stack([words(encoder, one) for one in fakes])
    assert made.mean(1).tolist() == pytest.approx([own.mean().item()] * 6, abs=1e-4)
    assert made.std(1).tolist() == pytest.approx([own.std().item()] * 6, rel=1e-3)
    alike = torch.corrcoef(torch.cat([made, own[None]])) - torch.eye(7)
    assert alike.abs().max() < 0.98, "two directions are the same"
    assert all(one.where == unit.where for one in fakes)


def test_a_mixture_is_of_a_few_units(encoder: torch.nn.Module) -> None:
    """Each unit in turn is set apart: only so many change what the direction gives."""
    for kind, moved in (("mixture", 3), ("random", 24)):
        (fake,) = td.placebo(encoder, td.neuron("block_out", layer=1, unit=3), TEXTS, count=1, kind=kind)
        assert len(counted(encoder, fake, torch.zeros(1, 24))) == moved


def counted(model: torch.nn.Module, fake: td.Objective, activation: torch.Tensor) -> list[int]:
    """Which of the units at a position change what an objective gives there."""
    (read,), size = fake.reads, activation[0].numel()
    with attached(model) as host:
        rows = BatchContext.of(host, [host.vocabulary.read("a dog")])

        def value(at: int | None) -> float:
            changed = torch.zeros(1, 4, size)
            if at is not None:
                changed[0, 1, at] = 1.0
            return float(fake.per_token({read: changed.reshape(1, 4, *activation.shape[1:])}, rows)[0, 1])

        return [at for at in range(size) if value(at) != value(None)]


def test_directions_of_a_head_keep_to_it(encoder: torch.nn.Module) -> None:
    of_all = td.direction(torch.ones(24), "z", layer=1)
    for objective, places in (
        (td.neuron("z", layer=1, head=2, unit=3, pos=2), range(12, 18)),
        (td.neuron("z", layer=1, unit=15), range(12, 18)),
        (of_all, range(24)),
    ):
        (fake,) = td.placebo(encoder, objective, TEXTS, count=1, kind="random")
        assert counted(encoder, fake, torch.zeros(1, 4, 6)) == list(places)


def test_seeds_and_kinds(known: torch.nn.Module) -> None:
    first, again, other = (
        [td.score(known, one, TEXTS).tolist() for one in td.placebo(known, goal(TOKEN), CORPUS, count=4, seed=seed)]
        for seed in (1, 1, 2)
    )
    assert first == again and first != other
    names = [repr(one) for one in td.placebo(known, goal(TOKEN), CORPUS, count=4)]
    assert ["random 1" in names[0], "mixture 2" in names[1], "random 3" in names[2]] == [True] * 3


def test_bad_input(encoder: torch.nn.Module, known: torch.nn.Module) -> None:
    unit = td.neuron("block_out", layer=1, unit=3)
    with says("the corpus is empty"):
        td.placebo(encoder, unit, [])
    with says("not one of the 2 lines", "is a sentence"):
        td.placebo(encoder, unit, ["", " "])
    with says("unknown kind 'sugar'", "random"):
        td.placebo(encoder, unit, TEXTS, kind="sugar")
    for other in (
        unit + td.neuron("block_out", layer=2, unit=3),
        unit + td.fluency(td.count_bigrams(encoder, TEXTS)),
        td.custom(lambda acts: acts["x"][:, 1, 3], {"x": ("block_out", 1)}),
    ):
        with says("has no placebo", "one hook only"):
            td.placebo(encoder, other, TEXTS)
    with says("has no directions"):
        td.placebo(encoder, td.attention(layer=1, head=0, query=1, key=1), TEXTS)
    with says("never varies", "another unit"):
        td.placebo(encoder, 0.0 * unit, TEXTS)


def test_a_sample_is_drawn_evenly_from_all_lines(encoder: torch.nn.Module) -> None:
    lines = [
        f"the {a} {b}" for a in "dog cat bird fish horse".split() for b in "sees eats runs walks sleeps".split()
    ] * 40
    with attached(encoder) as host:
        texts = [one.text for one in sampled(host, lines, 10, seed=0)]
        assert len(set(texts)) == 10 and texts == sorted(texts, key=lines.index)
        assert texts == [one.text for one in sampled(host, iter(lines), 10, seed=0)]
        drawn = [{one.text for one in sampled(host, lines[:50], 5, seed)} for seed in range(60)]
        counts = [sum(line in some for some in drawn) for line in lines[:25]]
        assert 2 <= min(counts) and max(counts) <= 26  # 12 of 60 in the mean
        assert [one.text for one in sampled(host, ["", *CORPUS[:3], CORPUS[0]], 10, 0)] == CORPUS[:3]


def test_values_are_those_of_a_corpus_search(encoder: torch.nn.Module) -> None:
    goals = [td.neuron("block_out", layer=1, unit=3), td.neuron("mlp_post", layer=0, unit=7, pos=1)]
    with attached(encoder) as host:
        values = word_values(host, goals, sampled(host, CORPUS, 100, 0))
    for found, hits in zip(values, td.corpus_search(encoder, goals, CORPUS, top=len(CORPUS)), strict=True):
        expected = [value for hit in hits.top for value in hit.activations[1:-1]]
        assert sorted(found.tolist()) == pytest.approx(sorted(expected), abs=1e-5)
