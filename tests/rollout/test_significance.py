"""Judges: equal to scipy where it has them, and valid under peeking where they say so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from simlib.errors import ScenarioError
from simlib.rollout import significance
from simlib.rollout.significance import Sample

VALUES = st.lists(st.integers(0, 50).map(float), min_size=4, max_size=25)


@settings(max_examples=200)
@given(control=VALUES, treatment=VALUES)
def test_the_p_value_is_scipys(control, treatment):
    if len(set(control + treatment)) == 1:
        return
    expected = stats.mannwhitneyu(treatment, control, method="asymptotic").pvalue
    assert significance.shift_estimate(control, treatment).p_value == pytest.approx(expected)


@settings(max_examples=100)
@given(seed=st.integers(0, 10_000), by=st.floats(-3, 3))
def test_the_estimate_is_the_median_of_all_differences(seed, by):
    rng = np.random.default_rng(seed)
    control, treatment = rng.normal(size=15), rng.normal(by, size=18)
    differences = np.sort(np.subtract.outer(treatment, control).ravel())
    # The rank statistic moves in steps: the root is one of the middle differences.
    middle = differences[len(differences) // 2 - 3 : len(differences) // 2 + 3]
    found = significance.shift_estimate(control, treatment)
    assert middle[0] - 1e-6 <= found.estimate <= middle[-1] + 1e-6
    assert found.low <= found.estimate <= found.high


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(400):
        found = significance.shift_estimate(
            rng.exponential(size=20), 0.5 + rng.exponential(size=20), 0.9
        )
        covered += found.low <= 0.5 <= found.high
    assert covered / 400 == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / 400))


@pytest.mark.parametrize(
    ("times", "tolerance", "expected"),
    [(1.0, 0.25, "pass"), (3.0, 0.25, "high"), (1 / 3, 0.25, "low"), (3.0, 2.0, "pass")],
)
def test_kayentas_judge_asks_for_more_than_its_tolerance(times, tolerance, expected):
    rng = np.random.default_rng(2)
    control, treatment = rng.normal(10, 1, 30), times * rng.normal(10, 1, 30)
    assert significance.mann_whitney(control, treatment, tolerance=tolerance) == expected


LOOKS = 100


def peeks(experiments, by, interval, each=100, seed=3):
    """How many experiments of 100 looks find a difference at any look."""
    rng = np.random.default_rng(seed)
    upto = np.arange(each, LOOKS * each + 1, each)
    found = 0
    for _ in range(experiments):
        seen_so_far = []
        for x in (rng.exponential(size=upto[-1]), by + rng.exponential(size=upto[-1])):
            mean, square = (np.cumsum(y)[upto - 1] / upto for y in (x, x * x))
            rows = zip(upto, mean, square - mean**2, strict=True)
            seen_so_far.append([Sample(*row) for row in rows])
        looks = (interval(*samples) for samples in zip(*seen_so_far, strict=True))
        found += any(seen.low > 0.0 or seen.high < 0.0 for seen in looks)
    return found


def test_a_hundred_peeks_deceive_the_usual_test_and_not_the_sequential_one():
    experiments = 400
    interval = stats.binomtest(peeks(experiments, 0.0, significance.sequential_test), experiments)
    assert interval.proportion_ci(0.95, "wilson").high < 0.05
    assert peeks(experiments, 0.0, significance.fixed_horizon_test) / experiments > 0.2


def test_the_sequential_test_finds_a_real_difference():
    assert peeks(50, 0.1, significance.sequential_test) == 50


def test_a_fixed_interval_is_the_z_tests():
    control, treatment = Sample(50, 1.0, 4.0), Sample(80, 2.0, 9.0)
    half = stats.norm.ppf(0.975) * np.sqrt(4.0 / 50 + 9.0 / 80)
    assert significance.fixed_horizon_test(control, treatment) == pytest.approx(
        (1.0, 1.0 - half, 1.0 + half)
    )


@pytest.mark.parametrize(
    ("call", "path"),
    [
        (lambda: significance.shift_estimate([1.0], [1.0, 2.0]), "control"),
        (lambda: significance.shift_estimate([1.0, 2.0], [1.0, float("nan")]), "treatment"),
        (lambda: significance.shift_estimate([1.0, 1.0], [1.0, 1.0]), "treatment"),
        (lambda: significance.shift_estimate([1.0, 2.0], [1.0, 2.0], 1.0), "confidence"),
        (lambda: significance.shift_estimate(["a", "b"], [1.0, 2.0]), "control"),
        (lambda: significance.mann_whitney([1.0, 2.0], [1.0, 2.0], tolerance=-1.0), "tolerance"),
        (lambda: significance.sequential_test(Sample(0, 1.0, 1.0), Sample(5, 1.0, 1.0)), "control"),
        (lambda: significance.sequential_test(Sample(5, 1.0, 1.0), (5, 1.0, 1.0)), "treatment"),
        (lambda: significance.sequential_test(*[Sample(5, 1.0, 1.0)] * 2, alpha=0.0), "alpha"),
        (lambda: significance.sequential_test(*[Sample(5, 1.0, 1.0)] * 2, tuning=0.0), "tuning"),
        (
            lambda: significance.fixed_horizon_test(Sample(5, 1.0, -1.0), Sample(5, 1.0, 1.0)),
            "control",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused_by_name(call, path):
    with pytest.raises(ScenarioError) as error:
        call()
    assert error.value.path == path
