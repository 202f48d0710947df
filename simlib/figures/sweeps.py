"""Figures of sweeps: how a quantity goes with a setting, alone and beside what is known of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.run import check_table

if TYPE_CHECKING:
    import pandas as pd


def sensitivity(
    table: pd.DataFrame, path: str, quantity: str, *, theory: pd.DataFrame | None = None
) -> go.Figure:
    """Draw a quantity of a sweep against a setting, a line with intervals for each transport.

    Parameters
    ----------
    table : pandas.DataFrame
        A table from `sweep`.
    path : str
        The setting, which is a column of numbers. Its axis is logarithmic if the values span more
        than a factor of 30.
    quantity : str
        One of `metrics.QUANTITIES`; its axis is logarithmic by the same rule.
    theory : pandas.DataFrame, optional
        A table from `by_theory`, which may reach further than the sweep: dashed lines.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        A table has no such column or quantity, or a value to be drawn is not a number.
    """
    if not isinstance(path, str) or not isinstance(quantity, str):
        raise ScenarioError("path, quantity", (path, quantity), "must be names")
    rows = _rows("table", table, path, quantity, ("low", "high"))
    figure, said = go.Figure(), []
    for transport, line in rows.groupby("transport", sort=False):
        name = str(transport)
        _draw_means(figure, line, path, name)
        first, last = line["mean"].iloc[0], line["mean"].iloc[-1]
        said.append(f"{_value(quantity, first)} to {_value(quantity, last)} {style.DONE[name]}")
    at, means = rows[path].tolist(), rows["mean"].tolist()
    if theory is not None:
        known = _rows("theory", theory, path, quantity)
        for transport, line in known.groupby("transport", sort=False):
            _draw_theory(figure, line, path, str(transport))
        at, means = at + known[path].tolist(), means + known["mean"].tolist()
    ends, (words, unit) = rows[path].iloc[[0, -1]], style.setting_words(path)
    span = f"{ends.iloc[0]:,.10g} to {ends.iloc[1]:,.10g} {unit}".rstrip()
    words = f"{words[:1].upper()}{words[1:]}"
    title = f"{words} from {span}: {style.setting_words(quantity)[0]} {', '.join(said)}"
    about = f"Means of replications, with intervals{style.warned_of(rows)}"
    return _finished(figure, title, about, (path, at), (quantity, means))


def capacity(table: pd.DataFrame, quantity: str) -> go.Figure:
    """Draw a quantity against the number of clients, predicted and measured, for each transport.

    Parameters
    ----------
    table : pandas.DataFrame
        Columns ``transport``, ``clients``, ``quantity``, ``predicted``, ``measured``,
        ``measured_low`` and ``measured_high``, a row per transport, number and quantity, such as
        ``data/measured/capacity.csv``.
    quantity : str
        One of the table's.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        The table has no such column or quantity, a value to be drawn is not a number, or a
        measured one is not > 0.
    """
    numbers = ("clients", "predicted", "measured", "measured_low", "measured_high")
    check_table("table", table, numbers, texts=("transport", "quantity"))
    style.check_known("table.transport", table["transport"], style.COLOURS)
    rows = table[table["quantity"] == quantity].sort_values("clients")
    if len(rows) == 0:
        known = ", ".join(table["quantity"].unique())
        raise ScenarioError("quantity", quantity, f"must be in the table: {known}")
    check_table("table", rows, numbers=numbers)
    if (rows["measured"] <= 0.0).any():
        rule = "must be > 0, for errors are shares of it"
        raise ScenarioError("table.measured", rows["measured"].min(), rule)
    figure = go.Figure()
    for transport, line in rows.groupby("transport", sort=False):
        _draw_measured(figure, line, str(transport))
    errors = (rows["predicted"] - rows["measured"]).abs() / rows["measured"]
    worst = rows.iloc[int(errors.to_numpy().argmax())]
    title = (
        f"From {rows['clients'].min():,} to {rows['clients'].max():,} clients, predictions of "
        f"{style.setting_words(quantity)[0]} are off by at most {100.0 * errors.max():.0f} %: "
        f"{_value(quantity, worst['predicted'])} predicted, "
        f"{_value(quantity, worst['measured'])} measured, {style.DONE[worst['transport']]}"
    )
    about = "Means of runs, and their range"
    values = [*rows["predicted"], *rows["measured"]]
    return _finished(
        figure, title, about, ("clients", rows["clients"].tolist()), (quantity, values)
    )


def _rows(
    place: str, table: pd.DataFrame, path: str, quantity: str, bounds: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Return a quantity's rows that have a mean, in the order of the setting's values."""
    check_table(place, table, (path, "mean"), texts=("transport", "quantity"))
    if table[path].dtype.kind not in "iuf":
        raise ScenarioError("path", path, "must be a setting whose values are numbers")
    style.check_known(f"{place}.transport", table["transport"], style.COLOURS)
    rows = table[(table["quantity"] == quantity) & table["mean"].notna()]
    if len(rows) == 0:
        known = ", ".join(table["quantity"].unique())
        raise ScenarioError("quantity", quantity, f"must have a number in the {place}: {known}")
    check_table(place, rows, numbers=(path, "mean", *bounds))
    rows = rows.sort_values(path)
    if rows.duplicated(["transport", path]).any():
        rule = "must have one row for each of its values: choose one of each other setting"
        raise ScenarioError(place, path, rule)
    return rows


