"""`dream`: it finds what was planted, keeps the best, obeys every option, and says what is wrong."""

import json
import math
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy
import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import HAS_HOOKED, PLANTS, VOCAB, Plant, says
from tests.support.search import GOAL, QUICK, START, annealed
from tl_dream.results.dreams import Run


def planted_goal(plant: Plant, pos: int | str, hook: str = "mlp_post") -> td.Objective:
    return td.neuron(hook, layer=plant.layer, unit=plant.unit, pos=pos)


def outcome(dream: td.Dream) -> dict[str, object]:
    """All of a dream but the wall clock and the options."""
    data = dream.to_json()
    return {key: value for key, value in data.items() if key not in ("seconds", "settings")}


def ranking(model: torch.nn.Module, goal: td.Objective, pos: int) -> list[str]:
    """Every token of the vocabulary at one position of START, best first: brute force."""
    ids = model.tokenizer(START)["input_ids"]
    rows = [td.Prompt(ids=[*ids[:pos], token, *ids[pos + 1 :]]) for token in range(len(VOCAB))]
    return [VOCAB[i] for i in td.score(model, goal, rows).argsort(descending=True).tolist()]


WAYS: list[dict[str, object]] = [
    {},
    {"candidates": 16},
    {"straight_through": True},
    {"start": "uniform"},
    *[{way: value, "seed": seed} for way, value in (("noise", True), ("start", "random")) for seed in (0, 1)],
    {"article": True, "learning_rate": 0.3, "steps": 60},
]


def found_planted(model: torch.nn.Module, plant: Plant, hook: str, way: dict[str, object]) -> None:
    goal = planted_goal(plant, 3, hook)
    found = annealed(model, goal, START, **{"steps": 25, "warmup": 20, "free": [3], **way})
    assert found.best.tokens[3] == plant.token
    assert found.best.text == f"i do {plant.token} the sun" and found.best.retokenizes
    assert found.best.score == pytest.approx(td.score(model, goal, found.best.text).item(), abs=1e-5)


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_the_planted_token_is_found_every_way(seeded: torch.nn.Module, way: dict[str, object]) -> None:
    assert ranking(seeded, planted_goal(PLANTS[0], 3, "mlp_pre"), 3)[0] == PLANTS[0].token
    found_planted(seeded, PLANTS[0], "mlp_pre", way)


def test_the_planted_token_is_found_on_every_backend(planted: torch.nn.Module) -> None:
    assert ranking(planted, planted_goal(PLANTS[1], 3), 3)[0] == PLANTS[1].token
    found_planted(planted, PLANTS[1], "mlp_post", {"seed": 2})


def test_two_planted_tokens_are_found_together(seeded: torch.nn.Module) -> None:
    """The best pair of 20 allowed words, known by trying all 400."""
    moon, river = PLANTS[:2]
    goal = planted_goal(moon, 2) + planted_goal(river, 4)
    words = ["moon", "river", *[word for word in VOCAB if word.isalpha() and len(word) > 2][:18]]
    texts = [f"i {left} see {right} sun" for left, right in product(words, words)]
    best = texts[td.score(seeded, goal, texts).argmax()]
    found = td.dream(seeded, goal, "i do see the sun", method=td.Annealing(steps=30), free=[2, 4], allowed=words)
    assert found.best.text == best == "i moon see river sun"


def test_what_is_found_does_not_need_the_start_to_be_near(seeded: torch.nn.Module) -> None:
    """All words free, all of another kind; the unit is watched anywhere."""
    goal = td.neuron("mlp_post", layer=0, unit=7)
    found = td.dream(seeded, goal, "we love old books", method=td.Annealing(steps=30))
    assert "moon" in found.best.tokens and found.gain > 0.5


