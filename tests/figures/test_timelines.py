"""The timeline of a rollout says at each place of its slider what the rollout says then."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from bs4 import BeautifulSoup
from nbformat import write
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import simlib as sl
from simlib import figures
from simlib.errors import ScenarioError
from simlib.figures.timelines import MOST_LOOKS
from simlib.publish.render import render
from simlib.rollout.reasons import BREAKPOINTS
from tests import browser
from tests.figures.titles import title_of

BOARD = sl.Scenario(
    clients=100,
    ramp_s=30.0,
    horizon_s=1000.0,
    updates={"rate_per_s": 0.1},
    reconnect={"policy": "full_jitter"},
    fallback={"after_failures": 3},
)
PLAN = sl.Plan(
    start_s=60.0,
    flag={"propagation": "polled", "every_s": 30.0},
    stages=[{"percent": percent, "bake_s": 240.0} for percent in (10, 50)],
    guardrails=[
        {"metric": "latency_p50_s", "below": 2.0},
        {"metric": "error_rate_per_h", "below": 30.0},
        {"metric": "memory_bytes", "below": 1e9},
    ],
    decision={"failures": 2},
)
PROXY = {"kind": "block_upgrades", "start_s": 410.0, "length_s": 500.0, "share": 0.9}
RESET = {"kind": "reset", "start_s": 415.0}


@pytest.fixture(scope="module")
def healthy():
    return sl.roll_out(PLAN, BOARD, progress=False)


@pytest.fixture(scope="module")
def broken():
    return sl.roll_out(PLAN, BOARD.replace(faults=[PROXY, RESET]), progress=False)


LONG = "--virtual-time-budget=600000"  # waiting for a script takes of a page's own time


def plain(text):
    """Return what a cursor's text says, without its lines and marks."""
    head, *_ = text.split("</b><br>")
    lines = text.removeprefix(f"{head}</b><br>").replace("<br>", " ").split("• ")[1:]
    return head.removeprefix("<b>").replace("<br>", " "), [line.strip() for line in lines]


@pytest.mark.parametrize("which", ["healthy", "broken"])
def test_each_place_of_the_slider_says_what_the_rollout_says_then(which, request):
    rollout = request.getfixturevalue(which)
    figure = figures.rollout_timeline(rollout)
    reached = rollout.breakpoints.dropna()
    times_s = np.union1d(rollout.history["t_s"], reached["t_s"]).tolist()
    assert [frame.layout.shapes[0].x0 for frame in figure.frames] == times_s
    for t_s, frame in zip(times_s, figure.frames, strict=True):
        head, lines = plain(frame.layout.annotations[0].text)
        names = reached.index[reached["t_s"] == t_s].tolist()
        assert head.partition(": ")[2] == ", ".join(names)
        said = "\n".join(rollout.why(t_s))
        assert all(line in said or line in "\n".join(reached["what"]) for line in lines)
        assert len(lines) >= len(rollout.why(t_s))


def test_the_slider_and_the_buttons_lead_to_frames(broken):
    figure = figures.rollout_timeline(broken)
    (slider,), frames = figure.layout.sliders, figure.frames
    assert [frame.name for frame in frames] == [str(n) for n in range(len(frames))]
    assert [list(step.args[0]) for step in slider.steps] == [[frame.name] for frame in frames]
    reached_s = sorted(set(broken.breakpoints["t_s"].dropna()))
    times_s = [frame.layout.shapes[0].x0 for frame in frames]
    for t_s, frame in zip(times_s, frames, strict=True):
        before, after = (
            times_s[int(button.args[0][0])] for button in frame.layout.updatemenus[0].buttons
        )
        assert before == max((turn for turn in reached_s if turn < t_s), default=t_s)
        assert after == min((turn for turn in reached_s if turn > t_s), default=t_s)
    # It begins where the rollout turned, and what is drawn first is that frame.
    first = frames[slider.active].layout
    assert first.shapes[0].x0 == broken.breakpoints.at["first rollback", "t_s"]
    assert figure.layout.annotations[0].text == first.annotations[0].text
    assert figure.layout.shapes[0].x0 == first.shapes[0].x0
    menu = figure.layout.updatemenus[0]
    assert [button.args for button in menu.buttons] == [
        button.args for button in first.updatemenus[0].buttons
    ]


