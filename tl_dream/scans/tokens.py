"""Exhaustive looks at one position: the best of all tokens, the nearest tokens, the model's own predictions. (Looks
through a corpus have their own room, `corpus`.)"""

from __future__ import annotations

import hashlib
import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from tl_dream._arguments import Number, Whole, one_of, seed_number, whole_number
from tl_dream._errors import keeping, require, shortened
from tl_dream.models import Host, attached, forward
from tl_dream.objectives import Objective, check
from tl_dream.results import (
    MaskedPredictions,
    Neighbour,
    NeighbourTable,
    Place,
    Prediction,
    TokenScore,
    TokenTable,
)
from tl_dream.scans.screening import Shortlist, exact_best
from tl_dream.scans.substitutions import Substitution, numbered, read_place
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Prompt, Sentence

METRICS = ("euclidean", "cosine")


def token_search(
    model: Any,
    objective: Objective,
    prompt: str | Prompt,
    *,
    pos: Whole | str | None = None,
    top: Whole = 20,
    allowed: Allowed = DEFAULT_ALLOWED,
    precision: str = "auto",
    batch_tokens: Whole | None = None,
    seconds: Number | None = None,
    seed: Whole = 0,
    progress: bool | None = None,
) -> TokenTable:
    """The exact best tokens at one position of a sentence, over the whole allowed vocabulary (the article's Figure 3).

    Exact: the same tokens in the same order as a loop that scores one sentence at a time in the model's own precision,
    equal scores by id. The vocabulary is screened in large batches, in bf16 where that is faster, reusing the rows that
    a changed token leaves as they were, and at first holding those still that it hardly changes; what comes near the
    cut is scored by the model itself, on a CPU one at a time.

    What "near" is: a token is left out only if its screened score lies below the cut by more than the screen's error
    bound, four times the largest error on 256 random tokens and on all that came near (an offset common to all is no
    error). The bound is measured, not proved. It holds for scores that are continuous in the activations, as those of
    this package's objectives are. A function of yours (`custom`) may jump, and so may your hooks and modules: these
    are screened in the model's own precision alone, where only a jump within rounding of a token's activation (about
    one part in a million in float32) can deceive the screen.

    Args:
        model: a HookedEncoder, HookedTransformer or TransformerBridge.
        objective: what to measure; higher is better. It may read another position than the one that changes; a word
            it names is found in the sentence as given.
        prompt: the sentence.
        pos: the position whose token is exchanged, or its word; None takes the one free position of a `Prompt`.
        top, allowed: tokens to return, and to search. Each that is returned takes a forward pass of its own.
        precision: of the screen: "auto", "bf16", or "full" for the model's own and all rows. The result is the same,
            but for scores that jump: there "bf16", which takes you at your word, may miss tokens.
        batch_tokens: tokens a forward pass at most; None fits the device. Only speed and memory depend on it.
        seconds: to take at most, by the wall clock; what looked best by then is the table, and `stopped` is "seconds".
        seed: of the sample that measures the screen.
        progress: show a progress bar; None shows it on a terminal only.

    Raises:
        DreamError: a position outside the sentence, more tokens asked for than are allowed, or other bad input.
        DreamError, KeyboardInterrupt: what ends the search after some work (Ctrl-C too) brings as its `partial` the
            table of the tokens that were screened so far.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3)
        >>> table = td.token_search(bert, goal, "the red dog", pos="red", top=3, allowed=["red", "blue", "old"])
    """
    with attached(model, seconds) as host:
        before = host.meter.now()
        check(host, objective)
        sentence, position = read_place(host, prompt, pos)
        tokens = host.vocabulary.allowed(allowed).nonzero().flatten()
        top = whole_number("top", top)
        seed = seed_number(seed)
        require(
            top <= len(tokens), f"top = {top} is more than the {len(tokens)} tokens that are allowed: ask for fewer"
        )
        swap = Substitution(host, objective, sentence, position, batch_tokens)
        chosen = float(swap.exact(torch.tensor([sentence.ids[position]])))
        require(math.isfinite(chosen), f"the sentence {sentence.text!r} itself scores {chosen}: check the objective")
        screen, functions = swap.screens(precision)

        def table(found: Shortlist, stopped: str = "complete") -> TokenTable:
            best = tokens[list(found.best)].tolist()
            return TokenTable(
                model=host.name,
                objective=repr(objective),
                place=_as_place(sentence, position),
                chosen=TokenScore(sentence.tokens[position], sentence.ids[position], chosen),
                top=tuple(
                    TokenScore(token, id, score)
                    for token, id, score in zip(host.vocabulary.tokens(best), best, found.scores, strict=True)
                ),
                evaluated=found.screened,
                allowed=_fingerprint(tokens),
                screen=screen,
                bound=found.bound if math.isfinite(found.bound) else None,
                shortlisted=found.passed,
                rescored=found.scored,
                cost=host.meter.now() - before,
                stopped=stopped,
                fired=None if objective.off is None else max(found.scores) > objective.off,
            )

        with tqdm(
            total=len(tokens),
            disable=None if progress is None else not progress,
            desc="token search",
            unit="token",
            leave=False,
        ) as bar:

            def tick(count: int) -> object:  # what comes near the cut is seen by several screens
                return bar.update(min(count, len(tokens) - bar.n))

            highest = chosen

            def exact(part: Tensor) -> Tensor:
                nonlocal highest
                scores = swap.exact(part)
                highest = max([highest, *(score for score in scores.tolist() if not math.isnan(score))])
                bar.set_postfix_str(f"best {highest:.3f}")
                return scores

            with keeping(lambda found, why: None if found is None else table(found, why)):
                found = exact_best(
                    len(tokens),
                    top,
                    [numbered(tokens, function, tick) for function in functions],
                    numbered(tokens, exact),
                    seed=seed,
                    late=lambda: host.late,
                )
        return table(found, "complete" if found.whole else "seconds")