@pytest.mark.parametrize("spoil", ["zeroed", "flipped"])
def test_without_the_right_gradient_the_planted_token_is_not_found(
    seeded: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, spoil: str
) -> None:
    goal = planted_goal(PLANTS[0], 3)
    options = {"steps": 60, "free": [3], "evaluate_every": 5}
    right = annealed(seeded, goal, START, **options)
    true_grad = torch.autograd.grad

    def spoiled(outputs: Tensor, inputs: Tensor, *args: object, **kwargs: object) -> tuple[Tensor, ...]:
        gradients = true_grad(outputs, inputs, *args, **kwargs)
        if not isinstance(inputs, torch.nn.Parameter):
            return gradients
        return tuple(-g if spoil == "flipped" else 0 * g for g in gradients)

    monkeypatch.setattr(torch.autograd, "grad", spoiled)
    wrong = annealed(seeded, goal, START, **options)
    assert right.best.tokens[3] == "moon" != wrong.best.tokens[3]
    assert wrong.best.score < right.best.score - 0.5
    if spoil == "zeroed":
        assert wrong.best == wrong.start
    else:
        assert wrong.history.soft_score[-1] < wrong.history.soft_score[0]


def test_causal_models_dream(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    goal = td.neuron("mlp_post", layer=1, unit=6, pos=-1)
    found = td.dream(
        model,
        goal,
        " a red dog sees the moon" if hasattr(model.tokenizer, "add_bos_token") else "a red dog",
        method=td.Annealing(steps=30),
    )
    assert found.gain > 0
    assert found.best.score == pytest.approx(td.score(model, goal, td.Prompt(ids=found.best.ids)).item(), abs=1e-5)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("way", [{}, {"start": "random"}, {"noise": True, "candidates": 8}], ids=str)
def test_best_is_the_best_real_sentence_seen(encoder: torch.nn.Module, seed: int, way: dict[str, object]) -> None:
    goal = td.neuron("block_out", layer=2, unit=seed)
    texts: list[str] = []
    found = annealed(
        encoder,
        goal,
        START,
        seed=seed,
        **QUICK,
        **way,
        callback=lambda progress: texts.extend(progress.texts) or False,
    )
    assert found.best.score >= found.start.score
    assert found.best.score == pytest.approx(td.score(encoder, goal, td.Prompt(ids=found.best.ids)).item(), abs=1e-5)
    assert found.start.score == pytest.approx(td.score(encoder, goal, START).item(), abs=1e-5)
    model_ids = tuple(encoder.tokenizer(found.best.text)["input_ids"])
    assert found.best.retokenizes and model_ids == found.best.ids  # `retokenize` holds
    seen = [text for text in texts if encoder.tokenizer(text)["input_ids"].__len__() == len(found.start.ids)]
    assert found.best.score >= td.score(encoder, goal, seen).max().item() - 1e-5


def test_the_start_is_returned_when_nothing_is_better(seeded: torch.nn.Module) -> None:
    goal = planted_goal(PLANTS[0], 3)
    found = annealed(seeded, goal, "i do moon the sun", free=[3], **QUICK)
    assert found.best == found.start and found.gain == 0 and found.best.step == 0
    assert "nothing better than the start was found" in str(found)


def test_retokenize(seeded: torch.nn.Module) -> None:
    """The best token is "##g", but "do" and "##g" are read as "dog"."""
    goal = planted_goal(PLANTS[2], 3, "mlp_pre")
    assert ranking(seeded, goal, 3)[0] == "##g"
    loose = td.dream(seeded, goal, START, method=td.Annealing(steps=30), free=[3], retokenize=False)
    assert loose.best.tokens[3] == "##g" and loose.best.text == "i dog the sun" and not loose.best.retokenizes
    strict = td.dream(seeded, goal, START, method=td.Annealing(steps=30), free=[3])
    assert strict.best.tokens[3] != "##g" and strict.best.retokenizes and strict.best.score < loose.best.score


def test_the_special_tokens_can_be_freed_on_purpose(seeded: torch.nn.Module) -> None:
    goal = planted_goal(PLANTS[0], 0)
    found = td.dream(seeded, goal, START, method=td.Annealing(steps=30), free=[0])
    assert found.best.tokens == ("moon", *found.start.tokens[1:]) and not found.best.retokenizes
    last = td.dream(seeded, planted_goal(PLANTS[0], -1), START, method=td.Annealing(steps=30), free=[-1])
    assert last.best.tokens == (*found.start.tokens[:-1], "moon")
    word = td.dream(seeded, goal, START, method=td.Annealing(steps=10))  # and stay fixed otherwise
    assert word.history.free == (1, 2, 3, 4, 5)
    assert {tokens[0] for tokens in word.history.tokens} == {"[CLS]"}


# Batches of starts and sentences

SENTENCES = ["i do see the sun", "the dog", "a small cat is red ."]


@pytest.mark.parametrize("way", [{}, {"candidates": 12}, {"straight_through": True}], ids=str)
def test_a_row_does_not_depend_on_its_batch(encoder: torch.nn.Module, way: dict[str, object]) -> None:
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    together = annealed(encoder, goal, SENTENCES, **QUICK, **way)
    runs = {run.start.text: run for run in (*together.others, as_run(together))}
    assert len(runs) == 3
    for text in SENTENCES:
        alone = annealed(encoder, goal, text, **QUICK, **way)
        same_run(runs[text], as_run(alone))


@pytest.mark.parametrize("way", [{"noise": True}, {"start": "random"}, {"start": "random", "noise": True}], ids=str)
def test_what_a_row_draws_does_not_depend_on_its_batch(encoder: torch.nn.Module, way: dict[str, object]) -> None:
    """Not on longer rows either, which bring filling."""
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    together = annealed(encoder, goal, ["the dog", *SENTENCES], **QUICK, **way)
    alone = annealed(encoder, goal, "the dog", **QUICK, **way)
    runs = [run for run in (*together.others, as_run(together)) if run.start.text == "the dog"]
    assert len(runs) == 2
    first = min(runs, key=lambda run: abs(run.history.soft_score[0] - alone.history.soft_score[0]))
    same_run(first, as_run(alone))
    other = next(run for run in runs if run is not first)
    assert abs(other.history.soft_score[0] - alone.history.soft_score[0]) > 1e-4


def as_run(dream: td.Dream) -> Run:
    return Run(dream.start, dream.best, dream.soft_score, dream.history)


def same_run(left: Run, right: Run) -> None:
    assert left.start.ids == right.start.ids and left.best.ids == right.best.ids
    assert left.best.score == pytest.approx(right.best.score, abs=1e-5)
    assert left.history.tokens == right.history.tokens and left.history.free == right.history.free
    for name in ("soft_score", "hard_score"):
        assert getattr(left.history, name) == pytest.approx(getattr(right.history, name), abs=1e-5)
    for mine, theirs in zip(left.history.weights, right.history.weights, strict=True):
        assert mine == pytest.approx(theirs, abs=1e-5)


def test_several_starts_and_sentences_in_one_batch(encoder: torch.nn.Module) -> None:
    goal = td.neuron("block_out", layer=1, unit=3, pos=2)
    found = annealed(encoder, goal, SENTENCES, starts=2, **QUICK)
    runs = (as_run(found), *found.others)
    assert len(runs) == 6 and sorted(run.start.text for run in runs) == sorted(SENTENCES * 2)
    assert found.best.score == max(run.best.score for run in runs)
    assert found.prompt == {"text": found.start.text, "free": list(found.history.free)}
    assert (found.settings["starts"], found.settings["sentences"]) == (2, 3)
    for text in SENTENCES:
        first, second = (run for run in runs if run.start.text == text)
        assert first.history.soft_score[0] != second.history.soft_score[0]
    frame = found.to_frame()
    assert sorted(frame["run"].unique()) == [0, 1, 2, 3, 4, 5]


def test_your_own_function_dreams_on_unequal_sentences(encoder: torch.nn.Module) -> None:
    """It never sees padding: position -1 is [SEP] in every row."""
    goal = td.custom(lambda acts: acts["x"][:, -1, 3], {"x": ("block_out", 1)}, name="last")
    together = annealed(encoder, goal, SENTENCES, **QUICK)
    for run in (as_run(together), *together.others):
        same_run(run, as_run(annealed(encoder, goal, run.start.text, **QUICK)))


@pytest.mark.parametrize("way", [{"noise": True}, {"start": "random"}, {"starts": 3}], ids=str)
def test_the_same_seed_gives_the_same_dream_and_another_another(
    encoder: torch.nn.Module, way: dict[str, object]
) -> None:
    first, again, other = (annealed(encoder, GOAL, START, seed=seed, **QUICK, **way) for seed in (5, 5, 6))
    assert outcome(first) == outcome(again)
    assert json.dumps(first.to_json()["history"]) != json.dumps(other.to_json()["history"]) or "starts" in way
    if "starts" in way:
        assert first.others[0].history != other.others[0].history or first.others[1].history != other.others[1].history
    assert first.seed == 5


# Every option does something

OPTIONS: list[dict[str, object]] = [
    {"free": [2]},
    {"article": True},
    {"steps": 7},
    {"starts": 2},
    {"start": "uniform"},
    {"start_weight": 0.9},
    {"learning_rate": 0.05},
    {"schedule": "linear"},
    {"start_temperature": 2.0, "end_temperature": 0.5},
    {"warmup": 10},
    {"noise": True},
    {"straight_through": True},
    {"candidates": 8},
    {"renew_every": 2},
    {"precision": "bf16"},
    {"evaluate_every": 2},
    {"top_k": 3},
    {"allowed": ["cat", "dog", "moon", "red"]},
    {"callback": lambda progress: progress.step >= 6},
]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: next(iter(option)))
def test_every_option_changes_the_dream_and_is_recorded(
    encoder: torch.nn.Module, plain: td.Dream, option: dict[str, object]
) -> None:
    changed = annealed(encoder, GOAL, START, **{**QUICK, **option})
    assert outcome(plain) != outcome(changed)
    assert plain.to_json()["history"] != changed.to_json()["history"] or changed.others
    name, value = next(iter(option.items()))
    recorded = {**changed.settings, "free": changed.prompt["free"], "article": changed.settings["normalize"]}
    if name == "allowed":
        assert recorded[name] == "4 tokens"
    elif name == "callback":
        assert changed.stopped == "callback" and plain.stopped == "steps"
    else:
        assert recorded[name] == value


