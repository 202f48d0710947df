"""What figures say, without the ends of their lines."""

from __future__ import annotations

import plotly.graph_objects as go


def title_of(figure: go.Figure) -> str:
    """Return the title in one line."""
    return str(figure.layout.title.text).replace("<br>", " ")
