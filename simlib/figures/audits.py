"""The figure of an audit: each defect as written beside its repair."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from simlib.errors import ScenarioError
from simlib.figures import style
from simlib.run import check_table

if TYPE_CHECKING:
    import pandas as pd

# Colours that stand for no transport.
_WIRINGS = {
    "as_written": ("as written", "#CC79A7", "circle"),
    "repaired": ("repaired", "#56B4E9", "diamond"),
}
_ROW_PX, _BESIDE_PX = 30, 200
_ALL = 0.995
_CHARACTERS = 34


def audit(table: pd.DataFrame) -> go.Figure:
    """Draw the defects whose figure is a share, as written and repaired, with their intervals.

    Parameters
    ----------
    table : pandas.DataFrame
        A table from `audit`.

    Returns
    -------
    plotly.graph_objects.Figure

    Raises
    ------
    ScenarioError
        A column is missing, or no defect has a share.

    Examples
    --------
    >>> from simlib.guide import audit as audit_of
    >>> from simlib.scenario import Scenario
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=20)
    >>> audit(audit_of(board, only=["a hash with a sign"])).layout.title.text
    'As written, 0 of 1 defects take<br>everything from whom they meet; repaired,<br>none'
    """
    check_table("table", table, texts=("defect", "figure", "unit", "shown_by"))
    shares = table[table["unit"] == "share"]
    if "as_written" in table and "repaired" in table:  # what the board cannot show has no value
        shares = shares[shares["as_written"].notna() & shares["repaired"].notna()]
    if shares.empty:
        raise ScenarioError("table", table, "must have a defect whose figure is a share")
    numbers = [f"{wiring}{end}" for wiring in _WIRINGS for end in ("", "_low", "_high")]
    check_table("table", shares, numbers=tuple(numbers))
    figure = go.Figure()
    rows = [style.wrap(name, _CHARACTERS) for name in shares["defect"]]
    for wiring, (name, colour, symbol) in _WIRINGS.items():
        mean, low, high = (100.0 * shares[f"{wiring}{end}"] for end in ("", "_low", "_high"))
        figure.add_scatter(
            x=style.rounded(mean),
            y=rows,
            error_x={
                "type": "data",
                "symmetric": False,
                "array": style.rounded(high - mean),
                "arrayminus": style.rounded(mean - low),
                "thickness": 1.5,
            },
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 11},
            name=name,
            text=shares["figure"].tolist(),
            hovertemplate="%{x:.1f} % %{text}",
        )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_xaxes(range=[-4, 104])
    ended = int((shares["as_written"] >= _ALL).sum())
    still = int((shares["repaired"] >= _ALL).sum())
    title = (
        f"As written, {ended} of {len(shares)} defects take everything from whom they meet; "
        f"repaired, {still or 'none'}"
    )
    about = "Means and 95 % intervals of simulated runs, or sums; lower is better"
    return style.layout(
        figure, title, "share (%)", "", about=about, height=_BESIDE_PX + _ROW_PX * len(rows)
    )
