"""Tables to plotly figures; nothing is computed here, numbers come from `metrics` and the runs.

One look everywhere: colour says the transport (from the palette of Okabe and Ito 2008, which
colour-blind readers can tell apart), line and pattern say the source: solid and filled is
simulated, dotted and hatched is measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simlib import metrics
from simlib.errors import ScenarioError
from simlib.run import Run

if TYPE_CHECKING:
    import pandas as pd

COLOURS = {
    "polling": "#D55E00",
    "polling with ETag": "#E69F00",
    "websocket": "#0072B2",
}
_NAMES = {"polling": "polling", "websocket": "WebSocket push"}
_QUIET = "#666666"
_MOST_POINTS = 300
_TICKS_S = {
    1e-5: "10 µs",
    1e-4: "0.1 ms",
    1e-3: "1 ms",
    1e-2: "10 ms",
    0.1: "100 ms",
    1.0: "1 s",
    10.0: "10 s",
    100.0: "100 s",
    1000.0: "1000 s",
}


def latency(*runs: Run) -> go.Figure:
    """Draw the distribution of publish-to-apply latency, one curve per run, on a log axis.

    Parameters
    ----------
    *runs : Run
        Simulated or measured, of either transport.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        No run, something that is not a run, or a run that delivered nothing.

    Examples
    --------
    >>> import simlib as sl
    >>> board = sl.Scenario(updates={"rate_per_s": 0.2}, clients=5, horizon_s=120)
    >>> figure = latency(sl.simulate(board))
    >>> figure.data[0].line.color == COLOURS["polling"]
    True
    """
    _check(runs, delivered=True)
    figure = go.Figure()
    for run in runs:
        table = _thin(metrics.ecdf(run))
        figure.add_scatter(
            x=_round(table["latency_s"]),
            y=_round(table["share"] * 100.0),
            mode="lines",
            line={**_line(run), "shape": "hv"},
            name=_label(run),
            hovertemplate="%{y:.1f} % within %{x:.3g} s<extra></extra>",
        )
    for percent in (50, 95, 99):
        figure.add_hline(y=percent, line={"color": "#cccccc", "width": 1}, layer="below")
    _layout(figure, _latency_title(runs), "publish to apply (log scale)", "changes seen (%)")
    figure.update_xaxes(
        type="log", tickvals=list(_TICKS_S), ticktext=list(_TICKS_S.values()), minor={"ticks": ""}
    )
    figure.update_yaxes(range=[0, 101])
    return figure


def bandwidth(*runs: Run, width_s: float = 10.0) -> go.Figure:
    """Draw bytes per second and client over time, up and down together.

    Parameters
    ----------
    *runs : Run
    width_s : float, optional
        Width of the steps, seconds.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    _check(runs)
    figure = _over_time(
        runs, width_s, lambda table: table["up_bytes_per_s"] + table["down_bytes_per_s"], "B/s"
    )
    totals = {run: _bytes_per_h(run) / 3600.0 for run in _one_each(runs)}
    title = "A client costs " + _versus({run: f"{value:.3g} B/s" for run, value in totals.items()})
    return _layout(figure, title, "time (s)", "per client, up and down (B/s)")


def bytes_per_client(*runs: Run) -> go.Figure:
    """Draw what a client sends and receives in an hour, one pair of bars per run.

    Parameters
    ----------
    *runs : Run

    Returns
    -------
    plotly.graph_objects.Figure
    """
    _check(runs)
    figure = go.Figure()
    for run in runs:
        row = run.summary().iloc[0]
        values = [row["up_bytes_per_h"] / 1e3, row["down_bytes_per_h"] / 1e3]
        pattern = {"shape": "/" if _is_measured(run) else ""}
        figure.add_bar(
            x=["up", "down"],
            y=_round(values),
            text=[f"{value:.3g}" for value in values],
            textposition="outside",
            marker={"color": COLOURS[run.scenario.transport], "pattern": pattern},
            name=_label(run),
            hovertemplate="%{y:.4g} kB/h %{x}<extra></extra>",
        )
    totals = {run: f"{_bytes_per_h(run) / 1e3:.3g} kB/h" for run in _one_each(runs)}
    title = "Bytes per client, up and down: " + _versus(totals)
    return _layout(figure, title, "direction", "per client-hour (kB)")


