"""Our results as the article's files, which their page shows."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from tl_dream._arguments import Whole, is_whole, plain
from tl_dream._errors import DreamError, require
from tl_dream._files import write_json
from tl_dream.interchange.questions import as_ids
from tl_dream.interchange.reading import OURS, read_text_dream
from tl_dream.interchange.records import RESULTS
from tl_dream.results import (
    ConceptEdit,
    Dream,
    History,
    LayerReconstructions,
    NeighbourTable,
    Place,
    Reconstruction,
    ScoredText,
    TokenTable,
    WordWeights,
)

SETTINGS = {  # theirs: ours
    "num_iterations": "steps",
    "gumbel": "noise",
    "warmup": "warmup",
    "start_temp": "start_temperature",
    "end_temp": "end_temperature",
    "anneal": "decay",
    "learning_rate": "learning_rate",
    "metrics_frequency": "evaluate_every",
    "normalize": "normalize",
}


def write_text_dream(result: Any, path: str | os.PathLike[str], *, pos: Whole | None = None) -> None:
    """Write a result as a JSON file of "What does BERT dream of?", for the article's page (text-dream) to show.

    What `read_text_dream` read is written as it was. What their format has no place for (token ids, cost, certificates,
    the settings of our methods) stands beside it under the key "tl_dream", so that reading gives the same result again.
    Their page shows annealed runs; of a search over real tokens it gets softmax weights of 1 and temperature 0.

    Args:
        result: a Dream, TokenTable, NeighbourTable, Reconstruction, LayerReconstructions or ConceptEdit (the concept's
            own rows, without the controls), or the WordWeights of a file.
        path: the file.
        pos: of an annealed Dream, the free position whose softmax is written instead ("top_words", the article's
            Figure 2).

    Raises:
        DreamError: a result that the article has no file for, a position that keeps no weights, or a file that can't be
            written.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=5, pos=2)
        >>> result = td.dream(bert, goal, "the red dog", method=td.Annealing(steps=5))
        >>> td.write_text_dream(result, "3_dream.json")
        >>> td.read_text_dream("3_dream.json") == result
        True
    """
    require(pos is None or isinstance(result, Dream), "pos= goes with a Dream")
    given = result if pos is None else _word(result, plain(pos))
    data = _as_file(given)
    if not _says_all(data, given):
        data[OURS] = given.to_json()
    write_json(path, data)


def _says_all(data: dict[str, Any], result: Any) -> bool:
    """Whether reading a file of their format gives this very result."""
    try:
        return bool(read_text_dream(data) == result)
    except DreamError:
        return False


def _as_file(result: Any) -> dict[str, Any]:
    match result:
        case Dream():
            texts, beside = (result.start, result.best), _beside(result.settings, 0)
            return {"type": "dream", **_annealed(_dream_params(result), result.history, texts, beside=beside)}
        case WordWeights():
            return _top_words(result)
        case TokenTable():
            tops = [{"token": row.token, "activation": row.score} for row in result.top]
            return {"type": "token_search", **_changed(result.objective, result.place), "tops": tops}
        case NeighbourTable():
            tops = [
                {"token": row.token, "activation": row.score, "distance": row.distance}
                for row in (result.chosen, *result.neighbours)
            ]
            far = {} if result.furthest is None else {"furthest": result.furthest}
            asked = {**_changed(result.objective, result.place), "cosine": result.metric == "cosine"}
            return {"type": "similar_embeddings", **asked, "tops": tops, **far}
        case Reconstruction():
            return _reconstruct(result)
        case LayerReconstructions():
            return {"type": "layers", "layers": [_reconstruct(layer) for layer in result.layers]}
        case ConceptEdit():
            return _shifted(result)
    raise DreamError(
        f"the article has no file for a {type(result).__name__}: give a Dream, TokenTable, NeighbourTable, "
        "Reconstruction, LayerReconstructions or ConceptEdit"
    )


def _params(settings: Mapping[str, Any], *, formula: str = "", **known: Any) -> dict[str, Any]:
    """The params of a run: as they were read, or made of our settings."""
    if {"layer_id", "sentence", "tokens"} <= settings.keys():
        return {key: value for key, value in settings.items() if key != RESULTS}
    ids = as_ids(formula, known["tokens"]) | ({"layer_id": settings["layer_id"]} if "layer_id" in settings else {})
    ours = {theirs: settings.get(own) for theirs, own in SETTINGS.items()}
    return {**ids, **ours, **known, "normalize": bool(settings.get("normalize") or formula.startswith("normalized("))}


def _beside(settings: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    """What stood beside the iterations of a run that was read."""
    kept = settings.get(RESULTS) if "layer_id" in settings or "sentence" in settings else None
    return kept[number] if isinstance(kept, Sequence) and len(kept) > number else {}


def _run(free: Sequence[int], tokens: Sequence[str], model: str) -> dict[str, Any]:
    span = {"dream_start": min(free, default=0), "dream_end": max(free, default=len(tokens) - 1)}
    return {**span, "tokens": list(tokens), "model_config": model}


def _dream_params(dream: Dream) -> dict[str, Any]:
    run = _run(dream.history.free, dream.start.tokens, dream.model)
    return _params(dream.settings, formula=dream.objective, sentence=dream.start.text, **run)


def _annealed(
    params: dict[str, Any],
    history: History | None,
    texts: Sequence[ScoredText],
    name: str = "activation",
    sign: int = 1,
    beside: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Params and iterations of a run.

    Args:
        history: None, or without records, where only texts are known.
        texts: in the order they were found.
        name: of the score; a loss has the sign -1.
        beside: what else goes with the iterations.
    """
    kept = history if history is not None and len(history) else None
    if kept is None:
        step, tokens = tuple(text.step for text in texts), tuple(text.tokens for text in texts)
        kept = History(step, tuple(text.score for text in texts), tokens, ())
    theirs = "dream_start" in params and params.get("num_iterations") is not None
    columns: dict[str, Sequence[Any]] = {
        "number": kept.step,
        "tokens": [list(tokens) for tokens in kept.tokens],
        f"ids_{name}": [sign * score for score in kept.hard_score],
    }
    if kept.temperature or not theirs:
        heat = kept.temperature or (0.0,) * len(kept)
        columns["temperature"] = [value if math.isfinite(value) else 0.0 for value in heat]
    if kept.weights or not theirs:
        columns["max_values"] = [list(w) for w in kept.weights] or [[1.0] * len(tokens) for tokens in kept.tokens]
    if kept.soft_score or not theirs:
        columns[name] = [sign * score for score in kept.soft_score or kept.hard_score]
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {"params": params, "results": {**(beside or {}), "iterations": rows}}


