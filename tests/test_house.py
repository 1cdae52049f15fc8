"""The house rules that can be read off the source: who imports whom, from where, who prints, how long a room is.

The package is wings of rooms (`tl_dream/<wing>/<room>.py`). A wing imports from the wings before it in WINGS, and from
their face only (`from tl_dream.models import Host`); inside a wing, from the room.
"""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tl_dream"

WINGS = """
results text models objectives scans search dreaming reconstruction concepts editing portraits sweeps interchange
plotting cli
""".split()
GROUND = ("_errors", "_arguments", "_files")

ONLY = {"results": set(), "text": set(), "plotting": {"results"}}
"""Wings that may import these wings and no others."""

DOORS = {"transformer_lens": "models", "matplotlib": "plotting", "typer": "cli", "rich": "cli", "jinja2": "portraits"}
"""The one wing that may import a framework."""

LONGEST = 350
"""Lines of a room."""

FILES = sorted(PACKAGE.rglob("*.py"))
ROOMS = [file for file in FILES if file.stem not in ("__init__", "__main__")]


def dotted(file: Path) -> str:
    """ "models.host"; a face is its wing, the package itself is ""."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported(source: str) -> list[tuple[str, str]]:
    """(module, name) of every import, at the top or inside a function; the name is "" where a module is imported."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "write imports in full"
            found += [(node.module or "", alias.name) for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            found += [(arg.value, "") for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return found


def complaints(room: str, imports: list[tuple[str, str]]) -> list[str]:
    """What the rules have against these imports of a room, "models.host" say."""
    wing = room.split(".")[0]
    found = []
    for module, name in imports:
        if module.split(".")[0] != "tl_dream":
            continue
        if module == "tl_dream" and not name and wing == "cli":
            continue  # the command line is a user of the public names: `import tl_dream as td`
        if module == "tl_dream":  # `from tl_dream import plotting`
            module = f"tl_dream.{name}"
        whole, (other, *rest) = f"{room} imports {name!r} from {module}", module.split(".")[1:]
        if other in GROUND and wing not in GROUND:
            found += [f"{whole}: private"] if name.startswith("_") else []
        elif other in GROUND:
            found += [f"{whole}, which stands below it"] if GROUND.index(other) > GROUND.index(wing) else []
        elif other not in WINGS:
            found.append(f"{whole}, which is no wing")
        elif wing in GROUND or WINGS.index(other) > WINGS.index(wing):
            found.append(f"{whole}, which stands below it")
        elif name.startswith("_"):
            found.append(f"{whole}: private")
        elif other != wing and rest:
            found.append(f"{whole}: take it from the face of the wing")
        elif other == wing and not rest and name not in {file.stem for file in (PACKAGE / wing).glob("*.py")}:
            found.append(f"{whole}: inside a wing, take it from the room")
        elif other != wing and wing in ONLY and other not in ONLY[wing]:
            found.append(f"{whole}; it may import {sorted(ONLY[wing])} alone")
    return found


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("dreaming.ascent", "from tl_dream.search import Batch\nfrom tl_dream._errors import require", None),
        ("dreaming.ascent", "from tl_dream.dreaming.annealing import Annealing", None),
        ("models.host", "from tl_dream.objectives import Objective", "below"),
        ("models.host", "def f():\n    from tl_dream.cli import main", "below"),
        ("dreaming.ascent", "from tl_dream.search.batch import Batch", "face"),
        ("dreaming.ascent", "from tl_dream.dreaming import Annealing", "room"),
        ("dreaming.ascent", "from tl_dream.dreaming.annealing import _made", "private"),
        ("plotting.canvas", "from tl_dream.models import Host", "alone"),
        ("results.base", "from tl_dream.text import Prompt", "below"),
        ("scans.tokens", "from tl_dream.load_model import x", "no wing"),
        ("_errors", "from tl_dream._arguments import whole_number", "below"),
        ("cli.dream", "import tl_dream as td", None),
        ("sweeps.jobs", "import tl_dream as td", "no wing"),
    ],
)
def test_the_check_itself(room: str, source: str, wrong: str | None) -> None:
    found = complaints(room, imported(source))
    assert found == [] if wrong is None else [wrong in one for one in found] == [True]


def test_every_file_is_a_room_of_a_wing() -> None:
    assert {file.stem for file in PACKAGE.glob("*.py")} == {"__init__", "__main__", *GROUND}
    wings = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir() and folder.name != "__pycache__"}
    assert wings == set(WINGS)
    for wing in WINGS:
        assert 3 <= len([file for file in (PACKAGE / wing).glob("*.py") if file in ROOMS]) <= 9, wing