def utilisation(*runs: Run, width_s: float = 10.0) -> go.Figure:
    """Draw how busy the server is over time.

    Parameters
    ----------
    *runs : Run
    width_s : float, optional
        Width of the steps, seconds.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    _check(runs)
    figure = _over_time(runs, width_s, lambda table: table["utilisation"] * 100.0, "%")
    busy = {run: f"{run.summary()['utilisation'][0] * 100:.2g} %" for run in _one_each(runs)}
    title = "The server is busy for " + _versus(busy)
    return _layout(figure, title, "time (s)", "server utilisation (%)")


def connections(*runs: Run, width_s: float = 10.0) -> go.Figure:
    """Draw open connections over time.

    Parameters
    ----------
    *runs : Run
    width_s : float, optional
        Width of the steps, seconds.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    _check(runs)
    figure = _over_time(runs, width_s, lambda table: table["connection_count"], "")
    held = {run: f"{run.summary()['connection_count'][0]:.4g}" for run in _one_each(runs)}
    title = "Open connections: " + _versus(held)
    return _layout(figure, title, "time (s)", "open connections")


_SIX = {
    "connection_count": "connectionCount (open)",
    "average_latency_s": "averageLatency (s)",
    "reconnection_rate_per_h": "reconnectionRate (per client-hour)",
    "message_rate_per_s": "messageRate (per s)",
    "error_rate_per_h": "errorRate (per client-hour)",
    "fallback_to_polling_frac": "fallbackToPollingRate (share of sessions)",
}


def six_metrics(*runs: Run, width_s: float = 10.0) -> go.Figure:
    """Draw the six metrics of a migration over time, one panel each.

    Parameters
    ----------
    *runs : Run
    width_s : float, optional
        Width of the steps, seconds.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    _check(runs)
    figure = make_subplots(
        rows=3, cols=2, subplot_titles=list(_SIX.values()), shared_xaxes=True, vertical_spacing=0.1
    )
    for run in runs:
        table = metrics.over_time(run, width_s=width_s)
        for index, name in enumerate(_SIX):
            figure.add_scatter(
                x=_round(table["t_s"]),
                y=_round(table[name]),
                mode="lines",
                line=_line(run),
                name=_label(run),
                legendgroup=_label(run),
                showlegend=index == 0,
                hovertemplate="%{y:.4g} at %{x:g} s<extra></extra>",
                row=index // 2 + 1,
                col=index % 2 + 1,
            )
    errors = {run: f"{run.summary()['error_rate_per_h'][0]:.2g}" for run in _one_each(runs)}
    title = "The six metrics; errors per client-hour: " + _versus(errors)
    _layout(figure, title, "", "")
    figure.update_layout(legend={"y": -0.08, "yanchor": "top"}, margin={"b": 90})
    for column in (1, 2):
        figure.update_xaxes(title_text="time (s)", row=3, col=column)
    return figure.update_layout(height=720)


_VERDICTS = {
    "within": "within the bar",
    "outside": "outside the bar",
    "inconclusive": "inconclusive, the machine was busy",
}


def agreement(predicted: Run, measured: Run) -> go.Figure:
    """Draw predicted beside measured latency quantiles, with the error of the prediction.

    Parameters
    ----------
    predicted, measured : Run
        Of the same scenario and seed.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    _check((predicted, measured), delivered=True)
    table = metrics.compare(predicted, measured).set_index("quantity")
    names = {"latency_p50_s": "p50", "latency_p95_s": "p95", "latency_p99_s": "p99"}
    rows = table.loc[list(names)]
    figure = go.Figure()
    for run, column in ((predicted, "predicted"), (measured, "measured")):
        figure.add_bar(
            x=list(names.values()),
            y=_round(rows[column] * 1e3),
            marker={
                "color": COLOURS[run.scenario.transport],
                "pattern": {"shape": "/" if run is measured else ""},
            },
            name=_label(run),
            text=[
                f"{value * 1e3:.3g} ms" + (f"<br>({error:+.1%})" if run is predicted else "")
                for value, error in zip(rows[column], rows["error_frac"], strict=True)
            ],
            textposition="outside",
            hovertemplate="%{x}: %{y:.4g} ms<extra></extra>",
        )
    worst = rows["error"].abs().max() * 1e3
    said = ", ".join(_VERDICTS[verdict] for verdict in dict.fromkeys(rows["verdict"]))
    title = f"Predictions are off by at most {worst:.2g} ms: {said}"
    return _layout(figure, title, "quantile of latency", "publish to apply (ms)")


