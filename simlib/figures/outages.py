"""Figures of outages: waits before attempts, reconnections, recoveries, slow consumers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from simlib.analysis import outages
from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.run import Run, check_table

if TYPE_CHECKING:
    import pandas as pd

SERIES = ("#0072B2", "#CC79A7", "#009E73", "#000000", "#56B4E9", "#999999")
"""Okabe and Ito's palette without the colours of polling, as these clients use WebSocket."""
_DASHES = ("solid", "dash", "dashdot", "longdash")
_COURSE = {
    "connected_frac": ("connected, of the clients present", SERIES[0]),
    "utilisation": ("server busy, of the time", SERIES[1]),
}
_PANELS = 2
_PANEL_CHARACTERS = 22
_SHOWN = {
    "t50_s": "half are back (s)",
    "t95_s": "95 % are back (s)",
    "t100_s": "all are back (s)",
    "peak_per_s": "busiest second (connections)",
}


def delays(table: pd.DataFrame) -> go.Figure:
    """Draw the wait before each attempt, a line per client library with its central 90 %.

    Parameters
    ----------
    table : pandas.DataFrame
        A table from `outages.delays`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        There are no rows, a column is missing, or it does not hold text or numbers in every row.

    Examples
    --------
    >>> delays(outages.delays(["phoenix", "signalr"])).data[0].name
    'phoenix'
    """
    numbers = ("attempt", "mean_s", "p5_s", "p95_s")
    check_table("table", table, texts=("library",), numbers=numbers)
    figure = go.Figure()
    widest, width_s = "", -1.0
    names = list(dict.fromkeys(table["library"]))
    for place, name in enumerate(names):
        rows = table[table["library"] == name]
        reach_s = (rows["p95_s"] - rows["p5_s"]).iloc[-1]
        if reach_s > width_s:
            widest, width_s = name, reach_s
        figure.add_scatter(
            x=rows["attempt"].tolist(),
            y=style.rounded(rows["mean_s"]),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": style.rounded(rows["p95_s"] - rows["mean_s"]),
                "arrayminus": style.rounded(rows["mean_s"] - rows["p5_s"]),
                "thickness": 1,
                "width": 3,
            },
            mode="lines+markers",
            line=_series(place),
            name=name,
            hovertemplate="%{y:.3g} s before attempt %{x}<extra>%{fullData.name}</extra>",
        )
    in_step = [
        name
        for name in names
        if (table.loc[table["library"] == name, "p95_s"].iloc[-1])
        == (table.loc[table["library"] == name, "p5_s"].iloc[-1])
    ]
    title = f"By their last attempt here, {len(in_step)} of {len(names)} settings wait in step"
    if width_s > 0.0:
        title += f"; {widest} spreads most ({style.number(width_s)} s)"
    about = "Bars: the central 90 % of clients"
    style.layout(figure, title, "attempt", "mean wait before it (s)", about=about)
    return figure.update_xaxes(dtick=1)


def reconnections(*runs: Run) -> go.Figure:
    """Draw the fraction of cut clients that have reconnected, over the time since the fault.

    Parameters
    ----------
    *runs : Run
        Simulated or measured runs, each with a fault. Each name has a colour; measured runs are
        dotted.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        No run, something that is not a run, or a run without a fault.
    """
    table = outages.reconnections(*runs)
    figure = go.Figure()
    names = list(dict.fromkeys(run.scenario.name for run in runs))
    for run in runs:
        steps = style.thin(outages.reconnection_curve(run))
        name = run.scenario.name
        line: dict[str, Any] = {**_series(names.index(name)), "shape": "hv"}
        if style.is_measured(run):
            line["dash"] = "dot"
        figure.add_scatter(
            x=style.rounded(steps["t_s"], digits=style.TIME_DIGITS),
            y=style.rounded(steps["back_frac"] * 100.0),
            mode="lines",
            line=line,
            name=f"{name}, {style.source(run)}" if len(names) < len(runs) else name,
            hovertemplate="%{y:.1f} % after %{x:.3g} s<extra>%{fullData.name}</extra>",
        )
    last = table.sort_values("t95_s", na_position="last").iloc[-1]
    first = table.sort_values("t95_s", na_position="last").iloc[0]
    title = f"95 % are back within {style.duration(first['t95_s'])}"
    if len(names) > 1:
        title += f" ({first['name']})"
        title += (
            f", with {last['name']} only {style.number(last['back_frac'] * 100.0)} % at all"
            if last["t95_s"] != last["t95_s"]
            else f" to {style.duration(last['t95_s'])} ({last['name']})"
        )
    style.layout(figure, title, "", "of those cut, back (%)", runs)
    last_s = max(trace.x[-1] for trace in figure.data if len(trace.x))
    figure.update_xaxes(**style.time_axis(last_s, "time since the fault began"))
    return figure.update_yaxes(range=[0, 101])