@pytest.mark.parametrize("candidates", [None, 8])
def test_allowed_tokens_are_obeyed_at_every_step(encoder: torch.nn.Module, candidates: int) -> None:
    """The sentence's own words are not among them, and [MASK] never is by default."""
    words = [word for word in VOCAB if word.isalpha() and len(word) > 3]
    assert not {"i", "do", "see", "the", "sun"} & set(words)
    found = annealed(encoder, GOAL, START, candidates=candidates, noise=True, allowed=words, **QUICK)
    history = found.history
    for tokens, tops, weights in zip(history.tokens, history.top_tokens, history.top_weights, strict=True):
        assert set(tokens[1:-1]) <= set(words)
        for top, shares in zip(tops, weights, strict=True):
            assert {token for token, share in zip(top, shares, strict=True) if share > 0} <= set(words)
    masked = annealed(encoder, GOAL, "i [MASK] see the [MASK]", candidates=candidates, **QUICK)
    assert not any("[MASK]" in tokens or "[unused1]" in tokens for tokens in masked.history.tokens)
    rules = annealed(
        encoder,
        GOAL,
        "α 東 ##s",
        candidates=candidates,
        allowed="ascii whole_words no_special",
        **QUICK,
    )
    assert all(t.isascii() and not t.startswith("##") for tokens in rules.history.tokens for t in tokens)


