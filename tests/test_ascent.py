"""The parts of annealed ascent: settings, batches, the best ever seen, candidates, and the gradient that moves it."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from conftest import VOCAB, says
from torch import Tensor

import tl_dream as td
from tl_dream.ascent import ARTICLE, Annealing, Ascent, _soft_start, ascend, generators
from tl_dream.batches import Batch, BestSeen
from tl_dream.hosts import Host, attached
from tl_dream.inputs import GumbelSoftmaxInput
from tl_dream.objectives import Objective
from tl_dream.proposals import gradients, renew_candidates, slopes, top_candidates
from tl_dream.scoring import evaluate

GOAL = td.neuron("mlp_post", layer=1, unit=5, pos=2)
TEXTS = ["i do see the sun", "the dog", "a small cat is here ."]
ALL = torch.ones(len(VOCAB), dtype=torch.bool)


@pytest.fixture
def host(tiny_encoder64: torch.nn.Module) -> Iterator[Host]:
    with attached(tiny_encoder64) as attached_host:
        yield attached_host


def batch_of(host: Host, texts: list[str] | str, allowed: Tensor = ALL, free: object = None) -> Batch:
    texts = [texts] if isinstance(texts, str) else texts
    return Batch.of(host, [host.vocabulary.read(td.Prompt(text, free)) for text in texts], allowed, True)


# Settings


def test_the_articles_settings() -> None:
    """3000 steps of Adam at 0.1; temperature 2, after 200 steps times 0.9995; a cold one-hot of the whole vocabulary;
    the activation divided by the word's norm."""
    assert (ARTICLE.steps, ARTICLE.learning_rate, ARTICLE.warmup, ARTICLE.decay) == (3000, 0.1, 200, 0.9995)
    assert (ARTICLE.start_temperature, ARTICLE.end_temperature, ARTICLE.schedule) == (2.0, 0.1, "geometric")
    assert (ARTICLE.start, ARTICLE.start_weight, ARTICLE.candidates, ARTICLE.normalize) == (
        "sentence",
        None,
        None,
        True,
    )
    assert not ARTICLE.noise and not ARTICLE.straight_through
    assert ARTICLE.temperature()(1200) == pytest.approx(2.0 * 0.9995**1000)


def test_the_temperature_of_settings() -> None:
    assert Annealing(steps=100, warmup=10).temperature()(99) == pytest.approx(Annealing().end_temperature)
    assert Annealing(schedule="constant", start_temperature=0.7).temperature()(50) == 0.7
    assert Annealing(schedule="linear", start_temperature=3.0, end_temperature=1.0, steps=3).temperature()(1) == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps = 0: give a whole number of at least 1"),
        ({"evaluate_every": 0}, "evaluate_every = 0: give a whole number of at least 1"),
        ({"top_k": 0}, "top_k = 0: give a whole number of at least 1"),
        ({"warmup": -1}, "warmup = -1: give 0 or more steps"),
        ({"learning_rate": 0.0}, "learning_rate = 0.0: give a number above 0"),
        ({"learning_rate": math.inf}, "learning_rate = inf: give a number above 0"),
        ({"candidates": 1}, "candidates = 1: give at least 2 tokens a position, or None for the whole vocabulary"),
        ({"renew_every": 0}, "renew_every = 0: give a whole number of at least 1"),
        ({"precision": "bf15"}, "unknown precision 'bf15'; nearest: bf16"),
        ({"start": "sentense"}, "unknown start 'sentense'; nearest: sentence"),
        ({"schedule": "linar"}, "unknown temperature schedule 'linar'; nearest: linear"),
        ({"start_temperature": 0.0}, "start = 0.0 is not a temperature: it must be > 0 and finite"),
        ({"end_temperature": -1.0}, "end = -1.0 is not a temperature"),
        ({"start_temperature": 0.01}, "end = 0.1 is above start = 0.01: a geometric schedule only cools"),
    ],
)
def test_settings_that_are_refused(change: dict[str, object], message: str) -> None:
    with says(message):
        Annealing(**change)


# Batches


