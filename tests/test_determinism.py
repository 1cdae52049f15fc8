"""The same seed gives the same result: in another process, with other threads, batches, dtypes and padding."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import tl_dream as td
from tests.conftest import EVERY, says
from tests.support.search import EVERY_METHOD

TEXT, OTHER = " a red dog", " the cat sees a moon"
GOAL = td.neuron("mlp_post", layer=1, unit=3)
SETS = td.read_examples(
    [f"the {{dog}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
    [f"the {{moon}} {verb} a star" for verb in ("sees", "hates", "loves", "is")],
)
FIT = {"layer": 1, "random_concepts": 50, "bootstraps": 2}

CHILD = """
import json, sys
import torch
torch.set_num_threads(2)  # this process has one
import tl_dream as td
from tests.test_determinism import everything
print(json.dumps(everything(td.load_model(sys.argv[1]))))
"""


def everything(model: torch.nn.Module) -> dict[str, list[object]]:
    """What every door that draws, sorts or searches comes to: texts, and scores."""
    found: dict[str, list[object]] = {}
    for method in EVERY_METHOD:
        dream = td.dream(model, GOAL, [TEXT, OTHER], method=method, budget=900, starts=2, seed=5)
        found[method] = [[run.best.text, run.best.score] for run in (dream, *dream.others)]
    jobs = [(td.neuron("block_out", layer=1, unit=unit), TEXT) for unit in range(2)]
    many = sorted(td.dream_many(model, jobs, budget=500), key=lambda one: one.number)
    found["many"] = [[one.dream.best.text, one.dream.best.score] for one in many]
    table = td.token_search(model, GOAL, TEXT, pos="red", top=5)
    found["tokens"] = [[one.token, one.score] for one in table.top]
    corpus = td.corpus_search(model, GOAL, [TEXT, OTHER, "a cat", "the moon and the sun"], top=3)
    found["corpus"] = [[hit.text, hit.score] for hit in corpus.top]
    read = td.reconstruct(model, "the red dog", layer=1, budget=150, seed=2)
    found["reconstruction"] = [[read.best.text, read.best.score]]
    concept = td.fit_concept(model, SETS, seed=4, **FIT)
    found["concept"] = [["accuracy", concept.evidence.accuracy], *(["unit", x] for x in concept.direction.tolist())]
    edit = td.edit_concept(model, concept, "the dog sees a star", pos="dog", starts=2, controls=False)
    found["edit"] = [[row.text, row.loss] for row in edit.rows]
    return found


def agree(one: dict[str, list[object]], other: dict[str, list[object]]) -> None:
    for name, values in one.items():
        assert [text for text, _ in values] == [text for text, _ in other[name]], name
        assert [x for _, x in values] == pytest.approx([x for _, x in other[name]], rel=1e-4, abs=1e-5), name


@pytest.mark.slow
def test_another_process_with_other_hashes_and_threads(tiny_folder: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tiny_folder)],
        env={**os.environ, "PYTHONHASHSEED": "77"},
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    agree(json.loads(child.stdout), everything(td.load_model(str(tiny_folder))))


@pytest.mark.parametrize(
    ("fresh_every", "dtype"),
    [*((kind, torch.bfloat16) for kind in EVERY), (EVERY[0], torch.float64), (EVERY[-1], torch.float16)],
    ids=str,
    indirect=["fresh_every"],
)
def test_every_dtype_holds_what_it_says(fresh_every: Callable[..., torch.nn.Module], dtype: torch.dtype) -> None:
    """Twice the same; the receipt is what the model gives for the text; a concept is found."""
    model = fresh_every(dtype)
    first, again = (td.dream(model, GOAL, TEXT, budget=600, seed=1) for _ in range(2))
    assert first.best == again.best and first.best.score >= first.start.score
    close = {"rel": 1e-9} if dtype == torch.float64 else {"abs": 0.05}
    assert first.best.score == pytest.approx(td.score(model, GOAL, first.best.text).item(), **close)
    table = td.token_search(model, GOAL, TEXT, pos=2, top=3)
    assert [one.score for one in table.top] == sorted((one.score for one in table.top), reverse=True)
    concept = td.fit_concept(model, SETS, **FIT)
    assert concept.evidence.accuracy == 1.0 and concept.direction.isfinite().all()


def test_a_concept_is_not_read_from_rounding(fresh_every: Callable[..., torch.nn.Module]) -> None:
    model = fresh_every(torch.bfloat16)
    verbs = ("sees", "hates", "loves", "is")
    sets = [[f"the {word} {verb} a star" for verb in verbs] for word in ("dog", "moon")]
    fixed = td.read_examples(*sets, positive_pos=0, negative_pos=0)
    with says("constant"):
        td.fit_concept(model, fixed, hook="embed", random_concepts=50, bootstraps=2)


def test_padding_on_either_side(fresh_every: Callable[..., torch.nn.Module]) -> None:
    def found(side: str) -> tuple[object, ...]:
        model = fresh_every()
        model.tokenizer.padding_side = side
        scores = td.score(model, GOAL, [TEXT, OTHER, TEXT + OTHER]).tolist()
        dream = td.dream(model, GOAL, [TEXT, OTHER], budget=600)
        read = td.reconstruct(model, TEXT, layer=1, budget=60, rivals=2)
        assert model.tokenizer.padding_side == side
        return scores, [run.best for run in (dream, *dream.others)], read.best.text

    left, right = found("left"), found("right")
    assert left == right
    alone = fresh_every()
    assert left[0] == pytest.approx([td.score(alone, GOAL, text).item() for text in (TEXT, OTHER, TEXT + OTHER)])
