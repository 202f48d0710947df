"""Notebooks: their first cell, their one runner, and what makes two runs comparable.

The end of the data flow: a notebook calls the rest of simlib, and this module runs notebooks.
Committed notebooks carry their outputs, and ``pytest --nbval`` runs every cell again and compares.
For that to say something, three things are kept here and nowhere else:

* `setup` stands in a notebook's first cell, so that tables and figures are stored in one form;
* `execute` runs a notebook in a fresh kernel and `normalise` takes out what differs from run to
  run (times, counts, kernel names), so that a second run writes the same bytes;
* `digest` turns a stored figure into short text with six significant digits, which is what is
  compared: changed numbers fail with a readable line, and the last bits of another processor's
  ``exp`` do not.

On a command line, ``python -m simlib.publish.notebook PATH ...`` runs notebooks and writes them
back in place, which is the only way that committed notebooks are made; with ``--text PATH`` it
prints sources, tables and digests instead, for ``git config diff.ipynb.textconv``.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import hashlib
import json
import math
import re
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simlib.errors import SimlibError

if TYPE_CHECKING:
    from nbclient import NotebookClient
    from nbformat import NotebookNode

__all__ = [
    "FIGURE_CONFIG",
    "NotebookError",
    "digest",
    "execute",
    "execute_together",
    "measures",
    "normalise",
    "setup",
    "write",
]

PLOTLY_MIME = "application/vnd.plotly.v1+json"
WIDGET_MIME = "application/vnd.jupyter.widget-view+json"

# The toolbar of every figure, in JupyterLab and in pages: no button that sends data elsewhere.
FIGURE_CONFIG: dict[str, Any] = {
    "displaylogo": False,
    "responsive": True,
    "showSendToCloud": False,
}

_COMPUTED_AT_ONCE = 2
_LONG_FLOAT = re.compile(r"(?<![\w.])[-+]?\d+\.\d{6,}(?:[eE][-+]?\d+)?(?![\w.])")


class NotebookError(SimlibError):
    """A cell of a notebook failed, or its kernel died or took too long.

    Parameters
    ----------
    path : Path
        The notebook.
    cell : int or None
        Which code cell, counted from 1 as JupyterLab counts; None where no cell was reached.
    detail : str
        The end of the traceback, without colours.
    """

    def __init__(self, path: Path, cell: int | None, detail: str) -> None:
        self.path = path
        self.cell = cell
        self.detail = detail
        where = f"{path}: code cell {cell}" if cell is not None else f"{path}"
        super().__init__(f"{where}: {detail}")


def setup() -> None:
    """Set the session up the way that all notebooks of the project share.

    Tables print in one width and precision; figures are stored as plotly's own JSON and nothing
    else, without the button that uploads them. Nothing random and nothing of the machine goes
    into an output.

    Examples
    --------
    >>> setup()
    >>> import pandas as pd
    >>> print(pd.DataFrame({"latency_s": [1 / 3, 2 / 3]}))
       latency_s
    0     0.3333
    1     0.6667
    """
    import pandas as pd
    import plotly.io as pio

    # A fixed width, as the default is that of the terminal.
    pd.set_option("display.precision", 4)
    pd.set_option("display.width", 110)
    pd.set_option("display.max_columns", 30)
    pd.set_option("display.max_colwidth", 60)
    pd.set_option("display.max_rows", 40)
    pio.renderers["plotly_mimetype"].config = dict(FIGURE_CONFIG)
    pio.renderers.default = "plotly_mimetype"


# -- running ----------------------------------------------------------------------------------


def execute(
    path: str | Path, *, timeout_s: float = 600, on_cell: Callable[[], None] | None = None
) -> NotebookNode:
    """Run a notebook in a fresh kernel of this Python, in the notebook's own folder.

    Parameters
    ----------
    path : str or Path
        The notebook. It is read, never written.
    timeout_s : float
        How long one cell may take, in seconds, > 0. There is no "for ever": a kernel that died
        is noticed by this limit only.
    on_cell : callable, optional
        Called without arguments after each code cell that ran well.

    Returns
    -------
    NotebookNode
        The notebook with its new outputs, normalised (see `normalise`).

    Raises
    ------
    NotebookError
        If a cell raised, took too long or killed its kernel.
    KeyboardInterrupt
        If the user stopped it, or SIGTERM did. The kernel is gone by then.
    """
    done: dict[Path, NotebookNode | NotebookError] = {}
    execute_together({Path(path): on_cell}, done.__setitem__, timeout_s=timeout_s)
    (one,) = done.values()
    if isinstance(one, NotebookError):
        raise one
    return one


def execute_together(
    notebooks: Mapping[Path, Callable[[], None] | None],
    on_done: Callable[[Path, NotebookNode | NotebookError], None],
    *,
    timeout_s: float = 600,
) -> None:
    """Run notebooks at the same time, each as `execute` does.

    Those that measure come first and one after the other: beside something that computes, even at
    the lowest priority, each message may be late. Then the others run two by two, as each waits
    now and then for a single run.

    Parameters
    ----------
    notebooks : mapping of Path to callable or None
        The notebooks, and what is called after each of their code cells.
    on_done : callable
        Called when a notebook has ended, with its path and with its new outputs, or why it failed.
    timeout_s : float
        How long one cell may take, in seconds, > 0.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped them, or SIGTERM did. The kernels are gone by then.
    """
    import nbformat

    read = {path: nbformat.read(path, as_version=4) for path in notebooks}
    with _signals_kept():
        is_stopped = asyncio.run(_execute_together(read, notebooks, on_done, timeout_s))
    if is_stopped:
        raise KeyboardInterrupt


async def _execute_together(
    read: Mapping[Path, NotebookNode],
    told: Mapping[Path, Callable[[], None] | None],
    on_done: Callable[[Path, NotebookNode | NotebookError], None],
    timeout_s: float,
) -> bool:
    """Run notebooks; return whether the user has stopped them."""
    stop = _Stop()
    measured = [path for path in read if measures(path)]
    computed = [path for path in read if path not in measured]

    async def run(path: Path, turns: asyncio.Semaphore) -> None:
        async with turns:
            hooks = _Hooks(told[path], stop)
            on_done(path, await _execute(path, read[path], timeout_s, hooks))

    try:
        for paths, at_once in ((measured, 1), (computed, _COMPUTED_AT_ONCE)):
            turns = asyncio.Semaphore(at_once)
            async with asyncio.TaskGroup() as tasks:
                for path in paths:
                    tasks.create_task(run(path, turns))
    except asyncio.CancelledError:
        if not stop.is_asked:
            raise
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
    return stop.is_asked


async def _execute(
    path: Path, notebook: NotebookNode, timeout_s: float, hooks: _Hooks
) -> NotebookNode | NotebookError:
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    client = _client(notebook, path.resolve().parent, timeout_s, hooks)
    # What the kernel's process itself says is noise, until it dies.
    with tempfile.TemporaryFile() as said:
        try:
            await client.async_execute(stderr=said)
        except CellTimeoutError:
            return NotebookError(path, hooks.cell, f"took longer than {timeout_s:g} s")
        except CellExecutionError as error:
            return NotebookError(path, hooks.cell, _tail(error.traceback))
        except (DeadKernelError, RuntimeError, asyncio.CancelledError) as error:
            if hooks.stop.is_asked:
                raise asyncio.CancelledError from None
            said.seek(0)
            last_words = _tail(said.read().decode(errors="replace"))
            why = f"the kernel stopped: {error}\n{last_words}".rstrip()
            return NotebookError(path, hooks.cell, why)
        finally:
            hooks.stop.listen()  # nbclient has just given the signals back
    return normalise(notebook)


def measures(notebook: str | Path) -> bool:
    """Say whether a notebook may measure on real sockets, and so comes before all others.

    Parameters
    ----------
    notebook : str or Path
        Its code speaks of ``measure`` or ``live`` then.
    """
    import nbformat

    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    return any(re.search(r"\b(measure|live)\b", source) for source in code)


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Leave the answer to SIGTERM as it was: a loop that has asked for it resets it at its end."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


class _Stop:
    """Lets Ctrl-C and SIGTERM cancel the task that makes it, and all that it waits for.

    nbclient answers them by ending the kernel and then reports that it died. Cancelling a run ends
    its kernel too, and lets an interrupt be an interrupt.

    Attributes
    ----------
    is_asked : bool
        Whether the user has asked to stop.
    """

    def __init__(self) -> None:
        self.is_asked = False
        self._task = asyncio.current_task()

    def listen(self) -> None:
        """Answer the signals from now on.

        Only a program's main thread can ask for signals; elsewhere there are none to answer.
        """
        with contextlib.suppress(RuntimeError, NotImplementedError):
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, self._ask)

    def _ask(self) -> None:
        self.is_asked = True
        if self._task is not None:
            self._task.cancel()


class _Hooks:
    """What nbclient calls while it runs a notebook.

    Attributes
    ----------
    stop : _Stop
    cell : int or None
        The code cell that runs or ran last, counted from 1.
    """

    def __init__(self, on_cell: Callable[[], None] | None, stop: _Stop) -> None:
        self.stop = stop
        self.cell: int | None = None
        self._on_cell = on_cell

    def execute(self, **_: Any) -> None:
        """Count a code cell that begins."""
        self.cell = (self.cell or 0) + 1

    def executed(self, **_: Any) -> None:
        """Tell the caller that a code cell ran well."""
        if self._on_cell is not None:
            self._on_cell()


def _client(
    notebook: NotebookNode, folder: Path, timeout_s: float, hooks: _Hooks
) -> NotebookClient:
    """Return a client that runs a notebook in a folder, in a fresh kernel of this Python."""
    import ipykernel.kernelspec
    from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient

    class ThisPython(KernelSpecManager):
        """The kernel of the Python that runs this, whatever a user has called ``python3``."""

        def get_kernel_spec(self, kernel_name: str) -> KernelSpec:  # noqa: ARG002 - always ours
            quiet = ["--log-level=ERROR"]
            return KernelSpec(**ipykernel.kernelspec.get_kernel_dict(extra_arguments=quiet))

    class Client(NotebookClient):
        """A client that is stopped in our way from the start of its kernel on."""

        async def async_start_new_kernel(self, **options: Any) -> None:
            hooks.stop.listen()  # nbclient has just asked for the signals itself
            await super().async_start_new_kernel(**options)

    client = Client(
        notebook,
        timeout=timeout_s,
        startup_timeout=120,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        on_cell_execute=hooks.execute,
        on_cell_executed=hooks.executed,
    )
    # Set afterwards: a manager given to the constructor would be ours to shut down.
    manager: Any = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client.km = manager
    return client


def _tail(traceback: str, lines: int = 15) -> str:
    """Return the end of a traceback, without terminal colours."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", traceback)
    return "\n".join(plain.strip().splitlines()[-lines:])


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Take out of a notebook what differs from one run to the next.

    Kept are sources, tags and outputs. Gone are standard error, times, widget state and every
    other metadata; execution counts are 1..N in the order of the cells.

    Parameters
    ----------
    notebook : NotebookNode
        An executed notebook, nbformat 4. It is not changed.

    Returns
    -------
    NotebookNode
        A normalised copy; normalising it again changes nothing.
    """
    import nbformat

    cells = []
    count = 0
    for position, old in enumerate(notebook.cells, start=1):
        tags = sorted(set(old.metadata.get("tags", [])))
        cell = nbformat.from_dict(
            {
                "cell_type": old.cell_type,
                # Notebooks from before nbformat 4.5 have no ids; a position is at least stable.
                "id": old.get("id") or f"cell-{position:02d}",
                "metadata": {"tags": tags} if tags else {},
                "source": old.source.rstrip(),
            }
        )
        if old.cell_type == "code":
            count += 1
            cell.execution_count = count
            cell.outputs = _normalise_outputs(old.outputs, count)
        cells.append(cell)
    return nbformat.from_dict(
        {
            "cells": cells,
            "metadata": {
                "kernelspec": {
                    "display_name": "Python 3 (ipykernel)",
                    "language": "python",
                    "name": "python3",
                },
                "language_info": {"name": "python"},
            },
            "nbformat": 4,
            "nbformat_minor": 5,
        }
    )


def _normalise_outputs(outputs: list[NotebookNode], count: int) -> list[NotebookNode]:
    import nbformat

    kept: list[dict[str, Any]] = []
    for output in outputs:
        new = json.loads(json.dumps(output))
        if new["output_type"] == "stream":
            if new["name"] == "stderr":
                continue
            # One print is one message or several, as the machine's load will have it.
            if kept and kept[-1]["output_type"] == "stream":
                kept[-1]["text"] += new["text"]
                continue
        elif new["output_type"] in {"display_data", "execute_result"}:
            new["metadata"] = {}
            new["data"].pop(WIDGET_MIME, None)
            figure = new["data"].get(PLOTLY_MIME)
            if figure is not None:
                figure["config"] = dict(FIGURE_CONFIG)
            if new["output_type"] == "execute_result":
                new["execution_count"] = count
        kept.append(new)
    return [nbformat.from_dict(output) for output in kept]


def write(notebook: NotebookNode, path: str | Path) -> None:
    """Write a notebook in one step, so that an interrupt leaves the old file or the new one.

    Parameters
    ----------
    notebook : NotebookNode
        What to write; it is validated first.
    path : str or Path
        Where to.
    """
    import nbformat

    nbformat.validate(notebook)
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(nbformat.writes(notebook).rstrip("\n") + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


# -- comparing --------------------------------------------------------------------------------


def steady_text(text: str, *, digits: int = 9) -> str:
    """Round the long decimal numbers in a text, and leave every other character alone.

    Parameters
    ----------
    text : str
        Any text.
    digits : int
        Significant digits that stay, >= 1.

    Returns
    -------
    str
        The text; numbers with fewer than six decimals are not touched.

    Examples
    --------
    >>> steady_text("mean 0.30000000000000004 s of 12 runs, v1.2.3")
    'mean 0.3 s of 12 runs, v1.2.3'
    """
    return _LONG_FLOAT.sub(lambda match: format(float(match[0]), f".{digits}g"), text)


def digest(figure: dict[str, Any]) -> str:
    """Describe a plotly figure in lines of text with six significant digits.

    One line for each array (how many, first, last, least, greatest, mean, and a hash over the
    rounded values) and one for each other setting, as ``path=value``. The theme is left out, and
    so is the toolbar: neither says anything about the result.

    Parameters
    ----------
    figure : dict
        A figure as plotly's JSON, with ``data`` and ``layout``; arrays as lists or in plotly's
        binary form (``dtype``, ``bdata`` and perhaps ``shape``).

    Returns
    -------
    str
        The lines, each ended by a newline. A change of a value's last bits changes nothing unless
        the value lies on the border between two roundings, which is rare: about one in 10**9.

    Examples
    --------
    >>> print(digest({"data": [{"type": "bar", "y": [1, 2, 4]}], "layout": {}}), end="")
    data[0].type=bar
    data[0].y=[1, 2, 4]
    """
    lines: list[str] = []
    for part in ("data", "layout", "frames"):
        lines.extend(_describe(part, figure.get(part)))
    return "".join(f"{line}\n" for line in lines)


def _describe(path: str, value: Any) -> Iterator[str]:
    if path == "layout.template" or value is None:
        return
    if isinstance(value, dict):
        if {"dtype", "bdata"} <= value.keys():
            yield f"{path}{_describe_array(decoded(value))}"
            return
        for key in sorted(value):
            yield from _describe(f"{path}.{key}", value[key])
    elif isinstance(value, list):
        flat = list(_flatten(value))
        if flat and not any(isinstance(item, dict) for item in flat):
            yield f"{path}{_describe_array(flat)}"
        else:
            for index, item in enumerate(value):
                yield from _describe(f"{path}[{index}]", item)
    else:
        yield f"{path}={_show(value)}"


def decoded(array: dict[str, Any]) -> list[Any]:
    """Return the values that plotly's binary form stands for, row by row whatever its shape."""
    import numpy as np

    # plotly writes little-endian whatever the machine; a shape is of no interest to a digest
    # beyond the order of the values, which it does not change.
    values = np.frombuffer(
        base64.b64decode(array["bdata"]), dtype=np.dtype(array["dtype"]).newbyteorder("<")
    )
    flat: list[Any] = values.tolist()
    return flat


