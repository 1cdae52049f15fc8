"""What the tests of several rooms share: concepts."""

import numpy
import torch

from tl_dream.concepts.collection import collect
from tl_dream.concepts.examples import Examples, read_examples
from tl_dream.models.forward_pass import forward
from tl_dream.models.host import attached
from tl_dream.results.concepts import Evidence

SENTENCE = "so the dog can see he run"


def read(model: torch.nn.Module, name: str, text: str = SENTENCE) -> torch.Tensor:
    with attached(model) as host, torch.no_grad():
        ids, _ = host.pad([host.vocabulary.encode(text)])
        return forward(host, ids, [name])[name]


def made_evidence(layer: int | None = 0, accuracy: float = 0.9, **accuracies: float) -> Evidence:
    every = {"mean": accuracy, **accuracies}
    return Evidence(
        layer=layer,
        estimator="mean",
        accuracy=accuracy,
        interval=(accuracy - 0.1, min(1.0, accuracy + 0.05)),
        held_out=40,
        held_out_groups=20,
        fitted=120,
        p_value=0.01,
        p_corrected=0.02,
        random_concepts=100,
        random_mean=0.5,
        random_best=0.62,
        accuracies=every,
        intervals={name: (value - 0.1, min(1.0, value + 0.05)) for name, value in every.items()},
        agreement={"mean": dict.fromkeys(every, 1.0)},
        stability=0.99,
        stability_low=0.98,
        bootstraps=50,
        bootstraps_drawn=50,
    )


QUICK = {"random_concepts": 50, "bootstraps": 3}


FRAMES = [
    f"the {noun} can see {{}} {verb}" for noun in ("dog", "cat", "bird", "king") for verb in ("run", "walk", "sing")
]


HE, SHE = [frame.format("he") for frame in FRAMES], [frame.format("she") for frame in FRAMES]


SETS = read_examples(SHE, HE)


def cloud(count: int = 60, width: int = 12, gap: float = 6.0) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Two clouds that lie apart along unit 3, the negative mean at unit 3 = 1."""
    draw = numpy.random.default_rng(0)
    labels = numpy.arange(count) % 2 == 1
    units = draw.normal(size=(count, width))
    units[:, 3] += 1 + gap * labels
    return units, labels


def collected(model: torch.nn.Module, examples: Examples, **options: object) -> object:
    with attached(model) as host:
        return collect(host, examples, options.get("hook", "block_out"), options.get("layers", [1]))  # type: ignore[arg-type]
