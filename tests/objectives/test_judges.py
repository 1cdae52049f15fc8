"""Fluency under every kind of judge, against plain computation."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import BertTokenizerFast

import tl_dream as td
from tests.conftest import VOCAB, load_every, says
from tests.support.objectives import JUDGED as TEXTS
from tests.support.search import slopes_of
from tl_dream.models.host import attached
from tl_dream.objectives import judges
from tl_dream.objectives.bigrams import BigramModel
from tl_dream.objectives.objective import BatchContext
from tl_dream.objectives.scoring import evaluate
from tl_dream.search.batch import Batch


def test_bigrams_are_smoothed_counts(encoder64: torch.nn.Module, bigrams: BigramModel) -> None:
    """p(b | a) by hand: (count(a b) + 2 p(b)) / (count(a) + 2), p(b) = (count(b) + 1) / (15 + d_vocab)."""
    assert (bigrams.lines, bigrams.tokens, bigrams.skipped) == (3, 15, {"blank": 2})
    size = len(VOCAB)

    def p(before: str, after: str) -> float:
        sentences = [["[CLS]", *text.split(), "[SEP]"] for text in ("the red dog", "the red cat", "a red dog")]
        single = (sum(s.count(after) for s in sentences) + 1) / (15 + size)
        pairs = sum((a, b) == (before, after) for s in sentences for a, b in zip(s, s[1:], strict=False))
        return (pairs + 2 * single) / (sum(s[:-1].count(before) for s in sentences) + 2)

    text = "the red moon dog"
    words = ["[CLS]", *text.split()]
    expected = sum(math.log(p(a, b)) for a, b in zip(words, words[1:], strict=False)) / 4
    assert td.score(encoder64, td.fluency(bigrams), text).item() == pytest.approx(expected, rel=1e-6)
    for before in ("red", "moon"):  # every row is a distribution
        assert sum(p(before, after) for after in VOCAB) == pytest.approx(1)
        total = torch.tensor([p(before, after) for after in VOCAB]).log().sum()
        mine = bigrams._excess(torch.full((size,), VOCAB.index(before)), torch.arange(size))
        found = bigrams.unigram + bigrams.missing[VOCAB.index(before)] + mine
        assert found.sum().item() == pytest.approx(total.item(), rel=1e-5)


def test_fluent_text_is_preferred_and_padding_is_not_read(encoder64: torch.nn.Module, bigrams: BigramModel) -> None:
    goal = td.fluency(bigrams)
    both = td.score(encoder64, goal, ["the red dog", "dog moon the sun i see"])
    alone = [td.score(encoder64, goal, text).item() for text in ("the red dog", "dog moon the sun i see")]
    assert both.tolist() == pytest.approx(alone) and both[0] > both[1] + 1
    assert repr(goal) == "fluency(bigrams of the texts given)"


def plain_logits(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        found = model(torch.tensor([ids]))
    if not isinstance(found, torch.Tensor):  # a bridge gives what its Hugging Face model gives
        found = getattr(found, "logits", None) if hasattr(found, "logits") else found.prediction_logits
    return found[0].log_softmax(-1)


@pytest.mark.parametrize("kind", ["own", "other", "masked"])
def test_a_masked_models_judgement(encoder64: torch.nn.Module, kind: str) -> None:
    judge = {"own": None, "other": encoder64, "masked": encoder64}[kind]
    found = td.score(encoder64, td.fluency(judge, masked=kind == "masked"), TEXTS)
    mask = encoder64.tokenizer.mask_token_id
    for value, text in zip(found.tolist(), TEXTS, strict=True):
        ids = encoder64.tokenizer(text)["input_ids"]
        each = []
        for at in range(1, len(ids) - 1):
            seen = ids if kind != "masked" else [*ids[:at], mask, *ids[at + 1 :]]
            each.append(plain_logits(encoder64, seen)[at, ids[at]].item())
        assert value == pytest.approx(sum(each) / len(each), rel=1e-6)


@pytest.mark.parametrize("kind", ["hooked_transformer", "causal_bridge"])
def test_a_causal_models_cross_entropy(kind: str, tiny_folder: Path, tiny_causal_folder: Path) -> None:
    try:
        model = load_every(kind, tiny_folder, tiny_causal_folder)
    except (KeyError, ImportError, AttributeError) as error:
        pytest.skip(f"this TransformerLens has no {kind}: {error}")
    with attached(model) as host:
        ids = list(host.vocabulary.encode(" a red dog"))
        first = int(ids[0] in host.vocabulary.frame_ids)
    if not first:
        with says("a causal judge says nothing about a sentence's first word"):
            td.score(model, td.fluency(), " a red dog")
        return
    logs = plain_logits(model, ids)
    expected = sum(logs[at - 1, ids[at]].item() for at in range(1, len(ids))) / (len(ids) - 1)
    for goal in (td.fluency(), td.fluency(model)):
        assert td.score(model, goal, " a red dog").item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["bigrams", "own", "other", "masked", "sum"])
def test_its_slope_is_what_a_little_of_another_token_changes(
    encoder64: torch.nn.Module, bigrams: BigramModel, kind: str
) -> None:
    """The gradient with respect to the words themselves, by finite differences of soft sentences."""
    goal = {
        "bigrams": td.fluency(bigrams),
        "own": td.fluency(),
        "other": td.fluency(encoder64),
        "masked": td.fluency(encoder64, masked=True),
        "sum": td.neuron("block_out", layer=1, unit=3, pos=2) + 0.3 * td.fluency(bigrams),
    }[kind]
    with attached(encoder64) as host:
        sentence = host.vocabulary.read("the red dog sees")
        ids, _ = host.pad([sentence.ids])
        rows = BatchContext.of(host, [sentence])
        free = torch.tensor([[2, 4]])
        batch = Batch.of(
            host, [host.vocabulary.read(td.Prompt("the red dog sees", [2, 4]))], host.vocabulary.allowed(), True
        )
        (slope,) = slopes_of(host, goal, batch)
        one = torch.nn.functional.one_hot(ids, len(VOCAB)).double()
        for slot, token in ((0, VOCAB.index("blue")), (1, VOCAB.index("dog"))):
            sides = []
            for sign in (1, -1):
                weights = one.clone()
                weights[0, free[0, slot], token] += sign * 1e-5
                with torch.no_grad():
                    soft = evaluate(host, goal, ids, rows, embeddings=weights @ host.W_E, weights=weights)
                sides.append(soft.item())
            assert slope[slot, token].item() == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
def test_masked_words_are_judged_a_few_at_once(
    encoder64: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, soft: bool
) -> None:
    """However many words there are: no pass holds more logits than the limit, also on the way back, and scores, slopes
    and cost are those of one pass."""
    goal = td.fluency(encoder64, masked=True)
    texts = [*TEXTS, "the dog", "we love old books and the moon"]
    passes: list[int] = []
    plain = judges.forward

    def counted(host: object, ids: torch.Tensor, *args: object, **options: object) -> object:
        passes.append(ids.numel() * len(VOCAB))
        return plain(host, ids, *args, **options)

    monkeypatch.setattr(judges, "forward", counted)

    def run() -> tuple[torch.Tensor, int]:
        with attached(encoder64) as host:
            sentences = [host.vocabulary.read(text) for text in texts]
            ids, _ = host.pad([sentence.ids for sentence in sentences])
            rows = BatchContext.of(host, sentences)
            if soft:
                prompts = [host.vocabulary.read(td.Prompt(text, [1, 2])) for text in texts]
                batch = Batch.of(host, prompts, host.vocabulary.allowed(), True)
                found = torch.stack(slopes_of(host, goal, batch))
            else:
                found = evaluate(host, goal, ids, rows)
            return found, host.meter.forward_tokens

    whole, cost = run()
    assert len(passes) == (len({len(text.split()) for text in texts}) if soft else 1)
    passes.clear()
    limit = 40 * len(VOCAB)
    monkeypatch.setattr(judges, "HELD_LOGITS", limit)
    parts, spent = run()
    assert len(passes) >= 5 * (1 + soft) and max(passes) <= limit and spent == cost
    assert torch.allclose(parts, whole) and whole.abs().max() > 1e-3


def test_a_judge_in_training_is_back_in_training(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes of the way back come when the model is attached no more; dropout would show there."""
    model = td.load_model(str(tiny_folder), backend="bridge", dtype=torch.float64)
    assert any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in model.original_model.modules())
    goal = 0.1 * td.neuron("block_out", layer=1, unit=3, pos=2) + td.fluency(model, masked=True)
    expected = td.dream(model, goal, TEXTS[0], method="gcg", budget=3000)
    monkeypatch.setattr(judges, "HELD_LOGITS", 20 * len(VOCAB))
    model.train()
    model.original_model.train()
    found = td.dream(model, goal, TEXTS[0], method="gcg", budget=3000)
    assert model.training and found.best.ids == expected.best.ids
    assert found.cost.forward_tokens == expected.cost.forward_tokens


