"""What the tests of several rooms share (plotting scans)."""

from tl_dream.results.base import Cost
from tl_dream.results.corpora import CorpusHit, CorpusResult

GOAL, MODEL, COST = "neuron('block_out', layer=1, unit=3, pos=4)", "tiny (HookedEncoder)", Cost(10, 100, 1.0)


def made_hit(length: int = 8, pos: int | None = 4, score: float = 2.0, line: int = 1) -> CorpusHit:
    tokens = ("[CLS]", *(f"word{i}" for i in range(1, length - 1)), "[SEP]")
    values = tuple(score if i == pos else score * i / (2 * length) for i in range(length))
    return CorpusHit(" ".join(tokens[1:-1]), tokens, tuple(range(length)), pos, score, values, line)


def made_corpus(*hits: CorpusHit) -> CorpusResult:
    return CorpusResult(MODEL, GOAL, "corpus.txt", hits, 300, {"blank": 3}, 3000, COST)
