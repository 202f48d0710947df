"""Committed notebooks are in the state in which a comparison says something, and digests work."""

from __future__ import annotations

import ast
import base64
import io
import json
import tokenize
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from simlib.publish.notebook import as_text, digest, normalise, steady_text

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_BYTES = 300_000
MAX_LINES = 12
MAX_WIDTH = 100
TAGS = {
    "headline",  # what `make report` prints
    "nbval-ignore-output",  # measured live: the cell asserts a relation
    "raises-exception",  # shows an error on purpose
}
# A cell is calls. What is not listed here is not to be had, so that no list of tricks is needed.
STATEMENTS = (ast.Import, ast.ImportFrom, ast.Assign, ast.Expr, ast.Assert, ast.With)
IMPORTS = {
    "import json",
    "import numpy as np",
    "import pandas as pd",
    "import simlib as sl",
    "import tempfile",
    "from IPython.display import Markdown",
    "from pathlib import Path",
}
BUILTINS = {
    *("abs", "dict", "len", "list", "max", "min", "range", "round", "str", "sum", "tuple", "zip"),
}
LIBRARY = "sl"
LOOPS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def complaints(path: Path) -> list[str]:
    """Say everything that is wrong with a notebook at once."""
    notebook = nbformat.read(path, as_version=4)
    found = []
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        found.append(f"not valid: {error}")
    if path.stat().st_size >= MAX_BYTES:
        found.append(f"{path.stat().st_size} bytes: plot fewer points, must be < {MAX_BYTES}")
    first = notebook.cells[0]
    heading = first.source.splitlines()[0]
    if first.cell_type != "markdown" or not (heading.startswith("# ") and heading.endswith("?")):
        found.append(f"the first cell must open with '# ' and a question, got {heading!r}")
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        found.append("each cell must have an id of its own")
    counts = [cell.execution_count for cell in code(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        # nbval compares nothing in a cell without a count, and says nothing about it.
        found.append(
            f"counts must be 1..{len(counts)}, got {counts}: python -m simlib.publish.notebook"
        )
    if normalise(notebook) != notebook:
        found.append("not as the runner writes it: python -m simlib.publish.notebook")
    known: set[str] = set()
    for number, cell in enumerate(code(notebook), start=1):
        found.extend(f"code cell {number}: {text}" for text in _cell_complaints(cell, known))
    for cell in notebook.cells:
        unknown = set(cell.metadata.get("tags", [])) - TAGS
        if unknown:
            found.append(f"unknown tags {sorted(unknown)}, known are {sorted(TAGS)}")
    if not any("headline" in cell.metadata.get("tags", []) for cell in code(notebook)):
        found.append("no cell has the tag headline, so that the report has no answer to print")
    return found


def _cell_complaints(cell: nbformat.NotebookNode, known: set[str]) -> list[str]:
    found = []
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get(
            "tags", []
        ):
            found.append(f"an error is stored: {output.ename}")
        if output.get("name") == "stderr":
            found.append("standard error is stored")
    return [*found, *code_complaints(cell.source, known)]


def code_complaints(source: str, known: set[str]) -> list[str]:
    """Say what in a cell is not a call of the library, or a few words around one.

    Parameters
    ----------
    source : str
    known : set of str
        Names that earlier cells have assigned or imported; those of this cell are added.
    """
    lines = source.splitlines()
    found = []
    if len(lines) > MAX_LINES:
        found.append(f"{len(lines)} lines, must be <= {MAX_LINES}")
    if any(len(line) > MAX_WIDTH for line in lines):
        found.append(f"a line of more than {MAX_WIDTH} characters")
    try:
        tree = ast.parse(source)
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (SyntaxError, tokenize.TokenError):
        return [*found, "not plain Python: a magic or a shell command"]
    if any(token.type == tokenize.OP and token.string == ";" for token in tokens):
        found.append("a semicolon")
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, STATEMENTS):
            found.append(f"{type(node).__name__}: a definition or a loop belongs in simlib")
        elif isinstance(node, ast.Import | ast.ImportFrom) and ast.unparse(node) not in IMPORTS:
            found.append(f"{ast.unparse(node)!r} is none of the imports that a notebook needs")
        elif isinstance(node, ast.Lambda):
            found.append("lambda: a function belongs in simlib")
        elif isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            found.append(f"{node.attr} is private")
        elif isinstance(node, ast.Constant) and "@" in str(node.value):
            found.append("'@': a pandas query may compute on columns alone")
        elif isinstance(node, LOOPS) and LIBRARY in _names(node):
            found.append("a comprehension over the library: is there a call that takes them all?")
    bound = {name for name, context in _contexts(tree) if not isinstance(context, ast.Load)}
    if LIBRARY in bound:
        found.append(f"{LIBRARY} is the library, and nothing else")
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    unknown = sorted(_names(tree) - known - bound - imported - BUILTINS)
    if unknown:
        found.append(f"{', '.join(unknown)}: neither assigned, nor imported, nor a plain builtin")
    mentions = [name for name, _ in _contexts(tree)].count(LIBRARY)
    if mentions > sum(_calls_library(node) for node in ast.walk(tree)):
        found.append("the library may only be called: its functions are not values here")
    known |= bound | imported
    return found


def _contexts(tree: ast.AST) -> list[tuple[str, ast.expr_context]]:
    """Every variable that is read or bound anywhere in a piece of code, as often as it is."""
    return [(node.id, node.ctx) for node in ast.walk(tree) if isinstance(node, ast.Name)]


def _names(tree: ast.AST) -> set[str]:
    return {name for name, _ in _contexts(tree)}


def _calls_library(node: ast.AST) -> bool:
    """Whether it is a call such as ``sl.simulate(...)`` or ``sl.metrics.table(...)``."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    inner = node.func.value
    while isinstance(inner, ast.Attribute):
        inner = inner.value
    return isinstance(inner, ast.Name) and inner.id == LIBRARY


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_committed_notebook_is_clean(path: Path) -> None:
    assert complaints(path) == []


def test_the_complaints_are_made(tmp_path: Path) -> None:
    cell = new_code_cell(
        "for i in range(3):\n    print(i)",
        id="a",
        execution_count=None,
        metadata={"tags": ["who"]},
        outputs=[new_output("stream", name="stderr", text="warning")],
    )
    path = tmp_path / "bad.ipynb"
    nbformat.write(new_notebook(cells=[cell, new_code_cell("!ls", id="b")]), path)
    text = "\n".join(complaints(path))
    for word in (
        "question",
        "1..2",
        "runner",
        "standard error",
        "loop",
        "shell",
        "['who']",
        "headline",
    ):
        assert word in text


MOST = "runs = [\n" + "    1,\n" * 10 + "]"


@pytest.mark.parametrize(
    "source",
    [
        MOST,
        "run = sl.simulate(board, seed=1)\nsl.figures.latency(run)",
        "run = sl.Scenario.load('board.toml').replace(clients=5)",
        "rows = [run.frame(name) for name in ('clients', 'timeline')]",
        "waits = {f'{s:g} s': {'reconnect.base_s': s} for s in (1.0, 5.0)}",
        "with tempfile.TemporaryDirectory() as store:\n    sl.sweep(board, [{}], store=store)",
        "import numpy as np\nassert np.isclose(max(1, 2), 2)",
    ],
)
def test_plain_calls_are_let_pass(source: str) -> None:
    assert code_complaints(source, {"sl", "board", "run", "tempfile"}) == []


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("for n in (1, 2):\n    sl.simulate(board)", "For"),
        ("while True:\n    sl.simulate(board)", "While"),
        ("if run:\n    sl.simulate(board)", "If"),
        ("try:\n    sl.simulate(board)\nfinally:\n    run", "Try"),
        ("match run:\n    case 1:\n        sl.simulate(board)", "Match"),
        ("def run():\n    sl.simulate(board)", "FunctionDef"),
        ("async def run():\n    sl.simulate(board)", "AsyncFunctionDef"),
        ("class Runs:\n    one = 1", "ClassDef"),
        ("run = lambda n: n", "lambda"),
        ("frame.apply(lambda row: row)", "lambda"),
        ("[sl.simulate(board, seed=n) for n in (1, 2)]", "comprehension"),
        ("{sl.simulate(board, seed=n) for n in (1, 2)}", "comprehension"),
        ("{n: sl.simulate(board, seed=n) for n in (1, 2)}", "comprehension"),
        ("list(sl.simulate(board, seed=n) for n in (1, 2))", "comprehension"),
        ("[n for n in (1, 2) if sl.simulate(board, seed=n)]", "comprehension"),
        ("[f'{sl.simulate(board, seed=n)}' for n in (1, 2)]", "comprehension"),
        ("[[n for n in sl.replicate(board, m)] for m in (1, 2)]", "comprehension"),
        ("[sl.theory.drain_peak_per_s(5, s, 1, 1) for s in (1, 2)]", "comprehension"),
        ("run = sl.simulate\n[run(board, seed=n) for n in (1, 2)]", "not values"),
        ("[run(board) for run in (sl.simulate, sl.measure)]", "not values"),
        ("(run := sl.simulate)(board)", "not values"),
        ("lib = sl\n[lib.simulate(board, seed=n) for n in (1, 2)]", "not values"),
        ("engines = sl.experiment\n[engines.replicate(board, n) for n in (1, 2)]", "not values"),
        ("rows.map(sl.simulate)", "not values"),
        ("rows['run'] = sl.simulate", "not values"),
        ("(sl, rows)[0].simulate(board)", "not values"),
        ("list(map(sl.simulate, [board, board]))", "map"),
        ("list(filter(sl.simulate, [board, board]))", "filter"),
        ("getattr(sl, 'simulate')(board)", "getattr"),
        ("vars(sl)['simulate'](board)", "vars"),
        ("globals()['sl'].simulate(board)", "globals"),
        ("exec('for n in (1, 2): sl.simulate(board)')", "exec"),
        ("[rows.query('@sl.simulate(@board)') for n in (1, 2)]", "query"),
        ("eval('[sl.simulate(board) for n in (1, 2)]')", "eval"),
        ("__import__('simlib').simulate(board)", "__import__"),
        ("[b.replace.__globals__['simulate'](b) for b in rows]", "private"),
        ("sl.experiment._spread({}, 1, 1, 1)", "private"),
        ("from simlib import simulate\n[simulate(board, seed=n) for n in (1, 2)]", "imports"),
        ("from simlib.engines import simulate as run", "imports"),
        ("import simlib", "imports"),
        ("import simlib as lib", "imports"),
        ("from functools import partial", "imports"),
        ("import importlib", "imports"),
        ("sl = board", "nothing else"),
        ("[sl for sl in (1, 2)]", "nothing else"),
        ("[run(board) for run in unheard_of]", "unheard_of"),
        ("get_ipython().run_cell('1')", "get_ipython"),
        ("run = 1; sl.simulate(board)", "semicolon"),
        ("run = !ls", "magic"),
        ("%time sl.simulate(board)", "magic"),
        ("%%capture\nsl.simulate(board)", "magic"),
        ("\n  !ls", "magic"),
        (MOST.replace("[", "[\n    0,", 1), "13 lines"),
        ("text = '''" + "\n" * 12 + "'''", "13 lines"),
        ("# comment\n" * 13, "13 lines"),
        ("run = [" + "1, " * 40 + "]", "100 characters"),
    ],
)
def test_each_way_around_the_rule_is_caught(source: str, word: str) -> None:
    found = "\n".join(code_complaints(source, {"sl", "board", "run", "rows", "frame"}))
    assert word in found


def test_a_name_is_known_once_a_cell_has_bound_it() -> None:
    known: set[str] = set()
    assert code_complaints("import simlib as sl\nBOARD = sl.Scenario()", known) == []
    assert code_complaints("sl.simulate(BOARD)", known) == []
    assert "BOARD" in "".join(code_complaints("sl.simulate(BOARD)", {"sl"}))


def binary(values: list[float]) -> dict[str, str]:
    """Return an array the way plotly stores it."""
    raw = np.array(values, dtype="<f8").tobytes()
    return {"dtype": "f8", "bdata": base64.b64encode(raw).decode()}


def figure(y: Any, **layout: Any) -> dict[str, Any]:
    return {"data": [{"type": "scatter", "y": y}], "layout": layout}


VALUES = [0.125 * k for k in range(1, 41)]


@pytest.mark.parametrize("form", [list, binary], ids=["list", "binary"])
@pytest.mark.parametrize("which", [0, 17, 39])
def test_a_change_of_1e_7_is_invisible_and_of_1e_3_visible(form: Any, which: int) -> None:
    before = digest(figure(form(VALUES)))
    for relative, visible in ((1e-15, False), (1e-7, False), (1e-3, True)):
        changed = list(VALUES)
        changed[which] *= 1 + relative
        assert (digest(figure(form(changed))) != before) is visible


def test_a_binary_array_and_a_list_have_one_digest() -> None:
    assert digest(figure(binary(VALUES))) == digest(figure(VALUES))


def test_a_changed_array_is_one_readable_line() -> None:
    changed = [*VALUES[:-1], 7.5]
    pairs = zip(
        digest(figure(VALUES)).splitlines(), digest(figure(changed)).splitlines(), strict=True
    )
    [(old, new)] = [pair for pair in pairs if pair[0] != pair[1]]
    assert "last=5 min=0.125 max=5 mean=2.5625" in old
    assert "last=7.5 min=0.125 max=7.5 mean=2.625" in new


def test_order_and_length_of_an_array_are_visible() -> None:
    swapped = [VALUES[0], VALUES[2], VALUES[1], *VALUES[3:]]
    assert digest(figure(swapped)) != digest(figure(VALUES))
    assert digest(figure([*VALUES, VALUES[-1]])) != digest(figure(VALUES))


def test_noise_beside_large_values_and_the_sign_of_zero_are_invisible() -> None:
    assert digest(figure([0.0, 1.0])) == digest(figure([-0.0, 1.0]))
    assert digest(figure([1e-17, 1.0])) == digest(figure([0.0, 1.0]))


def test_a_setting_is_a_line_and_the_theme_is_left_out() -> None:
    logarithmic = digest(figure(VALUES, yaxis={"type": "log"}, template={"layout": {"a": 1}}))
    added = set(logarithmic.splitlines()) - set(digest(figure(VALUES)).splitlines())
    assert added == {"layout.yaxis.type=log"}


@pytest.mark.parametrize("odd", [[None, 1.5], ["a", "b"], [True, False], [[1, 2], [3, 4]], []])
def test_odd_arrays_have_digests_too(odd: list[Any]) -> None:
    assert digest(figure(odd)).startswith("data[0].type=scatter\n")


def test_missing_values_are_shown() -> None:
    assert "data[0].y=[nan, 1.5]" in digest(figure(binary([float("nan"), 1.5])))


def test_steady_text_leaves_versions_and_short_numbers_alone() -> None:
    text = "plotly 6.123456.1, 0.25, 1e-7, id a0.1234567"
    assert steady_text(text) == text
    assert steady_text("0.12345678901234") == "0.123456789"
    assert steady_text("1.23456789012e-05") == "1.23456789e-05"


def test_normalising_twice_changes_nothing_more() -> None:
    cell = new_code_cell(
        "print(1)",
        id="a",
        execution_count=7,
        metadata={"tags": ["headline"], "execution": {"iopub.status.busy": "2026"}},
        outputs=[
            new_output("stream", name="stdout", text="1\n"),
            new_output("stream", name="stderr", text="noise"),
            new_output("stream", name="stdout", text="2\n"),
        ],
    )
    once = normalise(new_notebook(cells=[cell], metadata={"widgets": {}}))
    assert normalise(once) == once
    assert once.cells[0].outputs == [{"output_type": "stream", "name": "stdout", "text": "1\n2\n"}]
    assert once.cells[0].metadata == {"tags": ["headline"]}
    assert once.cells[0].execution_count == 1
    assert json.loads(json.dumps(once.metadata)).keys() == {"kernelspec", "language_info"}
    assert as_text(once) == "--- 1 code headline\nprint(1)\n--- output\n1\n2\n"
