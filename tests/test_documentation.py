"""What the documentation shows runs, every public name is in it, and it is built without a warning."""

import doctest
import inspect
import os
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

import tl_dream as td
from tl_dream import plotting
from tl_dream.results.base import Cost, Provenance

ROOT = Path(__file__).resolve().parents[1]
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
RUN = [page for page in PAGES if "```python" in (ROOT / page).read_text("utf-8")]


def spend_little(monkeypatch: Any) -> None:
    def with_less(name: str, **less: object) -> None:
        whole = getattr(td, name)
        monkeypatch.setattr(td, name, lambda *given, **more: whole(*given, **(more | less)))

    for name in ("dream", "dream_many", "epo"):
        with_less(name, budget=2_000)
    with_less("token_search", allowed=range(1996, 2996))


@pytest.mark.slow
@pytest.mark.parametrize("page", RUN)
def test_the_python_of_a_page_runs(minilm: torch.nn.Module, page: str, tmp_path: Path, monkeypatch: Any) -> None:
    """In order, as one program. What a search comes to is the README's to tell: the others' have less to spend."""
    if page != "README.md":
        spend_little(monkeypatch)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text("utf-8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    if page == "README.md":
        assert (tmp_path / "dream.png").stat().st_size > 10_000 and (tmp_path / "dream.json").is_file()
        result = namespace["result"]
        assert result.fired and result.best.score > 4.67
        assert result.best.text in (ROOT / page).read_text("utf-8")  # what it says is printed


PLOTS = {f"plotting.{name}": value for name, value in vars(plotting).items() if inspect.isfunction(value)}
HIDDEN = {"plotting.check_figure_path", "plotting.cost_curves"}
PUBLIC = {name: getattr(td, name) for name in td.__all__} | {name: PLOTS[name] for name in PLOTS.keys() - HIDDEN}
EXAMPLES = sorted(name for name, value in PUBLIC.items() if ">>>" in (inspect.getdoc(value) or ""))


@pytest.fixture(scope="module")
def concept(encoder: torch.nn.Module) -> td.ConceptVector:
    verbs = ("sees", "hates", "loves", "is", "was", "had")
    sets = td.read_examples([f"the {{dog}} {v} a star" for v in verbs], [f"the {{moon}} {v} a star" for v in verbs])
    return td.fit_concept(encoder, sets, layer=1, random_concepts=50, bootstraps=2)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_of_a_docstring_runs(
    name: str, encoder: torch.nn.Module, concept: td.ConceptVector, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    load = td.load_model
    monkeypatch.setattr(td, "load_model", lambda source, **options: encoder if source == "minilm" else load(source))
    names = {"td": td, "torch": torch, "bert": encoder, "concept": concept, "plotting": plotting, "Path": Path}
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(PUBLIC[name]) or "", names, name, None, 0)
    told: list[str] = []
    assert doctest.DocTestRunner(verbose=False).run(test, out=told.append).failed == 0, "".join(told)


def test_every_public_function_has_an_example() -> None:
    made = [name for name, value in PUBLIC.items() if inspect.isfunction(value)]
    assert not set(made) - set(EXAMPLES)


def test_every_public_name_is_in_the_reference() -> None:
    pages = "\n".join(page.read_text("utf-8") for page in (ROOT / "docs" / "reference").glob("*.md"))
    told = set(re.findall(r"^::: tl_dream\.([\w.]+)$", pages, flags=re.M))
    assert PUBLIC.keys() <= told


def test_the_schema_of_results_names_every_key_that_all_have() -> None:
    page = (ROOT / "docs" / "reference" / "results.md").read_text("utf-8")
    told = {key for row in re.findall(r"^\| (`.+?) \|", page, flags=re.M) for key in re.findall(r"`(\w+)`", row)}
    assert told == {
        "kind",
        "version",
        "provenance",
        *(part.name for kind in (Cost, Provenance) for part in fields(kind)),
    }


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert len(text.split()) < 900
    for page in PAGES:
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text("utf-8")):
            assert ((ROOT / page).parent / link).exists(), f"{page} leads to {link}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("mkdocs", path=os.path.dirname(sys.executable)) is None, reason="needs .[docs]")
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(tmp_path / "site")],
        cwd=ROOT,
        env={**os.environ, "TL_DREAM_RUN_DEMOS": "false", "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0 and "WARNING" not in run.stderr, run.stderr[-3000:]
    assert (tmp_path / "site" / "reference" / "dreaming" / "index.html").stat().st_size > 20_000
