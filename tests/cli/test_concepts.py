"""`tl-dream concept fit`, `edit`, `steer` and `classify`: what they print and write, and what they refuse."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import says
from tests.support.cli import CONCEPT_TEXT as TEXT
from tests.support.cli import Run
from tl_dream import DreamError
from tl_dream.concepts.vectors import ConceptVectors
from tl_dream.results.concepts import ConceptReading
from tl_dream.results.edits import ConceptEdit


def test_fit(run: Run, files: tuple[str, str], tmp_path: Path) -> None:
    out, figure = tmp_path / "c.safetensors", tmp_path / "c.png"
    printed = run("fit", *files, "--layers", "0,2", "--out", out, "--figure", figure, "--random-concepts", 50)
    assert "he -> she at block_out" in printed and f"wrote {out}" in printed and f"wrote {figure}" in printed
    assert figure.read_bytes().startswith(b"\x89PNG")
    found = ConceptVectors.load(out)
    assert found.layers == (0, 2) and found.vectors[0].estimator == "mean" and found.vectors[0].seed == 0
    other = tmp_path / "o.safetensors"
    options = ("--estimator=svm", "--hook=mlp_post", "--layers=1", "--seed=3", "--random-concepts=50")
    run("fit", *files, *options, "--out", other)
    again = ConceptVectors.load(other).vectors[0]
    assert (again.estimator, again.place, again.seed, again.width) == ("svm", "mlp_post, layer 1", 3, 40)
    run("fit", *files, "--hook=full_embed", "--out", other, "--random-concepts=50")
    assert ConceptVectors.load(other).layers == (None,)
    run("fit", *files, "--positive-pos=-2", "--negative-pos=5", "--out", other, "--random-concepts=50")
    assert ConceptVectors.load(other).vectors[0].name == "negative -> positive"


def test_fit_on_the_shipped_templates(run: Run, tiny_checkpoint: Callable[..., Path], tmp_path: Path) -> None:
    model = tiny_checkpoint(context=64, layers=1)
    printed = run("fit", "--layers=0", "--out", tmp_path / "c", "--random-concepts=50", model=model)
    assert "234 he and 234 she sentences" in printed
    options = ("--layers=0", "--templates=singular_plural", "--random-concepts=50")
    assert "120 plural" in run("fit", *options, "--out", tmp_path / "c", model=model)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--positives=x",), ("give both --positives and --negatives",)),
        (("--positive-pos=1",), ("go with --positives and --negatives",)),
        (("--positives=none.txt", "--negatives=none.txt"), ("can't read 'none.txt': No such file",)),
        (("--templates=he_shee",), ("unknown concept",)),
        (("--layers=some",), ("names no layer",)),
        (("--layers=9", "FILES"), ("layer 9 does not exist",)),
        (("--hook=full_embed", "--layers=1", "FILES"), ("leave --layers out",)),
        (("--estimator=sgd", "FILES"), ("unknown estimator 'sgd'",)),
        (("--random-concepts=3", "FILES"), ("random_concepts = 3",)),
    ],
)
def test_what_fit_refuses(
    run: Run, files: tuple[str, str], tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    given = [item for option in options for item in (files if option == "FILES" else (option,))]
    with says(*parts):
        run("fit", *given, "--out", tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_edit(run: Run, concept: Path, tmp_path: Path) -> None:
    data, figure, dose = tmp_path / "e.json", tmp_path / "e.png", tmp_path / "d.svg"
    where = ("--concept", concept, "--text", TEXT, "--pos", "she", "--layers=0,1")
    how = ("--magnitudes", "-1,0,1", "--controls", "--starts=1", "--seed=2", "--allowed=no_special")
    printed = run("edit", *where, *how, "--json", data, "--figure", figure, "--dose-figure", dose)
    assert "moved: 5 she" in printed and f"wrote {data}" in printed and f"wrote {dose}" in printed
    found = ConceptEdit.load(data)
    kinds = [(None, -1.0), (None, 0.0), (None, 1.0)] + [
        (c, m) for c in ("random", "shuffled", "opposite") for m in (-1.0, 1.0)
    ]
    assert [(row.layer, row.control, row.magnitude) for row in found.rows] == [
        (i, *kind) for i in (0, 1) for kind in kinds
    ]
    assert found.seed == 2 and found.settings["starts"] == 1 and found.settings["allowed"] == "no_special"
    rows = json.loads(data.read_text())["rows"]
    keys = {"layer", "magnitude", "control", "tokens", "changed", "loss", "gap", "seconds"}
    assert all(keys <= set(row) and row["tokens"][0] == "[CLS]" for row in rows)
    assert figure.read_bytes().startswith(b"\x89PNG") and b"<svg" in dose.read_bytes()


def test_edit_defaults(run: Run, concept: Path) -> None:
    advised = ConceptVectors.load(concept)[0].evidence.carrying.advised
    far = max(1, (advised or 0) / 2)
    printed = run("edit", "--concept", concept, "--text", TEXT, "--pos=5", "--layers=0")
    assert all(f"{m * far:+g}" in printed for m in (-2, -1, 1, 2)) and "random" not in printed


def test_edit_as_far_as_the_first_other_text(run: Run, concept: Path, tmp_path: Path) -> None:
    data = tmp_path / "e.json"
    where = ("--concept", concept, "--text", TEXT, "--pos=she", "--layers=0")
    run("edit", *where, "--magnitudes=least", "--other", concept, "--json", data)
    mine, other = ConceptEdit.load(data).rows
    assert other.control == "other" and mine.magnitude == other.magnitude < 0 and mine.changed


def test_classify(run: Run, concept: Path, tmp_path: Path) -> None:
    data = tmp_path / "r.json"
    printed = run("classify", "--concept", concept, "--text", TEXT, "--pos", "she", "--layers", "1", "--json", data)
    assert "coordinate" in printed
    assert [(row.layer, row.pos) for row in ConceptReading.load(data).rows] == [(1, 5)]
    assert "dog" in run("classify", "--concept", concept, "--text", TEXT)


def test_a_file_of_another_model_and_other_mistakes(
    run: Run, concept: Path, tiny_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    with says("is another model"):
        run("classify", "--concept", concept, "--text", TEXT, model=tiny_checkpoint(seed=1))
    with says("there is no concept file"):
        run("edit", "--concept", tmp_path / "none", "--text", TEXT, "--pos", "she")
    with says("give numbers with commas"):
        run("edit", "--concept", concept, "--text", TEXT, "--pos", "she", "--magnitudes=a")
    with says("has no layer 7"):
        run("edit", "--concept", concept, "--text", TEXT, "--pos", "she", "--layers=7")
    with pytest.raises(DreamError, match="--pos"):
        run("edit", "--concept", concept, "--text", TEXT)
    with pytest.raises(DreamError, match="Possible options: .*--magnitudes"):
        run("edit", "--concept", concept, "--text", TEXT, "--pos=she", "--magnitude=1")
    with says("given for two outputs"):
        run(
            "edit",
            "--concept",
            concept,
            "--text",
            TEXT,
            "--pos=she",
            f"--figure={tmp_path}/a.png",
            f"--dose-figure={tmp_path}/a.png",
        )


def test_steer(run: Run, concept: Path, tmp_path: Path) -> None:
    data = tmp_path / "s.json"
    options = ("--concept", concept, "--text", TEXT, "--pos", "she", "--json", data)
    printed = run("steer", *options, "--magnitude=-1.5", "--layers=1")
    assert "moved by -1.5 natural units" in printed
    rows = {row["layer"]: row for row in json.loads(data.read_text())["rows"]}
    assert rows[0]["value"] == pytest.approx(rows[0]["before"], abs=1e-5)  # before the hook nothing moves
    assert rows[1]["value"] - rows[1]["before"] == pytest.approx(-1.5, abs=1e-4)
    assert rows[2]["value"] != pytest.approx(rows[2]["before"], abs=1e-3)
    erased = run("steer", *options, "--erase")
    assert "erased" in erased
    same = [row["value"] for row in json.loads(data.read_text())["rows"] if row["steered"] == row["layer"]]
    assert same == pytest.approx([0, 0, 0], abs=1e-4)
    text = "the dog can [MASK] she run"
    masked = run("steer", "--concept", concept, "--text", text, "--pos", "she", "--layers=0")
    assert "not steered: " in masked and "steered at layer 0: " in masked
