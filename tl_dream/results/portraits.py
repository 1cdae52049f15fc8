"""What a unit looks for: the tokens that carry a text, short texts, how it stands among random directions, the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tl_dream._arguments import check_lengths, check_places, check_that
from tl_dream.results.base import Cost, SavedResult, table
from tl_dream.results.dreams import ScoredText

if TYPE_CHECKING:
    import pandas


def gapped(tokens: Sequence[str], kept: Sequence[int], free: Sequence[int]) -> str:
    """The kept tokens as a short text; "..." stands for free tokens left out between them: "... prison ... ##ation"."""
    shown: list[str] = []
    for i in free:
        if i in kept:
            shown.append(tokens[i])
        elif not shown or shown[-1] != "...":
            shown.append("...")
    return " ".join(shown)


@dataclass(frozen=True)
class TokenPair:
    """Two tokens that matter only together.

    Attributes:
        first, second: their positions.
        kind: "both": the score needs the two of them, and either alone gives less than half of what they give together;
            "either": each does for the other, so that losing one costs less than half of what losing the two costs.
        share: how far the two differ from the sum of each, as a share of what the words add to the score.
    """

    first: int
    second: int
    kind: str
    share: float

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_that(self.kind in ("both", "either"), "kind", self.kind, '"both" or "either"')


@dataclass(frozen=True)
class EssentialTokens(SavedResult):
    """Which tokens the score of a text rests on.

    Attributes:
        model: name of the model and its backend.
        objective: the objective's formula.
        whole: the text and its score.
        free: the positions that were replaced in turn.
        replaced_by: what stood in their place.
        base: the score with all of them replaced; what the words add is counted from there.
        without: the score without each of them.
        alone: the score with each of them alone, the others replaced.
        keep: the share of what the words add that `kept` keeps, 0 to 1.
        kept: the fewest positions that do, in the order of the text.
        kept_score: the score with only these.
        minimal: every smaller set was tried, and none keeps as much; False: that is not known.
        pairs: tokens that matter only together, most marked first.
        cost: forwards, forward-tokens, seconds.
    """

    model: str
    objective: str
    whole: ScoredText
    free: tuple[int, ...]
    replaced_by: str
    base: float
    without: tuple[float, ...]
    alone: tuple[float, ...]
    keep: float
    kept: tuple[int, ...]
    kept_score: float
    minimal: bool
    pairs: tuple[TokenPair, ...]
    cost: Cost

    kind = "essential_tokens"

    def check_parts(self) -> None:
        """Raise ValueError unless what a file holds fits together."""
        check_lengths(self, "free", "without", "alone")
        check_places("free", self.free, len(self.whole.tokens))
        check_that(set(self.kept) <= set(self.free), "kept", self.kept, "among the free positions")
        check_that(
            all({pair.first, pair.second} <= set(self.free) for pair in self.pairs), "pairs", self.pairs, "of these"
        )

    @property
    def drops(self) -> tuple[float, ...]:
        """What the score loses without each of the free tokens."""
        return tuple(self.whole.score - value for value in self.without)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The essential tokens, in the order of the text."""
        return tuple(self.whole.tokens[i] for i in self.kept)

    @property
    def ids(self) -> tuple[int, ...]:
        """Their token ids."""
        return tuple(self.whole.ids[i] for i in self.kept)

    @property
    def short(self) -> str:
        """The text with only the essential tokens: "... prison ... ##ation"."""
        return gapped(self.whole.tokens, self.kept, self.free)

    def share(self, score: float) -> float:
        """A score as a share of what the words add; 0 where they add nothing."""
        added = self.whole.score - self.base
        return (score - self.base) / added if added > 0 else 0.0

    def __str__(self) -> str:
        rows = [
            (str(i), f"{drop:+.4f}", f"{alone:.4f}", self.whole.tokens[i] + (" *" if i in self.kept else ""))
            for i, drop, alone in zip(self.free, self.drops, self.alone, strict=True)
        ]
        if self.whole.score <= self.base:
            found = ["its words add nothing: with all of them replaced it scores as much or more"]
        else:
            sure = "no fewer do, all were tried" if self.minimal else "fewer may do: not all were tried"
            found = [
                f"{self.short}",
                f"these {len(self.kept)} of {len(self.free)} tokens keep {self.share(self.kept_score):.0%} of what the "
                f"words add ({sure})",
            ]
        told = {"both": "only together", "either": "one does for the other"}
        names = self.whole.tokens
        found += [
            f"{told[pair.kind]}: {names[pair.first]} ({pair.first}) and {names[pair.second]} ({pair.second}), "
            f"{pair.share:.0%}"
            for pair in self.pairs
        ]
        return "\n".join(
            (
                f"{self.objective} on {self.model}",
                f"{self.whole.score:.4f}: {self.whole.text}",
                table(("pos", "drop", "alone", "token"), rows),
                *found,
                f"replaced by {self.replaced_by}; all replaced it scores {self.base:.4f}; "
                f"{self.cost.forwards:,} forwards, {self.cost.seconds:.1f} s",
            )
        )

    def to_frame(self) -> pandas.DataFrame:
        """A pandas frame, one row a free token: pos, token, drop, alone, essential."""
        import pandas

        return pandas.DataFrame(
            [
                {"pos": i, "token": self.whole.tokens[i], "drop": drop, "alone": alone, "essential": i in self.kept}
                for i, drop, alone in zip(self.free, self.drops, self.alone, strict=True)
            ]
        )
