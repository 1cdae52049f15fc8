"""One picture of every kind, of results as large as a paper's."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from tests.support.concepts import made_evidence
from tests.support.editing import CAT, HER, SHE, made_edit, made_row
from tests.support.hostile import READ, RESULTS
from tests.support.plotting import COST, GOAL, MODEL, made_corpus, made_dream, made_history, made_hit
from tl_dream import plotting
from tl_dream.results.dreams import Frontier, FrontPoint, ScoredText
from tl_dream.results.layers import Kept, KeptTokens, LayerReconstructions
from tl_dream.results.portraits import Measure, Portrait, PortraitDream, Standing
from tl_dream.results.scans import (
    MaskedPredictions,
    Neighbour,
    NeighbourTable,
    Place,
    Prediction,
    TokenScore,
    TokenTable,
)

TEXT = "the washington post reported growing resentment in the nation towards the united states ."
TOKENS = ("[CLS]", *TEXT.split(), "[SEP]")
WORDS = (
    *TEXT.split()[:-1],
    "countries",
    "kingdom",
    "##ness",
    "peoples",
    "republic",
    "homeland",
    "sovereignty",
    "realm",
)
WHERE = Place(TEXT, TOKENS, tuple(range(len(TOKENS))), 9)


def scored(text: str, score: float) -> ScoredText:
    tokens = ("[CLS]", *text.split(), "[SEP]")
    return ScoredText(text, tokens, tuple(range(len(tokens))), score)


def _dreams() -> dict[str, Any]:
    history = made_history(41, start=TOKENS)
    made = replace(made_dream(history), history=replace(history, forward_tokens=tuple(range(0, 41_000, 1000))))
    made = replace(made, others=())
    return dict.fromkeys(("auto", "gcg", "epo", "pez", "anneal"), made)


def _table() -> TokenTable:
    top = tuple(TokenScore(word, 100 + i, 5.0 - 0.2 * i) for i, word in enumerate((*WORDS, *WORDS[:4])))
    return TokenTable(MODEL, GOAL, WHERE, TokenScore("nation", 4, 0.5), top, 200, "f00", "bf16", 0.01, 50, 20, COST)


def _near() -> NeighbourTable:
    """Thirty in a crowd, as the article's."""
    rows = tuple(
        Neighbour(
            f"{WORDS[i % 20][:8]}{i // 20 or ''}", i, 1 + 0.35 * (i / 30) ** 0.5, 1.4 - ((37 * i) % 30) / 20, i % 4 == 0
        )
        for i in range(30)
    )
    return NeighbourTable(MODEL, GOAL, WHERE, "euclidean", Neighbour("nation", 4, 0.0, 0.7), rows, 30, 1.1, 0.25, COST)


def _layers() -> LayerReconstructions:
    best, truth = scored(TEXT, -1e-9), scored(TEXT, 0.0)
    wrong = replace(best, tokens=(*TOKENS[:5], "rage", *TOKENS[6:]), ids=(*best.ids[:5], 99, *best.ids[6:]))
    free = tuple(range(1, len(TOKENS) - 1))
    one = replace(READ, truth=truth, free=free, errors=(), scale=None, alternatives=(), positions=None)
    rows = [replace(one, best=wrong if i > 4 else best, layer=i, hook=f"blocks.{i}.hook_out") for i in range(6)]
    return LayerReconstructions(TEXT, None, tuple(rows))


def _kept() -> KeptTokens:
    damages = ("noise 0.05", "noise 0.2", "noise 0.5", "noise 1", "bf16", "int8", "top 16")
    records = [
        Kept(0, layer, damage, 10, 10 - i - layer // 2, 10 - i, True, 0.1, 0.1, "x", 1.0)
        for layer in (0, 2, 5)
        for i, damage in enumerate(damages)
    ]
    return KeptTokens(MODEL, "block_out", (TEXT,), tuple(records), 0, COST)


def _edit() -> Any:
    rows = [
        *(
            made_row(m, None, *((SHE, HER) if m > 1 else ()), layer=layer)
            for layer in (0, 3, 5)
            for m in (-1, 0, 1, 1.25, 2)
        ),
        *(made_row(m, "random", *((CAT,) if m > 1 else ()), layer=5) for m in (-1, 1, 2)),
        *(made_row(m, "opposite", layer=5) for m in (-1, 1, 2)),
        *(made_row(m, "other", layer=5) for m in (-1, 1, 2)),
    ]
    return made_edit(*rows)


def page() -> Portrait:
    """Six dreams, the last of them fluent, over five sentences."""
    (made,) = [one for one in RESULTS if isinstance(one, Portrait)]
    kinds = [("seed 0", None), ("seed 1", None), ("diverse 1", None), ("diverse 2", None), ("fluent", -6.5)]
    return replace(
        made,
        corpus=made_corpus(*(made_hit(24, 5, 3.0 - i / 3, i + 1) for i in range(6))),
        dreams=tuple(PortraitDream(kind, made.best, judged) for kind, judged in kinds),
        edges=tuple(-1 + 0.1 * i for i in range(21)),
        counts=tuple(1000 // (1 + abs(i - 8)) for i in range(20)),
        standing=Standing(tuple(Measure(f"measure {i}", i != 1, 5.0, (0.0, 1.0, 2.0, 8.0)) for i in range(4))),
    )


def _front() -> Frontier:
    front = tuple(FrontPoint(scored(f"{TEXT} {i}", 5.0 - i / 2), -9.0 + i / 2) for i in range(12))
    return Frontier(MODEL, GOAL, "fluency(bigrams)", {}, 0, FrontPoint(scored(TEXT, 1.0), -3.0), front, COST, "budget")


def _predictions() -> MaskedPredictions:
    rows = tuple(Prediction(word, i, 3.0 - i, 0.5 / (i + 1)) for i, word in enumerate(WORDS[4:12]))
    return MaskedPredictions(MODEL, (WHERE, replace(WHERE, pos=5)), (rows, rows), COST)


DREAMS, EDIT = _dreams(), _edit()
DRAW: dict[str, Callable[..., Axes]] = {
    "dream_history": partial(plotting.dream_history, DREAMS["auto"]),
    "dream_history, one panel": partial(plotting.dream_history, DREAMS["auto"], tokens=False),
    "annealing": partial(plotting.annealing, DREAMS["auto"], 9),
    "token_bars": partial(plotting.token_bars, _table()),
    "neighbours": partial(plotting.neighbours, _near()),
    "prediction_bars": partial(plotting.prediction_bars, _predictions()),
    "read_back": partial(plotting.read_back, _layers()),
    "kept_curves": partial(plotting.kept_curves, _kept()),
    "edit_table": partial(plotting.edit_table, EDIT),
    "dose_response": partial(plotting.dose_response, EDIT),
    "accuracy_by_layer": partial(
        plotting.accuracy_by_layer,
        [made_evidence(i, 0.9, pattern=0.8, logistic=0.95, svm=0.9, lda=0.85) for i in range(6)],
    ),
    "corpus_sentences": partial(plotting.corpus_sentences, page().corpus),
    "portrait": partial(plotting.portrait, page()),
    "pareto": partial(plotting.pareto, _front()),
    "search_costs": partial(plotting.search_costs, DREAMS),
    "cost_curves": partial(plotting.cost_curves, {"ours": [(0, 1.0), (1e5, 2.0)], "plain": [(0, 1.0), (2e5, 3.0)]}),
}
"""{name: plot}; each takes `title=` and `ax=`."""
