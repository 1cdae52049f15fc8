"""The room objectives.scoring."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.conftest import EVERY, HAS_HOOKED, says
from tests.support.objectives import TEXTS, A, C, close, raw
from tl_dream.models.host import attached
from tl_dream.objectives.objective import BatchContext, Objective, Read
from tl_dream.objectives.scoring import Part, evaluate, evaluate_parts, read_activations


def test_attention_scores(tiny_encoder64: torch.nn.Module, backend: str) -> None:
    goal = td.neuron("attn_scores", layer=1, head=3, pos=1, key=2)
    if backend == "bridge":
        with says("has no hook for 'attn_scores'"):
            td.score(tiny_encoder64, goal, TEXTS)
        return
    close(
        td.score(tiny_encoder64, goal, TEXTS),
        [raw(tiny_encoder64, text, "attn_scores", 1)[3, 1, 2] for text in TEXTS],
    )


def test_every_backend_scores(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.float64)
    for goal in (
        td.neuron("pos_embed", unit=3, pos=1),
        td.neuron("mlp_post", layer=1, unit=3),
        td.neuron("z", layer=0, head=1, unit=2, reduce="mean"),
        td.attention(layer=1, head=0, query=-1, key=0),
        td.logit("dog"),
        td.normalized(td.neuron("block_out", layer=0, unit=1)),
    ):
        together = td.score(model, goal, TEXTS)
        close(together, [td.score(model, goal, text)[0] for text in TEXTS])


def test_a_position_named_by_its_word(tiny_encoder64: torch.nn.Module) -> None:
    """In every row where its own word is, once, and the positions differ."""
    goal = td.neuron("block_out", layer=1, unit=5, pos="dog")
    texts = ["the red dog .", "dog and cat"]
    close(
        td.score(tiny_encoder64, goal, texts),
        [raw(tiny_encoder64, text, "block_out", 1)[at, 5] for text, at in zip(texts, (3, 1), strict=True)],
    )
    several = td.neuron("block_out", layer=1, unit=5, pos=["dog", 0], reduce="mean")
    close(
        td.score(tiny_encoder64, several, texts),
        [raw(tiny_encoder64, text, "block_out", 1)[[0, at], 5].mean() for text, at in zip(texts, (3, 1), strict=True)],
    )
    with says("the word 'dog' is not in the sentence", "0 [CLS], 1 a, 2 cat, 3 [SEP]"):
        td.score(tiny_encoder64, goal, ["the red dog .", "a cat"])


def test_custom(tiny_encoder64: torch.nn.Module) -> None:
    def contrast(acts: dict[str, Tensor]) -> Tensor:
        assert set(acts) == {"early", "late"}
        return acts["late"][:, -1, 3] - acts["early"][:, 1].norm(dim=-1)

    goal = td.custom(contrast, {"early": ("mlp_post", 0), "late": ("block_out", 2)})
    assert repr(goal) == "contrast" and goal.reads == (Read("mlp_post", 0), Read("block_out", 2))
    full = td.custom(lambda a: a["p"][:, 1, 2, 0], {"p": "blocks.0.attn.hook_pattern"})
    close(td.score(tiny_encoder64, full, TEXTS), [raw(tiny_encoder64, text, "pattern", 0)[1, 2, 0] for text in TEXTS])
    expected = [
        raw(tiny_encoder64, text, "block_out", 2)[-1, 3] - raw(tiny_encoder64, text, "mlp_post", 0)[1].norm()
        for text in TEXTS
    ]
    close(td.score(tiny_encoder64, goal, TEXTS), expected)
    same_length = ["the red dog", "i love you"]
    assert td.score(tiny_encoder64, goal, same_length).shape == (2,)


def test_custom_never_sees_padding(tiny_encoder64: torch.nn.Module) -> None:
    """Not in `score`, and not in a batch of unequal rows either, hard or soft, alone or in a sum."""
    lengths: list[int] = []

    def last(acts: dict[str, Tensor]) -> Tensor:
        lengths.append(acts["x"].shape[1])
        return acts["x"][:, -1, 3]

    own = td.custom(last, {"x": ("block_out", 1)})
    goal = own + 0.5 * td.neuron("block_out", layer=1, unit=2, pos=1)
    texts = [*TEXTS, "the blue dog ."]
    expected = [td.score(tiny_encoder64, goal, text)[0] for text in texts]
    close(td.score(tiny_encoder64, goal, texts), expected)
    lengths.clear()
    with attached(tiny_encoder64) as host:
        sentences = [host.vocabulary.read(text) for text in texts]
        ids, _ = host.pad([sentence.ids for sentence in sentences])
        rows = BatchContext.of(host, sentences)
        close(evaluate(host, goal, ids, rows).detach(), expected)
        soft = host.W_E[ids].requires_grad_()
        scores = evaluate(host, goal, ids, rows, embeddings=soft)
        close(scores.detach(), expected)
        (gradient,) = torch.autograd.grad(scores.sum(), soft)
    assert sorted(lengths) == [4, 4, 6, 6, 9, 9]
    real = rows.mask
    assert gradient[~real].abs().max() == 0 and gradient[real].abs().amax(-1).min() > 0


def test_scores_come_in_the_order_given_whatever_the_batches(tiny_encoder64: torch.nn.Module) -> None:
    texts = ["the red dog .", "a", "i love my small old house .", "a cat", "the sun", "a cat"]
    expected = [td.score(tiny_encoder64, C, text)[0] for text in texts]
    for batch_tokens in (1, 12, 4096):
        close(td.score(tiny_encoder64, C, texts, batch_tokens=batch_tokens), expected)
    found = td.score(tiny_encoder64, C, texts)
    assert found.shape == (6,) and found.dtype == torch.float64 and not found.requires_grad


def test_prompts_and_ids_are_scored_too(tiny_encoder64: torch.nn.Module) -> None:
    vocab = tiny_encoder64.tokenizer.get_vocab()
    ids = [vocab[word] for word in ("[CLS]", "a", "cat", "[SEP]")]
    scores = td.score(tiny_encoder64, A, ["a cat", td.Prompt("a cat"), td.Prompt(ids=ids)])
    assert len(set(scores.tolist())) == 1
    assert td.score(tiny_encoder64, A, td.Prompt(ids=ids)).shape == (1,)


def test_texts_that_are_refused(tiny_encoder: torch.nn.Module) -> None:
    with says("no text to score: give at least one"):
        td.score(tiny_encoder, A, [])
    with says("is empty or holds special tokens only"):
        td.score(tiny_encoder, A, ["a cat", ""])
    with says("the sentence has 42 tokens with its special ones, the model reads 32: shorten it"):
        td.score(tiny_encoder, A, "dog " * 40)


def test_units_of_several_parts_are_read_at_once_as_alone(tiny_encoder64: torch.nn.Module) -> None:
    """Other hooks, heads and positions, behind an activation function and not: values and slopes of each part's own."""
    post = td.neuron("mlp_post", layer=1, unit=3, pos=1)
    goals = [
        (post, post.uphill),
        (td.neuron("z", layer=1, head=2, unit=1, pos=2),),
        (td.neuron("z", layer=1, unit=-1, pos="dog"),),
        (td.neuron("block_out", layer=0, unit=4, pos=-2), td.neuron("block_out", layer=1, unit=4, pos=1, reduce="min")),
    ]
    texts = [["the red dog", "i see dog"], ["i see dog"], ["a small dog", "the red dog", "i see dog"], ["the red dog"]]
    with attached(tiny_encoder64) as host:
        sentences = [[host.vocabulary.read(text) for text in some] for some in texts]
        parts = [Part(one, BatchContext.of(host, some), host.meter) for one, some in zip(goals, sentences, strict=True)]
        ids, _ = host.pad([sentence.ids for some in sentences for sentence in some])
        soft = host.W_E[ids].detach().requires_grad_()
        with torch.enable_grad():
            found = evaluate_parts(host, parts, ids, embeddings=soft)
            (pull,) = torch.autograd.grad(sum(own[-1].sum() for own in found), soft)
        first = 0
        for part, own in zip(parts, found, strict=True):
            rows = slice(first, first := first + len(part.rows.mask))
            with torch.enable_grad():
                here = soft[rows].detach().requires_grad_()
                acts = read_activations(
                    host, dict.fromkeys(r for g in part.objectives for r in g.reads), ids[rows], embeddings=here
                )
                alone = [goal(acts, part.rows) for goal in part.objectives]
                (mine,) = torch.autograd.grad(alone[-1].sum(), here)
            for value, other in zip(own, alone, strict=True):
                torch.testing.assert_close(value, other, rtol=0, atol=1e-12)
            torch.testing.assert_close(pull[rows], mine, rtol=0, atol=1e-12)
        many = [Part((td.neuron("z", layer=1, head=9, unit=1, pos=2),), parts[0].rows, host.meter)]
        with says("head 9 does not exist: the hook 'z' has heads 0 to"):
            evaluate_parts(host, many, ids[:2])