def _word(dream: Dream, pos: Any) -> WordWeights:
    """One word of an annealed dream."""
    history, start = dream.history, dream.start
    require(
        is_whole(pos) and pos in history.free and bool(history.top_weights),
        f"pos = {pos!r}: this dream keeps softmax weights of the positions "
        f"{', '.join(map(str, history.free)) if history.top_weights else 'of none (it is not annealed)'}",
    )
    slot = history.free.index(pos)
    return WordWeights(
        model=dream.model,
        objective=dream.objective,
        place=Place(start.text, start.tokens, start.ids, pos),
        settings=_dream_params(dream),
        step=history.step,
        tokens=tuple(row[slot] for row in history.top_tokens),
        weights=tuple(row[slot] for row in history.top_weights),
        soft_score=history.soft_score,
    )


def _top_words(word: WordWeights) -> dict[str, Any]:
    rows: list[dict[str, Any]] = [
        {"number": step, "tokens": list(tokens), "scores": list(weights)}
        for step, tokens, weights in zip(word.step, word.tokens, word.weights, strict=True)
    ]
    for key, column in (("indices", [list(ids) for ids in word.ids]), ("activation", list(word.soft_score))):
        for row, value in zip(rows, column, strict=False):
            row[key] = value
    params = _params(word.settings, formula=word.objective, sentence=word.place.text, tokens=list(word.place.tokens))
    return {"type": "top_words", "word_id": word.place.pos, "params": params, "iterations": rows}


def _changed(formula: str, place: Place) -> dict[str, Any]:
    tokens = list(place.tokens)
    return {"sentence": place.text, **as_ids(formula, tokens), "change_word": place.pos, "tokens": tokens}


def _reconstruct(result: Reconstruction) -> dict[str, Any]:
    truth = result.truth or result.start or result.best
    one = {"word_id": result.positions, "neuron_id": result.units}
    ids = {key: values[0] if values is not None and len(values) == 1 else None for key, values in one.items()}
    run = _run(result.free, truth.tokens, result.model)
    params = _params(result.settings, sentence=truth.text, **run)
    params |= {} if "layer_id" in result.settings else {"layer_id": result.layer, **ids}
    texts = [text for text in (result.start, result.best) if text is not None]
    return {"type": "reconstruct", **_annealed(params, result.history, texts, "loss", -1, _beside(result.settings, 0))}


def _shifted(edit: ConceptEdit) -> dict[str, Any]:
    shift = {
        "shift_start": min(edit.pos),
        "shift_end": max(edit.pos),
        "shift_vector": edit.concept,
        "target": edit.positive,
    }
    free = range(1, len(edit.tokens) - 1)
    rows = [row for row in edit.rows if row.control is None]
    layers = []
    for layer, block in groupby(rows, key=lambda row: row.layer):
        runs = []
        for row in block:
            known = {"sentence": edit.text, **_run(free, edit.tokens, edit.model)}
            params = _params({**edit.settings, "layer_id": layer}, **known)
            params = {**({} if "shift_start" in params else shift), **params, "shift_magnitude": row.magnitude}
            beside = _beside(edit.settings, rows.index(row))
            found = ScoredText(row.text, row.tokens, (), -row.loss)
            runs.append({"type": "resemble_shifted", **_annealed(params, row.history, (found,), "loss", -1, beside)})
        layers.append({"type": "magnitudes", "magnitudes": runs})
    return {"type": "layers", "layers": layers}
