"""Two runners agree on when a notebook's outputs are as they are stored, and on when not."""

from __future__ import annotations

import copy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from simlib.publish.comparison import compare, differences
from simlib.publish.notebook import PLOTLY_MIME, execute, write

ROOT = Path(__file__).parents[2]
SMALLEST = ROOT / "notebooks" / "06_guide_audited.ipynb"
SOURCES = (
    "import simlib as sl\nsl.notebook.setup()\nimport pandas as pd, plotly.graph_objects as go",
    "print('waits', 1 / 3, 's')",
    "pd.DataFrame({'latency_s': [0.25, 14.5]})",
    "go.Figure(go.Scatter(y=[1.0, 2.0, 4.0]))",
    "import time\ntime.time()",
)
PRINTED, TABLE, FIGURE, MEASURED = range(1, 5)

Change = Callable[[nbformat.NotebookNode], None]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A notebook with a print, a table, a figure and what is measured, as the runner writes it."""
    path = tmp_path_factory.mktemp("small") / "small.ipynb"
    cells = [new_code_cell(source) for source in SOURCES]
    cells[MEASURED].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(new_notebook(cells=[*cells, new_markdown_cell("# The end?")]), path)
    write(execute(path), path)
    return path


def printed(notebook: nbformat.NotebookNode) -> None:
    output = notebook.cells[PRINTED].outputs[0]
    output.text = output.text.replace("waits", "waited")


def table(notebook: nbformat.NotebookNode) -> None:
    data = notebook.cells[TABLE].outputs[0].data
    data["text/plain"] = data["text/plain"].replace("14.5", "14.6")


def figure_by(share: float) -> Change:
    def change(notebook: nbformat.NotebookNode) -> None:
        figure = notebook.cells[FIGURE].outputs[0].data[PLOTLY_MIME]
        figure["data"][0]["y"] = [1.0, 2.0 * (1.0 + share), 4.0]

    return change


def one_more(notebook: nbformat.NotebookNode) -> None:
    outputs = notebook.cells[TABLE].outputs
    outputs.append(copy.deepcopy(outputs[0]))


def raises(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[TABLE].source = "1 / 0"


def long_float(notebook: nbformat.NotebookNode) -> None:
    output = notebook.cells[PRINTED].outputs[0]
    output.text = output.text.replace("0.3333333333333333", "0.3333333333333337")


def measured(notebook: nbformat.NotebookNode) -> None:
    notebook.cells[MEASURED].outputs[0].data["text/plain"] = "1.5"


BROKEN = {
    "printed": (printed, "code cell 2: stdout"),
    "table": (table, "code cell 3: text/plain"),
    "figure": (figure_by(1e-3), f"code cell 4: {PLOTLY_MIME}"),
    "one more": (one_more, "code cell 3: text/html: 2 stored, 1 came out"),
}
SOUND = {"as it is": lambda _: None, "figure": figure_by(1e-9), "measured": measured}
SOUND["long float"] = long_float


def changed(path: Path, change: Change, folder: Path) -> Path:
    """Write a copy of a notebook with something changed, beside the rules of the other runner."""
    notebook = nbformat.read(path, as_version=4)
    change(notebook)
    target = folder / path.name
    nbformat.write(notebook, target)
    shutil.copy(ROOT / "notebooks" / "conftest.py", folder)
    return target


def nbval(path: Path) -> subprocess.CompletedProcess[str]:
    """Run a notebook by the other runner."""
    options = ["--nbval", "--nbval-current-env", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    command = [sys.executable, "-m", "pytest", "-c", "none.ini", *options, path.name]
    (path.parent / "none.ini").write_text("[pytest]\n", encoding="utf-8")
    return subprocess.run(command, cwd=path.parent, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", BROKEN)
def test_what_has_changed_is_named(small: Path, tmp_path: Path, name: str) -> None:
    change, words = BROKEN[name]
    stored, fresh = (nbformat.read(small, as_version=4) for _ in range(2))
    change(stored)
    assert words in "\n".join(differences(stored, fresh))


@pytest.mark.parametrize("name", SOUND)
def test_the_last_bits_and_what_is_measured_do_not_matter(small: Path, name: str) -> None:
    stored, fresh = (nbformat.read(small, as_version=4) for _ in range(2))
    SOUND[name](stored)
    assert differences(stored, fresh) == []


def test_a_cell_that_was_never_run_is_no_success(small: Path) -> None:
    stored, fresh = (nbformat.read(small, as_version=4) for _ in range(2))
    stored.cells[0].execution_count = None
    assert differences(stored, fresh) == ["code cell 1: has not been run before it was stored"]


def test_both_runners_refuse_a_broken_copy_and_take_a_sound_one(
    small: Path, tmp_path: Path
) -> None:
    """One run for each: all that is broken, and all that is sound, in one copy."""
    sound, broken = (tmp_path / name for name in ("sound", "broken"))

    def all_of(changes: list[Change]) -> Change:
        return lambda notebook: [change(notebook) for change in changes] and None

    for folder, changes in (
        (sound, list(SOUND.values())),
        (broken, [change for change, _ in BROKEN.values()]),
    ):
        folder.mkdir()
        changed(small, all_of(changes), folder)
    assert compare(sound / small.name) == []
    taken = nbval(sound / small.name)
    assert taken.returncode == 0, taken.stdout
    found = compare(broken / small.name)
    refused = nbval(broken / small.name)
    assert refused.returncode == 1, refused.stdout
    # Which cells: nbval counts them from 0.
    ours = {int(text.split()[2].rstrip(":")) - 1 for text in found}
    assert ours == {PRINTED, TABLE, FIGURE}
    assert all(f"FAILED {small.name}::Cell {number} " in refused.stdout for number in ours), (
        refused.stdout
    )
    assert f"{len(ours)} failed, {len(SOURCES) - len(ours)} passed" in refused.stdout


def test_a_cell_that_raises_is_refused(small: Path, tmp_path: Path) -> None:
    path = changed(small, raises, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "simlib.publish.comparison", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "code cell 3: " in done.stdout
    assert "ZeroDivisionError" in done.stdout


def test_the_rules_of_the_other_runner_are_these() -> None:
    source = (ROOT / "notebooks" / "conftest.py").read_text(encoding="utf-8")
    assert "from simlib.publish.comparison import NOT_COMPARED, comparable" in source


def test_the_smallest_notebook_is_the_same_by_the_second_runner() -> None:
    assert compare(SMALLEST) == []
