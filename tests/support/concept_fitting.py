"""What the tests of several rooms share (concept fitting)."""

import numpy
import torch

from tl_dream.concepts.collection import collect
from tl_dream.concepts.examples import Examples, read_examples
from tl_dream.models.host import attached

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
