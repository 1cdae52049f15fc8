"""The trainable soft sentence, and the temperature schedules."""

import math

import pytest
import torch
from torch import Tensor

from tests.conftest import VOCAB, says
from tl_dream.dreaming.soft_input import (
    GumbelSoftmaxInput,
    renew_candidates,
    schedule,
    sharpness_for,
    top_candidates,
)
from tl_dream.models.host import Host

BATCH, FREE, SIZE = 2, 3, 11


def logits(seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(BATCH, FREE, SIZE, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


ALLOWED = torch.ones(SIZE, dtype=torch.bool)
ALLOWED[[0, 4, 10]] = False


def test_the_weights_are_the_softmax_at_the_temperature() -> None:
    soft = GumbelSoftmaxInput(logits())
    for temperature in (0.1, 1.0, 5.0):
        torch.testing.assert_close(soft(temperature), torch.softmax(logits() / temperature, -1))
    assert soft(0.01).max(-1).values.min() > 0.99 and soft(1000.0).max() < 0.1


@pytest.mark.parametrize("straight_through", [False, True])
@pytest.mark.parametrize("noise", [False, True])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 2.0, 100.0])
def test_the_weights_sum_to_one_and_forbidden_tokens_have_none(
    temperature: float, noise: bool, straight_through: bool
) -> None:
    tempting = logits()
    tempting[..., 4] = 50.0
    soft = GumbelSoftmaxInput(tempting, allowed=ALLOWED)
    weights = soft(temperature, noise=noise, straight_through=straight_through, generators=generators(1, 2))
    torch.testing.assert_close(weights.sum(-1), torch.ones(BATCH, FREE, dtype=torch.float64))
    assert weights[..., ~ALLOWED].abs().max() == 0 and torch.isfinite(weights).all()
    (gradient,) = torch.autograd.grad(weights[..., 1].sum(), soft.logits)
    assert torch.isfinite(gradient).all() and gradient[..., ~ALLOWED].abs().max() == 0


def test_forbidden_tokens_are_never_chosen() -> None:
    tempting = logits()
    tempting[..., ~ALLOWED] = 50.0
    assert ALLOWED[GumbelSoftmaxInput(tempting, allowed=ALLOWED).snap()].all()
    assert not ALLOWED[GumbelSoftmaxInput(tempting).snap()].any()


def test_every_position_can_have_its_own_mask() -> None:
    own = torch.zeros(FREE, SIZE, dtype=torch.bool)
    own[0, 2] = own[1, 3] = own[2, 5] = own[2, 6] = True
    snapped = GumbelSoftmaxInput(logits(), allowed=own).snap()
    assert (snapped[:, 0] == 2).all() and (snapped[:, 1] == 3).all()
    assert torch.equal(snapped[:, 2], 5 + (logits()[:, 2, 6] > logits()[:, 2, 5]).long())


def test_straight_through_is_one_hot_with_the_soft_gradient() -> None:
    soft, hard = GumbelSoftmaxInput(logits()), GumbelSoftmaxInput(logits())
    readout = logits(9)
    weights = hard(0.7, straight_through=True)
    expected = torch.nn.functional.one_hot(logits().argmax(-1), SIZE).double()
    torch.testing.assert_close(weights, expected)
    gradients = [torch.autograd.grad((w * readout).sum(), m.logits)[0] for w, m in ((soft(0.7), soft), (weights, hard))]
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 1e-3


def test_the_gradient_equals_finite_differences() -> None:
    soft = GumbelSoftmaxInput(logits(), allowed=ALLOWED)
    W_E, readout = logits(3)[0].T, logits(4)[..., :FREE]

    def value() -> Tensor:
        return (soft.embed(soft(0.8, noise=True, generators=generators(1, 2)), W_E) * readout).sum()

    (gradient,) = torch.autograd.grad(value(), soft.logits)
    for where in [(0, 0, 1), (1, 2, 7), (0, 1, 4)]:
        values = []
        for nudge in (1e-6, -1e-6):
            soft.logits.data[where] += nudge
            values.append(value().item())
            soft.logits.data[where] -= nudge
        assert gradient[where].item() == pytest.approx((values[0] - values[1]) / 2e-6, abs=1e-7)


