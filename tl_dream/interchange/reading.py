"""The article's files as our results.

Every kind is turned into the plain data of one of our results and then read as if we had saved it, so that the same
checks hold for both.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, get_args

from tl_dream._arguments import one_of
from tl_dream._errors import DreamError, require, unknown
from tl_dream._files import as_json, parse_json, read_json
from tl_dream.interchange.questions import HOOK, as_formula, as_text
from tl_dream.interchange.records import read_records, scored_text, settings_of, span
from tl_dream.results import (
    VERSION,
    ConceptEdit,
    Dream,
    LayerReconstructions,
    NeighbourTable,
    Reconstruction,
    SavedResult,
    TokenTable,
    WordWeights,
)

Imported = (
    Dream | WordWeights | TokenTable | NeighbourTable | Reconstruction | LayerReconstructions | ConceptEdit
)  # what the article's files become

UNKNOWN: dict[str, Any] = {
    **dict.fromkeys(("forwards", "forward_tokens", "evaluated", "shortlisted", "rescored"), 0),
    **dict.fromkeys(("seed", "scale", "certificate", "bound", "cut", "share", "damage")),
    **{"seconds": 0.0, "allowed": "", "screen": "", "errors": [], "alternatives": [], "scales": {}},
}
"""What their files don't say, of all kinds."""

NAMELESS = "a model that the file does not name"

OURS = "tl_dream"
"""The key under which a file that we wrote holds what their format has no place for."""


def read_text_dream(source: str | os.PathLike[str] | Mapping[str, Any], *, show: str = "best") -> Imported:
    """A JSON file of "What does BERT dream of?" (PAIR-code/interpretability, text-dream) as one of our results.

    ============================================ ==================================== ==============================
    its type                                     becomes                              drawn by
    ============================================ ==================================== ==============================
    "dream"                                      `Dream`                              `plotting.dream_history`
    "top_words"                                  `WordWeights`                        `plotting.annealing`
    "token_search"                               `TokenTable`                         `plotting.token_bars`
    "similar_embeddings"                         `NeighbourTable`                     `plotting.neighbours`
    "layers" of "reconstruct"                    `LayerReconstructions`               `plotting.read_back`
    "reconstruct"                                `Reconstruction`                     `plotting.read_back`
    "layers" of "magnitudes", or one of these    `ConceptEdit`                        `plotting.edit_table`
    ============================================ ==================================== ==============================

    What their files don't say (token ids, cost, seed, certificates, gaps) is None, empty or 0 there and prints as not
    known. `settings` holds their `params`. Keys that their format does not name are left out. A file that
    `write_text_dream` wrote of a result of ours gives that very result.

    Args:
        source: the file; or its JSON, parsed.
        show: of annealed runs, "best": the real tokens of the best score that was recorded, as all our results do; or
            "last": those of the last record, as the article's figures do.

    Raises:
        DreamError: no JSON, a type that is none of these (it is named), or parts that are missing or wrong.

    Examples:
        >>> goal = td.neuron("block_out", layer=1, unit=5, pos=2)
        >>> found = td.token_search(bert, goal, "the red dog", pos=2, top=3)
        >>> td.write_text_dream(found, "3_top_words.json")
        >>> td.read_text_dream("3_top_words.json") == found
        True
    """
    one_of("show", show, ("best", "last"))
    named = "the JSON" if isinstance(source, Mapping) else repr(str(source))
    try:
        data = parse_json(as_json(source).decode()) if isinstance(source, Mapping) else read_json(source)
    except (TypeError, ValueError, RecursionError) as error:
        raise error if isinstance(error, DreamError) else DreamError(f"{named} is no JSON: {error}") from error
    kind = _kind(data, named)
    try:
        return as_result(data[OURS]) if OURS in data else KINDS[kind](data, show)
    except DreamError as error:
        raise DreamError(f"{named}, of type {kind!r}: {error}") from error
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DreamError(f"{named} is no whole file of type {kind!r}: {error!r} is missing or wrong") from error