def test_prompts_say_themselves_what_is_free(encoder: torch.nn.Module) -> None:
    found = annealed(encoder, GOAL, td.Prompt(START, free=["do", -3]), **QUICK)
    assert found.history.free == (2, 4)
    assert {tokens[:2] + tokens[3:4] + tokens[5:] for tokens in found.history.tokens} == {
        ("[CLS]", "i", "see", "sun", "[SEP]")
    }
    whole = annealed(encoder, td.neuron("block_out", layer=1, unit=3), "i love kickshaws", free="kickshaws", **QUICK)
    assert whole.history.free == tuple(range(3, len(whole.start.ids) - 1))


def test_history(encoder: torch.nn.Module) -> None:
    found = td.dream(
        encoder,
        GOAL,
        START,
        method=td.Annealing(steps=10, evaluate_every=4, top_k=5, warmup=2, start_temperature=2.0, end_temperature=0.5),
        free=[2, 4],
    )
    history = found.history
    assert history.step == (0, 4, 8, 10) and len(history) == 4 and history.free == (2, 4)
    for name in ("temperature", "soft_score", "hard_score", "tokens", "weights", "top_tokens", "top_weights"):
        assert len(getattr(history, name)) == 4, name
    rate = 0.25 ** (1 / 7)
    assert history.temperature == pytest.approx((2.0, 2.0 * rate**2, 2.0 * rate**6, 0.5))
    for i in range(4):
        ids = [VOCAB.index(token) for token in history.tokens[i]]
        score = td.score(encoder, GOAL, td.Prompt(ids=ids)).item()
        assert history.hard_score[i] == pytest.approx(score, abs=1e-5)
        assert len(history.tokens[i]) == len(history.weights[i]) == 7
        assert [w for j, w in enumerate(history.weights[i]) if j not in (2, 4)] == [1.0] * 5
        assert len(history.top_tokens[i]) == len(history.top_weights[i]) == 2
        for slot, position in enumerate((2, 4)):
            tops, weights = history.top_tokens[i][slot], history.top_weights[i][slot]
            assert len(tops) == len(weights) == len(set(tops)) == 5
            assert list(weights) == sorted(weights, reverse=True) and 0 < sum(weights) <= 1 + 1e-6
            assert history.tokens[i][position] == tops[0] and history.weights[i][position] == weights[0]
    assert history.weights[0][2] == pytest.approx(0.5, abs=1e-5)  # start_weight
    assert found.soft_score == max(history.soft_score)
    assert found.best.step in (0, *history.step)


