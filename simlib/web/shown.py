"""What explorers call their sliders, and their tables: the same in pages and in JupyterLab."""

from __future__ import annotations

from collections.abc import Sequence

from simlib.figures import style
from simlib.run import Run
from simlib.run.summary import Line, figure_names, three_digits
from simlib.scenario import Scenario
from simlib.web.sliders import OF_A_FAULT
from simlib.web.specs import Spec

_OF_A_FAULT = {"start_s": "begins at (s)", "length_s": "lasts (s)"}


def label_of(path: str, scenario: Scenario) -> str:
    """Return what a slider is called: of a fault, what happens, and what of it is moved.

    Examples
    --------
    >>> board = Scenario.example("matters").replace(
    ...     faults=[{"kind": "restart", "start_s": 60, "length_s": 5}]
    ... )
    >>> label_of("faults.0.length_s", board), label_of("polling.interval_s", board)
    ('restart lasts (s)', 'polling interval (s)')
    """
    if (match := OF_A_FAULT.fullmatch(path)) and match[2] in _OF_A_FAULT:
        kind = scenario.faults[int(match[1])].kind.replace("_", " ")
        return f"{kind} {_OF_A_FAULT[match[2]]}"
    words, unit = style.setting_words(path)
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
    """Return the table of an explorer: of each line, a cell for each run.

    What has no meaning for a transport is a dash.
    """
    rows = [run.totals()[0] for run in runs]
    return {
        head_of(name): [three_digits(row[name] * line_of(name).factor) for row in rows]
        for name in spec.shown
    }
