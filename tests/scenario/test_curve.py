"""Rates that follow a curve: against numerical integration, and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.scenario.curve import Curve, interpolated

RATES = st.sampled_from([0.0, 0.0, 1e-6, 0.3, 1.0, 7.0, 1e6])
WIDTHS_S = st.sampled_from([1e-3, 0.7, 1.0 / 3.0, 3600.0, 86400.0])


@st.composite
def points(draw):
    widths_s = draw(st.lists(WIDTHS_S, min_size=1, max_size=8))
    t_s = np.concatenate(([0.0], np.cumsum(widths_s))).tolist()
    rates = draw(st.lists(RATES, min_size=len(t_s), max_size=len(t_s)).filter(any))
    return list(zip(t_s, rates, strict=True))


@given(points=points(), rounds=st.integers(0, 3))
def test_what_has_passed_is_the_integral_of_the_rate(points, rounds):
    t_s, rates = np.array(points).T
    found = Curve(points).passed_s(t_s[-1] * rounds + t_s)
    integral = np.array([np.trapezoid(rates[:n], t_s[:n]) for n in range(1, len(t_s) + 1)])
    expected = t_s[-1] * (rounds + integral / integral[-1])
    # On a steep piece, what has passed depends on the last bits of the time.
    steepest = rates.max() * t_s[-1] / integral[-1]
    rounding_s = 2.0 * np.spacing(t_s[-1] * (rounds + 1)) * steepest
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-9 + rounding_s)


def test_what_has_passed_between_points_is_the_integral_too():
    curve = [(0.0, 0.2), (2.0, 1.0), (3.0, 0.0), (5.0, 0.0), (6.0, 0.5)]
    t_s = np.linspace(0.0, 6.0, 60_001)
    rate = np.interp(t_s, *np.array(curve).T)
    steps = np.concatenate(([0.0], np.cumsum((rate[1:] + rate[:-1]) / 2.0) * 1e-4))
    assert Curve(curve).passed_s(t_s) == pytest.approx(6.0 * steps / steps[-1], abs=1e-6)


@given(points=points(), share=st.lists(st.floats(0.0, 2.5), min_size=1, max_size=20))
def test_the_time_is_the_inverse_of_what_has_passed(points, share):
    curve, length_s = Curve(points), points[-1][0]
    passed_s = np.sort(share) * length_s
    t_s = curve.time_s(passed_s)
    assert (np.diff(t_s) >= -1e-9 * length_s).all()
    assert curve.passed_s(t_s) == pytest.approx(passed_s, rel=1e-6, abs=1e-6 * length_s)


@given(t_s=st.lists(st.floats(0.0, 1e6), min_size=1))
def test_a_flat_curve_changes_no_time(t_s):
    curve = Curve([(0.0, 5.0), (7.0, 5.0), (86400.0, 5.0)])
    assert curve.passed_s(t_s) == pytest.approx(t_s, rel=1e-12)
    assert curve.time_s(t_s) == pytest.approx(t_s, rel=1e-12)


def test_nothing_happens_while_the_rate_is_zero():
    night = Curve([(0.0, 0.0), (6.0, 0.0), (12.0, 1.0), (18.0, 0.0), (24.0, 0.0)])
    t_s = night.time_s(np.linspace(0.01, 95.99, 5000))
    assert ((t_s % 24.0 > 6.0) & (t_s % 24.0 < 18.0)).all()


@given(points=points(), at=st.lists(st.floats(-10.0, 1e5), max_size=9))
def test_between_points_a_value_is_linear_and_outside_that_of_the_nearest(points, at):
    t_s, values = np.array(points).T
    assert interpolated(points, at) == pytest.approx(np.interp(at, t_s, values), rel=1e-9, abs=1e-9)
