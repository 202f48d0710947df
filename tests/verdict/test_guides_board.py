"""The guide's board: the same verdict on every seed, and another one beyond each break-even."""

from __future__ import annotations

import pytest

import simlib as sl
from simlib.verdict import break_even, tornado

BOARD = sl.Scenario.example("matters")
RATE = "updates.rate_per_s"
QUICK = {"engine": "compiled", "progress": False}
FRESH = sl.Needs(
    latency_p95_s=2.0,
    utilisation=0.7,
    missed_frac=0.001,
    back_s=60.0,
    trouble={"bad_proxy_frac": 0.03},
)
PATIENT = sl.Needs(latency_p95_s=60.0, utilisation=0.7)


def stable_share(seeds):
    verdicts = [sl.decide(BOARD, FRESH, seed=seed, **QUICK) for seed in seeds]
    same = [one for one in verdicts if (one.kind, one.best) == ("migrate", "sse_fallback")]
    return len(same) / len(verdicts)


def test_three_seeds_have_one_verdict():
    assert stable_share(range(1, 4)) == 1.0


def test_beyond_its_break_even_the_top_assumption_turns_the_verdict_both_ways():
    board = BOARD.replace({"polling.interval_s": 30.0})
    here = sl.decide(board, PATIENT, **QUICK)
    ranges = {RATE: (0.05, 1.0), "clients": (100, 400), "server.poll_s": (1e-3, 4e-3)}
    top = tornado(here, ranges).attrs["first"]
    assert top == RATE
    row = break_even(here, top).iloc[0]
    assert (row["below"], row["above"]) == (here.best, here.rival)
    before, after = (
        sl.decide(board.replace({RATE: row["value"] * factor}), PATIENT, **QUICK)
        for factor in (0.9, 1.1)
    )
    assert (before.best, before.kind) == (here.best, "migrate")
    assert (after.best, after.kind) == (here.rival, "tune")
    # And from there back again.
    back = break_even(after, top).iloc[0]
    assert back["value"] == pytest.approx(row["value"], rel=0.01)
    assert (back["below"], back["above"]) == (before.best, after.best)


def test_a_simulated_break_even_is_within_a_percent_of_the_closed_form():
    """Few clients for hours: how many changes come by chance decides how near it gets."""
    board = BOARD.replace({"clients": 5, "horizon_s": 20_000.0, "drag": None})
    found = sl.decide(board, PATIENT, candidates=["push"], **QUICK)
    solved = break_even(found, RATE).iloc[0]
    # An idle limit far beyond the pings changes nothing, and has no closed form.
    idle = board.replace({"network.idle_s": 10_000.0})
    found = sl.decide(idle, PATIENT, candidates=["push"], **QUICK)
    simulated = break_even(found, RATE, least=0.02, most=8.0, closeness=0.004).iloc[0]
    assert (solved["by"], simulated["by"]) == ("closed form", "simulation")
    theory = sl.metrics.bytes_by_rate(board, [1.0]).attrs["crossover_per_s"]
    assert solved["value"] == pytest.approx(theory, rel=0.01)
    assert simulated["value"] == pytest.approx(theory, rel=0.01)
    assert simulated["low"] < simulated["value"] < simulated["high"]
    assert simulated["high"] - simulated["low"] < 0.04 * theory