def test_a_batch_fills_free_positions_only(host: Host) -> None:
    sentences = [
        host.vocabulary.read(td.Prompt(text, free)) for text, free in zip(TEXTS, ([2, 4], None, 1), strict=True)
    ]
    batch = Batch.of(host, sentences, ALL, True)
    assert batch.free.tolist() == [[2, 4], [1, 2], [1, 0]]
    assert batch.valid.tolist() == [[True, True], [True, True], [True, False]]
    filled = batch.fill(torch.full((3, 2), 9))
    for row, sentence in enumerate(sentences):
        ids = batch.row_ids(filled, row)
        assert len(ids) == len(sentence)
        assert [i for i, (new, old) in enumerate(zip(ids, sentence.ids, strict=True)) if new != old] == list(
            sentence.free
        )
    assert torch.equal(batch.ids, host.pad([sentence.ids for sentence in sentences])[0])  # the start is untouched


def test_a_batch_needs_free_positions(host: Host) -> None:
    sentence = replace(host.vocabulary.read("the dog"), free=())
    with says("no position of 'the dog' is free: free at least one word"):
        Batch.of(host, [sentence], ALL, True)


# The best ever seen


def tokens(host: Host, batch: Batch, words: list[str]) -> Tensor:
    """One row with `words` at its free positions."""
    return batch.fill(torch.tensor([[VOCAB.index(word) for word in words]]))


def test_best_seen_keeps_the_best_and_scores_nothing_twice(host: Host) -> None:
    batch = batch_of(host, "i do see the sun", free=[2])
    seen = BestSeen(host, GOAL, batch)
    assert host.meter.forwards == 1 and seen.best == seen.starts
    values = {}
    for step, word in enumerate(["red", "cat", "moon", "red", "do", "love"], 1):
        (values[word],) = seen.see(tokens(host, batch, [word]), step)
        assert seen.best[0].score == max(*values.values(), seen.starts[0].score)
    assert host.meter.forwards == 5 + 1 - 1  # "red" came twice, and "do" is the start
    best = max(values, key=values.get)
    assert seen.best[0].text == f"i {best} see the sun" and seen.best[0].retokenizes
    assert (
        seen.best[0].tokens[2] == best and seen.best[0].step == ["red", "cat", "moon", "", "do", "love"].index(best) + 1
    )
    assert values["moon"] == pytest.approx(td.score(host, GOAL, "i moon see the sun").item(), abs=1e-12)


def like(host: Host, pos: int, word: str) -> Objective:
    """0 where `word` stands at `pos`, below 0 elsewhere."""
    mark = host.W_E[VOCAB.index(word)]
    return td.custom(lambda acts: -(acts["x"][:, pos] - mark).abs().amax(-1), {"x": "embed"}, name=f"like {word}")


def test_best_seen_returns_only_what_retokenizes(host: Host) -> None:
    """ "do" and "##g" are read as "dog", which is one token: too short to stand for the sentence that was scored."""
    batch = batch_of(host, "i do see the sun", free=[3])
    for retokenize, kept in ((True, "see"), (False, "##g")):
        seen = BestSeen(host, like(host, 3, "##g"), replace(batch, retokenize=retokenize))
        assert seen.see(tokens(host, batch, ["##g"]), 1) == [0.0]
        assert seen.best[0].tokens[3] == kept and seen.best[0].retokenizes == retokenize


def test_best_seen_tries_what_the_text_tokenizes_to(host: Host) -> None:
    """ "." and "##s" are read as "." and "s", as many and at free positions only: real tokens, scored too."""
    odd, goal = [".", "##s"], like(host, 4, "s")
    batch = batch_of(host, "i see red cat", free=[3, 4])
    seen = BestSeen(host, goal, batch)
    assert seen.see(tokens(host, batch, odd), 1)[0] < 0
    assert seen.best[0].tokens == ("[CLS]", "i", "see", ".", "s", "[SEP]")
    assert seen.best[0].score == 0 and seen.best[0].retokenizes
    forbidden = ALL.clone()
    forbidden[VOCAB.index("s")] = False
    for other in (replace(batch, allowed=forbidden), replace(batch, retokenize=False)):
        strict = BestSeen(host, goal, other)
        strict.see(tokens(host, batch, odd), 1)
        assert "s" not in strict.best[0].tokens