def test_noise_is_the_sample_of_a_relaxed_categorical() -> None:
    """Cold noisy weights choose a token as often as its probability (Gumbel-max)."""
    wanted = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
    many = GumbelSoftmaxInput(wanted.log().expand(1, 20_000, 4))
    chosen = many(0.01, noise=True, generators=generators(0)).argmax(-1)
    frequency = torch.bincount(chosen[0], minlength=4) / 20_000
    assert (frequency - wanted).abs().max() < 0.015


def test_noise_is_a_rows_own_and_its_seeds() -> None:
    soft = GumbelSoftmaxInput(logits())
    first, again = (soft(noise=True, generators=generators(1, 2)) for _ in range(2))
    other = soft(noise=True, generators=generators(1, 3))
    assert torch.equal(first, again) and torch.equal(first[0], other[0])
    assert not torch.allclose(first[1], other[1], atol=1e-2) and not torch.allclose(first, soft(), atol=1e-2)
    alone = GumbelSoftmaxInput(logits()[:1])(noise=True, generators=generators(1))
    assert torch.equal(alone[0], first[0])


def test_noise_draws_on_go_from_step_to_step() -> None:
    soft = GumbelSoftmaxInput(logits())
    own = generators(1, 2)
    assert not torch.equal(soft(noise=True, generators=own), soft(noise=True, generators=own))


