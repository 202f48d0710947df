"""The live view's widget: curves and the six metrics while a real server and real clients run."""

from __future__ import annotations

import html
import threading
from typing import Any

import ipywidgets
import plotly.graph_objects as go

from simlib.core.measures import MEASURES
from simlib.figures import style
from simlib.lab.live_run import Comparison, Frame, LiveRun, compared
from simlib.lab.planning import deliverer
from simlib.live import on_loopback
from simlib.live.watching import check_watcher
from simlib.scenario import Scenario
from simlib.scenario.display import warnings_html

_BAND = "simulated, {} replications"
_MOST_POINTS = 600
_HEIGHT_PX = 390
_GREY = "rgba(102, 102, 102, 0.3)"
_FIXED = {"flex": "0 0 auto"}
"""Of what keeps its width, however long the words beside it are."""
_WRAPPED = {"flex_flow": "row wrap", "width": "100%"}
_WIDTH_PX = 405
"""Of a figure: two are beside each other in a window of 1280 pixels, with the list of files."""
_LEAST_PX = 240
"""The words beside the buttons are at least so wide, or else below them."""


class LiveView(ipywidgets.VBox):
    """A measurement while it goes on, and what it says of its prediction: see `lab.watch`.

    Attributes
    ----------
    run : Run or None
        What was measured, once that is over.
    comparison : Comparison or None
        How far it is from what is simulated, after that.
    frames : int
        How many frames were drawn.
    error : Exception or None
        Why there is no run.
    """

    _live: LiveRun | None = None
    _thread: threading.Thread | None = None

    def __init__(
        self,
        scenario: Scenario,
        *,
        down_s: float,
        frames_per_s: float,
        replications: int,
        **options: Any,
    ) -> None:
        live = LiveRun(scenario, self._see, every_s=1.0 / frames_per_s, down_s=down_s, **options)
        check_watcher(on_loopback(scenario, time_scale=options["time_scale"]), live)
        self._live = live
        self._scenario, self._replications = scenario, replications
        self.comparison: Comparison | None = None
        self.error: Exception | None = None
        self.frames = 0
        self._curve: list[Frame] = []
        self._is_waiting = False
        self._deliver = deliverer()
        self._connections = go.FigureWidget(_of_connections(scenario))
        self._latency = go.FigureWidget(_of_latency(scenario))
        self._metrics, self._status = ipywidgets.HTML(), ipywidgets.HTML()
        self._kill = ipywidgets.Button(
            description="kill the server",
            button_style="danger",
            tooltip=f"SIGKILL now; another process takes over after {down_s:g} s",
            layout=_FIXED,
        )
        self._stop = ipywidgets.Button(description="stop", layout=_FIXED)
        self._kill.on_click(lambda _: self.kill())
        self._stop.on_click(lambda _: self.stop())
        said = ipywidgets.Box([self._status], layout={"flex": f"1 1 {_LEAST_PX}px"})
        buttons = ipywidgets.HBox([self._kill, self._stop, said], layout=_WRAPPED)
        figures = ipywidgets.HBox([self._connections, self._latency], layout=_WRAPPED)
        super().__init__([buttons, figures, self._metrics])
        self._status.value = _small("starting the server and the clients ...")
        self._thread = threading.Thread(target=self._run, args=(live,), daemon=True)
        self._thread.start()

    @property
    def run(self) -> Any:
        """What was measured, once that is over."""
        return None if self._live is None else self._live.run

    def kill(self) -> None:
        """Kill the server, as a crash would; another process takes over later."""
        self._kill.disabled = True
        if self._live is not None:
            self._live.kill()

    def stop(self) -> None:
        """End the run; what was measured so far is compared."""
        self._stop.disabled = self._kill.disabled = True
        if self._live is not None:
            self._live.stop()

    def wait(self, limit_s: float | None = None) -> LiveView:
        """Wait until the run and its comparison are over; for scripts, where nobody looks on."""
        if self._thread is not None:
            self._thread.join(limit_s)
        return self

    def close(self) -> None:
        """End the run, and take the widget away; no process is left."""
        if self._live is not None:
            self._live.stop()
        self.wait()
        super().close()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        """Return what a notebook stores: the widget, and words that are the same in each run."""
        bundle = super()._repr_mimebundle_(**options)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        words = f"The live view of {self._scenario.name}: a real server, in JupyterLab."
        return {**data, "text/plain": words}, metadata

    # -- in the thread of the run ------------------------------------------------------------------

    def _run(self, live: LiveRun) -> None:
        try:
            run = live.measure()
            self._deliver(self._tell, "measured; simulating what was to be expected ...")
            self.comparison = compared(run, self._replications)
            self._deliver(self._show_comparison, self.comparison, run.warnings)
        except Exception as error:  # the widget says so: nobody catches what a thread raises
            self.error = error
            self._deliver(self._refuse, f"{type(error).__name__}: {error}")

    def _see(self, frame: Frame) -> None:
        """Keep a frame, and have it drawn; where drawing is late, the next one brings both."""
        self._curve.append(frame)
        if not self._is_waiting:
            self._is_waiting = True
            self._deliver(self._draw)

    # -- in the kernel's own thread ----------------------------------------------------------------

    def _draw(self) -> None:
        self._is_waiting = False
        every = max(1, len(self._curve) // _MOST_POINTS)
        shown = [*self._curve[:-1][::every], self._curve[-1]]
        t_s = [frame.t for frame in shown]
        self._connections.data[2].update(x=t_s, y=[frame.connected for frame in shown])
        with self._latency.batch_update():
            names = ("latency_p50_s", "latency_p95_s")
            for trace, name in zip(self._latency.data, names, strict=True):
                latency_s = [frame.metrics[name] for frame in shown]
                trace.update(x=t_s, y=[1e3 * value for value in latency_s])
        self._metrics.value = _table(shown[-1])
        self._status.value = _small(f"{shown[-1].t:.1f} of {self._scenario.horizon_s:g} s")
        self.frames += 1

    def _show_comparison(self, found: Comparison, warnings: Any) -> None:
        with self._connections.batch_update():
            low, high, connected = self._connections.data
            low.update(x=found.t_s, y=found.low)
            high.update(x=found.t_s, y=found.high, name=_BAND.format(found.replications))
            connected.update(x=found.t_s, y=found.measured)
        self._tell(said_of(found))
        self._kill.disabled = self._stop.disabled = True
        self._metrics.value += warnings_html(warnings)

    def _tell(self, text: str) -> None:
        self._status.value = _small(text)

    def _refuse(self, why: str) -> None:
        self._kill.disabled = self._stop.disabled = True
        self._status.value = warnings_html([why])


def said_of(found: Comparison) -> str:
    """Return in words how far a measurement is from its prediction, with the errors as numbers."""
    lands = "on" if found.inside_frac >= _LANDS_FRAC else "beside"
    words = (
        f"The measured curve lands {lands} the predicted band: within it {found.inside_frac:.0%} "
        f"of the time, off its mean by {style.number(found.off)} connections on average "
        f"({found.off_frac:.2%} of the clients)."
    )
    if found.latency is None:
        return f"{words} Latencies are not compared: the run was stopped, or brought nothing."
    rows = found.latency.set_index("quantity")
    errors = [
        f"{label} {style.duration(rows['measured'][name])} measured, "
        f"{style.duration(rows['predicted'][name])} predicted "
        f"({style.percent(rows['error_frac'][name])}, {rows['verdict'][name]})"
        for name, label in (("latency_p50_s", "half seen within"), ("latency_p95_s", "95 %"))
    ]
    return f"{words} Latency: {'; '.join(errors)}."


_LANDS_FRAC = 0.9


def _of_connections(scenario: Scenario) -> go.Figure:
    """Return the figure of open connections: a band and a line, without data."""
    band: dict[str, Any] = {"mode": "lines", "line": {"width": 0}, "x": [], "y": []}
    figure = _empty("open connections", scenario)
    figure.add_scatter(**band, showlegend=False, hoverinfo="skip")
    figure.add_scatter(**band, fill="tonexty", fillcolor=_GREY, name="simulated (afterwards)")
    line = {"color": style.COLOURS[scenario.transport], "width": 2.5}
    figure.add_scatter(x=[], y=[], mode="lines", line=line, name="measured")
    return figure.update_yaxes(rangemode="tozero")


def _of_latency(scenario: Scenario) -> go.Figure:
    """Return the figure of latencies: two lines without data."""
    figure = _empty("latency of the last second (ms, log scale)", scenario)
    for name, dash in (("half seen within", "solid"), ("95 % seen within", "dot")):
        line = {"color": style.COLOURS[scenario.transport], "width": 2.5, "dash": dash}
        figure.add_scatter(x=[], y=[], mode="lines+markers", line=line, name=name)
    figure.update_traces(marker={"size": 3})
    return figure.update_yaxes(type="log")


def _empty(title: str, scenario: Scenario) -> go.Figure:
    """Return a figure with the time axis of a run."""
    figure = go.Figure()
    figure.update_layout(
        template="plotly_white",
        font={"size": 13},
        title={"text": title, "font": {"size": 13}, "x": 0.5, "y": 0.88},
        height=_HEIGHT_PX,
        width=_WIDTH_PX,
        margin={"l": 50, "r": 20, "t": 60, "b": 40},
        legend={"orientation": "h", "x": 0.0, "y": -0.2, "yanchor": "top", "traceorder": "normal"},
    )
    figure.update_xaxes(range=[0, scenario.horizon_s], **style.time_axis(scenario.horizon_s))
    return figure.update_xaxes(title_font_size=13)


def _table(frame: Frame) -> str:
    """Return the metrics of a frame in HTML, one beside the other as far as there is room."""
    cells = "".join(
        f'<div data-metric="{name}" style="line-height:1.3">'
        f"<small>{html.escape(MEASURES[name].label)}<br>{html.escape(_unit(name))}</small><br>"
        f"<strong>{_number(name, value)}</strong></div>"
        for name, value in frame.metrics.items()
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px 20px">{cells}</div>'


def _unit(name: str) -> str:
    """Return what stands below a metric; a time says its unit itself, beside its number."""
    return "of the last second" if MEASURES[name].unit == "s" else MEASURES[name].unit


def _number(name: str, value: float) -> str:
    if value != value:
        return "none"
    return style.duration(value) if MEASURES[name].unit == "s" else style.number(value)


def _small(text: str) -> str:
    return f"<em>{html.escape(text)}</em>"