def test_what_failed_is_drawn_with_its_limit(healthy, broken):
    figure = figures.rollout_timeline(broken)
    failed = broken.checks.query("result == 'fail'")
    metrics = failed["metric"].unique().tolist()
    panels = 2 + len(metrics)
    assert len(figure.layout.annotations) == 1 + panels
    assert title_of(figure).endswith("checks failed: rolled back")
    marks = [trace for trace in figure.data if trace.name == "check failed"]
    assert sorted(t_s for trace in marks for t_s in trace.x) == sorted(failed["t_s"])
    limits = [trace for trace in figure.data if trace.name == "limit"]
    assert len(limits) == len(metrics)
    quiet = figures.rollout_timeline(healthy)  # nothing failed: the first guardrail is shown
    assert "latency" in quiet.layout.annotations[-1].text
    chosen = figures.rollout_timeline(healthy, "memory_bytes")
    assert "memory" in chosen.layout.annotations[-1].text
    assert not any(trace.yaxis == "y3" and trace.legendgroup == "control" for trace in chosen.data)
    none = sl.roll_out(PLAN.replace(guardrails=[]), BOARD.replace(clients=20), progress=False)
    assert len(figures.rollout_timeline(none).layout.annotations) == 3


def test_its_size_is_bounded():
    """A look a second would be 480 places; only some of them have a frame."""
    plan = PLAN.replace(check_every_s=1.0)
    rollout = sl.roll_out(plan, BOARD, progress=False)
    assert len(rollout.history) > 400
    figure = figures.rollout_timeline(rollout)
    assert len(figure.frames) <= MOST_LOOKS + len(BREAKPOINTS)
    assert len(figure.to_json()) < 120_000


def test_what_is_not_guarded_or_no_rollout_is_refused(healthy):
    with pytest.raises(ScenarioError, match=r"metric: must be .*; did you mean latency_p50_s"):
        figures.rollout_timeline(healthy, "latency_p95_s")
    for wrong in (None, healthy.run, healthy._replace(history=healthy.history.head(0))):
        with pytest.raises(ScenarioError, match="carried_out: must"):
            figures.rollout_timeline(wrong)


def test_a_killed_rollout_has_a_timeline():
    killed = sl.roll_out(PLAN.replace(kill_s=0.0), BOARD.replace(clients=20), progress=False)
    figure = figures.rollout_timeline(killed)
    assert len(figure.frames) == 1
    assert "kill switch" in figure.layout.annotations[0].text


@pytest.mark.skipif(browser.CHROMIUM is None, reason="no Chromium here")
def test_in_a_page_the_slider_follows_the_buttons_without_a_kernel(broken, tmp_path: Path):
    figure = figures.rollout_timeline(broken)
    data = {"application/vnd.plotly.v1+json": json.loads(figure.to_json())}
    cell = new_code_cell("1", outputs=[new_output("display_data", data)])
    write(new_notebook(cells=[new_markdown_cell("# Why?"), cell]), tmp_path / "why.ipynb")
    page = render(tmp_path / "why.ipynb", tmp_path)
    places = []
    for clicks in (0, 1, 2):
        # What a reader does: clicks on the button, so that one more script is in the page.
        script = f"""<script>addEventListener("load", async () => {{
          const later = ms => new Promise(done => setTimeout(done, ms));
          while (!document.querySelector(".figure.drawn")) await later(50);
          const box = document.querySelector(".figure");
          for (let k = 0; k < {clicks}; k++) {{
            const moved = new Promise(done => box.once("plotly_animated", done));
            const button = document.querySelector(".updatemenu-button");
            button.dispatchEvent(new MouseEvent("click", {{bubbles: true}}));
            await moved;
            await later(100);
          }}
          const {{sliders, shapes, annotations}} = box._fullLayout;
          const said = [sliders[0].active, shapes[0].x0, annotations[0].text];
          document.body.dataset.place = JSON.stringify(said);
        }});</script>"""
        clicked = tmp_path / f"clicked{clicks}.html"
        clicked.write_text(page.read_text("utf-8").replace("</body>", f"{script}</body>"), "utf-8")
        body = BeautifulSoup(browser.run(clicked, tmp_path, "--dump-dom", LONG), "html.parser").body
        places.append(json.loads(str(body["data-place"])))
    start = figure.layout.sliders[0].active
    turns = [
        n
        for n, frame in enumerate(figure.frames)
        if frame.layout.shapes[0].x0 in set(broken.breakpoints["t_s"])
    ]
    expected = [start, *[turn for turn in reversed(turns) if turn < start][:2]]
    for (active, x0, text), place in zip(places, expected, strict=True):
        layout = figure.frames[place].layout
        assert active == place
        assert x0 == layout.shapes[0].x0
        assert text == layout.annotations[0].text