def _draw_means(figure: go.Figure, line: pd.DataFrame, path: str, transport: str) -> None:
    colour = style.COLOURS[transport]
    x, low, high = line[path].tolist(), style.rounded(line["low"]), style.rounded(line["high"])
    figure.add_scatter(
        x=[*x, *x[::-1]],
        y=[*high, *low[::-1]],
        fill="toself",
        fillcolor=colour,
        opacity=0.25,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )
    figure.add_scatter(
        x=x,
        y=style.rounded(line["mean"]),
        mode="lines+markers",
        line={"color": colour, "width": 2},
        name=f"{style.NAMES[transport]}, mean and interval",
        hovertemplate=f"%{{y:.4g}} at {path} %{{x:.4g}}<extra>%{{fullData.name}}</extra>",
    )


def _draw_theory(figure: go.Figure, line: pd.DataFrame, path: str, transport: str) -> None:
    figure.add_scatter(
        x=line[path].tolist(),
        y=style.rounded(line["mean"]),
        mode="lines",
        line={"color": style.COLOURS[transport], "width": 1.5, "dash": "dash"},
        name=f"{style.NAMES[transport]}, closed form",
        hovertemplate=f"%{{y:.4g}} at {path} %{{x:.4g}}<extra>%{{fullData.name}}</extra>",
    )


def _draw_measured(figure: go.Figure, line: pd.DataFrame, transport: str) -> None:
    colour, measured = style.COLOURS[transport], line["measured"]
    figure.add_scatter(
        x=line["clients"].tolist(),
        y=style.rounded(line["predicted"]),
        mode="lines",
        line={"color": colour, "width": 2},
        name=f"{style.NAMES[transport]}, predicted",
        hovertemplate="%{y:.4g} of %{x:,} clients<extra>%{fullData.name}</extra>",
    )
    figure.add_scatter(
        x=line["clients"].tolist(),
        y=style.rounded(measured),
        mode="markers",
        marker={"color": colour, "size": 9, "symbol": "circle-open", "line": {"width": 2}},
        error_y={
            "type": "data",
            "symmetric": False,
            "array": style.rounded(line["measured_high"] - measured),
            "arrayminus": style.rounded(measured - line["measured_low"]),
            "color": colour,
        },
        name=f"{style.NAMES[transport]}, measured",
        hovertemplate="%{y:.4g} of %{x:,} clients<extra>%{fullData.name}</extra>",
    )


def _finished(
    figure: go.Figure,
    title: str,
    about: str,
    along: tuple[str, list[float]],
    up: tuple[str, list[float]],
) -> go.Figure:
    """Lay a figure out, whose axes have a name and values each; wide axes are logarithmic."""
    (path, at), (quantity, values) = along, up
    wide_x, wide_y = _is_wide(at), _is_wide(values)
    if wide_x:
        figure.update_xaxes(type="log", dtick=1, tickformat=",~r")
    if wide_y:
        is_duration = quantity.endswith("_s")
        figure.update_yaxes(**style.duration_axis(values) if is_duration else {"type": "log"})
    x, y = (
        style.axis_title(name, scale="log scale" if is_wide else "")
        for name, is_wide in ((path, wide_x), (quantity, wide_y))
    )
    return style.layout(figure, title, x, y, about=about)


def _is_wide(values: list[float]) -> bool:
    least, most = float(np.min(values)), float(np.max(values))
    return bool(least > 0 and most > 30 * least)


def _value(quantity: str, value: float) -> str:
    if quantity.endswith("_s") and not quantity.endswith("_per_s"):
        return style.duration(value, digits=2)
    return style.number(value)
