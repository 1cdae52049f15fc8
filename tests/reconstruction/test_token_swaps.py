"""The room reconstruction.token_swaps."""

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

import tl_dream as td
from tests.support.objectives import raw
from tests.support.reconstruction import QUICK, READ, TEXT, tensor_of
from tests.support.search import answered, outcome_of
from tl_dream.models import attached
from tl_dream.reconstruction.targets import frame
from tl_dream.reconstruction.token_swaps import CHUNK, TokenLedger, TokenSpace, joint, polish
from tl_dream.search.batch import Search


def test_from_a_start(model):
    """An activation moved from one sentence's to another's word, which no text reaches."""
    here, there = tensor_of(model), tensor_of(model, TEXT.replace("dog", "cat"))
    target = here.clone()
    target[3] = there[3]
    result = td.reconstruct(model, target, TEXT, layer=0, patience=0, truth=TEXT, **QUICK)
    assert result.start.text == READ
    assert -result.start.score == pytest.approx(float((target - here).square().mean()), rel=1e-4)
    assert result.loss <= -result.start.score
    assert -result.loss >= max(result.start.score, -float((target - there).square().mean()) - 1e-7)
    assert result.changed == tuple(i for i in result.free if result.start.ids[i] != result.best.ids[i])
    assert result.scale == pytest.approx(float(target.square().mean().sqrt()), rel=1e-5)
    assert result.gap == pytest.approx(result.loss**0.5 / result.scale)
    assert len(result.errors) == 8 and result.loss == pytest.approx(
        sum((e * result.scale) ** 2 for e in result.errors) / 8, rel=1e-4
    )


def test_a_target_that_is_the_starts_own_is_solved_at_once(model):
    result = td.reconstruct(model, tensor_of(model, layer=2), TEXT, layer=2, **QUICK)
    assert result.certified and result.changed == () and result.cost.forwards < 300


def test_only_the_free_words_of_a_start_move(model):
    target = tensor_of(model, "a red cat was old .")
    result = td.reconstruct(model, target, td.Prompt(TEXT, free="dog"), layer=0, patience=0, **QUICK)
    assert result.changed == (3,) and result.tokens[1] == "the" and not result.certified


class Table(TokenLedger):
    """Losses from a table: what each token saves at its place."""

    def __init__(self, saved: dict[tuple[int, int], float]) -> None:
        self.saved = saved

    def see(self, tokens: Tensor) -> Search[Tensor]:
        yield from ()
        rows = tokens.tolist()
        return 10.0 - torch.tensor([sum(self.saved.get(pair, 0.0) for pair in enumerate(row)) for row in rows]).double()


def test_swaps_that_help_are_made_together_the_best_of_each_place() -> None:
    judge, tokens = Table({(0, 7): 3.0, (0, 8): 2.0, (1, 9): 1.0}), torch.tensor([1, 2])
    found = outcome_of(joint(judge, tokens, 10.0, [(0, 8), (1, 5), (1, 9), (0, 7)]))
    assert found is not None and found.tolist() == [7, 9] and tokens.tolist() == [1, 2]
    assert (
        outcome_of(joint(judge, tokens, 10.0, [(1, 5)])) is None and outcome_of(joint(judge, tokens, 10.0, [])) is None
    )


def test_a_polish_of_a_long_sentence_measures_the_least_sure_swaps_alone() -> None:
    """Of 60 positions the best word of the least sure one is put right; no more than `CHUNK` swaps a sweep."""
    likeness = torch.rand(60, 40, generator=torch.Generator().manual_seed(0))
    likeness[torch.arange(60), 0] = 2.0
    likeness[17, 5] = 1.99
    judge, tokens = Table({(17, 5): 1.0}), torch.zeros(60, dtype=torch.long)
    seen: list[int] = []
    plain = judge.see
    judge.see = lambda rows: (seen.append(len(rows)), plain(rows))[1]
    outcome_of(polish(judge, tokens, likeness))
    assert seen == [1, CHUNK, 1, 1, CHUNK]


