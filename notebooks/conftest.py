"""What `pytest --nbval` compares, cell by cell: numbers at six digits, and no accidents.

nbval compares a cell's stored outputs with fresh ones, exactly. Exactly is too much for the last
bits of a float, which another processor computes differently, and unreadable for a figure of ten
thousand numbers. So both sides of the comparison pass through here: a figure becomes its digest,
a long float is cut to nine significant digits, ids and addresses become placeholders.
"""

from __future__ import annotations

import re
from typing import Any

import nbval.plugin
import pytest

from simlib.publish.notebook import digest, steady_text

ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}\b")
STYLER_ID = re.compile(r"\bT_[0-9a-f]{5}")
UUID = re.compile(r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b")

_exactly = nbval.plugin.IPyNbCell.sanitize


def _sanitize(self: nbval.plugin.IPyNbCell, value: Any) -> Any:
    if isinstance(value, dict) and {"data", "layout"} <= value.keys():
        return digest(value)
    if isinstance(value, str):
        value = steady_text(value, digits=9)
        value = ADDRESS.sub("0x", value)
        value = STYLER_ID.sub("T_", value)
        value = UUID.sub("uuid", value)
    return _exactly(self, value)


nbval.plugin.IPyNbCell.sanitize = _sanitize


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leave progress bars, warnings and drawings out of the comparison."""
    if isinstance(collector, nbval.plugin.IPyNbFile):
        collector.skip_compare += ("stderr", "image/svg+xml")
