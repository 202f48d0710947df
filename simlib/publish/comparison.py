"""When two runs of a notebook count as the same: the rules of both runners, and the second one.

``pytest --nbval`` runs a notebook cell by cell and compares what comes out with what is stored. It
takes its rules from here (`notebooks/conftest.py`), and so does `compare`, which runs a notebook by
`notebook.execute` and needs no nbval, so that the notebooks could be tested without it, too. What
one of them refuses the other refuses, but for a cell that has never been run: nbval says nothing of
it.

Exactly the same is too much for the last bits of a float, which another processor computes
differently, and unreadable for a figure of ten thousand numbers. So each value is made comparable
first: a figure becomes its digest, a long float is cut to nine significant digits, ids and
addresses become placeholders.

On a command line, ``python -m simlib.publish.comparison PATH ...`` runs notebooks and prints what
differs.
"""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.publish.notebook import (
    WIDGET_MIME,
    NotebookError,
    digest,
    execute,
    normalise,
    steady_text,
)

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOT_COMPARED = ("stderr", "image/svg+xml", "image/png", "image/jpeg", WIDGET_MIME)
"""Progress bars, warnings, drawings and widgets are not compared."""
IGNORE_TAG = "nbval-ignore-output"
"""The tag of cells whose outputs are not compared, as they are measured. They have to run."""

_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
_STYLER_ID = re.compile(r"\bT_[0-9a-f]{5}")
_UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")
_MOST_LINES = 12


def comparable(value: Any) -> Any:
    r"""Return what is compared of a value of an output.

    Parameters
    ----------
    value : object
        A text, a figure, or anything else, which is left as it is.

    Examples
    --------
    >>> comparable("<Client at 0x7f3a2b1c0d> waits 0.30000000000000004 s")
    '<Client at 0x> waits 0.3 s'
    >>> comparable({"data": [{"y": [1.0, 2.0000000001]}], "layout": {}})
    'data[0].y=[1, 2]\n'
    """
    if isinstance(value, dict) and {"data", "layout"} <= value.keys():
        return digest(value)
    if isinstance(value, str):
        value = steady_text(value, digits=9)
        value = _ADDRESS.sub("0x", value)
        value = _STYLER_ID.sub("T_", value)
        value = _UUID.sub("uuid", value)
    return value


def compare(path: str | Path, *, timeout_s: float = 600) -> list[str]:
    """Run a notebook in a fresh kernel, and return in what its outputs differ from the stored ones.

    Parameters
    ----------
    path : str or Path
        The notebook, with outputs. It is read, never written.
    timeout_s : float
        How long one cell may take, in seconds, > 0.

    Returns
    -------
    list of str
        What differs, a text for each; empty if the runs are the same.

    Raises
    ------
    NotebookError
        If a cell raised, took too long or killed its kernel.
    """
    import nbformat

    stored = nbformat.read(path, as_version=4)
    return differences(stored, execute(path, timeout_s=timeout_s))


def differences(stored: NotebookNode, fresh: NotebookNode) -> list[str]:
    """Return in what the outputs of two runs of a notebook differ.

    Parameters
    ----------
    stored, fresh : NotebookNode
        Of one notebook.

    Returns
    -------
    list of str
        Each names the code cell, counted from 1, and the kind of output.
    """
    found = []
    # As the runner would have written it, if an editor has written it in another way.
    cells = zip(_code(stored), _code(normalise(stored)), _code(fresh), strict=True)
    for number, (written, one, other) in enumerate(cells, start=1):
        if written.execution_count is None:
            found.append(f"code cell {number}: has not been run before it was stored")
        if IGNORE_TAG in one.metadata.get("tags", []):
            continue
        found += [f"code cell {number}: {text}" for text in _differing(one.outputs, other.outputs)]
    return found


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _differing(stored: list[NotebookNode], fresh: list[NotebookNode]) -> Iterator[str]:
    """Yield in what the outputs of a cell differ, a text a kind of output."""
    one, other = _by_kind(stored), _by_kind(fresh)
    for kind in sorted(one.keys() | other.keys()):
        before, after = one.get(kind, []), other.get(kind, [])
        if len(before) != len(after):
            yield f"{kind}: {len(before)} stored, {len(after)} came out"
        elif before != after:
            yield f"{kind}:\n{_lines(before, after)}"


def _by_kind(outputs: list[NotebookNode]) -> dict[str, list[Any]]:
    """Return what is compared of outputs: their order counts among those of a kind."""
    found: dict[str, list[Any]] = {}
    for output in outputs:
        if output.output_type == "stream":
            values = {output.name: output.text}
        elif output.output_type == "error":
            values = {"error": f"{output.ename}: {output.evalue}"}
        else:
            values = output.data
        for kind, value in values.items():
            if kind not in NOT_COMPARED:
                found.setdefault(kind, []).append(comparable(value))
    return found


def _lines(before: list[Any], after: list[Any]) -> str:
    """Return the lines that differ, the first of them."""
    one, other = ("\n".join(map(str, values)).splitlines() for values in (before, after))
    changed = [
        line
        for line in difflib.unified_diff(one, other, "stored", "came out", n=0, lineterm="")
        if not line.startswith("@@")
    ]
    more = [f"and {len(changed) - _MOST_LINES} lines more"] if len(changed) > _MOST_LINES else []
    return "\n".join([*changed[:_MOST_LINES], *more])


def main(arguments: list[str] | None = None) -> int:
    """Run notebooks and say in what they differ from what is stored.

    Parameters
    ----------
    arguments : list of str, optional
        The command line after the program's name; by default the real one.

    Returns
    -------
    int
        0 if none differs, or else 1.
    """
    parser = argparse.ArgumentParser(
        prog="python -m simlib.publish.comparison", description=main.__doc__
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--timeout-s", type=float, default=600, help="limit for one cell")
    options = parser.parse_args(arguments)
    failed = 0
    for path in options.paths:
        try:
            found = compare(path, timeout_s=options.timeout_s)
        except NotebookError as error:
            found = [str(error)]
        failed |= bool(found)
        print(f"{path}: {'the same' if not found else 'differs'}")
        print("".join(f"{text}\n" for text in found), end="")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