def _fingerprint(tokens: Tensor) -> str:
    """What tells one set of allowed tokens from another."""
    return hashlib.blake2b(tokens.numpy().tobytes(), digest_size=8).hexdigest()


def _as_place(sentence: Sentence, pos: int) -> Place:
    return Place(sentence.text, sentence.tokens, sentence.ids, pos)


MOST = 30
"""Neighbours, and tokens of the search that they are compared with, where nothing is asked for."""


def similar_tokens(
    model: Any,
    objective: Objective,
    prompt: str | Prompt,
    *,
    pos: Whole | str | None = None,
    k: Whole | None = None,
    metric: str = "euclidean",
    search: TokenTable | bool = True,
    best: Whole | None = None,
    allowed: Allowed = DEFAULT_ALLOWED,
    seconds: Number | None = None,
    progress: bool | None = None,
) -> NeighbourTable:
    """The tokens nearest to a sentence's own in embedding space, and what they score in its place (Figure 4).

    If meaning were all a unit looked for, near tokens would score alike; the share of them that the token search finds
    too tells how far that holds. A neighbour counts as found if it is one of the search's best tokens itself: of
    several that score the same at the cut, those with the lowest ids are.

    Args:
        model, objective: as in `token_search`.
        prompt, pos: the sentence and the place, as in `token_search`.
        k: neighbours to return, the token itself not counted; None takes 30, or all where fewer are allowed.
        metric: "euclidean", or "cosine" (1 - cosine similarity).
        search: a `token_search` of the same place and allowed tokens with at least `best` tokens, to compare with;
            True runs it, False leaves the comparison out.
        best: how many of the search's tokens to compare with; None as `k`.
        allowed: tokens that count as neighbours.
        seconds: to take at most, by the wall clock; where the search is not done by then, there is no comparison.
        progress: as in `token_search`.

    Raises:
        DreamError: an unknown metric, too many neighbours, a search of another place or of other tokens.
        KeyboardInterrupt: Ctrl-C in the search brings the neighbours without the comparison, as its `partial`.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=3)
        >>> near = td.similar_tokens(bert, goal, "the red dog", pos="red", k=3, search=False)
    """
    one_of("metric", metric, METRICS)
    with attached(model, seconds) as host:
        before = host.meter.now()
        check(host, objective)
        sentence, position = read_place(host, prompt, pos)
        own = sentence.ids[position]
        every = host.vocabulary.allowed(allowed).nonzero().flatten()
        others = every[every != own]
        k = whole_number("k", min(MOST, len(others)) if k is None else k)
        best = whole_number("best", min(MOST, len(every)) if best is None else best)
        require(
            k <= len(others), f"k = {k} is more than the {len(others)} other tokens that are allowed: ask for fewer"
        )
        require(
            isinstance(search, bool | TokenTable),
            f"search = {search!r}: give True, False, or the result of a token_search",
        )
        if search is True:
            require(
                best <= len(every),
                f"best = {best} is more than the {len(every)} tokens that are allowed: compare with fewer",
            )
            alone = partial(similar_tokens, host, objective, prompt, pos=position, k=k, metric=metric, allowed=allowed)
            with keeping(lambda *_: alone(search=False)):
                search = token_search(
                    host, objective, prompt, pos=position, top=best, allowed=allowed, progress=progress
                )
            search = search if search.stopped == "complete" else False
        elif isinstance(search, TokenTable):
            _check_same(search, host, objective, sentence, position, best)
            require(
                search.allowed == _fingerprint(every),
                f"the token search looked at {search.evaluated:,} tokens that are not the {len(every):,} allowed here: "
                "give both the same allowed=",
            )
        distances = _distances(host.W_E, own, metric)[others]
        order = distances.sort(stable=True).indices[:k]
        near, far = others[order], distances[order].tolist()
        scores = Substitution(host, objective, sentence, position).batched(torch.cat([near, torch.tensor([own])]))
        require(
            bool(torch.isfinite(scores).all()),
            f"{int((~torch.isfinite(scores)).sum())} of the {k} neighbours and the token itself score NaN or infinity: "
            "check the objective",
        )
        *each, own_score = scores.tolist()
        cut = search.top[best - 1].score if isinstance(search, TokenTable) else None
        found = {row.id for row in search.top[:best]} if isinstance(search, TokenTable) else None
        names = host.vocabulary.tokens(near.tolist())
        return NeighbourTable(
            model=host.name,
            objective=repr(objective),
            place=_as_place(sentence, position),
            metric=metric,
            chosen=Neighbour(sentence.tokens[position], own, 0.0, own_score, None if found is None else own in found),
            neighbours=tuple(
                Neighbour(*row, None if found is None else row[1] in found)
                for row in zip(names, near.tolist(), far, each, strict=True)
            ),
            best=best if found is not None else 0,
            cut=cut,
            share=sum(id in found for id in near.tolist()) / k if found is not None else None,
            cost=host.meter.now() - before,
            furthest=float(distances.max()),
        )