def _kind(data: Any, named: str) -> str:
    """Its type; of "layers" that of the layers too."""
    require(isinstance(data, Mapping), f"{named} holds no JSON object, so it is no file of the article")
    kind = data.get("type")
    told = f"its types are {', '.join(map(repr, THEIRS))}; what tl_dream saved is read by `load`, say Dream.load(path)"
    require("type" in data, f'{named} has no "type", so it is no file of the article: {told}')
    if kind == "layers":
        inner = [one.get("type") for one in data.get("layers") or () if isinstance(one, Mapping)]
        require(
            len(set(map(str, inner))) == 1 and inner[0] in ("reconstruct", "magnitudes"),
            f'{named}, of type "layers", holds {", ".join(sorted(set(map(repr, inner)))) or "none"}: '
            'expected layers of "reconstruct" or of "magnitudes", one type throughout',
        )
        return f"layers of {inner[0]}"
    if kind not in THEIRS:
        raise unknown("type of file", str(kind), list(THEIRS), f"{named}: {told}")
    return kind


R = TypeVar("R", bound=SavedResult)


def _made(kind: type[R], asked: Mapping[str, Any], **parts: Any) -> R:
    """A result of these parts, whose model is named in what was asked for, if anywhere."""
    model = asked.get("model_config") or NAMELESS
    return kind.from_json({"kind": kind.kind, "version": VERSION, "model": model, **UNKNOWN, **parts})


def _run_formula(params: Mapping[str, Any]) -> str:
    """The formula of a run, which says itself whether it normalizes."""
    return as_formula(params, bool(params.get("normalize")))


def _dream(data: Mapping[str, Any], show: str) -> Dream:
    params, run = data["params"], read_records(data, show, "activation", 1)
    start, soft = run.scored(0), run.history["soft_score"]
    return _made(
        Dream,
        params,
        objective=_run_formula(params),
        prompt={"text": start["text"], "free": run.free},
        settings=settings_of(params, data),
        start=start,
        best=run.scored(run.shown),
        soft_score=max(soft) if soft else None,
        history=run.history,
        stopped="steps",
    )


def _word_weights(data: Mapping[str, Any], show: str) -> WordWeights:
    rows, params = data["iterations"], data["params"]
    require(isinstance(rows, list) and bool(rows), "it holds no iterations")
    optional = {
        name: [row[key] for row in rows]
        for name, key in (("ids", "indices"), ("soft_score", "activation"))
        if all(key in row for row in rows)
    }
    return _made(
        WordWeights,
        params,
        objective=_run_formula(params),
        place=_place(params, data["word_id"]),
        settings=params,
        step=[row["number"] for row in rows],
        tokens=[row["tokens"] for row in rows],
        weights=[row["scores"] for row in rows],
        **optional,
    )


def _place(data: Mapping[str, Any], pos: Any) -> dict[str, Any]:
    return {"text": data["sentence"], "tokens": data["tokens"], "ids": [], "pos": pos}


