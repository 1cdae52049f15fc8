"""What the scans bring back: tables of tokens, neighbours and predictions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tl_dream._arguments import check_lengths, check_places, check_that
from tl_dream.results.base import Cost, SavedResult, around, cut_short, frame_of, readable, table

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Place:
    """A position of a sentence.

    Attributes:
        text: plain text of the sentence.
        tokens: the vocabulary's own strings, special ones included.
        ids: token ids, as many as tokens; none where they are not known (the article's files have none).
        pos: the position, [CLS] being 0.
    """

    text: str
    tokens: tuple[str, ...]
    ids: tuple[int, ...]
    pos: int

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(len(self.ids) in (0, len(self.tokens)), "ids", self.ids, f"of {len(self.tokens)} tokens")
        check_places("pos", (self.pos,), len(self.tokens))

    def __str__(self) -> str:
        return f"position {self.pos} of: {around(self.tokens, self.pos, len(self.tokens))}"


@dataclass(frozen=True)
class TokenScore:
    """A token, its id (None where it is not known), and what the sentence scores with it in place, in the objective's
    own units."""

    token: str
    id: int | None
    score: float


def _shown(row: Any) -> dict[str, Any]:
    """A row of a frame."""
    return {**asdict(row), "token": readable(row.token)}


@dataclass(frozen=True)
class TokenTable(SavedResult):
    """The best tokens at a position of a sentence, out of the whole allowed vocabulary (the article's Figure 3).

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        place: the sentence and the position.
        chosen: the sentence's own token there; None where its score is not known.
        top: the best tokens, best first, equal scores by id; scored by the model itself, on a CPU one at a time.
        evaluated: tokens that were searched: all that are allowed, where `stopped` is "complete"; 0 where that is not
            known.
        allowed: a fingerprint of these, which tells two searches of different tokens apart.
        screen: how they were searched.
        bound: by how much that is taken to be off at most, in the objective's units: four times the largest error
            measured (no proof, see `token_search`); None where no error could be measured.
        shortlisted: tokens scored again in the model's own precision: a sample, and all within the bound of the cut.
        rescored: how many of these were scored by the model itself.
        cost: forwards, forward-tokens, seconds.
        stopped: "complete", or why not all tokens were searched, and better ones may be among the others: "interrupted"
            or "failure".
        fired: of a unit behind an activation function whether the best token turns it on; None of other objectives.
    """

    model: str
    objective: str
    place: Place
    chosen: TokenScore | None
    top: tuple[TokenScore, ...]
    evaluated: int
    allowed: str
    screen: str
    bound: float | None
    shortlisted: int
    rescored: int
    cost: Cost
    stopped: str = "complete"
    fired: bool | None = None

    kind = "token_table"

    def __str__(self) -> str:
        named = [(str(i + 1), row, readable(row.token)) for i, row in enumerate(self.top)]
        if self.chosen is not None:
            named.append(("", self.chosen, f"{readable(self.chosen.token)} (the sentence's own)"))
        rows = [
            (number, f"{row.score:.4f}", "-" if row.id is None else str(row.id), name) for number, row, name in named
        ]
        off = "" if self.bound is None else f"; off by {self.bound:.2g} at most, as measured"
        silent = ["no token turns the unit on: what is listed says nothing of it"] if self.fired is False else []
        return "\n".join(
            (
                f"{self.objective} on {self.model}",
                str(self.place),
                table(("", "score", "id", "token"), rows),
                *silent,
                f"{self.evaluated:,} tokens searched in {self.cost.seconds:.1f} s ({self.screen}{off}); "
                f"{self.shortlisted:,} scored in full precision, {self.rescored:,} of them by the model itself"
                f"{cut_short(self.stopped)}"
                if self.evaluated
                else "how many tokens were searched is not known",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a token: token, id, score."""
        return frame_of([_shown(row) for row in self.top])


@dataclass(frozen=True)
class WordWeights(SavedResult):
    """How the softmax of one word went in an annealed ascent (the article's Figure 2), where nothing else of the run is
    known: a `Dream` holds the same of every free word in its history.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        place: the sentence at the start, and the position of the word.
        settings: every option of the run.
        step: steps done when a record was made.
        tokens: a record's most likely tokens, most likely first.
        weights: their softmax weights.
        ids: their ids; none where they are not known.
        soft_score: a record's objective on the soft sentence; none where it is not known.
    """

    model: str
    objective: str
    place: Place
    settings: Mapping[str, Any]
    step: tuple[int, ...]
    tokens: tuple[tuple[str, ...], ...]
    weights: tuple[tuple[float, ...], ...]
    ids: tuple[tuple[int, ...], ...] = ()
    soft_score: tuple[float, ...] = ()

    kind = "word_weights"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_lengths(self, "step", "tokens", "weights", *(n for n in ("ids", "soft_score") if getattr(self, n)))
        for names, *others in zip(self.tokens, self.weights, *([self.ids] if self.ids else []), strict=True):
            check_that(
                bool(names) and {len(one) for one in others} == {len(names)}, "tokens", names, "as many as weights"
            )

    def __str__(self) -> str:
        rows = [
            (str(step), f"{weights[0]:.4f}", readable(tokens[0]))
            for step, tokens, weights in zip(self.step, self.tokens, self.weights, strict=True)
        ]
        return "\n".join(
            [f"{self.objective} on {self.model}", str(self.place), table(("step", "weight", "most likely"), rows)]
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a token of a record: step, token, weight."""
        records = zip(self.step, self.tokens, self.weights, strict=True)
        rows = [(step, readable(token), weight) for step, *both in records for token, weight in zip(*both, strict=True)]
        return frame_of(rows, columns=["step", "token", "weight"])


@dataclass(frozen=True)
class Neighbour:
    """A token near the chosen one.

    Attributes:
        token: the vocabulary's own string.
        id: its id; None where it is not known.
        distance: from the chosen one in embedding space.
        score: of the sentence with it in place.
        found: whether it is itself among the token search's best; None where there was none to compare with.
    """

    token: str
    id: int | None
    distance: float
    score: float
    found: bool | None = None


@dataclass(frozen=True)
class NeighbourTable(SavedResult):
    """The tokens nearest to a sentence's own at a position, and what they score there (the article's Figure 4).

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        place: the sentence and the position.
        metric: "euclidean" (in embedding units) or "cosine" (1 - cosine similarity, 0 to 2).
        chosen: the sentence's own token, at distance 0.
        neighbours: the nearest others, nearest first, equal distances by id.
        best: how many of the token search's best they are compared with; 0 where they were not.
        cut: the score of the last of those; None where they were not.
        share: the share of the neighbours that are among those (`found`), 0 to 1; None where they were not compared.
            One that scores just what the last of them does may have been left out, the lower id being the better.
        cost: forwards, forward-tokens, seconds, the token search included.
        furthest: the distance of the token that is furthest away; None where it is not known.
    """

    model: str
    objective: str
    place: Place
    metric: str
    chosen: Neighbour
    neighbours: tuple[Neighbour, ...]
    best: int
    cut: float | None
    share: float | None
    cost: Cost
    furthest: float | None = None

    kind = "neighbour_table"

    def __str__(self) -> str:
        rows = [
            (str(i) if i else "", f"{row.distance:.4f}", f"{row.score:.4f}", readable(row.token))
            for i, row in enumerate((self.chosen, *self.neighbours))
        ]
        notes = [
            f"{self.objective} on {self.model}",
            str(self.place),
            table(("", "distance", "score", "token"), rows),
        ]
        if self.share is not None:
            notes.append(
                f"{self.share:.0%} of the {len(self.neighbours)} nearest ({self.metric}) are among the token search's "
                f"best {self.best} (which score {self.cut:.4f} or more)"
            )
        return "\n".join(notes)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a neighbour: token, id, distance, score, found."""
        return frame_of([_shown(row) for row in self.neighbours])


@dataclass(frozen=True)
class Prediction:
    """A token the model predicts: its logit, and its probability over the whole vocabulary."""

    token: str
    id: int
    logit: float
    probability: float


@dataclass(frozen=True)
class MaskedPredictions(SavedResult):
    """What a masked language model puts in place of each [MASK].

    Attributes:
        model: name of the model and its backend.
        places: the sentence, once a [MASK].
        predictions: for each [MASK] the most likely tokens, most likely first, equal logits by id.
        cost: forwards, forward-tokens, seconds.
    """

    model: str
    places: tuple[Place, ...]
    predictions: tuple[tuple[Prediction, ...], ...]
    cost: Cost

    kind = "masked_predictions"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_lengths(self, "places", "predictions")

    def __str__(self) -> str:
        parts = [self.model]
        for place, rows in zip(self.places, self.predictions, strict=True):
            cells = [(f"{row.probability:.4f}", f"{row.logit:.3f}", readable(row.token)) for row in rows]
            parts += [str(place), table(("probability", "logit", "token"), cells)]
        return "\n".join(parts)

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a prediction: pos, token, id, logit, probability."""
        return frame_of(
            [
                {"pos": place.pos, **_shown(row)}
                for place, rows in zip(self.places, self.predictions, strict=True)
                for row in rows
            ]
        )
