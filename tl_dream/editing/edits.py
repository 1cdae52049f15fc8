"""`edit_concept`: move an activation along a concept, and read back the real text that it stands for now."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from tl_dream._arguments import NATURAL, Number, Whole, finite_numbers, flag, layers_of, seed_number, whole_number
from tl_dream._errors import keeping, require
from tl_dream.concepts import ConceptVector, ConceptVectors, classify, vectors_of
from tl_dream.editing.sentence_pool import MovedTarget, SentencePool
from tl_dream.editing.sentence_search import WIDTH, search
from tl_dream.models import Host, attached, forward
from tl_dream.results import WITH_CONCEPT, Change, ConceptEdit, EditRow
from tl_dream.search import Search, run
from tl_dream.text import DEFAULT_ALLOWED, Allowed, Positions, Prompt, Sentence

MAGNITUDES = (-2.0, -1.0, 0.0, 1.0, 2.0)

LEAST = "least"

CLOSER, CONVERGED, PAST = 6, 1e-3, 1.002
"""Rounds at most in which the least magnitude is closed in on, the share by which the last may still change it, and the
factor that a row goes past it, so that the new text is the nearest and no tie."""


@dataclass(frozen=True)
class _Move:
    """One row of the outcome before it is known."""

    vector: ConceptVector
    name: str
    magnitude: float
    control: str | None
    step: Float[Tensor, " unit"]

    def times(self, factor: float) -> _Move:
        """The same move, further or less far."""
        return replace(self, magnitude=self.magnitude * factor, step=self.step * factor)

    @property
    def sign(self) -> float:
        """Which way along the concept a word changes that follows this move: 1, -1, or 0 for no way.

        A random direction and shuffled labels lead no way along the concept to speak of; there it is the way that the
        concept would have gone, so that what they do is counted as its is.
        """
        return (-1.0 if self.control == "opposite" else 1.0) * ((self.magnitude > 0) - (self.magnitude < 0))


def edit_concept(
    model: Any,
    concept: ConceptVector | ConceptVectors,
    text: str | Prompt,
    *,
    pos: Positions,
    magnitudes: str | Number | Iterable[Number] | None = None,
    layers: str | Whole | Iterable[Any] | None = None,
    controls: bool = False,
    randoms: Whole = 1,
    other: ConceptVector | ConceptVectors | None = None,
    starts: Whole = 2,
    width: Whole = WIDTH,
    allowed: Allowed = DEFAULT_ALLOWED,
    seconds: Number | None = None,
    seed: Whole = 0,
    progress: bool | None = None,
) -> ConceptEdit:
    """Move the activation of a word along a concept, at every layer and magnitude, and read back what changed.

    The target is the sentence's own activation, moved at `pos` alone. The text that comes back is the one with the
    least mean squared error over all positions and units that was found among sentences of the same length: real
    tokens that tokenize back to themselves, each measured exactly. All targets share the sentences measured. No text
    may reach a moved activation; how far the best stays from it is the row's `gap`.

    Args:
        concept: from `fit_concept` or `fit_concepts`.
        text: the sentence; a Prompt with `free` says which words may change (default: all).
        pos: where the activation moves: a word, a position, several.
        magnitudes: in natural units, one or several; positive leads to the positive set. None is -2, -1, 0, 1 and 2
            or, where the concept's evidence advises a magnitude beyond 2 (`Carrying.advised`), as many even steps up to
            that one. "least" looks for the least magnitude at which another text than
            the sentence itself is the nearest, away from the set on whose side the word lies, for every layer and
            control by itself; the row stands just past it (where no text lies that way, at the greatest by default).
        layers: of the concept's, one or several; None or "all" for all.
        controls: also measure what no concept does: magnitude zero, random directions of equal norm, a concept fitted
            to shuffled labels, the opposite sign.
        randoms: random directions of the control, at every layer.
        other: another concept of the same model, hook and layers, as a control: a direction in which texts do differ
            (a random one hardly ever changes a word), moved along by the same distance.
        starts: of every target's search. The two of the default are the sentence itself and the sentence with [MASK] at
            the word that moved most, and nothing in them is random; from the third on (the second, where the vocabulary
            has no [MASK]) a start is the sentence with some words swapped at random.
        width: swaps measured for every target and start in a round.
        allowed: tokens that may be put in.
        seconds: to take at most, by the wall clock; the nearest texts by then are the result, and `stopped` is
            "seconds".
        seed: of the random directions, the random starts, and the few random sentences that the search is gauged with.
        progress: show a progress bar; None shows it on a terminal only.

    Raises:
        DreamError: a concept of another model (see `classify`), another concept of other hooks, a position or word that
            is not there, no magnitude, one that is no number, or a sentence without neighbours (nothing else is allowed
            where words are free).
        DreamError, KeyboardInterrupt: what ends the search after some work (Ctrl-C too) brings as its `partial` the
            nearest texts so far.

    Examples:
        >>> edit = td.edit_concept(bert, concept, "the moon sees a star", pos="moon", magnitudes=[1.25])
        >>> edit.rows[0].magnitude
        1.25
    """
    vectors = _chosen(vectors_of(concept), layers)
    others = _beside(vectors, other)
    least, seed = isinstance(magnitudes, str) and magnitudes == LEAST, seed_number(seed)
    given = None if least or magnitudes is None else finite_numbers("magnitude", magnitudes, NATURAL)
    starts, width, randoms = (
        whole_number(name, n, 1, 10**4) for name, n in (("starts", starts), ("width", width), ("randoms", randoms))
    )
    controls = flag("controls", controls)
    with attached(model, seconds) as host:
        before = host.meter.now()
        names = [vector.check_on(host) for vector in vectors]
        for vector in others:
            vector.check_on(host)
        sentence = host.vocabulary.read(text)
        places = host.vocabulary.locate(sentence, pos, whole_words=True)
        if least:
            sizes = _starting(host, vectors, text, places)
        else:
            sizes = [_default(vector) if given is None else given for vector in vectors]
        moves = _moves(vectors, names, sizes, controls, randoms, others, seed)
        pool = SentencePool(
            host, sentence, [_aim(move, sentence, places, host) for move in moves], host.vocabulary.allowed(allowed)
        )

        def edit(stopped: str = "complete") -> ConceptEdit:
            neighbours = {move.name: float(pool.moved(move.name)[1 : pool.near + 1].median()) for move in moves}
            best = pool.best()
            cost = host.meter.now() - before
            share = cost.seconds / len(moves)
            rows = [_row(pool, move, aim, best[aim], neighbours[move.name], share) for aim, move in enumerate(moves)]
            first = vectors[0]
            return ConceptEdit(
                model=host.name,
                concept=first.name,
                hook=first.hook,
                negative=first.negative,
                positive=first.positive,
                text=sentence.text,
                tokens=sentence.tokens,
                pos=places,
                rows=tuple(rows),
                scales={str(vector.layer): vector.scale for vector in vectors},
                neighbours={str(v.layer): neighbours[name] for v, name in zip(vectors, names, strict=True)},
                settings={
                    "magnitudes": LEAST if least else sorted({size for some in sizes for size in some}),
                    "controls": controls,
                    "randoms": randoms,
                    "starts": starts,
                    "width": width,
                    "allowed": allowed if isinstance(allowed, str) else f"{int(pool.allowed.sum())} tokens",
                    "measured": len(pool.rows),
                },
                seed=seed,
                cost=cost,
                stopped=stopped,
            )

        with (
            keeping(lambda _, why: edit(why) if pool.near else None),
            tqdm(disable=None if progress is None else not progress, desc="edit", leave=False) as bar,
        ):
            look = lambda: search(  # noqa: E731
                pool, starts=starts, width=width, seed=seed, tick=lambda: bar.update(len(pool.rows) - bar.n) and None
            )
            run(host, _close_in(pool, moves, look) if least else look())
            return edit("seconds" if host.late else "complete")


def _chosen(vectors: tuple[ConceptVector, ...], layers: Any) -> list[ConceptVector]:
    if layers is None or (isinstance(layers, str) and layers == "all"):
        return list(vectors)
    every = ConceptVectors(vectors)
    return [every[layer] for layer in layers_of(layers)]


def _beside(vectors: Sequence[ConceptVector], other: Any) -> list[ConceptVector]:
    """The other concept's vector of every layer; none without another concept."""
    if other is None:
        return []
    found = [ConceptVectors(vectors_of(other))[vector.layer] for vector in vectors]
    for mine, its in zip(vectors, found, strict=True):
        require(
            its.hook == mine.hook and its.width == mine.width,
            f"other= is a concept at {its.hook!r} ({its.width} units), the concept to compare with is at {mine.hook!r} "
            f"({mine.width} units): fit both at one hook",
        )
    return found


