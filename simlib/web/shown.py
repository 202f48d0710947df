"""What explorers call their sliders, and their tables: the same in pages and in JupyterLab."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from simlib.engines import simulate
from simlib.figures import style
from simlib.figures.rollouts import colour_of
from simlib.rollout.plan import Plan
from simlib.rollout.schedule import percentages
from simlib.rollout.trials import roll_out
from simlib.run import COHORTS, Run
from simlib.run.summary import Line, figure_names, three_digits
from simlib.scenario import Scenario
from simlib.web.sliders import OF_A_FAULT, PLAN
from simlib.web.specs import Spec

_OF_A_FAULT = {"start_s": "begins at (s)", "length_s": "lasts (s)"}
_A_STAGE = re.compile(r"plan\.stages\.(\d+)\.(\w+)")
_OF_A_STAGE = {"percent": ("percentage", "%"), "bake_s": ("length", "s"), "gate_s": ("gate", "s")}
_OF_A_PLAN = {
    "plan.flag": "how tabs learn of it",
    "plan.rollback": "sockets in a rollback",
    "plan.kill_s": "kill switch at (s)",
}
MARK: dict[str, Any] = {
    "type": "line",
    "y0": 0,
    "y1": 1,
    "yref": "paper",
    "line": {"color": style.THEORY, "width": 1, "dash": "dot"},
    "label": {"textposition": "end", "textangle": 0, "xanchor": "left"},
}
"""The line over time at which a percentage is set, as plotly takes it, without time and text."""
_DASHES = {"control": "solid", "treatment": "dash"}


class Column(NamedTuple):
    """What is shown of a run: all of it, or one of the two cohorts of a rollout.

    Attributes
    ----------
    run : Run
    cohort : str
        Or ``"all"``.
    transport : str
        Of its clients.
    name, called : str
        In legends, and in titles.
    line, curve : dict
        How it is drawn, as plotly takes it.
    """

    run: Run
    cohort: str
    transport: str
    name: str
    called: str
    line: dict[str, Any]
    curve: dict[str, Any]

    @property
    def head(self) -> str:
        """What stands above it in a table, which is narrow."""
        return self.called if self.cohort == "all" else self.name


def columns_of(runs: Sequence[Run]) -> list[Column]:
    """Return what is shown of runs beside each other.

    Examples
    --------
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=100)
    >>> plan = Plan(flag={"propagation": "pushed"}, stages=[{"percent": 50, "bake_s": 60}])
    >>> [each.name for each in columns_of([ran(board, 1, plan)])]
    ['polling, not enrolled', 'WebSocket push, enrolled']
    """
    if any(run.has_cohorts for run in runs):
        return [_of_a_cohort(run, cohort) for run in runs for cohort in COHORTS]
    named = style.labelled(runs)
    return [
        Column(
            each.run,
            "all",
            each.run.scenario.transport,
            each.name,
            _called(each, named),
            each.line(),
            each.curve(),
        )
        for each in named
    ]


def names_of(spec: Spec, runs: Sequence[Run]) -> list[str]:
    """Return by which name each run is warned of: that of its curve, or that of the plan."""
    if spec.plan is not None:
        return [spec.plan.name for _ in runs]
    return [column.name for column in columns_of(runs)]


def _called(one: style.Named, named: Sequence[style.Named]) -> str:
    """Return what titles call a run: its transport, where no other run has the same."""
    kinds = [style.kind(each.run) for each in named]
    kind = style.kind(one.run)
    return style.NAMES[kind] if kinds.count(kind) == 1 else one.name


def _of_a_cohort(run: Run, cohort: str) -> Column:
    transport = run.transports[cohort]
    who = "enrolled" if cohort == "treatment" else "not enrolled"
    kind = style.NAMES[transport]
    name = f"{kind}, {who}"
    is_one = len(set(run.transports.values())) == 1
    dash = _DASHES[cohort] if is_one else "solid"
    line = {"color": colour_of(run, cohort), "dash": dash, "width": 2.0}
    return Column(run, cohort, transport, name, name if is_one else kind, line, {"mode": "lines"})


def marks_of(plan: Plan | None, scenario: Scenario) -> list[dict[str, Any]]:
    """Return a line over time for each percentage that a plan sets, as plotly takes it.

    Examples
    --------
    >>> plan = Plan(flag={"propagation": "pushed"}, kill_s=9)
    >>> marks = marks_of(plan, Scenario(updates={"rate_per_s": 0.1}, horizon_s=30))
    >>> [(mark["x0"], mark["label"]["text"]) for mark in marks]
    [(0.0, '10 %'), (9.0, '0 %')]
    """
    steps = [] if plan is None else percentages(plan, scenario)
    return [
        {
            **MARK,
            "x0": t,
            "x1": t,
            "label": {**MARK["label"], "text": f"{max(percent, 0.0):g} %"},
        }
        for t, percent in steps
    ]


def ran(scenario: Scenario, seed: int, plan: Plan | None = None, *, engine: str = "auto") -> Run:
    """Return what is explored as a run: of the scenario, or of the plan carried out on it."""
    if plan is None:
        return simulate(scenario, seed=seed, engine=engine, progress=False)
    return roll_out(plan, scenario, seed=seed, engine=engine, progress=False).run


def label_of(path: str, scenario: Scenario) -> str:
    """Return what a slider is called: of a fault, what happens, and what of it is moved.

    Examples
    --------
    >>> board = Scenario.example("matters").replace(
    ...     faults=[{"kind": "restart", "start_s": 60, "length_s": 5}]
    ... )
    >>> label_of("faults.0.length_s", board), label_of("polling.interval_s", board)
    ('restart lasts (s)', 'polling interval (s)')
    >>> label_of("plan.stages.0.percent", board), label_of("plan.flag.every_s", board)
    ('percentage of stage 1 (%)', 'flag every (s)')
    """
    if (match := OF_A_FAULT.fullmatch(path)) and match[2] in _OF_A_FAULT:
        kind = scenario.faults[int(match[1])].kind.replace("_", " ")
        return f"{kind} {_OF_A_FAULT[match[2]]}"
    if (match := _A_STAGE.fullmatch(path)) and match[2] in _OF_A_STAGE:
        words, unit = _OF_A_STAGE[match[2]]
        return f"{words} of stage {int(match[1]) + 1} ({unit})"
    if path in _OF_A_PLAN:
        return _OF_A_PLAN[path]
    words, unit = style.setting_words(path.removeprefix(PLAN))
    return f"{words} ({unit})" if unit else words


def line_of(name: str) -> Line:
    """Return the line of a summary that a metric has; of one that stands in none, its title.

    Examples
    --------
    >>> line_of("utilisation"), line_of("down_bytes_per_s").name
    (Line(name='server busy (%)', factor=100.0, alone=''), 'IP bytes down (B/s per client)')
    """
    return figure_names().get(name) or Line(style.axis_title(name))


def head_of(name: str) -> str:
    """Return what the table calls a metric.

    Examples
    --------
    >>> head_of("latency_p50_s"), head_of("payload_down_bytes_per_h")
    ('half of the changes seen within (s)', 'payload down, a client (kB/h)')
    """
    line = line_of(name)
    return line.alone or line.name


def cells_of(spec: Spec, runs: Sequence[Run]) -> dict[str, list[str]]:
    """Return the table of an explorer: of each line, a cell for each of `columns_of`.

    What has no meaning for a transport is a dash.
    """
    rows = [row for run in runs for row in run.totals()]
    return {
        head_of(name): [three_digits(row[name] * line_of(name).factor) for row in rows]
        for name in spec.shown
    }