@pytest.mark.parametrize("way", [{"noise": True}, {"straight_through": True}], ids=str)
def test_the_weights_of_the_history_are_the_words_own(encoder: torch.nn.Module, way: dict[str, object]) -> None:
    """Without the noise of a step, and before they are made hard."""
    history = annealed(encoder, GOAL, START, warmup=20, **QUICK, **way).history
    assert history.weights[0][1:-1] == pytest.approx([0.5] * 5, abs=1e-5)
    for tokens, weights, tops in zip(history.tokens, history.weights, history.top_tokens, strict=True):
        assert [tokens[i] for i in history.free] == [top[0] for top in tops]
        assert 0 < min(weights) and max(weights[1:-1]) < 1


def test_cost_counts_every_sentence(encoder: torch.nn.Module) -> None:
    """Soft sentences count twice, for their gradient; real ones once, and none is scored twice."""
    rows: list[int] = []
    with_hook = encoder.hook_dict["embed.hook_embed" if "embed.hook_embed" in encoder.hook_dict else "embed.hook_out"]
    with_hook.add_hook(lambda activation, hook: rows.append(activation.shape[0]))
    try:
        found = td.dream(encoder, GOAL, START, method=td.Annealing(steps=6, evaluate_every=1, candidates=None))
    finally:
        with_hook.fwd_hooks.pop().hook.remove()
    soft = 7
    assert found.cost.forwards == sum(rows) + soft
    assert found.cost.forward_tokens == found.cost.forwards * 7 * 2  # seven tokens, two layers up to the hook
    assert sum(rows) - soft == 1 + len(set(found.history.tokens) - {found.start.tokens})
    assert found.cost.seconds > 0
    with_candidates = td.dream(encoder, GOAL, START, method=td.Annealing(steps=6, evaluate_every=1, candidates=16))
    assert with_candidates.cost.forwards >= 2 + 2 * soft + 1  # one more for the gradient that chooses them


def test_a_callback_sees_every_evaluation_and_can_stop(encoder: torch.nn.Module) -> None:
    seen: list[td.Progress] = []

    def watch(progress: td.Progress) -> bool:
        seen.append(progress)
        return progress.step == 6

    found = annealed(encoder, GOAL, ["i do see the sun", "the dog"], **QUICK, callback=watch)
    assert [progress.step for progress in seen] == [0, 3, 6] and found.history.step == (0, 3, 6)
    assert found.stopped == "callback" and "stopped: callback" in str(found)
    last = seen[-1]
    assert last.steps == 12 and last.temperature == found.history.temperature[-1]
    assert len(last.texts) == len(last.soft_scores) == len(last.hard_scores) == len(last.best_scores) == 2
    assert found.best.score == max(last.best_scores)
    assert {found.history.soft_score[-1], found.others[0].history.soft_score[-1]} == set(last.soft_scores)
    quiet = annealed(encoder, GOAL, START, **QUICK, callback=lambda progress: None)
    assert quiet.stopped == "steps"


