"""The room search.proposals."""

from dataclasses import replace

import pytest
import torch

import tl_dream as td
from tests.conftest import VOCAB, says
from tests.support.search import GOAL, TEXTS, batch_of, slopes_of
from tl_dream.dreaming.annealing import Annealing
from tl_dream.dreaming.ascent import ascend
from tl_dream.models.host import Host
from tl_dream.objectives.scoring import evaluate
from tl_dream.search.engine import run
from tl_dream.search.proposals import Ranking, merged, ranked, texts_read_back, texts_that_return


def test_slopes_are_how_the_score_rises_with_a_tokens_weight(host: Host) -> None:
    batch = batch_of(host, TEXTS)
    slope = slopes_of(host, GOAL, batch)
    assert [tuple(own.shape) for own in slope] == [(len(one.free), len(VOCAB)) for one in batch.sentences]
    ray = torch.zeros(*batch.ids.shape, 24, dtype=torch.float64)
    ray[0, batch.free[0, 3]] = 1e-5 * host.W_E[7]
    with torch.no_grad():
        rows, here = batch.context(host, range(len(TEXTS))), host.W_E[batch.ids]
        up, down = (evaluate(host, GOAL, batch.ids, rows, embeddings=here + sign * ray)[0] for sign in (1, -1))
    assert slope[0][3, 7].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5)


def test_an_objective_that_the_words_do_not_move(host: Host) -> None:
    batch = batch_of(host, TEXTS[0])
    flat = td.custom(lambda a: a["x"][:, 1, 0].detach(), {"x": ("block_out", 1)}, name="flat")
    for goal in (flat, td.neuron("pos_embed", unit=1, pos=1)):
        for call in (
            lambda goal=goal: slopes_of(host, goal, batch),
            lambda goal=goal: run(host, ascend(host, goal, batch, Annealing(steps=2))),
        ):
            with says(f"the objective {goal} does not change with the words, so it has no gradient"):
                call()


@pytest.mark.parametrize("inertia", [0.0, 0.8])
def test_texts_are_ranked_together_as_alone(inertia: float) -> None:
    """As on a GPU; of other lengths, with slopes on the way and without, one of them flat."""
    draw = torch.Generator().manual_seed(1)
    mask = torch.rand(1, 40, generator=draw) > 0.3

    def items() -> list[Ranking]:
        made = []
        for number, free in enumerate((3, 1, 5, 2)):
            slope = torch.zeros(free, 40) if number == 2 else torch.randn(free, 40, generator=torch.Generator())
            before = torch.randn(free, 40, generator=torch.Generator().manual_seed(9)) if number % 2 else None
            own = list(range(number, number + free))
            made.append(Ranking(slope, own, mask, torch.Generator().manual_seed(5), 6, before, inertia))
        return made

    together, alone = ranked(items()), [ranked([item])[0] for item in items()]
    for item, one, other in zip(items(), together, alone, strict=True):
        assert one.tokens == other.tokens and torch.equal(one.live, other.live)
        assert one.slope is not None and other.slope is not None and torch.equal(one.slope, other.slope)
        for own, tokens, live in zip(item.own, one.tokens, one.live.tolist(), strict=True):
            assert own not in [token for token, good in zip(tokens, live, strict=True) if good]
            assert all(mask[0, token] for token, good in zip(tokens, live, strict=True) if good)


def test_what_the_slopes_on_the_way_weigh() -> None:
    slope, before = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.0, 10.0, 0.0]])
    item = Ranking(slope, [0], torch.ones(1, 3, dtype=torch.bool), torch.Generator(), 2, before, 0.5)
    (choices,) = ranked([item])
    assert choices.tokens == [[1, 2]] and choices.slope.tolist() == [[0.0, 5.5, 1.0]]
    (choices,) = ranked([replace(item, inertia=0.0)])
    assert choices.tokens == [[2, 1]]


def test_texts_of_several_searches_are_read_back_at_once(host: Host) -> None:
    rows = [host.vocabulary.encode("i do see the sun"), tuple(VOCAB.index(w) for w in ("[CLS]", "d", "##o", "[SEP]"))]
    items = [(host.vocabulary, rows), (host.vocabulary, []), (host.vocabulary, rows[1:])]
    assert texts_that_return(items) == [[True, False], [], [False]]
    again = host.vocabulary.read_back(rows)
    assert texts_read_back(items) == [again, [], again[1:]]


def test_merging_takes_the_best_swap_of_each_place() -> None:
    ids = (1, 2, 3, 4, 5)
    values = {
        (1, 9, 3, 4, 5): 2.0,
        (1, 8, 3, 4, 5): 1.5,
        (1, 2, 7, 4, 5): 3.0,
        (1, 2, 3, 6, 5): 0.5,
        (1, 2, 3, 4, 0): 1.1,
    }
    assert merged(ids, 1.0, values) == [(1, 9, 7, 4, 5), (1, 9, 7, 4, 0)]
    assert merged(ids, 1.0, {(1, 9, 3, 4, 5): 2.0}) == []
