"""The live view in a real JupyterLab: it is seen to move, the server is killed with the mouse."""

from __future__ import annotations

import time

import nbformat
import numpy as np
import psutil
import pytest

from tests.browser import CHROMIUM
from tests.lab.jupyter import browser, jupyter_lab, run_all

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

HORIZON_S, KILL_S, DOWN_S, CLIENTS = 20.0, 7.0, 3.0, 30
LIMIT_S = 120.0
LEAST_PER_S = 5.0
SOURCE = f"""
import simlib as sl
board = sl.Scenario(
    name="thirty tabs", transport="websocket", clients={CLIENTS}, horizon_s={HORIZON_S},
    ramp_s=1.0, warm_up_s=1.0, cool_down_s=0.0, bin_s=0.5, updates={{"rate_per_s": 2.0}},
    polling={{"interval_s": 1.0}},
    reconnect={{"policy": "full_jitter", "base_s": 0.3, "cap_s": 2.0}},
    fallback={{"after_failures": 2, "return_s": 3.0}},
)
shown = sl.lab.watch(board, down_s={DOWN_S}, replications=5)
shown
"""
_BUTTON = (
    "[...document.querySelectorAll('.widget-button')].find(one => one.textContent.includes('{}'))"
)
_STATUS = "document.querySelector('.widget-hbox .widget-html-content')?.textContent ?? ''"

# What is on the screen, twenty times a second: the status, what the plot's lines end with, and the
# six metrics as they are written.
_LOOK = f"""(() => {{
    window.seen = [];
    const plot = document.querySelector('.widget-vbox .js-plotly-plot');
    const look = () => window.seen.push({{
        at_s: performance.now() / 1e3,
        status: {_STATUS},
        connected: Array.from(plot.data[2].y).slice(-1)[0] ?? null,
        path: plot.querySelectorAll('.scatterlayer .trace path.js-line')[0]?.getAttribute('d'),
        metrics: Object.fromEntries([...document.querySelectorAll('[data-metric]')].map(cell =>
            [cell.querySelector('small').textContent, cell.querySelector('strong').textContent])),
    }});
    window.looking = setInterval(look, 50);
    return 0;
}})()"""


def lab_processes():
    found = []
    for one in psutil.Process().children(recursive=True):
        try:
            if any(text.startswith("simlib.live.") for text in one.cmdline()):
                found.append(one.pid)
        except psutil.Error:  # it has just ended
            continue
    return found


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """All that was seen of a run whose server was killed, and what stood there afterwards."""
    folder, home, profile = (tmp_path_factory.mktemp(name) for name in ("lab", "home", "profile"))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(SOURCE.strip())])
    nbformat.write(notebook, folder / "live.ipynb")
    with (
        jupyter_lab(folder, home) as address,
        browser(profile, address.format("live.ipynb")) as page,
    ):
        run_all(page, LIMIT_S)
        page.wait("!!document.querySelector('.widget-vbox .js-plotly-plot')", LIMIT_S)
        page.js(_LOOK)
        page.wait(f"parseFloat({_STATUS}) >= {KILL_S}", LIMIT_S)
        during = lab_processes()
        clicked_s = page.js("performance.now() / 1e3")
        page.click(_BUTTON.format("kill the server"))
        page.wait(f"({_STATUS}).includes('connections on average')", LIMIT_S)
        page.js("clearInterval(window.looking)")
        said = page.js(_STATUS)
        is_ended = page.js(f"{_BUTTON.format('kill the server')}.disabled")
        band = page.js(
            "(plot => [0, 1].map(place => plot.data[place].y.length))"
            "(document.querySelector('.widget-vbox .js-plotly-plot'))"
        )
        until_s = time.monotonic() + 10.0
        while lab_processes() and time.monotonic() < until_s:
            time.sleep(0.1)
        yield {
            "frames": page.js("window.seen"),
            "clicked_s": clicked_s,
            "said": said,
            "band": band,
            "is_ended": is_ended,
            "during": during,
            "after": lab_processes(),
        }


def while_running(seen):
    return [one for one in seen["frames"] if f" of {HORIZON_S:g} s" in one["status"]]


def test_five_frames_a_second_and_more_reach_the_screen(seen):
    running = while_running(seen)
    lasted_s = running[-1]["at_s"] - running[0]["at_s"]
    assert lasted_s > 0.8 * HORIZON_S
    assert len({one["status"] for one in running}) >= LEAST_PER_S * lasted_s
    assert len({one["path"] for one in running}) >= LEAST_PER_S * lasted_s


def test_the_curve_falls_after_the_click_and_comes_back(seen):
    running = while_running(seen)
    after = [
        (one["at_s"] - seen["clicked_s"], one["connected"])
        for one in running
        if one["at_s"] > seen["clicked_s"]
    ]
    before = [one["connected"] for one in running if one["at_s"] < seen["clicked_s"]]
    assert before[-1] == CLIENTS
    fell_s = next(t for t, connected in after if connected == 0)
    assert fell_s < 2.0
    back_s = next(t for t, connected in after if t > fell_s and connected == CLIENTS)
    assert DOWN_S - 0.5 < back_s < HORIZON_S - KILL_S


def test_all_six_metrics_move(seen):
    running = while_running(seen)
    named = {name for one in running for name in one["metrics"]}
    for metric in (
        "connectionCount",
        "averageLatency",
        "reconnectionRate",
        "messageRate",
        "errorRate",
        "fallbackToPollingRate",
    ):
        [name] = [one for one in named if one.startswith(metric)]
        assert len({one["metrics"].get(name) for one in running}) >= 2, name


def test_the_error_stands_there_at_the_end_with_the_band(seen):
    assert "The measured curve lands" in seen["said"]
    assert "measured," in seen["said"]
    assert "predicted (" in seen["said"]
    assert seen["band"][0] == seen["band"][1] > 0.9 * HORIZON_S / 0.5
    assert np.all(seen["is_ended"])


def test_no_process_is_left_over(seen):
    assert len(seen["during"]) >= 2
    assert seen["after"] == []
