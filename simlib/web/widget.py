"""An explorer in JupyterLab: the kernel simulates as the sliders move."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any

import ipywidgets
import pandas as pd
import plotly.graph_objects as go

from simlib.analysis import metrics
from simlib.errors import SimlibError
from simlib.figures import style
from simlib.lab.latest import Latest
from simlib.lab.planning import deliverer
from simlib.run import COHORTS, Run
from simlib.scenario.display import table_html, warnings_html
from simlib.web.shown import cells_of, columns_of, label_of, line_of, marks_of, names_of, ran
from simlib.web.sliders import Slider, moved, moved_plan
from simlib.web.specs import Spec

_LABEL_PX = "170px"


class ExplorerWidget(ipywidgets.VBox):
    """Sliders, with a table and two figures that follow them.

    Parameters
    ----------
    spec : Spec
    runs : sequence of Run, optional
        Those of the scenarios as they are given, if they are there already.

    Attributes
    ----------
    moves : int
        How many moves were answered; the first is that to where the sliders begin.
    is_closed : bool
    """

    def __init__(self, spec: Spec, runs: Sequence[Run] = ()) -> None:
        self._spec, self._move, self.moves, self.is_closed = spec, 0, 0, False
        self._deliver = deliverer()
        self._latest: Latest[tuple[int, tuple[int, ...]]] = Latest(self._simulate)
        self._inputs = [_input(slider, spec) for slider in spec.sliders]
        self._table, self._said = ipywidgets.HTML(), ipywidgets.HTML()
        over_time = line_of(spec.over_time).name
        lines = len(spec.scenarios) if spec.plan is None else len(COHORTS)
        self._latency = _figure(lines, "publish to apply (s, log scale)", "seen (%)")
        self._latency.update_xaxes(type="log")
        self._course = _figure(lines, "time (s)", over_time)
        figures = ipywidgets.HBox(
            [self._latency, self._course], layout={"flex_flow": "row wrap", "width": "100%"}
        )
        super().__init__([*self._inputs, self._said, self._table, figures])
        for widget in self._inputs:
            widget.observe(self._on_move, "value")
        atexit.register(self._end)
        if runs:
            self._show(self._move, runs, marks_of(spec.plan, spec.scenarios[0]))
        else:
            self._on_move()

    def close(self) -> None:
        """End what is computed, and take the widget away."""
        atexit.unregister(self._end)
        self._end()
        self.is_closed = True
        super().close()

    def _end(self) -> None:
        self._latest.give_up()
        self._latest.close()

    def _on_move(self, _: Any = None) -> None:
        self._move += 1
        self._said.value = "simulating ..."
        self._latest.ask((self._move, tuple(widget.index for widget in self._inputs)))

    def _simulate(self, asked: tuple[int, tuple[int, ...]]) -> None:
        """Answer a move; it runs in a thread of its own."""
        move, positions = asked
        spec = self._spec
        try:
            plan = None if spec.plan is None else moved_plan(spec.plan, spec.sliders, positions)
            runs = [
                ran(moved(each, spec.sliders, positions), spec.seed, plan, engine="compiled")
                for each in spec.scenarios
            ]
            self._deliver(self._show, move, runs, marks_of(plan, runs[0].scenario))
        except KeyboardInterrupt:  # given up: a newer move waits, or the widget is closed
            return
        except SimlibError as error:
            self._deliver(self._refuse, move, str(error))
        except Exception as error:  # a thread that died would answer no further move
            self._deliver(self._refuse, move, f"{type(error).__name__}: {error}")

    def _show(self, move: int, runs: Sequence[Run], marks: Sequence[Any] = ()) -> None:
        if move != self._move:
            return
        columns = columns_of(runs)
        heads, cells = [column.head for column in columns], cells_of(self._spec, runs)
        self._table.value = table_html(pd.DataFrame.from_dict(cells, orient="index", columns=heads))
        over_time, factor = self._spec.over_time, line_of(self._spec.over_time).factor
        with self._latency.batch_update(), self._course.batch_update():
            self._course.layout.shapes = marks
            for place, named in enumerate(columns):
                seen = style.thin(metrics.ecdf(named.run, named.cohort))
                course = metrics.over_time(named.run).query("cohort == @named.cohort")
                latency_s = seen["latency_s"].clip(lower=style.LEAST_S)
                drawn = {"name": named.name, "line": named.line}
                self._latency.data[place].update(x=latency_s, y=100.0 * seen["share"], **drawn)
                self._course.data[place].update(
                    x=course["t_s"], y=factor * course[over_time], **drawn
                )
        self._said.value = warnings_html(
            f"{name}: {warning}"
            for name, run in zip(names_of(self._spec, runs), runs, strict=True)
            for warning in run.warnings
        )
        self.moves += 1

    def _refuse(self, move: int, why: str) -> None:
        if move == self._move:
            self._said.value = warnings_html([f"{why}. What is shown was set before."])


def _input(slider: Slider, spec: Spec) -> Any:
    shared = {
        "options": list(slider.texts),
        "index": slider.start,
        "description": label_of(slider.path, spec.scenarios[0]),
        "style": {"description_width": _LABEL_PX},
        "layout": {"width": "min(98%, 46rem)"},
    }
    kind = ipywidgets.SelectionSlider if slider.is_range else ipywidgets.Dropdown
    return kind(**shared)


def _figure(traces: int, x: str, y: str) -> Any:
    figure = go.FigureWidget([go.Scatter(x=[], y=[], mode="lines") for _ in range(traces)])
    figure.update_layout(
        template="plotly_white",
        height=340,
        width=520,
        margin={"l": 60, "r": 20, "t": 30, "b": 40},
        legend={"orientation": "h", "x": 0.0, "y": -0.25, "yanchor": "top"},
        showlegend=True,
    )
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y, rangemode="tozero")
    return figure
