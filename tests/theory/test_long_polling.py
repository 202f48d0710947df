"""The closed forms of long polling against a naive walk from answer to answer."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
import pytest

from simlib import theory


def walk(rate_per_s, hold_s, gap_s, horizon_s, seed):
    """Requests per second, the share of empty ones, and the mean staleness, of one client."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.exponential(1.0 / rate_per_s, int(2 * rate_per_s * horizon_s) + 50))
    t, seen, requests, empty, stale_s = 0.0, 0, 0, 0, []
    while t < horizon_s:
        t += gap_s
        requests += 1
        known = bisect_right(times, t)
        if known == seen:
            t = min(times[seen], t + hold_s)
            known = bisect_right(times, t)
        empty += known == seen
        stale_s += (t - times[seen:known]).tolist()
        seen = known
    return requests / t, empty / requests, np.mean(stale_s)


@pytest.mark.parametrize("rate_per_s", [0.02, 0.3, 4.0])
@pytest.mark.parametrize(("hold_s", "gap_s"), [(25.0, 0.4), (2.0, 1.5)])
def test_a_naive_walk_agrees_within_four_standard_errors(rate_per_s, hold_s, gap_s):
    horizon_s = 4000.0 / rate_per_s
    walks = [walk(rate_per_s, hold_s, gap_s, horizon_s, seed) for seed in range(12)]
    exact = (
        theory.held_requests_per_s(rate_per_s, hold_s, gap_s),
        theory.held_empty_frac(rate_per_s, hold_s, gap_s),
        theory.held_staleness_s(rate_per_s, hold_s, gap_s, 0.0),
    )
    for values, expected in zip(np.transpose(walks), exact, strict=True):
        error = 4.0 * theory.standard_error(values)
        assert np.mean(values) == pytest.approx(expected, abs=max(error, 1e-5))


def test_arrays_in_are_arrays_out_and_zero_is_a_rate():
    rates = [0.0, 1e-9, 1.0]
    found = theory.held_requests_per_s(rates, 25.0, 1.0)
    assert found.shape == (3,)
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert theory.held_empty_frac(0.0, 25.0, 1.0) == 1.0


@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (theory.held_requests_per_s, (-1.0, 25.0, 1.0), "rate_per_s"),
        (theory.held_empty_frac, (1.0, 0.0, 1.0), "hold_s"),
        (theory.held_staleness_s, (1.0, 25.0, -1.0, 0.1), "gap_s"),
        (theory.held_staleness_s, (1.0, 25.0, 1.0, -0.1), "down_s"),
    ],
)
def test_what_is_out_of_range_is_refused_by_name(function, arguments, name):
    with pytest.raises(ValueError, match=name):
        function(*arguments)
