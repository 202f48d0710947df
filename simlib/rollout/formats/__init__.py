"""Rollout plans as other tools write them: `Plan.load` and `Plan.dump` beyond TOML.

Each format has a file. Its docstring lists the keys that are ignored and those that are refused,
and the file ends with the format's row. To add a format, write such a file and add its name here;
formats are tried on a file in this order.
"""

from simlib.rollout.formats import argo, flagger, growthbook, unleash
from simlib.rollout.formats.writing import checked
from simlib.scenario.formats import FORMATS, register

for _row in (flagger.FORMAT, argo.FORMAT, unleash.FORMAT, growthbook.FORMAT):
    register(checked(_row))

__all__ = ["FORMATS"]