def _changed(data: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """What both tables of tokens say, and the sentence's own token; the article's programs normalize there always."""
    pos = data["word_id"] if data.get("change_word") is None else data["change_word"]
    require(pos is not None, '"change_word" and "word_id" are both null: which word was exchanged?')
    return {"objective": as_formula(data, True), "place": _place(data, pos)}, data["tokens"][pos]


def _token_table(data: Mapping[str, Any], show: str) -> TokenTable:
    found, own = _changed(data)
    top = [{"token": row["token"], "id": None, "score": row["activation"]} for row in data["tops"]]
    return _made(TokenTable, {}, **found, top=top, chosen=next((row for row in top if row["token"] == own), None))


def _neighbour_table(data: Mapping[str, Any], show: str) -> NeighbourTable:
    found, own = _changed(data)
    rows = [
        {"token": row["token"], "id": None, "distance": row["distance"], "score": row["activation"], "found": None}
        for row in data["tops"]
    ]
    mine = [row for row in rows if row["token"] == own]
    require(
        bool(mine) and len(rows) > 1, f"the sentence's own token {own!r} is not among the tokens, or is the only one"
    )
    require(isinstance(data["cosine"], bool), f"cosine = {data['cosine']!r} is not true or false")
    return _made(
        NeighbourTable,
        {},
        **found,
        metric="cosine" if data["cosine"] else "euclidean",
        chosen=mine[0],
        neighbours=[row for row in rows if row is not mine[0]],
        best=0,
        furthest=data.get("furthest"),
    )


def _reconstruction(data: Mapping[str, Any], show: str) -> Reconstruction:
    params, run = data["params"], read_records(data, show, "loss", -1)
    word, unit, layer = (
        None if params.get(key) == -1 else params.get(key) for key in ("word_id", "neuron_id", "layer_id")
    )
    best = run.scored(run.shown)
    return _made(
        Reconstruction,
        params,
        hook=f"blocks.{layer}.{HOOK}",
        layer=layer,
        method="article",
        settings=settings_of(params, data),
        positions=None if word is None else [word],
        units=None if unit is None else [unit],
        best=best,
        start=None,
        truth=scored_text(params["tokens"], 0.0),
        free=run.free,
        history=run.history,
        lengths=[[len(best["tokens"]), -best["score"]]],
        stopped="steps",
    )


def _layers(data: Mapping[str, Any], show: str) -> LayerReconstructions:
    layers = [_reconstruction(one, show) for one in data["layers"]]
    told = [layer.settings.get("sentence") for layer in layers]
    require(len(set(map(str, told))) == 1, f"its layers are of several sentences: {told}")
    return _made(LayerReconstructions, {}, text=told[0], layers=[layer.to_json() for layer in layers])


def _edit(runs: Sequence[Mapping[str, Any]], show: str) -> ConceptEdit:
    """Moves along the article's concept, each a run of its own."""
    require(bool(runs), "it holds no magnitudes")
    params = runs[0]["params"]
    tokens, moved = params["tokens"], span(params, "shift")
    same = {key: value for key, value in params.items() if all(run["params"].get(key) == value for run in runs)}
    differ = sorted({key for run in runs for key in run["params"]} - {*same, "layer_id", "shift_magnitude"})
    require(not differ, f"its runs differ in {', '.join(differ)}, and should in layer_id and shift_magnitude alone")
    target = params.get("target")
    rows = []
    for run in runs:
        given, found = run["params"], read_records(run, show, "loss", -1)
        best = found.scored(found.shown)
        require(len(best["tokens"]) == len(tokens), f"{best['tokens']} is not of {len(tokens)} tokens")
        changed = [
            {"pos": pos, "from": before, "to": after, "kind": "concept" if after == target else "other", "value": None}
            for pos, (before, after) in enumerate(zip(tokens, best["tokens"], strict=True))
            if before != after
        ]
        rows.append(
            {
                "layer": given["layer_id"],
                "magnitude": given["shift_magnitude"],
                "control": None,
                "text": best["text"],
                "tokens": best["tokens"],
                "changed": changed,
                "loss": -best["score"],
                "start_loss": None,
                "gap": None,
                "seconds": 0.0,
                "history": found.history,
            }
        )
    own = as_text([tokens[pos] for pos in moved])
    return _made(
        ConceptEdit,
        params,
        concept=str(params.get("shift_vector", "a concept")).rstrip("/").rpartition("/")[2],
        hook=HOOK,
        negative=own,
        positive=own if target is None else target,
        text=params["sentence"],
        tokens=tokens,
        pos=moved,
        rows=rows,
        neighbours={},
        settings=settings_of(same, *runs),
    )


def _shifted_layers(data: Mapping[str, Any], show: str) -> ConceptEdit:
    return _edit([run for layer in data["layers"] for run in layer["magnitudes"]], show)


def as_result(data: Any) -> Imported:
    """The result that the JSON of `save` holds, of those that files of the article become.

    Raises:
        DreamError: of another kind, or not whole.
    """
    name = data.get("kind") if isinstance(data, Mapping) else None
    known = {kind.kind: kind for kind in get_args(Imported)}
    require(name in known, f"the file holds {name!r}: the article has files for {', '.join(known)}")
    return known[name].from_json(data)


KINDS: dict[str, Callable[[Mapping[str, Any], str], Imported]] = {
    "dream": _dream,
    "top_words": _word_weights,
    "token_search": _token_table,
    "similar_embeddings": _neighbour_table,
    "reconstruct": _reconstruction,
    "layers of reconstruct": _layers,
    "layers of magnitudes": _shifted_layers,
    "magnitudes": lambda data, show: _edit(data["magnitudes"], show),
    "resemble_shifted": lambda data, show: _edit([data], show),
}
THEIRS = tuple(dict.fromkeys(kind.partition(" of ")[0] for kind in KINDS))