def test_where_nothing_can_retokenize_nothing_is_asked_to(host: Host) -> None:
    """A freed [CLS], or a start given as ids that no text has: else the start would always be returned."""
    freed = batch_of(host, "i do see the sun", free=[0, 2])
    odd = [VOCAB.index(word) for word in ("[CLS]", "d", "##o", "##g", "is", "red", "[SEP]")]
    by_hand = Batch.of(host, [host.vocabulary.read(td.Prompt(ids=odd, free=5))], ALL, True)
    for batch, pos, words in ((freed, 0, ["cat", "cat"]), (by_hand, 5, ["cat"])):
        seen = BestSeen(host, like(host, pos, "cat"), batch)
        seen.see(tokens(host, batch, words), 1)
        assert seen.best[0].score == 0 and seen.best[0].step == 1 and not seen.best[0].retokenizes


def test_scores_that_are_no_numbers_are_never_the_best(host: Host) -> None:
    batch = batch_of(host, "i do see the sun", free=[2])
    for value in (math.nan, math.inf):
        marked = td.custom(
            lambda a, value=value: torch.where(a["x"][:, 2, 0] == host.W_E[VOCAB.index("cat"), 0], value, 0.0),
            {"x": "embed"},
        )
        seen = BestSeen(host, marked, batch)
        assert seen.broken is None
        seen.see(tokens(host, batch, ["cat"]), 1)
        assert seen.best == seen.starts and str(seen.broken) == str(value)


# Proposals