@pytest.mark.parametrize(
    ("goal", "parts"),
    [
        (td.neuron("mlp_post", layer=1, unit=40), ["unit 40 does not exist: the hook 'mlp_post' has units 0 to 39"]),
        (td.neuron("mlp_post", layer=1, unit=-41), ["unit -41 does not exist"]),
        (td.neuron("mlp_post", layer=1), ["neuron('mlp_post', layer=1) needs unit=: which of the 40 units"]),
        (td.neuron("z", layer=1), ["needs unit=: which of the 24 units"]),
        (td.neuron("z", layer=1, head=1), ["needs unit=: which of the 6 units"]),
        (td.neuron("z", layer=1, head=4, unit=0), ["head 4 does not exist: the hook 'z' has heads 0 to 3"]),
        (td.neuron("z", layer=1, head=0, unit=6), ["unit 6 does not exist: the hook 'z' has units 0 to 5"]),
        (td.neuron("z", layer=1, unit=24), ["unit 24 does not exist: the hook 'z' has units 0 to 23"]),
        (
            td.neuron("mlp_post", layer=1, head=0, unit=1),
            ["the hook 'mlp_post' has no heads (shape (1, 6, 40)): leave"],
        ),
        (td.neuron("mlp_post", layer=7, unit=1), ["layer 7 does not exist: ", "has layers 0 to 2"]),
        (td.neuron("mlp_post", unit=1), ["the hook 'mlp_post' is one of every layer: give layer= (0 to 2)"]),
        (td.neuron("mlp_psot", layer=1, unit=1), ["unknown hook 'mlp_psot'; nearest: mlp_post"]),
        (td.neuron("mlp_post", layer=1, unit=1, pos=6), ["position 6 is outside the sentence of 6 tokens: 0 [CLS]"]),
        (td.neuron("mlp_post", layer=1, unit=1, pos="dig"), ["the word 'dig' is not in the sentence; nearest: dog"]),
        (td.neuron("mlp_post", layer=1, unit=1, pos=[]), ["no position given: name at least one of 0 [CLS]"]),
        (td.attention(layer=1, head=4, query=1, key=2), ["head 4 does not exist: the hook 'pattern' has heads 0 to 3"]),
        (td.attention(layer=1, head=0, query=1, key=9), ["position 9 is outside the sentence"]),
        (td.attention(layer=1, head=0, query="cow", key=1), ["the word 'cow' is not in the sentence"]),
        (td.neuron("pattern", layer=1, pos=1, key=2), ["an attention pattern needs head=, and has no unit="]),
        (td.neuron("pattern", layer=1, head=1, unit=1, key=2), ["an attention pattern needs head=, and has no unit="]),
        (
            td.direction([1.0] * 7, "block_out", layer=1),
            ["the vector has 7 numbers, the hook 'block_out' has 24 units"],
        ),
        (td.direction([1.0] * 24, "z", layer=1, head=0), ["the vector has 24 numbers, the hook 'z' has 6 units"]),
        (td.direction([1.0] * 6, "z", layer=1, head=9), ["head 9 does not exist"]),
        (td.direction([1.0] * 24, "block_out", layer=1, head=0), ["the hook 'block_out' has no heads"]),
    ],
    ids=repr,
)
def test_what_is_not_there_is_said_when_scored(
    tiny_encoder: torch.nn.Module, goal: Objective, parts: list[str]
) -> None:
    with says(*parts):
        td.score(tiny_encoder, goal, "the red dog .")


