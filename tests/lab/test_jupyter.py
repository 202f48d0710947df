"""Quick notebooks in a real JupyterLab: they run, are drawn, and the planner moves.

All of them, by hand: `tests/lab/every_notebook.py`.
"""

from __future__ import annotations

import json

import pytest

from tests.browser import CHROMIUM
from tests.lab.every_notebook import copied, look_at
from tests.lab.jupyter import browser, jupyter_lab, run_all

LIMIT_S = 240.0

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

_PLOT = "document.querySelector('.jp-OutputArea-output .widget-vbox .js-plotly-plot')"
_LATEST = f"JSON.stringify(Array.from({_PLOT}.data[0].x).slice(-1))"
_HANDLE = "document.querySelectorAll('.widget-vbox .noUi-handle')"


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on copies of the notebooks; what opens one of them in a browser."""
    folder, home = (tmp_path_factory.mktemp(name) for name in ("lab", "home"))
    with jupyter_lab(copied(folder / "copies"), home) as address:
        yield lambda name: browser(
            tmp_path_factory.mktemp("profile"),
            address.format(f"notebooks/{name}.ipynb"),
            height=1000,
        )


@pytest.fixture(scope="module")
def page(lab):
    """00_start_here, all cells of which have run."""
    with lab("00_start_here") as page:
        run_all(page, LIMIT_S)
        page.wait(f"!!{_PLOT}", LIMIT_S)
        page.wait("document.body.textContent.includes('At a glance')", LIMIT_S)
        yield page


@pytest.mark.parametrize(
    ("notebook", "slider"), [("00_start_here", "moved"), ("06_guide_audited", "none")]
)
def test_every_cell_runs_every_plot_is_drawn_and_a_dragged_slider_changes_it(lab, notebook, slider):
    with lab(notebook) as page:
        seen = look_at(page, notebook, LIMIT_S)
    assert seen.errors == ()
    assert seen.ran == seen.cells > 5
    assert seen.drawn == seen.plots > 0
    assert seen.slider == slider


def test_a_slider_is_moved_by_the_keyboard_and_the_figure_changes(page):
    before = json.loads(page.js(_LATEST))
    polls_at = f"{_HANDLE}[1].getAttribute('aria-valuetext')"
    shown = page.js(polls_at)
    page.js(f"{_HANDLE}[1].focus()")
    page.press("ArrowLeft", 37)
    page.wait(f"{polls_at} !== {json.dumps(shown)}", 20.0)
    page.wait(f"{_LATEST} !== {json.dumps(json.dumps(before, separators=(',', ':')))}", LIMIT_S)
    assert json.loads(page.js(_LATEST))[0] < before[0]  # polls come sooner, and so do changes


def test_every_control_is_reached_by_the_keyboard(page):
    assert page.js(f"[...{_HANDLE}].every(handle => handle.tabIndex === 0)")
    assert page.js("document.querySelectorAll('.widget-vbox select').length") == 2
    assert page.js(f"{_HANDLE}.length") == 6


def test_it_fits_into_a_window_of_1280_pixels(page):
    [left, right, inner] = page.js(
        f"(() => {{ const box = {_PLOT}.closest('.jp-OutputArea-output').getBoundingClientRect();"
        f" const plot = {_PLOT}.getBoundingClientRect();"
        " return [plot.left - box.left, box.right - plot.right, innerWidth]; })()"
    )
    assert inner == 1280
    assert left >= 0.0
    assert right >= -1.0
