"""A steered model: a concept moved or erased at one layer, and read again at all."""

from __future__ import annotations

from typing import Any

from tl_dream.concepts import ConceptVector, ConceptVectors, classify
from tl_dream.models import Host, attached, owned_hook
from tl_dream.results import Steering, readable
from tl_dream.scans import predict_masked
from tl_dream.text import Positions


def read_steered(
    model: Any,
    vectors: ConceptVectors,
    text: str,
    *,
    pos: Positions,
    at: list[ConceptVector],
    magnitude: float | None = 1.0,
) -> Steering:
    """Where words of a text lie on a concept, at every layer, before the model is steered and after.

    Args:
        vectors: that read.
        pos: the words.
        at: the vectors to steer along, one at a time.
        magnitude: in natural units; None erases the concept instead.

    Returns:
        A row a steered layer, reading layer and word; for a text with [MASK] the predictions too, where the model has a
        trained head.
    """
    with attached(model) as host:
        places = list(host.vocabulary.locate(host.vocabulary.read(text), pos, whole_words=True))
        before = classify(host, vectors, text, pos=places)
        masked = "[MASK]" in text and host.head_trained
        rows: list[dict[str, Any]] = []
        guesses = {"not steered": _guess(host, text)} if masked else {}
        for vector in at:
            if magnitude is None:
                name, hook = vector.eraser(pos=places, model=host)
            else:
                name, hook = vector.steer(magnitude, pos=places, model=host)
            with owned_hook(host.point(name), hook):
                after = classify(host, vectors, text, pos=places)
                if masked:
                    guesses[f"steered at layer {vector.layer}"] = _guess(host, text)
            for old, new in zip(before.rows, after.rows, strict=True):
                rows.append({"steered": vector.layer, **vars(new), "before": old.value})
    what = "erased" if magnitude is None else f"moved by {magnitude:+g} natural units"
    return Steering(before.model, before.concept, before.hook, text, what, tuple(rows), guesses)


def _guess(host: Host, text: str) -> str:
    """The best predictions for every [MASK], in one line."""
    found = predict_masked(host, text, top=5)
    return "; ".join(
        ", ".join(f"{readable(p.token)} {p.probability:.3f}" for p in places) for places in found.predictions
    )