def test_bigrams_of_another_vocabulary_are_refused(
    encoder64: torch.nn.Module, bigrams: BigramModel, tiny_folder: Path, tmp_path: Path
) -> None:
    """Of as many tokens, in another order."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "turned"))
    words = [*VOCAB[:8], *reversed(VOCAB[8:])]
    BertTokenizerFast(vocab={word: i for i, word in enumerate(words)}, model_max_length=32).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    turned = td.load_model(str(folder))
    other = td.count_bigrams(turned, ["the red dog"])
    assert len(other.unigram) == len(bigrams.unigram) and other.vocabulary != bigrams.vocabulary
    with says("bigrams of the texts given has another vocabulary", "count_bigrams(model, texts)"):
        td.score(encoder64, td.fluency(other), TEXTS)
    assert td.score(turned, td.fluency(other), TEXTS).isfinite().all()


def test_dreams_weigh_it(encoder64: torch.nn.Module, bigrams: BigramModel) -> None:
    """With all the weight on fluency the dream writes what was counted, by every method."""
    goal = 0.0 * td.neuron("block_out", layer=1, unit=3, pos=2) + td.fluency(bigrams)
    for options in ({"budget": 20_000}, {"method": "gcg", "budget": 20_000}, {"method": td.Annealing(steps=60)}):
        found = td.dream(encoder64, goal, "moon wind fire", **options)
        assert found.gain > 1 and set(found.best.text.split()) & {"red", "dog", "the"}, options


def test_what_a_judge_runs_is_counted(encoder64: torch.nn.Module) -> None:
    goal = td.neuron("block_out", layer=0, unit=3, pos=2)
    plain, judged = (td.token_search(encoder64, g, TEXTS[1], pos=2) for g in (goal, goal + 0.1 * td.fluency(encoder64)))
    assert judged.cost.forward_tokens > 2 * plain.cost.forward_tokens
    ids = judged.place.ids
    prompts = [td.Prompt(ids=(*ids[:2], row.id, *ids[3:])) for row in judged.top[:2]]
    expected = td.score(encoder64, goal + 0.1 * td.fluency(encoder64), prompts).tolist()
    assert [row.score for row in judged.top[:2]] == pytest.approx(expected)


def test_what_is_no_judge(
    encoder64: torch.nn.Module, bigrams: BigramModel, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    with says("str is not a model this library attaches to"):
        td.fluency("minilm")
    with says("fluency(masked=True) masks a model's words: bigrams have no mask"):
        td.fluency(bigrams, masked=True)
    with says("give the model as judge"):
        td.fluency(masked=True)
    headless = td.load_model(str(tiny_checkpoint("BertModel")))
    with says("carries none"):
        td.fluency(headless)
    with says("carries none"):
        td.score(headless, td.fluency(), TEXTS)
    with says("holds no text to count bigrams of (2 blank)"):
        td.count_bigrams(encoder64, ["", " "])
    with says("strength = 0: give a number above 0"):
        td.count_bigrams(encoder64, TEXTS, strength=0)
    with says("there is no file"):
        td.count_bigrams(encoder64, str(tmp_path / "none.txt"))
    other = replace(bigrams, unigram=bigrams.unigram[:-1], missing=bigrams.missing[:-1])
    with says("both must share one tokenizer"):
        td.score(encoder64, td.fluency(other), TEXTS)


@pytest.mark.parametrize("masked", [False, True])
def test_what_a_judge_runs_for_a_part_is_charged_to_the_whole(encoder64: torch.nn.Module, masked: bool) -> None:
    """A portrait's cost is that of all of its dreams, fluent ones too."""
    goal = td.fluency(encoder64, masked=masked)
    with attached(encoder64) as host, torch.no_grad():
        part, sentence = host.apart(), host.vocabulary.read("the red dog")
        evaluate(part, goal, torch.tensor([sentence.ids]), BatchContext.of(part, [sentence]))
        assert host.meter.forwards == part.meter.forwards == (4 if masked else 2)  # one for the words themselves
        assert host.meter.forward_tokens == part.meter.forward_tokens > 5 * host.n_layers
