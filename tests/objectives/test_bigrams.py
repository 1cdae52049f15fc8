"""The room objectives.bigrams."""

from pathlib import Path

import tl_dream as td
from tests.support.objectives import JUDGED as TEXTS
from tl_dream.objectives.bigrams import BigramModel


def test_bigrams_go_with_every_backend_of_a_model(tiny_folder: Path, bigrams: BigramModel, backend: str) -> None:
    model = td.load_model(str(tiny_folder), backend=backend)
    assert td.count_bigrams(model, TEXTS).vocabulary == bigrams.vocabulary
    assert td.score(model, td.fluency(bigrams), TEXTS).isfinite().all()