def crossover(table: pd.DataFrame, *, crossover_per_s: float | None = None) -> go.Figure:
    """Draw bytes per client-hour against the rate of change, for each transport.

    Parameters
    ----------
    table : pandas.DataFrame
        As `metrics.bytes_by_rate` returns it.
    crossover_per_s : float, optional
        Rate above which push costs more than polling; marked and named in the title.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    figure = go.Figure()
    for name, rows in table.groupby("transport", sort=False):
        figure.add_scatter(
            x=_round(rows["rate_per_s"]),
            y=_round(rows["bytes_per_h"] / 1e3),
            mode="lines",
            line={"color": COLOURS[str(name)], "width": 2.5},
            name=_NAMES.get(str(name), str(name)),
            hovertemplate="%{y:.4g} kB/h at %{x:.3g} changes/s<extra></extra>",
        )
    title = "What a client costs, by the rate of change"
    if crossover_per_s is not None:
        title = f"Above {crossover_per_s:.2f} changes/s push costs more bytes than polling"
        figure.add_vline(
            x=round(crossover_per_s, 4),
            line={"color": _QUIET, "dash": "dash", "width": 1},
        )
    _layout(figure, title, "changes per second, in the whole system", "per client-hour (kB)")
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    return figure


def _check(runs: tuple[Any, ...], *, delivered: bool = False) -> None:
    if not runs:
        raise ScenarioError("runs", runs, "must be at least one run")
    for run in runs:
        if not isinstance(run, Run):
            raise ScenarioError("runs", run, "must be runs, as simulate and measure return them")
        if delivered and run.ledger.delivered == 0:
            raise ScenarioError("runs", run, "must have delivered something")


def _is_measured(run: Run) -> bool:
    return bool(run.provenance["engine"] == "live")


def _label(run: Run) -> str:
    source = "measured" if _is_measured(run) else "simulated"
    return f"{_NAMES[run.scenario.transport]}, {source}"


def _line(run: Run) -> dict[str, Any]:
    return {
        "color": COLOURS[run.scenario.transport],
        "dash": "dot" if _is_measured(run) else "solid",
        "width": 2.5,
    }


def _one_each(runs: tuple[Run, ...]) -> list[Run]:
    """The first run of each transport, for the title."""
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.scenario.transport, run)
    return list(first.values())


def _versus(said: dict[Run, str]) -> str:
    """``"766 kB/h polled, 40 kB/h pushed"``."""
    how = {"polling": "polled", "websocket": "pushed"}
    return ", ".join(f"{text} {how[run.scenario.transport]}" for run, text in said.items())


def _bytes_per_h(run: Run) -> float:
    row = run.summary().iloc[0]
    return float(row["up_bytes_per_h"] + row["down_bytes_per_h"])


def _duration(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"


def _latency_title(runs: tuple[Run, ...]) -> str:
    said = {run: _duration(float(run.latency_quantiles(0.5))) for run in _one_each(runs)}
    return "Half of the changes are seen within " + _versus(said)


def _over_time(runs: tuple[Run, ...], width_s: float, of: Any, unit: str) -> go.Figure:
    figure = go.Figure()
    for run in runs:
        table = metrics.over_time(run, width_s=width_s)
        figure.add_scatter(
            x=_round(table["t_s"]),
            y=_round(of(table)),
            mode="lines",
            line={**_line(run), "shape": "hv"},
            name=_label(run),
            hovertemplate=f"%{{y:.4g}} {unit} at %{{x:g}} s<extra></extra>",
        )
    figure.update_yaxes(rangemode="tozero")
    return figure


def _thin(table: pd.DataFrame) -> pd.DataFrame:
    """At most `_MOST_POINTS` rows, the first and the last among them."""
    if len(table) <= _MOST_POINTS:
        return table
    rows = np.unique(np.linspace(0, len(table) - 1, _MOST_POINTS).round().astype(int))
    return table.iloc[rows]


def _round(values: Any) -> list[float | None]:
    """Four significant digits: what a reader can see, and all that a stored figure needs."""
    return [
        float(f"{value:.4g}") if np.isfinite(value) else None for value in np.asarray(values, float)
    ]


def _layout(figure: go.Figure, title: str, x: str, y: str) -> go.Figure:
    figure.update_layout(
        template="plotly_white",
        title={"text": title, "font": {"size": 17}, "x": 0.02, "xanchor": "left"},
        font={"size": 13},
        margin={"l": 70, "r": 30, "t": 70, "b": 60},
        height=430,
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.0, "x": 0.0},
        barmode="group",
    )
    if x:
        figure.update_xaxes(title_text=x)
    if y:
        figure.update_yaxes(title_text=y)
    return figure
