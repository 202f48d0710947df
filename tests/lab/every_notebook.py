"""Every notebook in a real JupyterLab: all cells run, the plots are drawn, and a slider is dragged.

By hand, with compiled loops, as it takes minutes; a table is printed, with a row a notebook::

    python -m tests.lab.every_notebook [NOTEBOOK ...]

The notebooks are copies in a temporary folder. A plot is drawn when the browser has marks of it on
the screen; a slider is one of an explorer, of a planner or of a figure, dragged with the mouse, and
it is moved when other marks are there afterwards. The exit code is 1 if anything is amiss.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from tqdm import tqdm

from tests.lab.jupyter import PANEL, Page, browser, jupyter_lab, run_all

ROOT = Path(__file__).parents[2]
LIMIT_S = 900.0
"""Of all cells of one notebook."""
DRAWN_S = 60.0
"""From a cell's end to its last plot, and from a dragged slider to the figure that has changed:
what a first move compiles is in it."""


class Seen(NamedTuple):
    """What was seen of a notebook.

    Attributes
    ----------
    notebook : str
    cells, ran : int
        Of code, and how many of these have run.
    plots, drawn : int
        Figures that its outputs hold, and those that are on the screen.
    slider : str
        "moved", "stuck" or "none".
    seconds : float
        From the first cell to the last plot.
    errors : tuple of str
        What its outputs say of failures.
    """

    notebook: str
    cells: int
    ran: int
    plots: int
    drawn: int
    slider: str
    seconds: float
    errors: tuple[str, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing is amiss."""
        has_all = self.cells == self.ran and self.plots == self.drawn
        return has_all and self.slider != "stuck" and not self.errors


def copied(folder: Path) -> Path:
    """Copy the notebooks and what they read to a folder, and return it."""
    for name in ("notebooks", "data"):
        shutil.copytree(ROOT / name, folder / name, symlinks=False)
    return folder


def look_at(page: Page, notebook: str, limit_s: float = LIMIT_S) -> Seen:
    """Run the notebook that a page shows, and return what is seen of it."""
    began_s = time.monotonic()
    run_all(page, limit_s)
    cells = page.js(_CELLS)
    plots = drawn = 0
    for cell in cells:
        if cell["plots"] or cell["widgets"]:
            found = _drawn(page, cell)
            plots += max(cell["plots"] + cell["widgets"], len(found))
            drawn += sum(marks > 0 for marks in found)
    seconds = time.monotonic() - began_s
    slider = _dragged(page)
    errors = [error for cell in page.js(_CELLS) for error in cell["errors"]]
    ran = sum(cell["has_run"] for cell in cells)
    return Seen(notebook, len(cells), ran, plots, drawn, slider, seconds, tuple(errors))


def _drawn(page: Page, cell: dict[str, Any]) -> list[int]:
    """Scroll to a cell, wait for its plots, and return how many marks each has."""
    marks = f"({_MARKS})({cell['place']})"
    expected = cell["plots"] + cell["widgets"]
    until_s = time.monotonic() + DRAWN_S
    while True:
        found: list[int] = page.js(marks)
        if (len(found) >= expected and all(found)) or time.monotonic() > until_s:
            return found
        time.sleep(0.1)


def _dragged(page: Page) -> str:
    """Drag the notebook's first slider, and return whether its figure has changed."""
    kinds = ("widget", "figure")
    kind = next((kind for kind in kinds if page.js(f"!!{_handle(kind)}")), None)
    if kind is None:
        return "none"
    page.place(_handle(kind))
    before = page.js(_paths(kind))
    left = page.js(f"({_IS_RIGHT})({_handle(kind)})")
    page.drag(_handle(kind), -80.0 if left else 80.0)
    until_s = time.monotonic() + DRAWN_S
    while time.monotonic() < until_s:
        if page.js(_paths(kind)) != before:
            return "moved"
        time.sleep(0.1)
    return "stuck"


def _handle(kind: str) -> str:
    name = {"widget": ".noUi-handle", "figure": ".slider-grip-rect"}[kind]
    return f"document.querySelector('.jp-OutputArea-output {name}')"


def _paths(kind: str) -> str:
    """Return what gives the marks on the screen beside a slider, as text."""
    return (
        f"[...{_handle(kind)}.closest('.jp-OutputArea-output')"
        ".querySelectorAll('.cartesianlayer path, .cartesianlayer rect, .shapelayer path')]"
        ".map(mark => mark.getAttribute('d') + mark.getAttribute('style')).join()"
    )


_IS_RIGHT = """handle => {
    const box = handle.getBoundingClientRect();
    const whole = (handle.closest('.noUi-target') ?? handle.closest('.slider-group'))
        .getBoundingClientRect();
    return box.x + box.width / 2 > whole.x + whole.width / 2;
}"""
_CELLS = f"""{PANEL}.content.widgets.map((cell, place) => {{
    if (cell.model.type !== 'code') return null;
    const outputs = Array.from({{length: cell.model.outputs.length}},
        (_, number) => cell.model.outputs.get(number));
    const having = kind => outputs.filter(one => kind in (one.data ?? {{}})).length;
    const failed = outputs.filter(one => one.type === 'error');
    const shown = cell.node.textContent;
    const broken = ['Error displaying widget', 'Javascript Error', 'JavaScript Error'];
    return {{
        place,
        has_run: cell.model.executionCount !== null,
        plots: having('application/vnd.plotly.v1+json'),
        widgets: having('application/vnd.jupyter.widget-view+json'),
        errors: [
            ...failed.map(one => `cell ${{cell.model.executionCount}}: ` +
                `${{one.toJSON().ename}}: ${{one.toJSON().evalue}}`),
            ...broken.filter(words => shown.includes(words)),
        ],
    }};
}}).filter(cell => cell !== null)"""
_MARKS = f"""place => {{
    const node = {PANEL}.content.widgets[place].node;
    node.querySelector('.jp-OutputArea')?.scrollIntoView({{block: 'center'}});
    return [...node.querySelectorAll('.js-plotly-plot')].map(plot =>
        plot.querySelectorAll('.cartesianlayer .trace path, .cartesianlayer .trace image, ' +
            '.cartesianlayer image').length);
}}"""


def main(names: list[str]) -> int:
    """Look at notebooks, print what is seen, and return the exit code."""
    paths = [Path(name) for name in names] or sorted((ROOT / "notebooks").glob("*.ipynb"))
    seen: list[Seen] = []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        home = Path(name) / "home"
        home.mkdir()
        with (
            jupyter_lab(copied(Path(name) / "copies"), home) as address,
            tqdm(paths, unit="notebook") as bar,
        ):
            for path in bar:
                bar.set_description(path.stem)
                profile = Path(name) / f"profile_{path.stem}"
                with browser(profile, address.format(f"notebooks/{path.name}")) as page:
                    seen.append(look_at(page, path.stem))
                    page.js(f"{PANEL}.sessionContext.shutdown()")
    table = pd.DataFrame(seen).assign(errors=[len(one.errors) for one in seen])
    sys.stdout.write(f"{table.round(1).to_string(index=False)}\n")
    for one in seen:
        for error in one.errors:
            sys.stdout.write(f"{one.notebook}: {error}\n")
    return 0 if all(one.is_well for one in seen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
