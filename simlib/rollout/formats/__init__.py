"""Rollout plans as other tools write them: `Plan.load` and `Plan.dump` beyond TOML.

One file a format. It says in its head what has no meaning in a plan and what is refused, and ends
with the format's row. A new format is such a file and its name here; what is recognised first
stands first.
"""

from simlib.rollout.formats import argo, flagger, growthbook, unleash
from simlib.rollout.formats.writing import checked
from simlib.scenario.formats import FORMATS, register

for _row in (flagger.FORMAT, argo.FORMAT, unleash.FORMAT, growthbook.FORMAT):
    register(checked(_row))

__all__ = ["FORMATS"]
