"""The room objectives.derived."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import VOCAB, load_every, says
from tests.support.objectives import TEXTS, close, raw
from tests.support.search import EVERY_METHOD, START, annealed, goal_of, slopes_of
from tl_dream.models.host import attached
from tl_dream.objectives.objective import BatchContext
from tl_dream.objectives.scoring import climbed, evaluate
from tl_dream.search.batch import Batch

WORDS = [4, 7, 2]  # their tokens without [CLS] and [SEP]; one token a word


def norms(model: torch.nn.Module, text: str) -> Tensor:
    """Of every position: the root of the sum of squares over all units of block_out of all layers."""
    return sum(raw(model, text, "block_out", layer).square().sum(-1) for layer in range(3)).sqrt()


@pytest.mark.parametrize("pos", [2, None])
@pytest.mark.parametrize("reduce", ["max", "mean"])
def test_normalized_equals_a_hand_computation(tiny_encoder64: torch.nn.Module, pos: int | None, reduce: str) -> None:
    goal = td.normalized(td.neuron("mlp_post", layer=1, unit=5, pos=pos, reduce=reduce))
    expected = []
    for text in TEXTS:
        ratio = raw(tiny_encoder64, text, "mlp_post", 1)[:, 5] / norms(tiny_encoder64, text)
        words = ratio[1:-1] if pos is None else ratio[pos : pos + 1]
        expected.append(words.max() if reduce == "max" else words.mean())
    close(td.score(tiny_encoder64, goal, TEXTS), expected)


def test_normalized_of_sums_and_negatives(tiny_encoder64: torch.nn.Module) -> None:
    """The division goes to the single words of every term: a maximum does not commute with a sum or a sign."""
    a, b = td.neuron("mlp_post", layer=1, unit=5), td.neuron("mlp_post", layer=0, unit=3)
    one, two = td.neuron("block_out", layer=1, unit=5, pos=1), td.neuron("block_out", layer=1, unit=5, pos=2)
    for whole, parts in [
        (a + b, td.normalized(a) + td.normalized(b)),
        (a - b, td.normalized(a) - td.normalized(b)),
        (-a, -td.normalized(a)),
        (-2 * (a + 3 * b), -2 * td.normalized(a) - 6 * td.normalized(b)),
        (one - two / 4, td.normalized(one) - td.normalized(two) / 4),
        (one + one, 2 * td.normalized(one)),
    ]:
        assert repr(td.normalized(whole)) == f"normalized({whole})"
        close(td.score(tiny_encoder64, td.normalized(whole), TEXTS), td.score(tiny_encoder64, parts, TEXTS))


def test_normalized_needs_values_at_positions() -> None:
    goal = td.custom(lambda a: a["x"][:, 0, 0], {"x": ("block_out", 1)}, name="mine")
    with says("normalized(mine) needs a value at every position, and this objective has none", "normalize=False"):
        td.normalized(goal)


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (lambda a: a["x"], "(1, 4, 24)"),
        (lambda a: a["x"].mean(), "()"),
        (lambda a: a["x"][:, 0, :1], "(1, 1)"),
        (lambda a: 3.0, "float"),
    ],
)
def test_a_function_that_gives_no_score_a_row(tiny_encoder: torch.nn.Module, function: Callable, got: str) -> None:
    goal = td.custom(function, {"x": ("block_out", 1)}, name="mine")
    with says(f"the objective mine must return one score per row, shape (1,); got {got}"):
        td.score(tiny_encoder, goal, "a cat")


def test_custom_needs_hooks() -> None:
    with says("custom() needs the hooks its function reads: give {name: hook}"):
        td.custom(lambda a: a["x"], {})


def test_an_error_in_your_function_is_yours(tiny_encoder: torch.nn.Module) -> None:
    def broken(acts: dict[str, Tensor]) -> Tensor:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        td.score(tiny_encoder, td.custom(broken, {"x": ("block_out", 1)}), "a cat")


# Differences: the planted model is the tiny one, fine-tuned as it were. Its unit 7 of layer 0 fires for "moon".

PLANTED = goal_of(2)


@pytest.fixture(scope="module")
def tuned64(planted_folder: Path) -> torch.nn.Module:
    return td.load_model(str(planted_folder), dtype=torch.float64)


@pytest.fixture
def base(encoder: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """The original, as its user left it: in training mode, with a hook that listens."""
    fired: list[int] = []
    encoder.train()
    with attached(encoder) as host:
        point = host.point(host.resolve("mlp_post", 0))
    point.add_hook(lambda value, hook: fired.append(1))
    before = list(point.fwd_hooks)
    yield encoder
    assert fired and encoder.training and point.fwd_hooks == before
    encoder.reset_hooks()
    encoder.eval()


@pytest.mark.parametrize("weight", [1, 0.5])
@pytest.mark.parametrize("reduce", ["max", "mean", "min"])
def test_a_difference_is_taken_word_by_word(
    tuned64: torch.nn.Module, tiny_encoder64: torch.nn.Module, reduce: str, weight: float
) -> None:
    """On a batch with padding, and over both backends."""
    goal = td.neuron("mlp_post", layer=1, unit=5, reduce=reduce)
    expected = []
    for text in TEXTS:
        mine, theirs = (raw(model, text, "mlp_post", 1)[1:-1, 5] for model in (tuned64, tiny_encoder64))
        expected.append(getattr(mine - weight * theirs, reduce)())
    close(td.score(tuned64, td.difference(goal, tiny_encoder64, weight=weight), TEXTS), expected)
    close(
        td.score(tuned64, -2 * td.difference(goal, tiny_encoder64, weight=weight) + 1, TEXTS),
        [1 - 2 * e for e in expected],
    )


def test_a_difference_of_scores(tuned64: torch.nn.Module, encoder64: torch.nn.Module) -> None:
    """Where there is no value at a position, and of what reads words itself."""
    squared = td.custom(lambda acts: acts["x"][:, -1].square().sum(-1), {"x": ("block_out", 1)}, name="squared")
    judged = td.neuron("block_out", layer=1, unit=3) + 0.3 * td.fluency()
    for goal in (squared, judged):
        apart = [td.score(model, goal, TEXTS) for model in (tuned64, encoder64)]
        close(td.score(tuned64, td.difference(goal, encoder64), TEXTS), list(apart[0] - apart[1]))


def test_a_normalized_difference(tuned64: torch.nn.Module, encoder64: torch.nn.Module) -> None:
    goal = td.difference(td.neuron("mlp_post", layer=1, unit=5, pos=2), encoder64)
    expected = [td.score(tuned64, goal, text)[0] / norms(tuned64, text)[2] for text in TEXTS]
    close(td.score(tuned64, td.normalized(goal), TEXTS), expected)


def check_slopes(model: torch.nn.Module, goal: td.Objective) -> None:
    """Of what a search climbs, by finite differences of soft sentences."""
    with attached(model) as host:
        goal = climbed(host, goal)
        sentence = host.vocabulary.read(td.Prompt("the red dog sees", [2, 4]))
        ids, _ = host.pad([sentence.ids])
        rows = BatchContext.of(host, [sentence])
        (slope,) = slopes_of(host, goal, Batch.of(host, [sentence], host.vocabulary.allowed(), True))
        one = torch.nn.functional.one_hot(ids, len(VOCAB)).double()
        for slot, token in ((0, VOCAB.index("moon")), (1, VOCAB.index("dog"))):
            sides = []
            for sign in (1, -1):
                weights = one.clone()
                weights[0, sentence.free[slot], token] += sign * 1e-5
                with torch.no_grad():
                    soft = evaluate(host, goal, ids, rows, embeddings=weights @ host.W_E, weights=weights)
                sides.append(soft.item())
            assert slope[slot, token].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    "goal", [PLANTED, td.neuron("z", layer=2, head=1, unit=2), -goal_of(3) + 0.3 * td.fluency()], ids=repr
)
def test_the_slope_of_a_difference(tuned64: torch.nn.Module, encoder64: torch.nn.Module, goal: td.Objective) -> None:
    check_slopes(tuned64, td.difference(goal, encoder64))


@pytest.mark.parametrize("method", EVERY_METHOD)
def test_a_dream_of_what_fires_one_model_and_not_the_other(
    seeded: torch.nn.Module, base: torch.nn.Module, method: str
) -> None:
    goal = td.difference(PLANTED, base)
    assert repr(goal).startswith("difference(neuron('mlp_post', layer=0, unit=7, pos=2), ")
    start = td.Prompt(START, free=[2])
    if method == "anneal":
        found = annealed(seeded, goal, start, steps=40, seed=1)
    else:
        found = td.dream(seeded, goal, start, method=method, budget=8_000)
    assert found.best.tokens[2] == "moon"
    apart = [td.score(model, PLANTED, td.Prompt(ids=found.best.ids)).item() for model in (seeded, base)]
    assert found.best.score == pytest.approx(apart[0] - apart[1], abs=1e-4)


def test_scans_of_a_difference(seeded: torch.nn.Module, base: torch.nn.Module) -> None:
    goal = td.difference(goal_of(2), base)
    table = td.token_search(seeded, goal, START, pos=2, top=3, allowed="no_special")
    with attached(seeded) as host:
        ids = host.vocabulary.encode(START)
        tokens = host.vocabulary.allowed("no_special").nonzero()[:, 0].tolist()
    swapped = [td.Prompt(ids=(*ids[:2], token, *ids[3:])) for token in tokens]
    apart = td.score(seeded, goal_of(2), swapped) - td.score(base, goal_of(2), swapped)
    assert [row.id for row in table.top] == [tokens[i] for i in apart.topk(3).indices] and table.top[0].token == "moon"
    anywhere = td.difference(td.neuron("mlp_post", layer=0, unit=7), base)
    found = td.corpus_search(seeded, anywhere, ["the red dog", "the sun and the moon", "a cat"], top=2)
    best = found.top[0]
    assert best.text == "the sun and the moon" and best.tokens[best.pos] == "moon"
    assert best.activations[best.pos] == pytest.approx(best.score, abs=1e-5)


def test_a_function_of_two_models_activations(tuned64: torch.nn.Module, encoder64: torch.nn.Module) -> None:
    """How far a layer moved: scores, slopes and the text that a search finds."""
    hooks = {"mine": ("block_out", 1), "theirs": ("block_out", 1, encoder64)}
    goal = td.custom(lambda acts: (acts["mine"] - acts["theirs"]).norm(dim=-1).amax(1), hooks, name="moved")
    expected = [(raw(tuned64, t, "block_out", 1) - raw(encoder64, t, "block_out", 1)).norm(dim=-1).max() for t in TEXTS]
    close(td.score(tuned64, goal, TEXTS), expected)
    check_slopes(tuned64, goal)
    assert td.dream(tuned64, goal, START, budget=2_000).gain > 0
    with says("the hook 'x' is ('block_out',): give a full name"):
        td.custom(goal.score, {"x": ("block_out",)})
    with says("layer 7 does not exist"):
        td.custom(goal.score, {"x": ("block_out", 7, encoder64)})


def test_a_difference_that_can_not_be(
    seeded: torch.nn.Module,
    encoder: torch.nn.Module,
    tiny_folder: Path,
    tiny_causal_folder: Path,
    tiny_checkpoint: Callable[..., Path],
    unchecked: None,
) -> None:
    with says("str is not a model this library attaches to"):
        td.difference(PLANTED, "minilm")
    with says("an objective was expected, not str"):
        td.difference("moon", encoder)
    with says("weight = 0: give a number above 0"):
        td.difference(PLANTED, encoder, weight=0)
    with says("layer 5 does not exist"):
        td.difference(td.neuron("mlp_post", layer=5, unit=7), encoder)
    causal = load_every("causal bridge", tiny_folder, tiny_causal_folder)
    with says(" tokens, the dreaming model ", "both must share one tokenizer"):
        td.score(seeded, td.difference(PLANTED, causal), START)
    short = td.load_model(str(tiny_checkpoint(context=6)))
    with says("reads 6 tokens, a sentence has 7: shorten it"):
        td.score(seeded, td.difference(PLANTED, short), START)


@pytest.mark.parametrize("change", [lambda x: x + 1j, lambda x: x.to("meta")])
def test_a_function_that_gives_no_real_numbers(encoder: torch.nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    goal = td.custom(lambda acts: change(acts["x"][:, 1, 3]), {"x": ("block_out", 1)}, name="odd")
    for work in (td.score, td.dream):
        with says("the objective odd must return real numbers on cpu; got torch."):
            work(encoder, goal, START)


def test_a_function_that_writes_on_what_others_read(encoder: torch.nn.Module, unchecked: None) -> None:
    """A term beside it would be scored on the numbers it left there."""
    goal = td.custom(lambda acts: acts["x"].zero_()[:, 1, 3], {"x": ("block_out", 1)}, name="eraser")
    with says("the function eraser changes activations in place", "make new ones (x * 2, not x.mul_(2))"):
        td.score(encoder, goal + td.neuron("block_out", layer=1, unit=3, pos=1), START)
    with says("name = 3: give a text, or None"):
        td.custom(goal.score, {"x": ("block_out", 1)}, name=3)


def test_a_sum_of_very_many(encoder: torch.nn.Module) -> None:
    unit = td.neuron("block_out", layer=1, unit=3, pos=1)
    with says("a sum of too many", "give direction() a vector of their weights"):
        td.score(encoder, sum([unit] * 1000, unit), START)
