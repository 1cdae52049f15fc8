"""Files of the article: where its own are, and a small one of every kind."""

from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "text-dream"

TOKENS = ["[CLS]", "the", "red", "dog", "[SEP]"]
PARAMS: dict[str, Any] = {
    **{"layer_id": 2, "word_id": 2, "neuron_id": 7, "dream_start": 3, "dream_end": 3, "num_iterations": 10},
    **{"gumbel": False, "warmup": 2, "start_temp": 2.0, "end_temp": 0.5, "anneal": 0.9, "learning_rate": 0.1},
    **{"sentence": "the red dog", "tokens": TOKENS, "model_config": "bert", "metrics_frequency": 5, "normalize": True},
}
WHOLE = {**PARAMS, "word_id": None, "neuron_id": None, "dream_start": 1}


def run(params: dict[str, Any], name: str, words: str, soft: list[float], hard: list[float]) -> dict[str, Any]:
    rows = [
        {
            **{"number": 5 * i, "tokens": [*TOKENS[:3], word, "[SEP]"], "temperature": 2.0 / 2**i},
            **{"max_values": [1.0, 1.0, 0.5, 1.0, 1.0], name: soft[i], f"ids_{name}": hard[i]},
        }
        for i, word in enumerate(words.split())
    ]
    return {"params": params, "results": {"iterations": rows}}


def moved(layer: int, magnitude: int, word: str) -> dict[str, Any]:
    shift = {"shift_start": 3, "shift_end": 3, "shift_vector": "/x/MAE", "target": "cat"}
    made = run(
        {**WHOLE, **shift, "layer_id": layer, "shift_magnitude": magnitude}, "loss", f"he {word}", [1, 0.5], [1, 0.25]
    )
    return {"type": "resemble_shifted", "params": made["params"], "results": {"layer": layer - 1, **made["results"]}}


ASKED = {"sentence": "the red dog", "layer_id": 2, "neuron_id": 7, "word_id": 2, "change_word": 3, "tokens": TOKENS}
TOPS = [{"token": "cat", "activation": 0.5}, {"token": "dog", "activation": 0.25}]
READ = [
    {"type": "reconstruct", **run({**WHOLE, "layer_id": layer}, "loss", words, [1.0, 0.5], [2.0, 0.25])}
    for layer, words in ((4, "he moon"), (1, "he dog"))
]
FILES: dict[str, dict[str, Any]] = {
    "dream": {"type": "dream", **run(PARAMS, "activation", "dog cat moon", [0.1, 0.75, 0.5], [0.25, 0.5, 0.125])},
    "top_words": {
        **{"type": "top_words", "word_id": 3, "params": PARAMS},
        "iterations": [
            {"number": 0, "indices": [4, 5], "tokens": ["dog", "cat"], "scores": [0.5, 0.25], "activation": 0.5},
            {"number": 5, "indices": [5, 4], "tokens": ["cat", "dog"], "scores": [0.9, 0.1], "activation": 0.7},
        ],
    },
    "token_search": {"type": "token_search", **ASKED, "tops": TOPS},
    "similar_embeddings": {
        **{"type": "similar_embeddings", **ASKED, "cosine": True, "furthest": 1.5},
        "tops": [{**row, "distance": distance} for row, distance in zip(TOPS[::-1], (1e-8, 0.5), strict=True)],
    },
    "reconstruct": READ[0],
    "layers": {"type": "layers", "layers": READ},
    "magnitudes": {"type": "magnitudes", "magnitudes": [moved(0, 5, "dog")]},
    "shifted": {
        "type": "layers",
        "layers": [
            {"type": "magnitudes", "magnitudes": [moved(2, 5, "cat"), moved(2, -1, "moon")]},
            {"type": "magnitudes", "magnitudes": [moved(0, 5, "dog")]},
        ],
    },
}
