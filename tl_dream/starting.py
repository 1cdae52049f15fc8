"""Where a dream starts from, and what it may write."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Bool
from torch import Tensor

from tl_dream._errors import require
from tl_dream.batches import Batch
from tl_dream.corpus_results import CorpusResult
from tl_dream.hosts import Host
from tl_dream.objectives import Objective
from tl_dream.prompts import Allowed, Positions, Prompt, Sentence, Vocabulary

TOP = 10
"""Sentences of a corpus search that a dream starts from, as many as the article took."""

Start = str | Prompt | Sequence[str | Prompt] | CorpusResult | None
"""A sentence, several, or a corpus search."""


def read_prompts(host: Host, prompt: Start, free: Positions = None) -> tuple[Sentence, ...]:
    """One or several starts, tokenized, with their free positions.

    Raises:
        DreamError: nothing to start from, or a start that is neither text nor a Prompt.
    """
    if isinstance(prompt, CorpusResult):
        prompt = prompt.texts(TOP)
    require(prompt is not None, "no sentence to start from: give a prompt, or start= with a corpus search")
    assert prompt is not None
    given = [prompt] if isinstance(prompt, str | Prompt) else list(prompt)
    require(bool(given), "no sentence to start from: give at least one")
    for item in given:
        require(
            isinstance(item, str | Prompt),
            f"a start is text or a Prompt, not {type(item).__name__}: {item!r}",
        )
        require(
            free is None or isinstance(item, str),
            "free= goes with plain text; a Prompt says itself which of its positions are free",
        )
    return tuple(host.vocabulary.read(Prompt(item, free) if isinstance(item, str) else item) for item in given)


def allowed_tokens(
    vocabulary: Vocabulary, objective: Objective, allowed: Allowed, banned: Sequence[str | int] | None
) -> Bool[Tensor, " d_vocab"]:
    """The mask of tokens that a dream may write: the allowed ones without the banned.

    Args:
        banned: exactly these tokens, no other spelling; None bans those whose prediction the objective asks for.

    Raises:
        DreamError: an unknown token or rule, or nothing left.
    """
    require(not isinstance(banned, str), f"banned = {banned!r}: give a list of tokens")
    mask = vocabulary.allowed(allowed)
    out = [vocabulary.token_id(token) for token in (objective.answers if banned is None else banned)]
    mask[out] = False
    require(bool(mask.any()), "the banned tokens leave nothing of the allowed ones: ban fewer, or allow more")
    return mask


def make_batch(
    host: Host,
    objective: Objective,
    prompt: Start,
    *,
    free: Positions = None,
    starts: int = 1,
    allowed: Allowed,
    banned: Sequence[str | int] | None = None,
    max_changes: int | None = None,
    retokenize: bool = True,
) -> Batch:
    """The rows that dream together: every sentence `starts` times, one after the other.

    Raises:
        DreamError: bad input (see the message).
    """
    check_count("starts", starts)
    if max_changes is not None:
        check_count("max_changes", max_changes)
    sentences = read_prompts(host, prompt, free)
    mask = allowed_tokens(host.vocabulary, objective, allowed, banned)
    return Batch.of(host, [one for one in sentences for _ in range(starts)], mask, retokenize, max_changes)


def check_count(name: str, value: object) -> None:
    """Raise unless `value` is a whole number of at least 1."""
    require(
        isinstance(value, int) and not isinstance(value, bool) and value >= 1,
        f"{name} = {value!r}: give a whole number of at least 1",
    )


BUDGET = 400_000
"""Forward-tokens that a search over real tokens may spend where no budget is given."""


def budget_of(budget: int | None) -> int:
    """The forward-tokens a search over real tokens may spend.

    Raises:
        DreamError: a budget that is no whole number of at least 1.
    """
    if budget is None:
        return BUDGET
    check_count("budget", budget)
    return budget