def test_an_error_in_a_callback_comes_through(encoder: torch.nn.Module) -> None:
    def broken(progress: td.Progress) -> None:
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="^mine$"):
        annealed(encoder, GOAL, START, **QUICK, callback=broken)


@pytest.mark.parametrize("method", ["auto", "anneal"])
def test_a_callback_that_says_neither_yes_nor_no_is_told(encoder: torch.nn.Module, method: str) -> None:
    with says("the callback returned array([ True, False]): return True to stop, False or nothing to go on"):
        td.dream(encoder, GOAL, START, method=method, callback=lambda now: numpy.array([True, False]))
    found = td.dream(encoder, GOAL, START, method=method, callback=lambda now: numpy.bool_(True))
    assert found.stopped == "callback"


def test_the_progress_bar_is_off_where_there_is_no_terminal(
    encoder: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    for progress, shown in ((None, False), (False, False), (True, True)):
        capsys.readouterr()
        annealed(encoder, GOAL, START, **QUICK, progress=progress)
        out, err = capsys.readouterr()
        assert out == "" and ("best=" in err) == shown


def breaking(value: float, above: float) -> td.Objective:
    """A score that is no number once it is above a bound."""

    def function(acts: dict[str, Tensor]) -> Tensor:
        score = acts["x"][:, 3, 7]
        return score.masked_fill(score > above, value)

    return td.custom(function, {"x": ("mlp_pre", 0)}, name="breaking")


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_soft_score_that_is_no_number_keeps_the_best_so_far(
    seeded: torch.nn.Module, value: float, tmp_path: Path
) -> None:
    with says(
        f"the soft score became [{value}] at step ", "the best real tokens so far score ", "error.partial"
    ) as caught:
        td.dream(seeded, breaking(value, 2.0), START, method=td.Annealing(steps=30, evaluate_every=1), free=[3])
    partial = caught.value.partial
    assert isinstance(partial, td.Dream) and partial.stopped == "failure"
    assert partial.best.score >= partial.start.score and math.isfinite(partial.best.score)
    assert f"score {partial.best.score:.4f}: {partial.best.text!r}" in str(caught.value)
    assert str(partial.history.step[-1] + 1) in str(caught.value) and len(partial.history) > 1
    partial.save(tmp_path / "partial.json")
    assert td.Dream.load(tmp_path / "partial.json") == partial


def test_a_real_score_that_is_no_number_keeps_the_best_so_far(seeded: torch.nn.Module, tmp_path: Path) -> None:
    """Only the exact embedding of the planted word breaks it, so no soft sentence does."""
    mark = seeded.W_E[VOCAB.index("moon")].detach()

    def function(acts: dict[str, Tensor]) -> Tensor:
        found = (acts["e"][:, 3] - mark).abs().amax(-1) == 0
        return torch.where(found, math.nan, acts["x"][:, 3, 7])

    goal = td.custom(function, {"x": ("mlp_pre", 0), "e": "embed"}, name="breaking")
    with says("the score of real tokens became nan at step ", "error.partial") as caught:
        td.dream(seeded, goal, START, method=td.Annealing(steps=30, evaluate_every=1), free=[3])
    partial = caught.value.partial
    assert partial.best.tokens[3] != "moon" and all(map(math.isfinite, partial.history.hard_score))
    partial.save(tmp_path / "partial.json")


def test_a_start_that_is_no_number(seeded: torch.nn.Module) -> None:
    with says("the score of real tokens became nan at the start") as caught:
        annealed(seeded, breaking(math.nan, -100.0), START, **QUICK)
    assert len(caught.value.partial.history) == 0 and caught.value.partial.soft_score is None


def test_dream_works_where_gradients_are_off(tiny_encoder: torch.nn.Module) -> None:
    expected = outcome(annealed(tiny_encoder, GOAL, START, **QUICK))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert outcome(annealed(tiny_encoder, GOAL, START, **QUICK)) == expected
            td.score(tiny_encoder, GOAL, START)
        assert torch.is_grad_enabled()


@pytest.mark.parametrize(
    ("dtype", "way"),
    [
        (torch.float64, {}),
        (torch.bfloat16, {"candidates": 16, "noise": True}),
        (torch.float16, {"candidates": 16, "noise": True}),
        (torch.float16, {"article": True}),
    ],
    ids=str,
)
def test_models_of_other_precision_dream(planted_folder: Path, dtype: torch.dtype, way: dict[str, object]) -> None:
    model = td.load_model(str(planted_folder), dtype=dtype)
    goal = planted_goal(PLANTS[0], 3)
    found = annealed(model, goal, START, **{"free": [3], "steps": 30, "learning_rate": 0.5, **way})
    assert found.best.tokens[3] == "moon"
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"starts": 0}, ["starts = 0: give a whole number from 1 to 100000"]),
        ({"steps": 0}, ["steps = 0: give a whole number of at least 1"]),
        ({"start_temperature": 0.0}, ["start = 0.0 is not a temperature: it must be > 0 and finite"]),
        ({"end_temperature": -0.1}, ["end = -0.1 is not a temperature"]),
        ({"start_weight": 1.0}, ["a start weight of 1.0 is outside (0, 1)"]),
        ({"learning_rate": -1.0}, ["learning_rate = -1.0: give a number above 0"]),
        ({"schedule": "linaer"}, ["unknown temperature schedule 'linaer'; nearest: linear"]),
        ({"candidates": 1}, ["candidates = 1: give at least 2 tokens a position"]),
        ({"allowed": "asci"}, ["unknown allowed-token rule 'asci'; nearest: ascii"]),
        ({"allowed": []}, ["the allowed-token mask [] leaves no token"]),
        ({"free": "moon"}, ["the word 'moon' is not in the sentence; its tokens: 0 [CLS], 1 i, 2 do"]),
        ({"free": 9}, ["position 9 is outside the sentence of 7 tokens"]),
        ({"free": []}, ["no position given: name at least one of 0 [CLS]"]),
        ({"free": slice(5, 5)}, ["holds no position of the sentence"]),
        ({"prompt": ""}, ["the sentence '' is empty or holds special tokens only"]),
        ({"prompt": []}, ["no sentence to start from: give at least one"]),
        ({"prompt": [START, "dog " * 31]}, ["the sentence has 33 tokens with its special ones, the model reads 32"]),
        (
            {"prompt": "the sun and the moon", "free": "the"},
            ["the word 'the' is in the sentence 2 times, at positions 1, 4"],
        ),
        ({"prompt": td.Prompt(START), "free": 2}, ["free= goes with plain text; a Prompt says itself"]),
        (
            {"prompt": [START, "a"], "goal": td.neuron("mlp_post", layer=1, unit=5, pos="see")},
            ["the word 'see' is not in"],
        ),
        ({"goal": td.neuron("mlp_post", layer=3, unit=5)}, ["layer 3 does not exist: ", "has layers 0 to 2"]),
        ({"goal": td.neuron("mlp_pots", layer=1, unit=5)}, ["unknown hook 'mlp_pots'; nearest: mlp_post"]),
        (
            {"goal": td.neuron("mlp_post", layer=1, unit=99)},
            ["unit 99 does not exist: the hook 'mlp_post' has units 0 to 39"],
        ),
        ({"goal": td.neuron("mlp_post", layer=1, unit=5, pos=7)}, ["position 7 is outside the sentence of 7 tokens"]),
        ({"goal": td.custom(lambda a: a["x"], {"x": ("mlp_post", 1)}, name="f")}, ["f must return one score per row"]),
    ],
    ids=str,
)
def test_what_is_refused(encoder: torch.nn.Module, options: dict[str, object], parts: list[str]) -> None:
    rest = {key: value for key, value in options.items() if key not in ("goal", "prompt")}
    with says(*parts) as caught:
        annealed(encoder, options.get("goal", GOAL), options.get("prompt", START), **{**QUICK, **rest})
    assert caught.value.partial is None