def test_top_candidates_are_the_steepest_allowed_tokens(host: Host) -> None:
    """To first order: the highest dot products, the kept ones always among them, all different."""
    pull = torch.randn(2, 3, host.W_E.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    allowed = torch.arange(len(VOCAB)) % 3 != 0
    keep = torch.tensor([[[0], [1], [2]], [[3], [4], [5]]])
    found = top_candidates(pull @ host.W_E.T, allowed, 10, keep)
    assert found.shape == (2, 3, 10)
    steep = pull @ host.W_E.T
    for row in range(2):
        for slot in range(3):
            kept = keep[row, slot].item()
            others = [i for i in steep[row, slot].argsort(descending=True).tolist() if allowed[i] and i != kept][:9]
            assert set(found[row, slot].tolist()) == {kept, *others}


def test_slopes_are_how_the_score_rises_with_a_tokens_weight(host: Host) -> None:
    batch = batch_of(host, TEXTS)
    slope = slopes(host, GOAL, batch.ids, batch.rows, batch.free)
    assert slope.shape == (3, batch.free.shape[1], len(VOCAB))
    ray = torch.zeros(*batch.ids.shape, 24, dtype=torch.float64)
    ray[0, batch.free[0, 3]] = 1e-5 * host.W_E[7]
    with torch.no_grad():
        up, down = (
            evaluate(host, GOAL, batch.ids, batch.rows, embeddings=host.W_E[batch.ids] + sign * ray)[0]
            for sign in (1, -1)
        )
    assert slope[0, 3, 7].item() == pytest.approx((up - down).item() / 2e-5, rel=1e-5)


def test_an_objective_that_the_words_do_not_move(host: Host) -> None:
    batch = batch_of(host, TEXTS[0])
    flat = td.custom(lambda a: a["x"][:, 1, 0].detach(), {"x": ("block_out", 1)}, name="flat")
    for goal in (flat, td.neuron("pos_embed", unit=1, pos=1)):
        for call in (
            lambda goal=goal: slopes(host, goal, batch.ids, batch.rows, batch.free),
            lambda goal=goal: ascend(host, goal, batch, Annealing(steps=2)),
        ):
            with says(f"the objective {goal} does not change with the words, so it has no gradient"):
                call()
    x = torch.ones(2, 3, requires_grad=True)
    assert torch.equal(gradients((2 * x).sum(1), x, None, GOAL)[0], torch.full((2, 3), 2.0))


def test_renewed_candidates(host: Host) -> None:
    """The heavier half stays with its logits and momentum; the most promising others come in, lightest and at rest."""
    allowed = torch.arange(len(VOCAB)) >= 20
    candidates = torch.tensor([[[5, 30, 40, 50, 60, 70]]])
    soft = GumbelSoftmaxInput(torch.tensor([[[9.0, 0.0, 3.0, 1.0, 2.0, -1.0]]]), allowed=allowed, candidates=candidates)
    optimizer = torch.optim.Adam([soft.logits], lr=1e-9)
    soft.logits.grad = torch.arange(6.0).reshape(1, 1, 6) + 1
    optimizer.step()
    pull = host.W_E[100][None, None].float() * 5
    weights = soft().detach()
    renew_candidates(soft, weights, pull @ host.W_E.float().T, allowed, optimizer)
    steep = [i for i in (pull[0, 0] @ host.W_E.float().T).argsort(descending=True).tolist() if i >= 20]
    expected = [i for i in steep if i not in (40, 50, 60)][:3]
    assert soft.candidates[0, 0].tolist() == [40, 60, 50, *expected]
    torch.testing.assert_close(soft.logits.data[0, 0], torch.tensor([3.0, 2.0, 1.0, 1.0, 1.0, 1.0]), rtol=0, atol=1e-6)
    momentum = optimizer.state[soft.logits]["exp_avg"][0, 0]
    torch.testing.assert_close(momentum, torch.tensor([0.3, 0.5, 0.4, 0.0, 0.0, 0.0]))
    assert not soft.forbidden.any()


# Starts and generators


def test_a_rows_draws_are_its_own() -> None:
    def draw(*key: int, row: int = 1) -> list[float]:
        return torch.rand(3, generator=generators(*key)[row]).tolist()

    assert draw(0, 2) == draw(0, 5)
    different = [draw(0, 2), draw(0, 2, row=0), draw(1, 2), draw(0, 2, 1), draw(2, 2), draw(0, 2, 2)]
    assert len({tuple(d) for d in different}) == len(different)


@pytest.mark.parametrize("candidates", [None, 16])
def test_the_soft_start_is_the_sentence_with_the_weight_asked_for(host: Host, candidates: int | None) -> None:
    batch = batch_of(host, TEXTS)
    settings = Annealing(start_weight=0.6, start_temperature=1.3, candidates=candidates)
    soft = _soft_start(host, GOAL, batch, settings, generators(0, 3), [0, 0, 0])
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
    soft = _soft_start(host, GOAL, batch, Annealing(candidates=candidates), generators(0, 3), [0, 0, 0])
    assert allowed[soft.snap()].all()


def test_uniform_and_random_starts_and_copies(host: Host) -> None:
    batch = batch_of(host, ["i do see the sun", "i do see the sun", "the dog"])

    def start(copies: list[int], **change: object) -> Tensor:
        settings = Annealing(candidates=None, start_weight=None, **change)
        return _soft_start(host, GOAL, batch, settings, generators(3, 3), copies).logits.data

    assert start([0, 0, 0], start="uniform").abs().max() == 0
    random = start([0, 0, 0], start="random")
    assert abs(random[0].mean()) < 0.1 and abs(random[0].std() - 1) < 0.1
    assert not torch.equal(random[0], random[1])
    sentence = start([0, 1, 0])
    assert sentence[0].unique().tolist() == [0.0, 1.0]  # the article's cold one-hot
    torch.testing.assert_close(sentence[1] - sentence[0], random[1])
    assert torch.equal(start([0, 0, 0])[1], sentence[0])
    alone = _soft_start(
        host, GOAL, batch_of(host, "the dog"), Annealing(candidates=None, start="random"), generators(3, 3)[2:], [0]
    )
    assert torch.equal(alone.logits.data[0], random[2, :2])


# The climb


def run(host: Host, batch: Batch, goal: Objective = GOAL, climb: Objective | None = None, **change: object) -> Ascent:
    settings = Annealing(**{"steps": 12, "evaluate_every": 1, "warmup": 0, "candidates": None, **change})
    return ascend(host, goal, batch, settings, climb=climb)


def test_the_first_step_is_adams_on_the_gradient_of_the_score(host: Host) -> None:
    """Adam's first step is the learning rate times the sign of the gradient, here upwards."""
    batch = batch_of(host, "i do see the sun", free=[2])
    outcome = run(host, batch, steps=1, learning_rate=0.01, schedule="constant", top_k=len(VOCAB))
    first, last = outcome.runs[0].history, outcome.runs[0].history
    before = dict(zip(first.top_tokens[0][0], first.top_weights[0][0], strict=True))
    after = dict(zip(last.top_tokens[1][0], last.top_weights[1][0], strict=True))
    soft = _soft_start(host, GOAL, batch, Annealing(candidates=None), generators(0, 1), [0])
    weights = soft(1.0)
    mixed = soft.embed(weights, host.W_E)
    scores = evaluate(
        host,
        GOAL,
        batch.ids,
        batch.rows,
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