def test_noise_leaves_the_global_generator_alone() -> None:
    state = torch.random.get_rng_state()
    GumbelSoftmaxInput(logits())(noise=True, generators=generators(1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_noise_needs_a_generator_a_row() -> None:
    for given in (None, generators(1)):
        with says("noise needs one torch.Generator a row, 2 in all: give generators="):
            GumbelSoftmaxInput(logits())(noise=True, generators=given)


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
def test_a_cold_one_hot_can_represent_any_sentence(sharpness: float) -> None:
    """The article's cold start snaps to the sentence, and is its exact one-hot as the temperature goes to 0."""
    ids = torch.randint(SIZE, (64, FREE), generator=torch.Generator().manual_seed(0))
    soft = GumbelSoftmaxInput.from_ids(ids, SIZE, sharpness=sharpness, dtype=torch.float64)
    assert torch.equal(soft.snap(), ids)
    one_hot = torch.nn.functional.one_hot(ids, SIZE).double()
    torch.testing.assert_close(soft(0.01), one_hot)
    W_E = logits(3)[0].T
    torch.testing.assert_close(soft.embed(soft(0.01), W_E), W_E[ids])
    assert soft.logits.max() == sharpness and soft.logits.min() == 0
    assert soft(2.0).max().item() == pytest.approx(1 / (1 + 10 * math.exp(-sharpness / 2)))


def test_starting_at_a_sentence_among_candidates() -> None:
    candidates = torch.stack([torch.randperm(SIZE)[:4] for _ in range(BATCH * FREE)]).reshape(BATCH, FREE, 4)
    ids = candidates[..., 2]
    soft = GumbelSoftmaxInput.from_ids(ids, SIZE, sharpness=3.0, candidates=candidates)
    assert torch.equal(soft.snap(), ids) and soft.logits.dtype == torch.float32
    missing = GumbelSoftmaxInput.from_ids(torch.full((BATCH, FREE), 99), SIZE, candidates=candidates)
    assert missing.logits.abs().max() == 0


@pytest.mark.parametrize("weight", [0.05, 0.5, 0.99])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_sharpness_for_gives_the_weight_it_promises(weight: float, temperature: float) -> None:
    ids = torch.tensor([[3]])
    for allowed, choices in ((None, SIZE), (ALLOWED, 8)):
        sharp = sharpness_for(weight, temperature, choices)
        soft = GumbelSoftmaxInput.from_ids(ids, SIZE, sharpness=sharp, dtype=torch.float64, allowed=allowed)
        assert soft(temperature)[0, 0, 3].item() == pytest.approx(weight)


def test_sharpness_for_refuses_what_is_no_share() -> None:
    for weight in (0.0, 1.0, -0.1, 1.5):
        with says(f"a start weight of {weight} is outside (0, 1): it is the sentence's share of the softmax"):
            sharpness_for(weight, 1.0, 10)
    with says("temperature = 0.0 is not a temperature"):
        sharpness_for(0.5, 0.0, 10)


def test_all_tokens_as_candidates_equal_the_full_vocabulary() -> None:
    W_E = logits(3)[0].T
    order = torch.stack([torch.randperm(SIZE) for _ in range(BATCH * FREE)]).reshape(BATCH, FREE, SIZE)
    full = GumbelSoftmaxInput(logits(), allowed=ALLOWED)
    few = GumbelSoftmaxInput(logits().gather(2, order), allowed=ALLOWED, candidates=order)
    assert torch.equal(full.snap(), few.snap())
    torch.testing.assert_close(few.embed(few(0.7), W_E), full.embed(full(0.7), W_E))
    torch.testing.assert_close(few(0.7), full(0.7).gather(2, order))


def test_the_candidates_embeddings_are_those_of_now() -> None:
    """They are gathered once; other candidates, or weights that somebody edits in place, are seen all the same."""
    W_E, candidates = logits(3)[0].T.clone(), torch.arange(4).expand(BATCH, FREE, 4).clone()
    soft = GumbelSoftmaxInput(torch.zeros(BATCH, FREE, 4, dtype=torch.float64), candidates=candidates)

    def right() -> bool:
        expected = torch.einsum("bfk,bfkd->bfd", soft(), W_E[soft.candidates])
        return torch.equal(soft.embed(soft(), W_E), expected)

    assert right() and right()
    soft.candidates.add_(3)
    assert right()
    W_E[5] += 1.0
    assert right()
    with torch.inference_mode():
        inside = GumbelSoftmaxInput(torch.zeros(1, 1, 2), candidates=torch.tensor([[[0, 1]]]))
        assert torch.allclose(inside.embed(inside(), W_E.float())[0, 0], W_E[:2].mean(0).float())


def test_forbidden_candidates_are_never_chosen() -> None:
    candidates = torch.tensor([0, 1, 4, 5]).expand(BATCH, FREE, 4)
    tempting = torch.tensor([9.0, 1.0, 8.0, 0.0]).expand(BATCH, FREE, 4)
    soft = GumbelSoftmaxInput(tempting, allowed=ALLOWED, candidates=candidates)
    assert (soft.snap() == 1).all() and soft(5.0)[..., [0, 2]].abs().max() == 0
    per_position = torch.ones(FREE, SIZE, dtype=torch.bool)
    per_position[1, [0, 1, 4]] = False
    own = GumbelSoftmaxInput(tempting, allowed=per_position, candidates=candidates)
    assert own.snap().tolist() == [[0, 5, 0]] * BATCH


def test_token_ids_of_choices() -> None:
    candidates = torch.arange(BATCH * FREE * 4).reshape(BATCH, FREE, 4)
    few = GumbelSoftmaxInput(torch.zeros(BATCH, FREE, 4), candidates=candidates)
    choice = torch.tensor([[0, 1, 2], [3, 0, 1]])
    assert few.token_ids(choice).tolist() == [[0, 5, 10], [15, 16, 21]]
    top = torch.stack([choice, 3 - choice], -1)
    assert few.token_ids(top)[0].tolist() == [[0, 3], [5, 6], [10, 9]]
    full = GumbelSoftmaxInput(logits())
    assert torch.equal(full.token_ids(choice), choice)


def test_it_is_a_module_with_one_parameter_of_its_own() -> None:
    given = logits()
    soft = GumbelSoftmaxInput(given, allowed=ALLOWED)
    assert [name for name, _ in soft.named_parameters()] == ["logits"]
    soft.logits.data.zero_()
    assert torch.equal(given, logits())
    optimizer = torch.optim.SGD(soft.parameters(), lr=1.0)
    loss = -soft()[..., 7].sum()
    loss.backward()
    optimizer.step()
    assert (soft.snap() == 7).all()


def test_a_mask_that_leaves_nothing_or_does_not_fit() -> None:
    for allowed in (torch.zeros(SIZE, dtype=torch.bool), torch.eye(FREE, SIZE).bool() & (torch.arange(SIZE) > 0)):
        with says("the allowed-token mask leaves no token at a free position: allow more tokens"):
            GumbelSoftmaxInput(logits(), allowed=allowed)
    with says("leaves no token at a free position"):
        GumbelSoftmaxInput(torch.zeros(BATCH, FREE, 1), allowed=ALLOWED, candidates=torch.full((BATCH, FREE, 1), 4))
    with says(f"the allowed mask covers 5 tokens, the logits {SIZE}: give one of each"):
        GumbelSoftmaxInput(logits(), allowed=torch.ones(5, dtype=torch.bool))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_temperatures_that_are_none(temperature: float) -> None:
    with says(f"temperature = {temperature} is not a temperature: it must be > 0 and finite"):
        GumbelSoftmaxInput(logits())(temperature)
    with says(f"temperature = {temperature} is not a temperature"):
        schedule("constant", temperature, 0.1, steps=10)
    for kind in ("geometric", "linear", "cosine"):
        with says(f"start = {temperature} is not a temperature"):
            schedule(kind, temperature, 0.1, steps=10)
        with says(f"end = {temperature} is not a temperature"):
            schedule(kind, 1.0, temperature, steps=10)


def test_the_articles_schedule() -> None:
    """2 for 200 steps, then times 0.9995 a step, never below 0.1 (which takes it until step 6190)."""
    article = schedule("geometric", 2.0, 0.1, decay=0.9995, warmup=200, steps=3000)
    assert article(0) == article(200) == 2.0
    assert article(201) == pytest.approx(2.0 * 0.9995)
    assert article(1200) == pytest.approx(2.0 * 0.9995**1000)
    assert article(2999) == pytest.approx(0.4935, abs=1e-3)
    assert article(6189) > 0.1 and article(6190) == article(10**6) == 0.1


def test_geometric_reaches_its_end_at_the_last_step() -> None:
    rule = schedule("geometric", 2.0, 0.1, warmup=20, steps=100)
    values = [rule(step) for step in range(100)]
    assert values[:21] == [2.0] * 21 and values[21] < 2.0
    assert values[99] == pytest.approx(0.1) and values[98] > 0.1
    ratios = [b / a for a, b in zip(values[20:], values[21:], strict=False)]
    assert max(ratios) == pytest.approx(min(ratios))
    assert schedule("geometric", 2.0, 0.1, warmup=500, steps=100)(99) == 2.0
    assert schedule("geometric", 1.0, 1.0, steps=10)(7) == 1.0


def test_linear_and_cosine() -> None:
    straight, round_ = (schedule(kind, 2.0, 0.1, steps=101) for kind in ("linear", "cosine"))
    for rule in (straight, round_):
        assert rule(0) == 2.0 and rule(100) == pytest.approx(0.1) and rule(500) == pytest.approx(0.1)
        assert rule(50) == pytest.approx(1.05)
    assert straight(25) == pytest.approx(2.0 - 1.9 / 4) and round_(25) > straight(25) and round_(75) < straight(75)
    assert schedule("linear", 2.0, 0.1, steps=1)(0) == 2.0


def test_a_schedule_that_stays_and_one_that_is_none() -> None:
    assert schedule("constant", 2.0, 0.5, steps=50)(20) == 2.0
    with says("unknown temperature schedule 'geometrical'; nearest: geometric"):
        schedule("geometrical", 2.0, 0.5, steps=50)


def test_geometric_refuses_what_is_no_cooling() -> None:
    for decay in (0.0, 1.5, -1.0):
        with says(f"decay = {decay} is outside (0, 1]: it multiplies the temperature at every step"):
            schedule("geometric", 2.0, 0.1, steps=10, decay=decay)
    with says("end = 2.0 is above start = 0.5: a geometric schedule only cools"):
        schedule("geometric", 0.5, 2.0, steps=10)


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