def _flatten(values: list[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list):
            yield from _flatten(value)
        else:
            yield value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _show(value: Any) -> str:
    if _is_number(value):
        # -0.0 and 0 are drawn alike, and which of them comes out is up to the processor.
        return format(value + 0.0 if value else 0.0, ".6g")
    if isinstance(value, str):
        return steady_text(value, digits=6)
    return "null" if value is None else str(value)


def _describe_array(values: list[Any]) -> str:
    numbers = [
        float(value) for value in values if _is_number(value) and math.isfinite(float(value))
    ]
    # What is left of a difference of equal numbers is noise of the last bit, not a value.
    noise = 1e-12 * max(map(abs, numbers), default=0.0)
    shown = [_show(0.0 if _is_number(value) and abs(value) < noise else value) for value in values]
    if len(shown) <= 6:
        return f"=[{', '.join(shown)}]"
    text = f": n={len(shown)} first={shown[0]} last={shown[-1]}"
    if numbers:
        mean = math.fsum(numbers) / len(numbers)
        mean = 0.0 if abs(mean) < noise else mean
        text += f" min={_show(min(numbers))} max={_show(max(numbers))} mean={_show(mean)}"
    return f"{text} hash={hashlib.sha256(chr(0).join(shown).encode()).hexdigest()[:8]}"


def as_text(notebook: NotebookNode) -> str:
    """Return a notebook as text that reads well in a diff.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook, with or without outputs.

    Returns
    -------
    str
        Sources, printed text, tables as plain text, and figures as digests.
    """
    parts = []
    for position, cell in enumerate(notebook.cells, start=1):
        tags = " ".join(cell.metadata.get("tags", []))
        parts.append(f"--- {position} {cell.cell_type} {tags}".rstrip() + f"\n{cell.source}\n")
        for output in cell.get("outputs", []):
            parts.append("--- output\n")
            if output.output_type == "stream":
                parts.append(output.text)
            elif output.output_type == "error":
                parts.append(f"{output.ename}: {output.evalue}\n")
            elif PLOTLY_MIME in output.data:
                parts.append(digest(output.data[PLOTLY_MIME]))
            else:
                text = output.data.get("text/markdown") or output.data.get("text/plain", "")
                parts.append(text.rstrip("\n") + "\n")
    return "".join(parts)


def main(arguments: list[str] | None = None) -> int:
    """Run notebooks and write them back, or print one as text.

    Parameters
    ----------
    arguments : list of str, optional
        The command line after the program's name; by default the real one.

    Returns
    -------
    int
        0, or 1 if a notebook failed; a notebook that failed is left as it was.
    """
    import nbformat

    parser = argparse.ArgumentParser(
        prog="python -m simlib.publish.notebook", description=main.__doc__
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH")
    parser.add_argument("--text", action="store_true", help="print as text, run nothing")
    parser.add_argument("--timeout-s", type=float, default=600, help="limit for one cell")
    options = parser.parse_args(arguments)
    failed = 0
    for path in options.paths:
        if options.text:
            print(as_text(nbformat.read(path, as_version=4)), end="")
            continue
        try:
            write(execute(path, timeout_s=options.timeout_s), path)
            print(f"{path}: written")
        except NotebookError as error:
            failed = 1
            print(error, file=sys.stderr)
    return failed


def __dir__() -> list[str]:
    return sorted(__all__)


if __name__ == "__main__":
    sys.exit(main())
