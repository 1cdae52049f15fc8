"""Fluency: how likely a sentence's words are to a judge, in nats per token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from tl_dream._arguments import flag
from tl_dream._errors import DreamError, require
from tl_dream.models import Host, Meter, attached, forward, opened
from tl_dream.objectives.bigrams import BigramModel
from tl_dream.objectives.objective import TOKENS, Activations, BatchContext, Objective, Read, Tokens
from tl_dream.objectives.pickling import remembered


@remembered
def fluency(judge: Any = None, *, masked: bool = False) -> Objective:
    """How readable a text is: the mean log-probability of its words under a judge, nats per token, at most 0.

    It adds to objectives like any other: `goal + 0.1 * fluency(judge)`. Soft words count by their weight.

    Args:
        judge: None for the dreaming model's own language-model head; another model with the same tokenizer; or bigrams
            (`count_bigrams`), which work offline with any text. A masked model reads each word's probability at its own
            place in one pass with the word in sight, which is cheap and made for searches; a causal model gives the
            cross-entropy (Thompson et al. 2024).
        masked: mask every word in turn, a pass a word: the pseudo-log-likelihood (Salazar et al. 2020). Give the model
            itself as judge.

    Raises:
        DreamError: no judge of these kinds; (when scored) a head that is not trained, another tokenizer, a causal judge
            and a sentence without its start-of-text token.

    Examples:
        >>> judge = td.fluency(td.count_bigrams(bert, ["the red dog is good", "the cat is bad"]))
        >>> goal = td.neuron("mlp_post", layer=1, unit=3) + 0.1 * judge
    """
    masked = flag("masked", masked)
    if isinstance(judge, BigramModel):
        require(not masked, "fluency(masked=True) masks a model's words: bigrams have no mask")
        return _objective(f"fluency({judge!r})", (TOKENS,), _Bigrams(judge))
    if judge is None:
        require(
            not masked, "fluency(masked=True) needs passes of its own: give the model as judge, fluency(model, ...)"
        )
        return _objective("fluency()", (Read("logits"), TOKENS), _own_head)
    with attached(judge) as host:  # tells what is no model
        host.resolve("logits")
        require(
            not masked or (not host.causal and host.vocabulary.mask_id is not None),
            f"fluency(masked=True): {host.name} is no masked language model",
        )
        label = f"fluency({host.name}{', masked=True' if masked else ''})"
    return _objective(label, (TOKENS,), _Judge(judge, masked))


def _objective(formula: str, reads: tuple[Read, ...], values: Any) -> Objective:
    """The mean over the words that the judge says something about."""

    def asked(acts: Activations, rows: BatchContext) -> tuple[Tensor, Tensor]:
        known = acts[TOKENS].judged
        if id(values) not in known:
            known[id(values)] = values(acts, rows)
        return known[id(values)]

    def tokens(acts: Activations, rows: BatchContext) -> Tensor:
        found, judged = asked(acts, rows)
        return found.masked_fill(~judged, 0)

    def score(acts: Activations, rows: BatchContext) -> Tensor:
        return tokens(acts, rows).sum(1) / asked(acts, rows)[1].sum(1).clamp_min(1)

    return Objective(reads, formula, score, tokens, (None, "mean"))


class SameTokens:
    """Raises `DreamError` unless a judge's tokens are the dreaming model's; looks once at every tokenizer."""

    def __init__(self) -> None:
        self._seen: Any = None

    def __call__(self, name: str, size: int, digest: Callable[[], str], rows: BatchContext) -> None:
        """`digest` gives that of the judge's vocabulary (see `Vocabulary.digest`)."""
        known = rows.vocabulary
        if self._seen is known.tokenizer:
            return
        require(
            size == known.d_vocab,
            f"{name} knows {size} tokens, the dreaming model {known.d_vocab}: both must share one tokenizer",
        )
        require(
            digest() == known.digest,
            f"{name} has another vocabulary than the dreaming model's, of the same size: both must share one "
            "tokenizer; bigrams counted with count_bigrams(model, texts) always do",
        )
        self._seen = known.tokenizer


class _Bigrams:
    def __init__(self, judge: BigramModel) -> None:
        self._judge, self._check = judge, SameTokens()

    def __call__(self, acts: Activations, rows: BatchContext) -> tuple[Tensor, Tensor]:
        tokens: Tokens = acts[TOKENS]
        self._check(repr(self._judge), len(self._judge.unigram), lambda: self._judge.vocabulary, rows)
        self._judge = self._judge.on(tokens.ids.device)
        return self._judge.log_probabilities(tokens, rows)