def _check_same(search: TokenTable, host: Host, objective: Objective, sentence: Sentence, pos: int, best: int) -> None:
    """A token search to compare with is one of the same question."""
    asked = (host.name, repr(objective), sentence.ids, pos)
    given = (search.model, search.objective, search.place.ids, search.place.pos)
    require(
        asked == given,
        f"the token search is of another question ({search.objective} on {search.model}, {search.place}): give that of "
        "this objective, sentence and position, or search=True",
    )
    require(
        len(search.top) >= best,
        f"the token search holds the best {len(search.top)} tokens, and best = {best}: search with top={best}",
    )


def _distances(W_E: Tensor, own: int, metric: str) -> Tensor:
    """From one token's embedding to all, on the CPU in float64, a slice of the matrix at a time."""
    vector = W_E[own].double().cpu()
    found = []
    for part in W_E.split(8192):
        rows = part.double().cpu()
        if metric == "cosine":
            found.append(1 - torch.cosine_similarity(rows, vector[None], dim=1))
        else:
            found.append((rows - vector).norm(dim=1))
    return torch.cat(found).clamp_min(0)


def predict_masked(model: Any, text: str | Prompt, *, top: Whole = 5) -> MaskedPredictions:
    """What a masked language model puts in place of each [MASK]. (To dream of a prediction, maximise `logit`.)

    Args:
        model: a BERT whose language-model head is trained.
        text: a sentence with [MASK] in it.
        top: tokens a [MASK].

    Raises:
        DreamError: the head is not trained, the model has no mask token, or the text has none or is none.

    Examples:
        >>> table = td.predict_masked(bert, "the [MASK] dog", top=3)
    """
    with attached(model) as host, torch.no_grad():
        before = host.meter.now()
        mask = host.vocabulary.mask_id
        require(
            mask is not None and not host.causal,
            f"{host.name} has no mask token: predict_masked needs a masked language model, such as a BERT",
        )
        logits_hook = host.resolve("logits")
        name = host.vocabulary.tokenizer.mask_token
        sentence = host.vocabulary.read(text)
        masked = [i for i, id in enumerate(sentence.ids) if id == mask]
        require(
            bool(masked),
            f"the sentence {shortened(repr(sentence.text))} has no {name}: put {name} where a token is to be predicted",
        )
        top = whole_number("top", top, 1, host.d_vocab, ", the size of the vocabulary")
        ids, _ = host.pad([sentence.ids])
        logits = forward(host, ids, [logits_hook])[logits_hook][0, masked].cpu()
        order = logits.sort(dim=1, descending=True, stable=True).indices[:, :top]
        shares = logits.double().softmax(1)
        return MaskedPredictions(
            model=host.name,
            places=tuple(_as_place(sentence, pos) for pos in masked),
            predictions=tuple(
                tuple(
                    Prediction(token, id, float(logits[row, id]), float(shares[row, id]))
                    for token, id in zip(host.vocabulary.tokens(chosen), chosen, strict=True)
                )
                for row, chosen in enumerate(order.tolist())
            ),
            cost=host.meter.now() - before,
        )
