"""A metric is one row, and everything else follows from it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from simlib.core.measures import MEASURES, OF_CHECKS, SUMS
from simlib.core.record import Count

ROOT = Path(__file__).parent.parent.parent
COUNTS = {what.name.lower() for what in Count}

# The module with one row more, and then all that takes rows, by the reference engine.
ONE_ROW_MORE = """
import sys, types
from pathlib import Path

row = '''_ROWS += (Measure(
    name="hidden_frac", label="hidden", unit="of what is delivered", numerator=("superseded",),
    denominator="delivered", sample="deliveries", sequential="events"),)
MEASURES = '''
path = Path("simlib/core/measures.py")
module = types.ModuleType("simlib.core.measures")
sys.modules["simlib.core.measures"] = module
exec(path.read_text(encoding="utf-8").replace("MEASURES = ", row, 1), module.__dict__)

import simlib as sl
board = sl.Scenario(updates={"rate_per_s": 0.5}, clients=20, horizon_s=200.0)
plan = sl.Plan(
    flag={"propagation": "polled", "every_s": 5.0}, check_every_s=20.0,
    stages=[{"percent": 50, "bake_s": 100.0}],
    guardrails=[
        {"metric": "hidden_frac", "below": 0.5},
        {"metric": "hidden_frac", "judge": "sequential", "no_data": "pass"},
    ],
)
run = sl.simulate(board, engine="simpy", progress=False)
ledger, hidden_frac = run.ledger, run.metrics()["hidden_frac"].item()
assert ledger.superseded > 0 and hidden_frac == ledger.superseded / ledger.delivered
assert "hidden_frac" in sl.metrics.over_time(run)
swept = sl.sweep(board, {"clients": [5]}, replications=2, engine="simpy", on="serial")
assert (swept["quantity"] == "hidden_frac").any()
rollout = sl.roll_out(plan, board, engine="simpy", progress=False)
assert rollout.history["hidden_frac"].notna().any()
notes = sl.figures.guardrail_panels(rollout).layout.annotations
titles = [note.text.replace("<br>", " ") for note in notes]
assert "hidden (of what is delivered)" in titles, titles
"""


@pytest.mark.parametrize("name", MEASURES)
def test_a_row_speaks_of_sums_that_there_are(name):
    measure = MEASURES[name]
    terms = {*measure.numerator, measure.denominator} - {""}
    assert terms <= COUNTS | set(SUMS) | set(OF_CHECKS if measure.tables == ("check",) else ())
    assert bool(measure.numerator) == bool(measure.denominator)
    if measure.sequential == "events":
        assert set(measure.numerator) <= COUNTS


def test_a_metric_of_sums_that_there_are_is_one_row():
    command = [sys.executable, "-W", "error", "-c", ONE_ROW_MORE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