def _default(vector: ConceptVector) -> list[float]:
    """MAGNITUDES, or as many steps to the magnitude that carries a word over, where that lies beyond them."""
    carrying = vector.evidence.carrying
    advised = carrying.advised if carrying is not None else None
    return [size * max(1.0, (advised or 0.0) / MAGNITUDES[-1]) for size in MAGNITUDES]


def _starting(
    host: Host, vectors: Sequence[ConceptVector], text: str | Prompt, places: Sequence[int]
) -> list[list[float]]:
    """For every layer the magnitude that the search for the least one sets out from, away from the word's own side."""
    read = classify(host, ConceptVectors(tuple(vectors)), text, pos=list(places)).rows
    sides = {vector.layer: sum(row.value for row in read if row.layer == vector.layer) for vector in vectors}
    return [[_default(vector)[0 if sides[vector.layer] > 0 else -1]] for vector in vectors]


def _close_in(pool: SentencePool, moves: list[_Move], look: Callable[[], Search[None]]) -> Search[None]:
    """Scale the moves to the least magnitude at which another text is the nearest, and a little past it.

    Where a text is found to be the first, the search goes on at that magnitude: any text that is nearer there is first
    at a smaller one. So it ends where the search finds none that is nearer (Dinkelbach's way to minimise a ratio).
    """
    for rounds in range(CLOSER + 1):
        yield from look()
        turning = pool.turning()
        still = all(factor == torch.inf or abs(factor - 1) <= CONVERGED for factor in turning)
        done = still or rounds == CLOSER or pool.host.late
        factors = [1.0 if factor == torch.inf else factor * (PAST if done else 1.0) for factor in turning]
        pool.rescale(factors)
        moves[:] = [move.times(factor) for move, factor in zip(moves, factors, strict=True)]
        if done:
            return