def _own_head(acts: Activations, rows: BatchContext) -> tuple[Tensor, Tensor]:
    return _judged(acts[Read("logits")], acts[TOKENS], rows, acts[TOKENS].causal)


HELD_LOGITS = 1 << 25
"""Numbers that the logits of masked sentences may take at once."""


class _Judge:
    """Another model, attached for every look."""

    def __init__(self, model: Any, masked: bool) -> None:
        self._model, self._masked, self._check = model, masked, SameTokens()

    def __call__(self, acts: Activations, rows: BatchContext) -> tuple[Tensor, Tensor]:
        tokens: Tokens = acts[TOKENS]
        with opened(self._model) as host:
            self._check(host.name, host.d_vocab, lambda: host.vocabulary.digest, rows)
            if self._masked:
                return self._each_masked(tokens, tokens.embed(host.W_E), rows), rows.words
            hook = host.resolve("logits")
            mask = None if bool(rows.mask.all()) else rows.mask
            soft = None if tokens.weights is None else tokens.embed(host.W_E)
            own = replace(host, meter=tokens.meter)
            logits = forward(own, tokens.ids, [hook], embeddings=soft, mask=mask)[hook]
            return _judged(logits, tokens, rows, host.causal)

    def _each_masked(self, tokens: Tokens, embeddings: Float[Tensor, "batch pos d"], rows: BatchContext) -> Tensor:
        """Every word's log-probability with that word masked, Float[batch, pos]: a pass a word, some words at once.

        Only one number per pass is kept. When gradients are needed, the passes are recomputed in the backward pass
        (after the model has been detached), and charged as that backward pass."""
        row, pos = rows.words.nonzero(as_tuple=True)
        size = max(1, HELD_LOGITS // (tokens.ids.shape[1] * rows.vocabulary.d_vocab))
        again = embeddings.requires_grad and torch.is_grad_enabled() and len(row) > size
        meters: list[Meter] = []

        def work(row: Tensor, pos: Tensor, embeddings: Tensor, weights: Tensor | None) -> Tensor:
            with opened(self._model) as host:
                meters.append(host.meter)
                return _some_masked(host, tokens.ids, embeddings, weights, rows.mask, row, pos)

        found = []
        for some, at in zip(row.split(size), pos.split(size), strict=True):
            given = (some, at, embeddings, tokens.weights)
            found.append(
                checkpoint(work, *given, use_reentrant=False, preserve_rng_state=False) if again else work(*given)
            )
        for meter in meters:
            tokens.meter.charge(meter.forwards, meter.forward_tokens)
        values = torch.cat(found) if found else embeddings.new_zeros(0)
        return values.new_zeros(tokens.ids.shape).index_put((row, pos), values)


def _some_masked(
    host: Host,
    ids: Int[Tensor, "batch pos"],
    embeddings: Float[Tensor, "batch pos d"],
    weights: Float[Tensor, "batch pos vocab"] | None,
    mask: Bool[Tensor, "batch pos"],
    row: Int[Tensor, " word"],
    pos: Int[Tensor, " word"],
) -> Float[Tensor, " word"]:
    """The log-probability of some words, each with itself masked: a row a word."""
    hook, mask_id = host.resolve("logits"), host.vocabulary.mask_id
    assert mask_id is not None
    each = torch.arange(len(row), device=ids.device)
    masked = ids[row].index_put((each, pos), ids.new_tensor(mask_id))
    mixed = embeddings[row].index_put((each, pos), host.W_E[mask_id])
    seen = None if bool(mask[row].all()) else mask[row]
    shares = forward(host, masked, [hook], embeddings=mixed, mask=seen)[hook][each, pos].log_softmax(-1)
    if weights is None:
        return shares.gather(1, ids[row, pos][:, None])[:, 0]
    return (shares * weights[row, pos].to(shares.dtype)).sum(-1)


def _judged(
    logits: Float[Tensor, "batch pos vocab"], tokens: Tokens, rows: BatchContext, causal: bool
) -> tuple[Float[Tensor, "batch pos"], Bool[Tensor, "batch pos"]]:
    """Every word's log-probability, and which words have one."""
    if causal:  # the logits at a position predict the next
        if bool(rows.words[:, 0].any()):
            raise DreamError(
                "a causal judge says nothing about a sentence's first word, and this one has no start-of-text token "
                "before it: set model.cfg.default_prepend_bos = True"
            )
        logits = logits.roll(1, dims=1)
    shares = logits.log_softmax(-1)
    if tokens.weights is None:
        found = shares.gather(2, tokens.ids.unsqueeze(-1)).squeeze(-1)
    else:
        found = (shares * tokens.weights.to(shares.dtype)).sum(-1)
    return found, rows.words
