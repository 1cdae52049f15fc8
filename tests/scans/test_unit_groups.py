"""The room scans.unit_groups."""

from typing import Any

import pytest
import torch

import tl_dream as td
from tests.support.scans import GOALS, OBJECTIVES, TEXTS, Model, search
from tl_dream.models.host import attached
from tl_dream.scans import unit_groups
from tl_dream.scans.unit_groups import grouped
from tl_dream.text.vocabulary import Vocabulary


def test_many_objectives_in_one_pass(encoder: Model) -> None:
    goals = [
        *(td.neuron("block_out", layer=2, unit=unit) for unit in range(0, 24, 4)),
        *(td.neuron("mlp_post", layer=0, unit=unit, pos=1) for unit in range(3)),
        *(td.neuron("z", layer=1, unit=unit, reduce="mean") for unit in (0, 7, 23)),
        *(make() for make in OBJECTIVES.values()),
    ]
    together = search(encoder, goals, TEXTS[:40], top=4, batch_tokens=100, shard_lines=15)
    assert isinstance(together, tuple) and [one.objective for one in together] == [repr(goal) for goal in goals]
    for goal, one in zip(goals, together, strict=True):
        alone = search(encoder, goal, TEXTS[:40], top=4)
        assert [hit.line for hit in one.top] == [hit.line for hit in alone.top], goal
        assert [hit.score for hit in one.top] == pytest.approx([hit.score for hit in alone.top], abs=1e-5)
        assert [hit.pos for hit in one.top] == [hit.pos for hit in alone.top]
        assert one.scored == alone.scored
    assert search(encoder, goals[:1], TEXTS[:9])[0].scored == 9


def test_units_of_a_hook_are_scored_together(encoder: Model) -> None:
    units = [td.neuron("block_out", layer=2, unit=unit) for unit in (3, -1, 8)]
    heads = [td.neuron("q", layer=1, head=2, unit=3), td.neuron("q", layer=1, unit=13)]
    vector = torch.zeros(24)
    vector[5] = 1.0
    others = [
        2 * units[0],
        units[0] + 1,
        -units[0],
        td.direction(torch.ones(24), "block_out", layer=2),
        td.attention(layer=0, head=0, query=1, key=2),
        td.neuron("block_out", layer=2, unit=3, pos=1) + td.neuron("block_out", layer=2, unit=3, pos=2),
    ]
    with attached(encoder) as host:
        groups = grouped(host, [*units, *heads, *others], host.vocabulary.read("i hate the dog"))
    found = {group.members: None if group.units is None else group.units.tolist() for group in groups}
    assert found.pop((0, 1, 2)) == [3, 23, 8]
    assert found.pop((3, 4)) == [15, 13]
    assert found == {(i,): None for i in range(5, 11)}


def test_a_word_is_looked_up_once_however_many_objectives_read_there(
    encoder: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, whole = [], Vocabulary.locate

    def watched(self: Vocabulary, sentence: Any, pos: Any, **options: Any) -> Any:
        if pos == "dog":
            looked.append(sentence.text)
        return whole(self, sentence, pos, **options)

    monkeypatch.setattr(Vocabulary, "locate", watched)
    counts = []
    for number in (1, 7):
        looked.clear()
        goals = [td.direction(torch.linspace(-1, k, 24), "block_out", layer=1, pos="dog") for k in range(number)]
        search(encoder, goals, TEXTS[:60])
        counts.append(len(looked))
    assert counts[0] == counts[1] > 5


def test_a_unit_that_is_not_there_is_told_at_once(encoder: Model) -> None:
    with pytest.raises(td.DreamError, match="unit 24 does not exist: the hook 'block_out' has units 0 to 23"):
        search(encoder, [td.neuron("block_out", layer=0, unit=u) for u in (3, 24)], TEXTS)


def test_probing_needs_no_random_numbers_of_yours(encoder: Model) -> None:
    state = torch.get_rng_state()
    search(encoder, GOALS, TEXTS[:20])
    assert torch.equal(torch.get_rng_state(), state)
    assert unit_groups.Group.__doc__
