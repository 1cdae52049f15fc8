"""What a file of the article asks for, as the formula of an objective, and back.

Their numbers: `layer_id` L is the output of block L (our "block_out"), `neuron_id` None the mean of all units,
`word_id` None the mean of all words; with `normalize` an activation is divided by the word's norm over all layers.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

IDS = ("layer_id", "neuron_id", "word_id")
HOOK = "block_out"


def as_formula(asked: Mapping[str, Any], normalize: bool) -> str:
    """The formula of what a file asks for, as `td.neuron` would print it."""
    layer, unit, pos = (None if asked.get(key) == -1 else asked.get(key) for key in IDS)  # theirs takes -1 for None
    named = {"layer": layer, "unit": "mean" if unit is None else unit, "pos": pos}
    options = [f"{key}={value!r}" for key, value in named.items() if value is not None]
    mean = [] if pos is not None else ["reduce='mean'"]
    formula = f"neuron({', '.join([repr(HOOK), *options, *mean])})"
    return f"normalized({formula})" if normalize else formula


def as_ids(formula: str, tokens: Sequence[str]) -> dict[str, Any]:
    """`layer_id`, `neuron_id` and `word_id` of a formula, None where it names none or several."""
    found: dict[str, Any] = dict.fromkeys(IDS)
    try:
        calls = [node for node in ast.walk(ast.parse(formula, mode="eval")) if isinstance(node, ast.Call)]
        options = [{one.arg: ast.literal_eval(one.value) for one in call.keywords} for call in calls if call.keywords]
    except (ValueError, SyntaxError, RecursionError):  # your own function prints as you named it
        return found
    if len(options) == 1:
        pos = options[0].get("pos", options[0].get("query"))
        pos = tokens.index(pos) if isinstance(pos, str) and pos in tokens else pos
        named = options[0].get("layer"), options[0].get("unit"), pos
        found |= {key: value for key, value in zip(IDS, named, strict=True) if type(value) is int}
    return found


def as_text(tokens: Sequence[str]) -> str:
    """BERT's tokens as plain text."""
    inner = [token for token in tokens if token not in ("[CLS]", "[SEP]", "[PAD]")]
    return " ".join(inner).replace(" ##", "")