TYPE_MISTAKES: list[tuple[Callable[[torch.nn.Module], object], str]] = [
    (lambda m: td.dream(m, "mlp_post", "a dog"), "an objective was expected, not str: make one with neuron(), direct"),
    (lambda m: td.dream(m, lambda acts: 0, "a dog"), "an objective was expected, not function"),
    (lambda m: td.dream(m, GOAL, ["a dog", 3]), "a sentence is text or a Prompt, not int: 3"),
    (lambda m: td.dream(m, GOAL, "a dog", method=td.GCG), "give a name (auto, anneal, gcg, epo, pez), or td.Auto(...)"),
    (lambda m: td.gcg(m, GOAL, "a dog", method="epo"), "method = 'epo': gcg takes td.GCG(...)"),
    (lambda m: td.epo(m, GOAL, "a dog", method=td.GCG()), "epo takes td.EPO(...); dream takes any method"),
    (lambda m: td.EPO(fluency="bigrams"), "fluency = 'bigrams': give an objective, such as fluency(judge)"),
    (lambda m: td.Auto(round=3), "round = 3: give PEZ(...)"),
    (lambda m: td.Auto(held=1.5), "held = 1.5: give a share, 0 to 1"),
    (lambda m: td.dream(m, GOAL, "a dog", starts=1.5), "starts = 1.5: give a whole number from 1 to 100000"),
    (
        lambda m: td.dream(m, GOAL, "a dog", method=td.Annealing(steps="many")),
        "steps = 'many': give a whole number of at least 1",
    ),
    (lambda m: td.dream(m, GOAL, "a dog", free=1.5), "1.5 is not a position: give"),
    (lambda m: td.dream(m, GOAL, "a dog", allowed=3), "3 is no rule for allowed tokens"),
    (lambda m: td.score(m, "mlp_post", "a dog"), "an objective was expected, not str"),
    (lambda m: td.score(m, td.neuron("block_out", layer=1.0, unit=3), "a dog"), "layer 1.0 "),
    (lambda m: td.score(m, td.neuron("block_out", layer=1, unit=3.0), "a dog"), "unit 3.0 does not exist"),
    (
        lambda m: td.score(m, td.custom(lambda a: 3.0, {"x": ("block_out", 1)}), "a dog"),
        "must return one score per row, shape (1,); got float",
    ),
    (
        lambda m: td.direction(torch.ones(2, 12), "block_out", layer=1),
        "one vector of numbers; got shape (2, 12)",
    ),
    (lambda m: td.list_hooks(None), "NoneType is not a model this library attaches to"),
]


