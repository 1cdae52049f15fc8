"""The parts of annealed ascent: settings, batches, the best ever seen, candidates, and the gradient that moves it."""

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import VOCAB
from tests.support.search import GOAL, TEXTS, batch_of
from tl_dream.dreaming.annealing import Annealing
from tl_dream.dreaming.ascent import _soft_start, ascend
from tl_dream.models.host import Host
from tl_dream.objectives.objective import Objective
from tl_dream.objectives.scoring import evaluate
from tl_dream.search.batch import Batch, row_generators
from tl_dream.search.engine import run as run_search
from tl_dream.search.outcome import Outcome


@pytest.mark.parametrize("candidates", [None, 16])
def test_the_soft_start_is_the_sentence_with_the_weight_asked_for(host: Host, candidates: int | None) -> None:
    batch = batch_of(host, TEXTS)
    settings = Annealing(start_weight=0.6, start_temperature=1.3, candidates=candidates)
    soft = run_search(host, _soft_start(host, GOAL, batch, settings, row_generators(0, 3), [0, 0, 0]))
    own = batch.ids.gather(1, batch.free)
    assert torch.equal(soft.snap()[batch.valid], own[batch.valid])
    assert soft.logits.shape[2] == (candidates or len(VOCAB))
    heaviest = soft(1.3).amax(-1)[batch.valid]
    torch.testing.assert_close(heaviest, torch.full_like(heaviest, 0.6))


@pytest.mark.parametrize("candidates", [None, 16])
def test_a_sentence_that_is_not_allowed_is_no_choice_at_the_start(host: Host, candidates: int | None) -> None:
    allowed = torch.zeros(len(VOCAB), dtype=torch.bool)
    allowed[100:140] = True
    batch = batch_of(host, TEXTS, allowed)
    soft = run_search(
        host, _soft_start(host, GOAL, batch, Annealing(candidates=candidates), row_generators(0, 3), [0, 0, 0])
    )
    assert allowed[soft.snap()].all()


def test_uniform_and_random_starts_and_copies(host: Host) -> None:
    batch = batch_of(host, ["i do see the sun", "i do see the sun", "the dog"])

    def start(copies: list[int], **change: object) -> Tensor:
        settings = Annealing(candidates=None, start_weight=None, **change)
        return run_search(host, _soft_start(host, GOAL, batch, settings, row_generators(3, 3), copies)).logits.data

    assert start([0, 0, 0], start="uniform").abs().max() == 0
    random = start([0, 0, 0], start="random")
    assert abs(random[0].mean()) < 0.1 and abs(random[0].std() - 1) < 0.1
    assert not torch.equal(random[0], random[1])
    sentence = start([0, 1, 0])
    assert sentence[0].unique().tolist() == [0.0, 1.0]  # the article's cold one-hot
    torch.testing.assert_close(sentence[1] - sentence[0], random[1])
    assert torch.equal(start([0, 0, 0])[1], sentence[0])
    random_start = Annealing(candidates=None, start="random")
    alone = run_search(
        host, _soft_start(host, GOAL, batch_of(host, "the dog"), random_start, row_generators(3, 3)[2:], [0])
    )
    assert torch.equal(alone.logits.data[0], random[2, :2])


def run(host: Host, batch: Batch, goal: Objective = GOAL, climb: Objective | None = None, **change: object) -> Outcome:
    settings = Annealing(**{"steps": 12, "evaluate_every": 1, "warmup": 0, "candidates": None, **change})
    return run_search(host, ascend(host, goal, batch, settings, climb=climb))


def test_every_step_has_its_own_temperature(host: Host) -> None:
    """The first step the start's, the last the end's, which the final look at the soft sentence has too."""
    options = {"steps": 4, "schedule": "linear", "start_temperature": 2.0, "end_temperature": 0.5}
    outcome = run(host, batch_of(host, "i do see the sun", free=[2]), **options)
    assert outcome.runs[0].history.temperature == (2.0, 1.5, 1.0, 0.5, 0.5)


def test_the_first_step_is_adams_on_the_gradient_of_the_score(host: Host) -> None:
    """Adam's first step is the learning rate times the sign of the gradient, here upwards."""
    batch = batch_of(host, "i do see the sun", free=[2])
    outcome = run(host, batch, steps=1, learning_rate=0.01, schedule="constant", top_k=len(VOCAB))
    first, last = outcome.runs[0].history, outcome.runs[0].history
    before = dict(zip(first.top_tokens[0][0], first.top_weights[0][0], strict=True))
    after = dict(zip(last.top_tokens[1][0], last.top_weights[1][0], strict=True))
    soft = run_search(host, _soft_start(host, GOAL, batch, Annealing(candidates=None), row_generators(0, 1), [0]))
    weights = soft(1.0)
    mixed = soft.embed(weights, host.W_E)
    scores = evaluate(
        host,
        GOAL,
        batch.ids,
        batch.context(host, [0]),
        embeddings=host.W_E[batch.ids].index_put((torch.tensor([0]), torch.tensor([2])), mixed[:, 0]),
    )
    assert outcome.runs[0].history.soft_score[0] == pytest.approx(scores.item(), abs=1e-12)
    (gradient,) = torch.autograd.grad(scores.sum(), soft.logits)
    stepped = torch.softmax(soft.logits.data + 0.01 * gradient.sign(), -1)[0, 0]
    for word, weight in after.items():
        assert weight == pytest.approx(stepped[VOCAB.index(word)].item(), rel=1e-4)
    assert before != after and outcome.runs[0].history.soft_score[1] > outcome.runs[0].history.soft_score[0]


@pytest.mark.parametrize(
    "goal",
    [
        GOAL,
        -GOAL,
        td.neuron("block_out", layer=2, unit=3),
        td.neuron("z", layer=0, head=1, unit=2, reduce="mean"),
        td.attention(layer=1, head=1, query=2, key=3),
        td.direction([1.0] * 24, "resid_mid", layer=1, pos="see"),
        td.logit("moon", pos=3),
        td.logit("moon", pos=3, log_prob=True),
        td.normalized(td.neuron("block_out", layer=1, unit=3, pos=2)),
        2 * GOAL - td.neuron("block_out", layer=0, unit=1, pos=1) / 4 + 1,
        td.custom(lambda a: -a["x"][:, 1:4].square().sum((1, 2)), {"x": ("mlp_out", 1)}),
    ],
    ids=repr,
)
def test_every_objective_rises_under_ascent(host: Host, goal: Objective) -> None:
    options = {"learning_rate": 0.05, "schedule": "constant", "start": "uniform"}
    history = run(host, batch_of(host, "i do see the sun"), goal, **options).runs[0].history
    assert list(history.soft_score[:4]) == sorted(history.soft_score[:4])
    assert history.soft_score[-1] > history.soft_score[0] + 1e-3


def test_article_preset_climbs_the_normalized_objective_and_records_the_plain_one(host: Host) -> None:
    batch = batch_of(host, "i do see the sun")
    options = {"learning_rate": 0.1, "start_weight": None, "start_temperature": 2.0, "schedule": "constant"}
    plain = run(host, batch, **options).runs[0].history
    article = run(host, batch, climb=td.normalized(GOAL), **options).runs[0].history
    alone = run(host, batch, td.normalized(GOAL), **options).runs[0].history
    assert article.weights == alone.weights != plain.weights
    assert article.soft_score[0] == pytest.approx(plain.soft_score[0], abs=1e-12) != alone.soft_score[0]
    assert article.hard_score[0] == pytest.approx(plain.hard_score[0], abs=1e-12)
