"""Committed notebooks are in the state in which a comparison says something, and digests work."""

from __future__ import annotations

import ast
import base64
import json
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
MAX_STATEMENTS = 5
TAGS = {
    "headline",  # what `make report` prints
    "nbval-ignore-output",  # measured live: the cell asserts a relation
    "raises-exception",  # shows an error on purpose
}
LOGIC = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Lambda,
    ast.For,
    ast.AsyncFor,
    ast.While,
)


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
    for number, cell in enumerate(code(notebook), start=1):
        found.extend(f"code cell {number}: {text}" for text in _cell_complaints(cell))
    for cell in notebook.cells:
        unknown = set(cell.metadata.get("tags", [])) - TAGS
        if unknown:
            found.append(f"unknown tags {sorted(unknown)}, known are {sorted(TAGS)}")
    return found


def _cell_complaints(cell: nbformat.NotebookNode) -> list[str]:
    found = []
    for output in cell.outputs:
        if output.output_type == "error" and "raises-exception" not in cell.metadata.get(
            "tags", []
        ):
            found.append(f"an error is stored: {output.ename}")
        if output.get("name") == "stderr":
            found.append("standard error is stored")
    if cell.source.lstrip().startswith(("%", "!")) or "\n%" in cell.source or "\n!" in cell.source:
        return [*found, "a magic or a shell command"]
    tree = compile(cell.source, "cell", "exec", ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    assert isinstance(tree, ast.Module)
    if any(isinstance(node, LOGIC) for node in ast.walk(tree)):
        found.append("a definition or a loop belongs in simlib")
    # Imports are not logic: a first cell may need several.
    work = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    if len(work) > MAX_STATEMENTS:
        found.append(f"{len(work)} statements, must be <= {MAX_STATEMENTS}")
    return found


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
    for word in ("question", "1..2", "runner", "standard error", "loop", "shell", "['who']"):
        assert word in text


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