@pytest.mark.parametrize(("attempt", "part"), TYPE_MISTAKES, ids=[part for _, part in TYPE_MISTAKES])
def test_mistakes_of_type_are_said_too(
    encoder: torch.nn.Module, unchecked: None, attempt: Callable[[torch.nn.Module], object], part: str
) -> None:
    """Outside the tests nothing checks the types of arguments, so the library has to."""
    with says(part):
        attempt(encoder)


def test_a_head_that_is_not_trained_is_refused(tiny_checkpoint: Callable[..., Path], backend: str) -> None:
    model = td.load_model(str(tiny_checkpoint("BertModel")), backend=backend)
    with says("lies behind the language-model head", "its weights are random"):
        td.dream(model, td.logit("dog", pos=1), "a cat")


def test_a_hook_that_does_not_fire(tiny_encoder: torch.nn.Module) -> None:
    hook = "blocks.0.hook_mlp_in" if HAS_HOOKED and "blocks.0.hook_mlp_in" in tiny_encoder.hook_dict else None
    if hook is None or hasattr(tiny_encoder, "original_model"):
        pytest.skip("this model fires all such hooks")
    with says(f"the hook {hook!r} of ", "did not fire in the forward pass: set model.cfg.use_hook_mlp_in = True first"):
        td.dream(tiny_encoder, td.neuron(hook, unit=3), START)


def test_minilm_dreams(minilm: torch.nn.Module) -> None:
    """The main job, short: a unit of the article's kind rises on the real model."""
    goal = td.neuron("block_out", layer=2, unit=291, pos=2)
    found = td.dream(
        minilm, goal, "i hate kickshaws .", method=td.Annealing(steps=15, evaluate_every=5, candidates=64), free="hate"
    )
    assert found.gain > 0 and found.best.retokenizes and found.model == "minilm " + found.model[7:]
    assert found.best.score == pytest.approx(td.score(minilm, goal, found.best.text).item(), abs=1e-4)