def recovery(*runs: Run) -> go.Figure:
    """Draw connected clients and the server's utilisation, a panel per run, with the verdict.

    Parameters
    ----------
    *runs : Run
        Runs as `outages.recovery` takes them; measured runs are dotted. The time from the start of
        the first fault to the end of the last is shaded.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        As `outages.recovery`.

    Examples
    --------
    >>> import simlib as sl
    >>> storm = sl.Scenario(
    ...     transport="websocket",
    ...     updates={"rate_per_s": 0.1},
    ...     clients=100,
    ...     horizon_s=150,
    ...     websocket={"open_timeout_s": 5.0},
    ...     server={"handshake_s": 0.08},
    ...     reconnect={"policy": "fixed", "base_s": 1.0},
    ...     faults=[{"kind": "restart", "start_s": 50, "length_s": 1}],
    ... )
    >>> recovery(sl.simulate(storm)).layout.annotations[0].text
    'scenario: metastable'
    """
    table = outages.recovery(*runs)
    columns = min(len(runs), _PANELS)
    rows = -(-len(runs) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[style.wrap(verdict, _PANEL_CHARACTERS) for verdict in _verdicts(table)],
        shared_yaxes=True,
        horizontal_spacing=0.06,
    )
    for place, (run, (start_s, end_s)) in enumerate(
        zip(runs, table[["start_s", "end_s"]].to_numpy().tolist(), strict=True)
    ):
        steps = style.thin(outages.reconnected_over_time(run))
        where = {"row": place // columns + 1, "col": place % columns + 1}
        for what, (name, colour) in _COURSE.items():
            figure.add_scatter(
                x=style.rounded(steps["t_s"], digits=style.TIME_DIGITS),
                y=style.rounded(steps[what] * 100.0),
                mode="lines",
                line={
                    "color": colour,
                    "dash": "dot" if style.is_measured(run) else "solid",
                    "width": 2,
                    "shape": "hv",
                },
                name=name,
                legendgroup=name,
                showlegend=place == 0,
                hovertemplate="%{y:.3g} % at %{x:g} s<extra>%{fullData.name}</extra>",
                **where,
            )
        grey = {"color": style.THEORY, "width": 1}
        figure.add_vrect(
            x0=start_s, x1=end_s, fillcolor=style.THEORY, opacity=0.3, line=grey, **where
        )
    failed = table[table["verdict"] != "recovered"]
    title = f"{len(table) - len(failed)} of {len(table)} recover by themselves"
    if len(failed):
        title += f"; {_verdicts(failed)[0]}"
    style.layout(figure, title, "", "", runs, height=220 + 250 * rows, panels=True)
    figure.update_annotations(font={"size": 13})
    last_s = max(run.scenario.horizon_s for run in runs)
    figure.update_xaxes(**style.time_axis(last_s, ticks=4), title_font_size=12)
    figure.update_yaxes(title_text="clients, or time (%)", col=1)
    return figure.update_yaxes(range=[0, 102])


def restarts(table: pd.DataFrame) -> go.Figure:
    """Draw predictions beside measurements, for kills of the real server.

    Parameters
    ----------
    table : pandas.DataFrame
        The columns of ``data/measured/restarts.csv``.

    Returns
    -------
    plotly.graph_objects.Figure
        A panel per quantity, with the measured median and range, and the prediction as a cross.

    Raises
    ------
    ScenarioError
        There are no rows to show, a column is missing, or it does not hold text or numbers in
        every row that is shown.
    """
    check_table("table", table, texts=("policy", "quantity"), positive=("clients",))
    shown = table[table["quantity"].isin(list(_SHOWN))]
    if len(shown) == 0:
        raise ScenarioError("table", table, f"must have rows of {', '.join(_SHOWN)}")
    measured = ("measured_median", "measured_low", "measured_high")
    check_table("table", shown, numbers=("predicted", "error_frac", *measured))
    figure = make_subplots(rows=len(_SHOWN), cols=1, shared_yaxes=True)
    for panel, (name, words) in enumerate(_SHOWN.items(), start=1):
        figure.update_xaxes(title_text=words, title_font_size=12, row=panel)
        rows = shown[shown["quantity"] == name]
        labels = [f"{row.policy}: {row.clients:,}" for row in rows.itertuples()]
        median = rows["measured_median"]
        error = {
            "type": "data",
            "symmetric": False,
            "array": style.rounded(rows["measured_high"] - median),
            "arrayminus": style.rounded(median - rows["measured_low"]),
        }
        ring = {"color": style.COLOURS["websocket"], "symbol": "circle-open", "size": 10}
        cross = {"color": "#000000", "symbol": "x-thin-open", "size": 11}
        for kind, words, look in (
            (
                "measured",
                ", median and range",
                {"x": style.rounded(median), "error_x": error, "marker": ring},
            ),
            ("predicted", "", {"x": style.rounded(rows["predicted"]), "marker": cross}),
        ):
            figure.add_scatter(
                **look,
                y=labels,
                mode="markers",
                name=kind + words,
                legendgroup=kind,
                showlegend=panel == 1,
                hovertemplate=f"%{{x:.4g}}<extra>{kind}</extra>",
                row=panel,
                col=1,
            )
    worst = shown["error_frac"].abs().max()
    title = (
        "When the real server is killed, predictions are off by at most "
        f"{style.number(worst * 100.0)} %"
    )
    rows_px = 24 * shown[["policy", "clients"]].drop_duplicates().shape[0]
    style.layout(figure, title, "", "", height=205 + len(_SHOWN) * (75 + rows_px))
    figure.update_yaxes(autorange="reversed", automargin=True)
    return figure.update_xaxes(rangemode="tozero")


def _verdicts(table: pd.DataFrame) -> list[str]:
    return [f"{row['name']}: {row['verdict']}" for row in table.to_dict("records")]


_SLOW = {
    "others_p99_s": "p99 of the other clients",
    "slow_p99_s": "p99 of the slow clients",
    "buffered_bytes": "held for one client",
}


def slow_consumers(table: pd.DataFrame) -> go.Figure:
    """Draw the effect of each slow-consumer policy on slow clients, other clients and memory.

    Parameters
    ----------
    table : pandas.DataFrame
        A table from `outages.slow_consumers`.

    Returns
    -------
    plotly.graph_objects.Figure
        A panel per quantity and a row per policy, with the median and range over the runs: hollow
        dots for measured runs, crosses for simulated ones.

    Raises
    ------
    ScenarioError
        A column is missing, or there are no rows.
    """
    check_table("table", table, ("policy", "source", *_SLOW))
    if len(table) == 0:
        raise ScenarioError("table", table, "must have at least one row")
    figure = make_subplots(rows=len(_SLOW), cols=1, vertical_spacing=0.17)
    is_live = table["source"] == "live"
    for panel, name in enumerate(_SLOW, start=1):
        scale = 1e-3 if name == "buffered_bytes" else 1.0
        for word, rows, symbol in (
            ("measured", table[is_live], "circle-open"),
            ("simulated", table[~is_live], "x-thin-open"),
        ):
            of_policy = rows.groupby("policy", sort=False)[name]
            middle, low, high = of_policy.median(), of_policy.min(), of_policy.max()
            figure.add_scatter(
                x=style.rounded(middle * scale),
                y=[policy.replace("_", " ") for policy in middle.index],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": style.rounded((high - middle) * scale),
                    "arrayminus": style.rounded((middle - low) * scale),
                },
                mode="markers",
                marker={
                    "color": style.COLOURS["websocket"] if word == "measured" else "#000000",
                    "symbol": symbol,
                    "size": 11,
                    "line": {"width": 2},
                },
                name=f"{word}, median and range",
                legendgroup=word,
                showlegend=panel == 1 and len(rows) > 0,
                visible=len(rows) > 0,
                hovertemplate="%{x:.4g}<extra>" + word + "</extra>",
                row=panel,
                col=1,
            )
        unit = "kB" if name == "buffered_bytes" else "s"
        figure.update_xaxes(
            title_text=f"{_SLOW[name]} ({unit}, log scale)", type="log", dtick=1, row=panel
        )
    told = table[is_live] if is_live.any() else table
    others_s = told.groupby("policy", sort=False)["others_p99_s"].median()
    others_s.index = others_s.index.str.replace("_", " ")
    others_s = others_s.dropna()
    title = "Every client is slow"
    if len(others_s):
        title = (
            f"The other clients' p99 is {style.duration(others_s.max())} with {others_s.idxmax()}, "
            f"{style.duration(others_s.min())} with {others_s.idxmin()}"
        )
    style.layout(figure, title, "", "", height=760)
    return figure.update_yaxes(autorange="reversed", automargin=True)


def _series(place: int) -> dict[str, Any]:
    """Return the line and marker of the setting with this number."""
    rounds = place // len(SERIES)
    return {
        "color": SERIES[place % len(SERIES)],
        "dash": _DASHES[rounds % len(_DASHES)],
        "width": 2,
    }