def _moves(
    vectors: Sequence[ConceptVector],
    names: Sequence[str],
    sizes: Sequence[Sequence[float]],
    controls: bool,
    randoms: int,
    others: Sequence[ConceptVector],
    seed: int,
) -> list[_Move]:
    """Every row to be measured, by layer, control and magnitude."""
    draw = torch.Generator().manual_seed(seed)
    moves = []
    for i, (vector, name, magnitudes) in enumerate(zip(vectors, names, sizes, strict=True)):
        directions: list[tuple[str | None, Tensor]] = [(None, vector.direction)]
        if controls:
            for _ in range(randoms):
                noise = torch.randn(vector.width, generator=draw)
                directions.append(("random", noise / noise.norm()))
            directions += [("shuffled", vector.control), ("opposite", -vector.direction)]
        if others:
            directions.append(("other", others[i].direction))
        if controls and 0 not in magnitudes:
            moves.append(_Move(vector, name, 0.0, "zero", torch.zeros(vector.width)))
        for control, along in directions:
            for magnitude in magnitudes:
                if control is None or magnitude != 0:
                    moves.append(_Move(vector, name, magnitude, control, along * (magnitude * vector.scale)))
    return moves


def _aim(move: _Move, sentence: Sentence, places: Sequence[int], host: Host) -> MovedTarget:
    change = torch.zeros(len(sentence), move.vector.width, device=host.device)
    change[list(places)] = move.step.to(change)
    return MovedTarget(move.name, change)


def _row(pool: SentencePool, move: _Move, aim: int, number: int, neighbour: float, seconds: float) -> EditRow:
    """What one move led to."""
    vocabulary, sentence, row = pool.host.vocabulary, pool.sentence, pool.rows[number]
    tokens = vocabulary.tokens(row)
    values = {
        at: float(own @ move.vector.direction.to(own)) / move.vector.scale
        for at, own in pool.restored(number, move.name).items()
    }
    loss = pool.exact(number, aim)
    return EditRow(
        layer=move.vector.layer,
        magnitude=move.magnitude,
        control=move.control,
        text=vocabulary.decode(row),
        tokens=tokens,
        changed=tuple(
            Change(
                at, sentence.tokens[at], tokens[at], "concept" if move.sign * value >= WITH_CONCEPT else "other", value
            )
            for at, value in values.items()
        ),
        loss=loss,
        start_loss=pool.exact(0, aim),
        gap=loss**0.5 / neighbour if neighbour > 0 else float(loss > 0),
        seconds=seconds,
    )


def replaced_activation(
    model: Any,
    text: str | Prompt,
    word: str,
    *,
    pos: Positions,
    hook: str = "block_out",
    layer: Whole | None = None,
) -> Tensor:
    """A text's activation with one word's row exchanged for another word's (the article's "changed activation").

    The other row is that of `word` standing in the same place of the same sentence; all other rows stay.

    Args:
        word: one token of the vocabulary.
        pos: a position, or a word of the text; of one token.

    Returns:
        [pos, unit] (or [pos, head, unit]), as `reconstruct` takes it.

    Raises:
        DreamError: a word of several tokens, a position that is not there, several positions, an unknown hook.

    Examples:
        >>> goal = td.replaced_activation(bert, "the red dog", "blue", pos="red", layer=1)
        >>> goal.shape == (5, bert.cfg.d_model)
        True
    """
    with attached(model) as host, torch.no_grad():
        name = host.resolve(hook, layer)
        sentence = host.vocabulary.read(text)
        places = host.vocabulary.locate(sentence, pos)
        require(len(places) == 1, f"pos = {pos!r} is {len(places)} positions, {places}: one word is replaced, give one")
        (at,) = places
        other = list(sentence.ids)
        other[at] = host.vocabulary.token_id(word)
        ids, _ = host.pad([sentence.ids, other])
        found = forward(host, ids, [name])[name]
        require(
            found.ndim >= 3 and found.shape[:2] == ids.shape,
            f"the hook {name!r} has no row of units for every position (shape {tuple(found.shape)})",
        )
        result = found[0].clone()
        result[at] = found[1, at]
        return result
