"""Small results of every kind, and what may become of a file: for property-based tests of everything that is read."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from tests.support.results import START, dream, history
from tl_dream.results.base import Cost, SavedResult
from tl_dream.results.concepts import ConceptReading, ReadWord, Sensitivity
from tl_dream.results.corpora import CorpusHit, CorpusResult, EssentialTokens, TokenPair
from tl_dream.results.dreams import Frontier, FrontPoint
from tl_dream.results.edits import Change, ConceptEdit, EditRow, MinimalDream, Steering
from tl_dream.results.layers import Kept, KeptTokens, LayerReconstructions
from tl_dream.results.portraits import CommonToken, DiverseDreams, Measure, Portrait, PortraitDream, Standing
from tl_dream.results.reconstructions import Certificate, Reconstruction, Swap
from tl_dream.results.scans import (
    MaskedPredictions,
    Neighbour,
    NeighbourTable,
    Place,
    Prediction,
    TokenScore,
    TokenTable,
    WordWeights,
)

COST = Cost(10, 100, 1.0)
ABOUT = ("tiny (HookedEncoder)", "neuron('block_out', layer=1, unit=3)")
PLACE = Place(START.text, START.tokens, START.ids, 2)
SWAP = Swap(1, "red", "dog", 41, 0.5, 0.25)
ROW = {"steered": 0, "layer": None, "pos": 1, "token": "he", "before": 0.5, "value": -0.5, "label": "he"}
EDITED = EditRow(0, 1.0, None, "red cat", START.tokens, (Change(2, "dog", "cat", "other", 0.1),), 0.1, 0.2, 0.5, 0.1)
READ = Reconstruction(
    *("tiny", "blocks.0.hook_out", 0, "article", (1, 2), None, {"steps": 5}, 0, 1.5),
    *(replace(START, score=-1e-12), START, START, (1, 2), (1e-8, 1e-8)),
    Certificate(1e-8, 1e-6, 1e-8, 1e-5, (), True, 3, SWAP),
    *(((SWAP,), ()), history(2), ((4, 1e-12),), COST, "matched"),
)
ESSENTIAL = EssentialTokens(
    *(*ABOUT, START, (1, 2), "[MASK]", 0.25, (0.5, 0.25), (0.25, 1.25), 0.9, (2,), 1.25, True),
    *((TokenPair(1, 2, "both", 0.5),), COST),
)
COMMON = CommonToken(("dog", "cat"), 3, 1, 0.01)
TOKENS = TokenTable(
    *ABOUT, PLACE, TokenScore("dog", 41, 1.0), (TokenScore("cat", 42, 2.0),), 9, "ab", "", None, 5, 3, COST
)
CORPUS = CorpusResult(
    *(*ABOUT, "the texts given"),
    (CorpusHit("red dog", START.tokens, START.ids, 2, 1.0, (0.0, 0.5, 1.0, None), 1),),
    *(3, {"blank": 1}, 12, COST),
)
RESULTS: list[SavedResult] = [
    dream(),
    Frontier(*ABOUT, "fluency()", {}, 0, FrontPoint(START, -2.0), (FrontPoint(START, None),), COST, "budget"),
    TOKENS,
    NeighbourTable(
        *(*ABOUT, PLACE, "cosine", Neighbour("dog", 41, 0.0, 1.0), (Neighbour("cat", 42, 0.5, 2.0, True),)),
        *(1, 2.0, 1.0, COST),
    ),
    WordWeights(
        *ABOUT, PLACE, {"steps": 5}, (0, 5), (("dog",), ("cat",)), ((0.5,), (1.0,)), ((41,), (42,)), (0.5, 1.0)
    ),
    MaskedPredictions("tiny", (PLACE,), ((Prediction("dog", 41, 3.0, 0.5),),), COST),
    CORPUS,
    READ,
    LayerReconstructions("red dog", "noise 0.1", (READ,)),
    KeptTokens(
        *("tiny", "block_out", ("red dog",)),
        (Kept(0, 0, "bf16", 2, 1, 2, True, 0.1, 0.1, "red cat", 0.5, ((SWAP,), ())),),
        *(0, COST),
    ),
    ConceptReading("tiny", "he -> she", "block_out", "he ran", (ReadWord(None, 1, "he", -0.5, "he"),), COST),
    Sensitivity(ABOUT[1], "he -> she", ("he ran",), (0.5,), 1.0, (0.2, 1.0), 0.5, 100, 0.01),
    ConceptEdit(
        *("tiny", "he -> she", "block_out", "he", "she", START.text, START.tokens, (1,), (EDITED,)),
        *({"0": 2.0}, {"0": 1.0}, {"magnitudes": [1.0]}, 0, COST),
    ),
    ESSENTIAL,
    MinimalDream(*ABOUT, START, START, (1,), 0.5, True, True, 0, COST),
    Portrait(
        *(*ABOUT, CORPUS, 0.5, 0.25, (0.0, 0.5, 1.0), (3, 4), (PortraitDream("seed 0", ESSENTIAL),), ESSENTIAL),
        *((COMMON,), (COMMON,), 20, TOKENS, Standing((Measure("height", True, 3.0, (1.0, 2.0, 0.5)),)), {}, 0, COST),
    ),
    DiverseDreams(*ABOUT, START, (ESSENTIAL,), (COMMON,), (COMMON,), 20, {"count": 1}, 0, COST),
    Steering("tiny", "he -> she", "block_out", "he ran", "erased", (ROW,), {"not steered": "he 0.5"}),
]


def in_bytes(result: SavedResult) -> SavedResult:
    """A result whose tokens are one of a byte-level vocabulary: " café"."""
    data = json.dumps(result.to_json())
    for token in ('"red"', '"dog"', '"cat"'):
        data = data.replace(token, '"ĠcafÃ©"')
    return type(result).from_json(json.loads(data.replace('"token": "he"', '"token": "ĠcafÃ©"')))


COMPACT = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],
)
ANYTHING = st.sampled_from(
    [None, True, 0, -1, 3, 10**9, 10**30, 0.5, -0.5, 1e400, float("nan"), "", "x", "\ud800", [], [0], ["a"], [[]], {}]
)


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every part of a JSON value as (what holds it, under which key)."""
    for key, part in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(part, dict | list):
            yield from _places(part)


def damage(draw: Any, data: Any) -> None:
    """One part of a JSON value gone, of another kind, or as a list of another length."""
    holder, key = draw(st.sampled_from(list(_places(data))))
    part = holder[key]
    changes = ["replaced", "gone"] + 4 * ["shorter", "longer", "empty"] * (isinstance(part, list) and bool(part))
    change = draw(st.sampled_from(changes))
    if change == "gone":
        del holder[key]
    elif change == "replaced":
        holder[key] = draw(ANYTHING)
    else:
        holder[key] = {"shorter": part[:-1], "longer": [*part, *part[-1:]], "empty": []}[change]
