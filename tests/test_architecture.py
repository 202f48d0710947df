"""Imports point downwards only, `core` stays pure, and importing simlib stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest

import simlib
from tests.conftest import MARKED

ROOT = Path(__file__).parent.parent
MODULES = sorted((ROOT / "simlib").rglob("*.py"))

# From the ground up: a room may use its own layer and those below. CONTRIBUTING draws the same.
LAYERS = [
    {"errors", "processes", "progress", "renamed"},
    {"core"},
    {"theory", "scenario", "monitoring"},
    {"run", "store"},
    {"engines", "live"},
    {"analysis"},
    {"experiment"},
    {"sizing", "rollout", "verdict"},
    {"guide"},
    {"figures"},
    {"lab"},
    {"web"},
    {"publish"},
    {"cli"},
]
LAYER = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}

# What a rule must never touch: tables, clocks, sockets, logs, validation libraries.
NOT_IN_CORE = {
    "aiohttp",
    "asyncio",
    "logging",
    "numba",
    "pandas",
    "pydantic",
    "random",
    "scipy",
    "simpy",
    "socket",
    "time",
    "websockets",
}
HEAVY = [
    "aiohttp",
    "dask",
    "joblib",
    "matplotlib",
    "numba",
    "pandas",
    "plotly",
    "scipy",
    "websockets",
]


def room_of(path: Path) -> str:
    """Return the room of a module: the folder or file right under simlib."""
    return path.relative_to(ROOT / "simlib").parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, in functions too, as a dotted name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            for alias in node.names:
                yield f"{node.module}.{alias.name}"


def rooms_used(path: Path) -> set[str]:
    """Return the rooms of simlib that a file imports; the package itself counts as its top."""
    used = set()
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "simlib":
            used.add(parts[1] if len(parts) > 1 else "__init__")
    return used


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def circles(modules: list[Path]) -> set[frozenset[str]]:
    """Return the groups of modules each of which leads to all others by imports.

    Every import counts: in functions, because it is run, and for type checkers only, because who
    reads the one module has to read the other. That a package runs before what is in it does not.
    """
    names = {name_of(path).removesuffix(".__init__"): path for path in modules}
    leads_to: dict[str, set[str]] = {name: set() for name in names}
    for name, path in names.items():
        for imported in imports(path):
            # `from package import it`: a module of the package, or else what its file defines.
            home = imported if imported in names else imported.rpartition(".")[0]
            leads_to[name] |= {home} & names.keys() - {name}
    reached = {name: set(used) for name, used in leads_to.items()}
    for between in names:
        for name in names:
            if between in reached[name]:
                reached[name] |= reached[between]
    return {
        frozenset({name, *(other for other in reached[name] if name in reached[other])})
        for name in names
        if name in reached[name]
    }


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) != "__init__"], ids=name_of)
def test_a_module_imports_only_from_its_layer_and_below(path: Path) -> None:
    room = room_of(path)
    assert room in LAYER, f"{room} has no place in the order of rooms yet"
    for used in rooms_used(path) - {room}:
        # `from simlib import x` reaches the top of the house from inside it.
        assert used in LAYER, f"{name_of(path)} imports {used} from the top of simlib"
        assert LAYER[used] <= LAYER[room], f"an upward arrow: {room} imports {used}"
        assert {room, used} != {"engines", "live"}, "simulation and measurement are independent"


def test_no_modules_import_each_other_in_a_circle() -> None:
    assert circles(MODULES) == set()


@pytest.mark.parametrize("path", [p for p in MODULES if room_of(p) == "core"], ids=name_of)
def test_core_has_no_clock_no_io_and_no_tables(path: Path) -> None:
    assert rooms_used(path) <= {"core", "errors"}
    assert not {name.partition(".")[0] for name in imports(path)} & NOT_IN_CORE


# Lines of a function, its signature among them. Its docstring is not counted: what a reader has to
# follow is code, and a public function's docstring may well be longer than its body.
MOST_LINES = 60
MOST_ARGUMENTS = 10
# Two public calls take more, all but the first three by keyword and with a default: what is varied,
# how often, where it runs, where it is kept. A value that bundles some of them would be one more
# name to import, and `workers=4` would become `execution=Execution(workers=4)`.
TAKE_MORE = {"experiment.sweep", "rollout.trials.rehearse"}


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name_of(path)}.{node.name}".removeprefix("simlib."), node


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has without its docstring."""
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    if ast.get_docstring(function) is None:
        return lines
    docstring = function.body[0]
    assert docstring.end_lineno is not None
    return lines - (docstring.end_lineno - docstring.lineno + 1)


def test_no_function_is_longer_than_it_should_be() -> None:
    every = chain.from_iterable(map(functions, MODULES))
    longer = [name for name, function in every if lines_of_code(function) > MOST_LINES]
    assert longer == []


def test_no_function_takes_more_than_it_should() -> None:
    take_more = {}
    for name, function in chain.from_iterable(map(functions, MODULES)):
        given = function.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        if len([one for one in every if one.arg not in ("self", "cls")]) > MOST_ARGUMENTS:
            take_more[name] = given
    assert take_more.keys() == TAKE_MORE
    for name, given in take_more.items():
        assert len(given.args) <= 3, f"{name}: more than three that have a place"
        assert None not in given.kw_defaults, f"{name}: a keyword without a default"


def test_importing_simlib_is_light() -> None:
    program = f"import sys, simlib; print(*[m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_the_reference_lists_the_public_names() -> None:
    text = (ROOT / "data" / "reference.md").read_text(encoding="utf-8")
    table = text.partition("## Public names")[2].partition("## ")[0]
    listed = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*\|)", table, re.M))))
    listed |= set(re.findall(r"`(\w+Error)`", table))
    assert listed == set(simlib.__all__)


def test_contributing_draws_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    picture = text.partition("## The map")[2].partition("```")[2].partition("```")[0]
    for path in MODULES:
        if path.name != "__init__.py":
            assert path.name in picture, f"{name_of(path)} is missing in the picture of the house"
    drawn = re.findall(r"^  (\w+)(?:/|\.py)", picture, re.M)
    assert set(drawn) == set(LAYER)
    assert [LAYER[room] for room in drawn] == sorted(LAYER[room] for room in drawn)


def test_what_contributing_names_is_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    prose = text.partition("## How to add")[2]
    named = re.findall(r"`([\w.-]+(?:/[\w.-]*)+|[\w-]+\.md)`", prose)
    named = [path for path in named if "NAME" not in path]
    assert len(named) > 40
    assert [path for path in named if not (ROOT / path).exists()] == []
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(re.findall(r"`make (\w+)`", text)) <= set(targets)


def test_the_imports_for_type_checkers_are_the_public_names() -> None:
    tree = ast.parse((ROOT / "simlib/__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name: node.module
        for node in block.body
        for alias in node.names  # type: ignore[attr-defined]
    }
    homes = {
        name: ".".join(["simlib", *home.split(".")]).removesuffix(f".{name}")
        for name, home in simlib._HOMES.items()
    }
    assert imported == homes


@pytest.mark.parametrize("name", chain.from_iterable(MARKED.values()))
def test_every_name_that_is_marked_is_that_of_a_test(name):
    path, _, test = name.partition("::")
    assert f"def {test or 'test_'}" in (ROOT / path).read_text(encoding="utf-8")
