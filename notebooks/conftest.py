"""What `pytest --nbval` compares, cell by cell: by the rules of `simlib.publish.comparison`.

nbval compares a cell's stored outputs with fresh ones, exactly. Both sides of the comparison pass
through here: numbers at six digits, and no accidents.
"""

from __future__ import annotations

from typing import Any

import nbval.plugin
import pytest

from simlib.publish.comparison import NOT_COMPARED, comparable

_exactly = nbval.plugin.IPyNbCell.sanitize


def _sanitize(self: nbval.plugin.IPyNbCell, value: Any) -> Any:
    return _exactly(self, comparable(value))


nbval.plugin.IPyNbCell.sanitize = _sanitize


def pytest_collectstart(collector: pytest.Collector) -> None:
    """Leave progress bars, warnings and drawings out of the comparison."""
    if isinstance(collector, nbval.plugin.IPyNbFile):
        collector.skip_compare += NOT_COMPARED
