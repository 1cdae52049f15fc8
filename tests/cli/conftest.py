"""Commands on the tiny encoder."""

from pathlib import Path

import pytest
from tqdm.auto import tqdm

from tests.conftest import BACKENDS
from tests.support.cli import TEXT, Command, Run
from tests.support.concepts import HE, SHE
from tl_dream.cli import app, output


@pytest.fixture(scope="session")
def backend() -> str:
    """One will do: the command hands --backend on, and what comes after is tried in the other folders."""
    return BACKENDS[0]


@pytest.fixture(autouse=True)
def no_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a test may take longer than the first line of progress. A bar that Ctrl-C left behind in one
    test moves those of the next down a line."""
    monkeypatch.setattr(output, "EVERY", 3600.0)
    tqdm._instances.clear()


@pytest.fixture
def command(tiny_folder: Path, backend: str) -> Command:
    """`command(pos="2", json=path)` is a whole `dream` command on the tiny encoder; None leaves an option out."""

    def make(*more: str, **options: object) -> list[str]:
        chosen: dict[str, object] = {
            "model": tiny_folder,
            "backend": backend,
            "hook": "block_out",
            "layer": 1,
            "unit": 3,
            "pos": 2,
            "text": TEXT,
            "steps": 4,
            **options,
        }
        pairs = [f"--{key.replace('_', '-')}={value}" for key, value in chosen.items() if value is not None]
        return ["dream", *pairs, *more]

    return make


@pytest.fixture
def run(tiny_folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """`run("fit", "--out", path)` gives what the command prints on the tiny encoder."""

    def call(command: str, *more: object, model: object = tiny_folder) -> str:
        app.parse(["concept", command, f"--model={model}", *map(str, more)])()
        return capsys.readouterr().out

    return call


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    (tmp_path / "she.txt").write_text("\n".join(SHE), encoding="utf-8")
    (tmp_path / "he.txt").write_text("\n".join(HE), encoding="utf-8")
    return f"--positives={tmp_path / 'she.txt'}", f"--negatives={tmp_path / 'he.txt'}"


@pytest.fixture
def concept(run: Run, files: tuple[str, str], tmp_path: Path) -> Path:
    run("fit", *files, "--out", tmp_path / "c.safetensors", "--random-concepts", 50)
    return tmp_path / "c.safetensors"