@pytest.fixture
def space(encoder: torch.nn.Module, unchecked: None) -> Iterator[TokenSpace]:
    """The tokens of four free words."""
    with attached(encoder) as host:
        target = SimpleNamespace(values=torch.zeros(6, 4), sentence=frame(host, 6))
        yield TokenSpace(host, target, host.vocabulary.allowed("no_special"))


def test_likeness_is_the_cosine_of_what_layernorm_sees(encoder: torch.nn.Module, space: TokenSpace) -> None:
    embed = encoder.embed
    added = (embed.pos_embed.W_pos[1:5] + embed.token_type_embed.W_token_type[0]).detach()
    words, every = embed.embed.W_E.detach()[20:24], embed.embed.W_E.detach()
    found = space.likeness(words, space.identity)

    def seen(word: Tensor) -> Tensor:
        return word - word.mean(-1, keepdim=True)

    wanted = torch.cosine_similarity(seen(words + added)[:, None], seen(every + added[:, None]), dim=-1)
    assert found[:, space.allowed].allclose(wanted[:, space.allowed], atol=1e-5)
    assert found.argmax(1).tolist() == [20, 21, 22, 23] and bool((found[:, ~space.allowed] == -torch.inf).all())


def test_gain_is_what_the_loss_falls_by(encoder: torch.nn.Module, space: TokenSpace) -> None:
    """Of a loss that is a bowl around other tokens' embeddings."""
    W = encoder.embed.embed.W_E.detach()
    W = W - W.mean(1, keepdim=True)
    here, there, space.weight = torch.tensor([20, 21, 22, 23]), torch.tensor([30, 31, 32, 20]), 0.7
    found = space.gain(here, 2 * 0.7 * (W[here] - W[there]), space.identity)
    wanted = 0.7 * ((W[here] - W[there]).square().sum(1, keepdim=True) - (W[None] - W[there, None]).square().sum(2))
    others = space.allowed & (torch.arange(len(W)) != here[:, None])
    assert found[others].allclose(wanted[others], atol=1e-5) and found.argmax(1).tolist() == there.tolist()
    assert bool((found[~others] == -torch.inf).all())


def test_a_worse_look_leaves_the_best(unchecked: None) -> None:
    losses = {1: 2.0, 2: 1.0, 3: 5.0}
    target = SimpleNamespace(
        compare=lambda host, rows: answered(SimpleNamespace(errors=torch.tensor([losses[int(rows[0])]]))),
        loss=lambda errors: errors.double(),
        matched=lambda found: torch.zeros(len(found.errors), dtype=torch.bool),
    )
    judge = TokenLedger(SimpleNamespace(meter=SimpleNamespace(forwards=0), late=False), target, budget=10)
    for token in losses:
        outcome_of(judge.see(torch.tensor([[token]])))
    assert judge.best.tolist() == [2] and judge.loss == 1.0


@pytest.mark.slow
def test_the_closest_words_of_minilm(minilm):
    """Pairs of words with the closest embeddings: the wrong one is never certified, the right one always."""
    text = "we saw the {} there ."
    W = torch.nn.functional.normalize(minilm.W_E.detach()[1996:7000], dim=1)
    likeness = (W @ W.T).fill_diagonal_(-1)
    pairs = [(1996 + int(i) // len(W), 1996 + int(i) % len(W)) for i in likeness.flatten().topk(60).indices]
    names = minilm.tokenizer.convert_ids_to_tokens
    tried = 0
    for one, other in dict.fromkeys(tuple(sorted(pair)) for pair in pairs):
        right, wrong = (text.format(names(token)) for token in (one, other))
        if len({len(minilm.tokenizer(t)["input_ids"]) for t in (right, wrong)} | {8}) > 1:
            continue
        for layer in (0, 5):
            target = raw(minilm, right, "block_out", layer)
            assert td.certify(minilm, right, target, layer=layer, rivals=2).certified
            assert not td.certify(minilm, wrong, target, layer=layer, rivals=2).matched
        tried += 1
        if tried == 4:
            break
    assert tried == 4
