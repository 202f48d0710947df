"""Figures of runs, and of the engines' costs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simlib.analysis import metrics
from simlib.analysis.agreement import compare
from simlib.analysis.engine_costs import capacity
from simlib.core.measures import GUIDE_METRICS, MEASURES, QUANTILES
from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.run import Run, check_runs, check_table

if TYPE_CHECKING:
    import pandas as pd

_QUANTILES = {name: f"p{level * 100:g}" for name, level in QUANTILES.items()}


def latency(*runs: Run) -> go.Figure:
    """Draw the distribution of publish-to-apply latency, one curve per run, on a log axis.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs, of either transport.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run or delivered nothing.

    Examples
    --------
    >>> import simlib as sl
    >>> board = sl.Scenario(updates={"rate_per_s": 0.2}, clients=5, horizon_s=120)
    >>> figure = latency(sl.simulate(board))
    >>> figure.data[0].line.color == style.COLOURS["polling"]
    True
    """
    check_runs(runs, delivered=True)
    figure = go.Figure()
    spans: list[float] = []
    for named in style.labelled(runs):
        table = style.thin(metrics.ecdf(named.run))
        latency_s = table["latency_s"].clip(lower=style.LEAST_S)
        spans += [latency_s.min(), latency_s.max()]
        figure.add_scatter(
            x=style.rounded(latency_s),
            y=style.rounded(table["share"] * 100.0),
            line={**named.line(), "shape": "hv"},
            **named.curve(),
            **named.label,
            hovertemplate="%{y:.1f} % within %{x:.3g} s<extra>%{fullData.name}</extra>",
        )
    for name, percent, side in (("p50", 50, "middle"), ("p95", 95, "top"), ("p99", 99, "bottom")):
        figure.add_hline(y=percent, line={"color": "#cccccc", "width": 1}, layer="below")
        figure.add_annotation(
            text=name,
            xref="paper",
            x=1.005,
            y=percent,
            xanchor="left",
            yanchor=side,
            showarrow=False,
            font={"size": 11, "color": style.THEORY},
        )
    said = style.said(runs, lambda row: float(row["latency_p50_s"]), style.duration)
    title = f"Half of the changes are seen within {said}"
    style.layout(
        figure,
        title,
        "publish to apply (log scale)",
        "changes seen (%)",
        runs,
    )
    figure.update_xaxes(**style.duration_axis(spans))
    return figure.update_yaxes(range=[0, 101])


def bandwidth(*runs: Run, width_s: float | None = None) -> go.Figure:
    """Draw the bytes of IP packets per second and client over time, up and down together.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs, of either transport.
    width_s : float, optional
        Width of the steps, seconds, a whole number of the runs' bins.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run.
    """
    return _over_time(
        runs,
        width_s,
        lambda table: table["up_bytes_per_s"] + table["down_bytes_per_s"],
        ("IP packets per client, up and down (B/s)", "B/s"),
        "A client costs",
        lambda row: style.bytes_per_h(row) / 3600.0,
        lambda value: f"{value:.3g} B/s",
    )


_LAYERS = {
    "up_bytes_per_h": "IP packets up",
    "payload_up_bytes_per_h": "payload up",
    "down_bytes_per_h": "IP packets down",
    "payload_down_bytes_per_h": "payload down",
}


def bytes_per_client(*runs: Run) -> go.Figure:
    """Draw the bytes that a client sends and receives per hour, as IP packets and as payload.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs, of either transport.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run.
    """
    check_runs(runs)
    figure = go.Figure()
    for named in style.labelled(runs):
        row = named.run.metrics().iloc[0]
        values = [row[name] / 1e3 for name in _LAYERS]
        figure.add_bar(
            x=list(_LAYERS.values()),
            y=style.rounded(values),
            text=[style.number(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            marker=named.bar(),
            **named.label,
            hovertemplate="%{y:.4g} kB/h %{x}<extra>%{fullData.name}</extra>",
        )
    said = style.said(
        runs, lambda row: style.bytes_per_h(row) / 1e3, lambda value: f"{style.number(value)} kB/h"
    )
    title = f"IP packets per client, up and down: {said}"
    return style.layout(figure, title, "what is counted", "per client-hour (kB)", runs)


def utilisation(*runs: Run, width_s: float | None = None) -> go.Figure:
    """Draw the server's utilisation over time, with the parameters and errors of `bandwidth`."""
    return _over_time(
        runs,
        width_s,
        lambda table: table["utilisation"] * 100.0,
        ("server utilisation (%)", "%"),
        "The server is busy",
        lambda row: float(row["utilisation"]) * 100.0,
        lambda value: f"{value:.2g} % of the time",
    )