def test_what_is_said_at_once() -> None:
    with says("unknown reduce 'maximum'; nearest: max"):
        td.neuron("mlp_post", layer=1, unit=1, reduce="maximum")
    with says("neuron('mlp_post', layer=1, unit=1, key=2): key= (the position attended to) goes with attention"):
        td.neuron("mlp_post", layer=1, unit=1, key=2)
    with says("neuron('pattern', layer=1, head=2): an attention pattern needs key= (the position attended to)"):
        td.neuron("pattern", layer=1, head=2)
    with says("the direction holds NaN or infinite numbers"):
        td.direction([1.0, math.nan], "block_out", layer=1)
    with says("the direction is zero everywhere: every text would score 0 on it"):
        td.direction([0.0] * 24, "block_out", layer=1)
    with says("'pattern' is an attention pattern and has no directions: use attention()"):
        td.direction([1.0], "pattern", layer=1)


def test_hooks_without_positions(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every()
    name = next(
        (
            info.name
            for info in td.list_hooks(model)
            if info.shape is not None and len(info.shape) == 2 and info.name.startswith("nsp_head.hook_out")
        ),
        None,
    )
    if name is None:
        pytest.skip("every hook of this model has positions")
    with says(f"the hook {name!r} has no positions (shape (1, 2)): read it with custom()"):
        td.score(model, td.neuron(name, unit=1), "the red dog")
    own = td.custom(lambda a: a["n"][:, 1], {"n": name})
    assert td.score(model, own, TEXTS).shape == (3,)


def test_every_kind_of_model_is_covered_here() -> None:
    assert set(EVERY) >= {"bridge", "causal bridge"} and (len(EVERY) == 4) == HAS_HOOKED
