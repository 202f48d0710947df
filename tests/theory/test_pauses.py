"""Polls that pause, against draws and against what they become without pauses."""

from __future__ import annotations

import numpy as np
import pytest

import simlib as sl
from simlib.theory import PausedPolls


@pytest.mark.parametrize("length_s", [3.0, 119.0, 120.0, 200.0])
def test_the_formulas_are_those_of_drawn_periods(length_s):
    polls = PausedPolls(30.0, every_s=120.0, length_s=length_s, after_s=0.5)
    generator = np.random.default_rng(7)
    free_s, busy_s = (generator.exponential(mean, 400_000) for mean in (120.0, length_s))
    period_s = np.where(free_s >= 30.0, 30.0, free_s + busy_s)
    # A change falls into a period as often as that is long.
    into = generator.choice(period_s, 400_000, p=period_s / period_s.sum())
    staleness_s = into * generator.random(400_000) + 0.5
    assert polls.mean_period_s == pytest.approx(period_s.mean(), rel=0.01)
    assert polls.mean == pytest.approx(staleness_s.mean(), rel=0.01)
    for share in (0.0, 0.1, 0.5, 0.95, 0.99):
        assert polls.quantile(share) == pytest.approx(np.quantile(staleness_s, share), rel=0.02)
        assert polls.cdf(polls.quantile(share)) == pytest.approx(share, abs=1e-9)
    assert polls.unchanged_frac(0.01) == pytest.approx(np.exp(-0.01 * period_s).mean(), rel=0.01)


def test_rare_pauses_change_nothing():
    plain = sl.theory.staleness_rearmed_timer(30.0, 0.1, 0.02)
    rare = PausedPolls(30.1, every_s=1e9, length_s=1.0, after_s=0.02)
    assert rare.mean == pytest.approx(plain.mean, rel=1e-6)
    assert rare.quantile(0.95) == pytest.approx(plain.quantile(0.95), rel=1e-6)
    assert rare.unchanged_frac(0.1) == pytest.approx(np.exp(-3.01), rel=1e-6)
    # Pauses that are over at once, a thousand times a period, have no number that overflows.
    brief = PausedPolls(30.0, every_s=0.03, length_s=1e-4)
    assert brief.mean_period_s == pytest.approx(0.0301)
    assert 0.02 < brief.quantile(0.5) < 0.03


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"period_s": 0.0}, r"period_s: must be a number in \(0, inf\)"),
        ({"length_s": -1.0}, r"length_s: must be a number in \(0, inf\)"),
        ({"after_s": -1.0}, r"after_s: must be a number in \[0, inf\)"),
    ],
)
def test_values_out_of_range_are_refused(given, words):
    values = {"period_s": 30.0, "every_s": 120.0, "length_s": 3.0, **given}
    with pytest.raises(sl.ScenarioError, match=words):
        PausedPolls(**values)