def connections(*runs: Run, width_s: float | None = None) -> go.Figure:
    """Draw open connections over time; parameters, result and errors as for `bandwidth`."""
    return _over_time(
        runs,
        width_s,
        lambda table: table["connection_count"],
        ("open connections (mean number)", "open"),
        "Open connections, mean over time:",
        lambda row: float(row["connection_count"]),
        lambda value: style.number(value, digits=4),
        under=4.0,
    )


# Counts of errors: they are often all zero.
_OFTEN_ZERO = tuple(
    name
    for name in GUIDE_METRICS
    if MEASURES[name].worse == "higher" and MEASURES[name].sample == "seconds"
)
_OFTEN_EQUAL = ("connection_count", *_OFTEN_ZERO)


def six_metrics(*runs: Run, width_s: float | None = None) -> go.Figure:
    """Draw the six metrics of a migration over time, one panel each.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs, of either transport.
    width_s : float, optional
        Width of the steps, seconds, a whole number of the runs' bins.

    Returns
    -------
    plotly.graph_objects.Figure
        Three rows of two panels. Latency has a gap when nothing was delivered; a polling run
        has no fallback to polling.

    Raises
    ------
    ScenarioError
        There is no run, or an argument is not a run.
    """
    check_runs(runs)
    figure = make_subplots(
        rows=len(GUIDE_METRICS) // _COLUMNS,
        cols=_COLUMNS,
        subplot_titles=[
            style.metric_title(name, scale=", log scale" if name == "average_latency_s" else "")
            for name in GUIDE_METRICS
        ],
        horizontal_spacing=0.2,
        vertical_spacing=0.17,
    )
    latencies: list[float] = []
    for named in style.labelled(style.push_on_top(runs)):
        table = metrics.over_time(named.run, width_s=width_s)
        symbol = style.SYMBOLS[named.place % len(style.SYMBOLS)]
        drawn = table["average_latency_s"]
        latencies += drawn[drawn > 0.0].tolist()
        for index, name in enumerate(GUIDE_METRICS):
            figure.add_scatter(
                x=style.rounded(table["t_s"], digits=style.TIME_DIGITS),
                y=style.rounded(table[name]),
                mode="lines+markers",  # a marker shows a value between two gaps
                line=named.line(under=2.0 if name in _OFTEN_EQUAL else 0.0, thin=0.5),
                marker={"size": 3 if named.place == 0 else 5, "symbol": symbol},
                **{**named.label, "showlegend": named.is_new and index == 0},
                hovertemplate="%{y:.4g} at %{x:g} s<extra>%{fullData.name}</extra>",
                row=index // _COLUMNS + 1,
                col=index % _COLUMNS + 1,
            )
    said = style.said(runs, lambda row: float(row["average_latency_s"]), style.duration)
    failed = style.said(runs, lambda row: float(row["error_rate_per_h"]), "{:.2g}".format)
    title = f"Mean latency {said}; errors per client-hour {failed}"
    style.layout(figure, title, "", "", runs, height=820, panels=True)
    figure.update_annotations(font={"size": 13})
    figure.update_yaxes(rangemode="tozero", nticks=5)
    latency = GUIDE_METRICS.index("average_latency_s")
    where = {"row": latency // _COLUMNS + 1, "col": latency % _COLUMNS + 1}
    figure.update_yaxes(**style.duration_axis(latencies), **where)
    for name in _OFTEN_ZERO:
        index = GUIDE_METRICS.index(name)
        panel = [trace.y for trace in figure.data[index :: len(GUIDE_METRICS)]]
        if not any(
            value for values in panel for value in values
        ):  # a series of zeros does not scale its axis
            where = {"row": index // _COLUMNS + 1, "col": index % _COLUMNS + 1}
            figure.update_yaxes(range=[-0.05, 1], **where)
    return figure.update_xaxes(**style.time_axis(_last_s(runs), ticks=4), title_font_size=12)


_VERDICTS = {
    "within": "within the allowed error",
    "outside": "outside the allowed error",
    "inconclusive": "inconclusive, the machine was busy",
}


def agreement(predicted: Run, measured: Run) -> go.Figure:
    """Draw predicted beside measured latency quantiles, with the error of the prediction.

    Parameters
    ----------
    predicted, measured : Run
        Two runs of the same scenario and seed.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        An argument is not a run or delivered nothing, or the two have different transports.
    """
    check_runs([predicted, measured], delivered=True)
    if predicted.scenario.transport != measured.scenario.transport:
        rule = f"must be of the measured run's transport ({measured.scenario.transport})"
        raise ScenarioError("predicted", predicted.scenario.transport, rule)
    rows = compare(predicted, measured).set_index("quantity").loc[list(_QUANTILES)]
    errors = [style.percent(error) for error in rows["error_frac"]]
    unit, factor = ("ms", 1e3) if rows["measured"].max() < 1.0 else ("s", 1.0)
    figure = go.Figure()
    for column, named in zip(
        ("predicted", "measured"), style.labelled((predicted, measured)), strict=True
    ):
        texts = [style.duration(value) for value in rows[column]]
        if column == "predicted":
            texts = [f"{text}<br>({error})" for text, error in zip(texts, errors, strict=True)]
        figure.add_bar(
            x=list(_QUANTILES.values()),
            y=style.rounded(rows[column] * factor),
            marker=named.bar(),
            **{**named.label, "showlegend": True},
            text=texts,
            textposition="outside",
            cliponaxis=False,
            hovertemplate=f"%{{x}}: %{{y:.4g}} {unit}<extra>%{{fullData.name}}</extra>",
        )
    worst = style.duration(rows["error"].abs().max(), digits=2)
    said = ", ".join(_VERDICTS[verdict] for verdict in dict.fromkeys(rows["verdict"]))
    title = f"Predictions are off by at most {worst}: {said}"
    style.layout(
        figure, title, "quantile of latency", f"publish to apply ({unit})", (predicted, measured)
    )
    return figure.update_layout(bargap=0.35)


def crossover(table: pd.DataFrame, *, crossover_per_s: float | None = None) -> go.Figure:
    """Draw bytes per client-hour against the rate of change, for each transport.

    Parameters
    ----------
    table : pandas.DataFrame
        ``rate_per_s``, ``transport`` and ``bytes_per_h``, as `metrics.bytes_by_rate` returns it.
    crossover_per_s : float, optional
        Rate above which push costs more than polling, changes per second. It is marked, and given
        in the title. 0 means that push costs more at every rate.

    Returns
    -------
    plotly.graph_objects.Figure
        Both axes logarithmic.

    Raises
    ------
    ScenarioError
        The table is empty, a column is missing or does not hold text or numbers above 0 in every
        row, it names another transport, or `crossover_per_s` is not a number >= 0.
    """
    _check_rates(table, crossover_per_s)
    figure = go.Figure()
    for index, (name, rows) in enumerate(table.groupby("transport", sort=False)):
        figure.add_scatter(
            x=style.rounded(rows["rate_per_s"]),
            y=style.rounded(rows["bytes_per_h"] / 1e3),
            mode="lines",
            # The earlier line is wider, so that lines that coincide stay visible.
            line={"color": style.COLOURS[str(name)], "width": max(2.0, 5.0 - 1.5 * index)},
            name=style.NAMES[str(name)],
            hovertemplate="%{y:.4g} kB/h at %{x:.3g} changes/s<extra>%{fullData.name}</extra>",
        )
    title = _crossover_title(table, crossover_per_s)
    style.layout(
        figure,
        title,
        "changes in all (1/s, log scale)",
        "per client-hour (kB, log scale)",
    )
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1, tickformat=",~r")
    if crossover_per_s:
        style.mark_on_log_axis(figure, crossover_per_s, f"{crossover_per_s:.3g} changes/s")
    return figure


def _check_rates(table: Any, crossover_per_s: float | None) -> None:
    check_table("table", table, texts=("transport",), positive=("rate_per_s", "bytes_per_h"))
    style.check_known("table.transport", table["transport"], style.COLOURS)
    if crossover_per_s is not None and not (
        isinstance(crossover_per_s, int | float) and 0.0 <= crossover_per_s < np.inf
    ):
        raise ScenarioError("crossover_per_s", crossover_per_s, "must be a number >= 0")


def _crossover_title(table: pd.DataFrame, crossover_per_s: float | None) -> str:
    if crossover_per_s:
        return f"Above {crossover_per_s:.3g} changes/s push costs more bytes than polling"
    if crossover_per_s == 0.0:
        return "Push costs more bytes than polling at every rate of change"
    busiest = table[table["rate_per_s"] == table["rate_per_s"].max()]
    said = ", ".join(
        f"{style.number(value / 1e3)} kB/h {style.DONE[name]}"
        for name, value in zip(busiest["transport"], busiest["bytes_per_h"], strict=True)
    )
    return f"At {busiest['rate_per_s'].iloc[0]:.3g} changes/s: {said}"


_COSTS = {
    "hour_s": "processor time for one simulated hour",
    "events_per_s": "events per second of processor time (1/s)",
    "bytes_per_client": "memory per client (bytes)",
}
_WORKLOADS = {
    "pollers": ("polling", style.COLOURS["polling"], "circle"),
    "push": ("WebSocket push", style.COLOURS["websocket"], "square"),
    "storm": ("a storm of WebSocket connections", style.COLOURS["websocket"], "x"),
}
_ENGINES = {"simpy": ("SimPy", "dash"), "compiled": ("the compiled engine", "solid")}
_PATIENCE_S = 60.0
_COLUMNS = 2


def engine_costs(costs: pd.DataFrame) -> go.Figure:
    """Draw the engines' time, events per second and memory against the number of clients.

    Parameters
    ----------
    costs : pandas.DataFrame
        A row per measurement: ``workload`` (pollers, push or storm), ``engine``, ``clients``,
        ``horizon_s``, ``cpu_s``, ``events`` and ``bytes_per_client``, as
        ``data/measured/engines.json`` has them.

    Returns
    -------
    plotly.graph_objects.Figure
        Three panels with logarithmic axes. SimPy's lines are dashed, the compiled engine's solid.

    Raises
    ------
    ScenarioError
        The table is empty, a column is missing or does not hold text or numbers above 0 in every
        row, or it names another workload or engine.
    """
    check_table("costs", costs, positive=("events", "bytes_per_client"))
    reach = capacity(costs, _PATIENCE_S)
    style.check_known("costs.workload", costs["workload"], _WORKLOADS)
    style.check_known("costs.engine", costs["engine"], _ENGINES)
    figure = make_subplots(rows=len(_COSTS), cols=1, subplot_titles=list(_COSTS.values()))
    costs = costs.assign(
        hour_s=costs["cpu_s"] / costs["horizon_s"] * 3600.0,
        events_per_s=costs["events"] / costs["cpu_s"],
    ).sort_values("clients", kind="stable")
    for (workload, engine), rows in costs.groupby(["workload", "engine"], sort=False):
        what, colour, symbol = _WORKLOADS[str(workload)]
        source, dash = _ENGINES[str(engine)]
        for panel, name in enumerate(_COSTS, start=1):
            if workload == "storm" and name == "hour_s":
                continue  # a storm lasts for minutes only
            figure.add_scatter(
                x=rows["clients"].tolist(),
                y=style.rounded(rows[name]),
                mode="lines+markers",
                line={"color": colour, "dash": dash, "width": 1 if workload == "storm" else 2},
                marker={"symbol": symbol, "size": 7},
                name=f"{what}, {source}",
                legendgroup=f"{workload} {engine}",
                showlegend=panel == 2,
                hovertemplate="%{y:.3g} at %{x:,} clients<extra>%{fullData.name}</extra>",
                row=panel,
                col=1,
            )
    figure.add_hline(
        y=_PATIENCE_S, line={"color": style.THEORY, "dash": "dot", "width": 1.5}, row=1, col=1
    )
    polls = reach[reach["workload"] == "pollers"].set_index("engine")["clients"]
    title = "An hour of polling in a minute: " + ", ".join(
        f"{_clients(polls[engine])} with {name}"
        for engine, (name, _) in _ENGINES.items()
        if engine in polls
    )
    style.layout(figure, title, "clients (log scale)", "", height=960, panels=True)
    figure.update_annotations(font={"size": 13})
    figure.update_xaxes(type="log", dtick=1, tickformat=".0s")
    figure.update_yaxes(type="log", dtick=1, tickformat=".0s")
    figure.update_yaxes(**style.duration_axis(costs["hour_s"].tolist()), row=1, col=1)
    return figure


def _clients(number: float) -> str:
    if number != number:
        return "fewer clients than were tried"
    if number == np.inf:
        return "all that were tried"
    return f"{style.number(float(f'{number:.2g}'))} clients"


def _over_time(
    runs: tuple[Run, ...],
    width_s: float | None,
    of: Callable[[pd.DataFrame], pd.Series],
    axis: tuple[str, str],
    words: str,
    value: Callable[[pd.Series], float],
    show: Callable[[float], str],
    *,
    under: float = 0.0,
) -> go.Figure:
    """One quantity over time; `axis`: its title and unit; words, number and its text: the finding.

    `under` widens polling where push may lie on it, and then push is drawn last.
    """
    check_runs(runs)
    figure = go.Figure()
    for named in style.labelled(style.push_on_top(runs) if under else runs):
        table = metrics.over_time(named.run, width_s=width_s)
        values, end_s = style.rounded(of(table)), named.run.scenario.horizon_s
        figure.add_scatter(
            # The last step is as wide as the others: it ends where the run does.
            x=style.rounded([*table["t_s"], end_s], digits=style.TIME_DIGITS),
            y=[*values, values[-1]],
            line={**named.line(under=under), "shape": "hv"},
            **named.curve(),
            **named.label,
            hovertemplate=f"%{{y:.4g}} {axis[1]} at %{{x:g}} s<extra>%{{fullData.name}}</extra>",
        )
    title = f"{words} {style.said(runs, value, show)}"
    style.layout(figure, title, "", axis[0], runs)
    figure.update_xaxes(**style.time_axis(_last_s(runs)))
    return figure.update_yaxes(rangemode="tozero")


def _last_s(runs: Iterable[Run]) -> float:
    """Return when the longest of the runs ends, seconds."""
    return max(run.scenario.horizon_s for run in runs)