def test_imports_follow_the_order() -> None:
    found = [
        one
        for file in FILES
        if dotted(file) not in ("", "__main__")
        for one in complaints(dotted(file), imported(file.read_text("utf-8")))
    ]
    assert not found
    top = imported((PACKAGE / "__init__.py").read_text("utf-8"))
    assert not [module for module, _ in top if module.startswith(("tl_dream.plotting", "tl_dream.cli"))]


def test_no_circles_in_a_wing() -> None:
    """Between the rooms of a wing the order says nothing, so look for circles."""
    graph = {}
    for file in ROOMS:
        modules = {f"{module}.{name}" for module, name in imported(file.read_text("utf-8"))}
        modules |= {module for module, _ in imported(file.read_text("utf-8"))}
        graph[dotted(file)] = {dotted(other) for other in ROOMS if f"tl_dream.{dotted(other)}" in modules}
    while graph:
        free = [name for name, needs in graph.items() if not needs & (graph.keys() - {name})]
        assert free, f"these rooms import each other in a circle: {sorted(graph)}"
        graph = {name: needs for name, needs in graph.items() if name not in free}


def test_one_door_per_framework() -> None:
    for file in FILES:
        frameworks = {module.split(".")[0] for module, _ in imported(file.read_text("utf-8"))}
        wing = dotted(file).split(".")[0]
        for framework, door in DOORS.items():
            assert framework not in frameworks or wing == door, f"{file} imports {framework}; only {door} may"


def test_no_room_is_too_long() -> None:
    assert not [dotted(file) for file in FILES if len(file.read_text("utf-8").splitlines()) > LONGEST]


def test_every_room_has_a_test_file() -> None:
    tests = Path(__file__).parent
    missing = [
        dotted(file)
        for file in ROOMS
        if not (tests / file.relative_to(PACKAGE).with_name(f"test_{file.stem.lstrip('_')}.py")).exists()
    ]
    assert not missing, f"no tests/<wing>/test_<room>.py for {missing}"


def test_no_print_outside_the_command_line() -> None:
    for file in FILES:
        calls = [node for node in ast.walk(ast.parse(file.read_text("utf-8"))) if isinstance(node, ast.Call)]
        lines = [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id == "print"]
        assert not lines or dotted(file).startswith("cli."), f"print() in {file}, lines {lines}"


def test_no_backward() -> None:
    """Gradients are taken by torch.autograd.grad on our own input, never poured into the user's weights."""
    for file in FILES:
        nodes = ast.walk(ast.parse(file.read_text("utf-8")))
        lines = [node.lineno for node in nodes if isinstance(node, ast.Attribute) and node.attr == "backward"]
        assert not lines, f".backward in {file}, lines {lines}"


def test_no_function_is_called_like_a_room() -> None:
    """Where both exist, `tl_dream.dreaming.annealing` could be either."""
    for wing in WINGS:
        face = ast.parse((PACKAGE / wing / "__init__.py").read_text("utf-8"))
        names = {alias.name for node in face.body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert not names & {file.stem for file in (PACKAGE / wing).glob("*.py")}, wing


def test_importing_the_package_leaves_matplotlib_alone() -> None:
    code = (
        "import sys, tl_dream; [getattr(tl_dream, name) for name in tl_dream.__all__]; "
        "print([m for m in sys.modules if m.split('.')[0] == 'matplotlib'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def public() -> list[tuple[str, object]]:
    import tl_dream

    return [(name, getattr(tl_dream, name)) for name in tl_dream.__all__]


def test_all_is_complete_and_unique() -> None:
    names = [name for name, _ in public()]
    assert len(names) == len(set(names))
    assert not [name for name in names if name in ("plotting", "cli")]


def test_every_public_name_is_documented() -> None:
    bare = []
    for name, value in public():
        if isinstance(value, ModuleType | type) or callable(value):
            doc = vars(value).get("__doc__") if isinstance(value, type) else value.__doc__
            # a dataclass without a docstring gets its signature for one
            if not doc or doc.startswith(f"{name}("):
                bare.append(name)
    assert not bare, f"no docstring: {bare}"


def test_public_functions_take_three_positional_arguments_at_most() -> None:
    """(model, objective or target, prompt, *, options); no **kwargs tunnels, immutable defaults."""
    wrong = []
    for name, function in public():
        if not inspect.isfunction(function):
            continue
        parameters = inspect.signature(function).parameters.values()
        positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        if len(positional) > 3:
            wrong.append(f"{name} takes {len(positional)} positional arguments")
        wrong += [f"{name} takes **{p.name}" for p in parameters if p.kind is p.VAR_KEYWORD]
        mutable = [p.name for p in parameters if isinstance(p.default, list | dict | set)]
        wrong += [f"{name} has the mutable default {option}=" for option in mutable]
    assert not wrong, wrong
