"""Closed forms of cheaper polls, against other ways to the same numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from simlib import theory


def test_a_version_that_is_never_right_costs_both():
    assert theory.poll_cost_s(1e9, 30.0, 1e-3, 1e-4) == pytest.approx(1.1e-3)
    assert theory.poll_cost_s([0.0, 1e9], 30.0, 1e-3).tolist() == [1e-3, 1e-3]


@pytest.mark.parametrize("check_s", [0.0, 1e-4])
def test_the_share_of_full_polls_is_that_of_bytes(check_s):
    rates = np.array([1e-6, 0.01, 0.1, 3.0])
    cost_s = theory.poll_cost_s(rates, 30.0, 1e-3, check_s)
    changed = theory.polling_bytes_per_s(rates, 30.0, 1.0, 0.0) * 30.0
    assert cost_s == pytest.approx(check_s + changed * 1e-3)


def test_a_copy_that_is_good_for_no_time_is_a_plain_poll():
    shared = theory.shared_poll(300, 30.0, 1e-9, 0.0, 0.0, down_s=0.1)
    assert shared.queries_per_s == pytest.approx(10.0)
    assert shared.mean_staleness_s == pytest.approx(15.1)
    assert shared.longest_staleness_s == pytest.approx(30.1)


def test_the_mean_staleness_under_a_copy_is_a_simulations():
    """A clock of copies, and one client's polls: the age of the copy is added, and no more."""
    random = np.random.default_rng(1)
    period_s, cache_s = 30.0, 12.0
    others = np.cumsum(random.exponential(0.05, 2_000_000))
    polls = np.arange(20.0, others[-1] - 40.0, period_s)
    made, until_s = [], -1.0
    for t in np.sort(np.concatenate([others, polls])).tolist():
        if t >= until_s:
            made.append(t)
            until_s = t + cache_s
    shown = np.asarray(made)[np.searchsorted(made, polls, side="right") - 1]
    changes = random.uniform(100.0, polls[-2], 200_000)
    seen_by = polls[np.searchsorted(shown, changes)]
    shared = theory.shared_poll(600, period_s, cache_s, 0.0, 0.0)
    assert (seen_by - changes).mean() == pytest.approx(shared.mean_staleness_s, rel=0.01)
    assert (seen_by - changes).max() <= shared.longest_staleness_s


def test_an_interval_that_does_not_differ_is_one_interval():
    same = theory.adaptive_polls(0.05, 10.0, 10.0, 60.0, fetch_s=0.5, down_s=0.2)
    assert 1.0 / same.polls_per_s == pytest.approx(10.5)
    assert same.mean_staleness_s == pytest.approx(5.45)
    same_per_s = theory.hidden_polls_per_s(10.0, 10.0, 7.0, 3.0, fetch_s=0.5)
    assert 1.0 / same_per_s == pytest.approx(10.5)


@pytest.mark.parametrize("rate_per_s", [1e-3, 0.02, 0.5, 1e3])
def test_adaptive_polls_are_a_markov_chain_of_polls_since_the_last_change(rate_per_s):
    fast_s, slow_s, most = 5.5, 30.5, math.ceil(60.0 / 5.5)
    lengths_s = np.array([fast_s] * most + [slow_s])
    none = np.exp(-rate_per_s * lengths_s)
    steps = np.zeros((most + 1, most + 1))
    steps[:, 0] = 1.0 - none
    for state in range(most + 1):
        steps[state, min(state + 1, most)] += none[state]
    share = np.linalg.lstsq(
        np.vstack([steps.T - np.eye(most + 1), np.ones(most + 1)]),
        np.append(np.zeros(most + 1), 1.0),
        rcond=None,
    )[0]
    found = theory.adaptive_polls(rate_per_s, 30.0, 5.0, 60.0, fetch_s=0.5)
    assert 1.0 / found.polls_per_s == pytest.approx(share @ lengths_s)
    stale_s = share @ lengths_s**2 / (2.0 * share @ lengths_s)
    assert found.mean_staleness_s == pytest.approx(stale_s)


def test_a_tab_that_hides_seldom_polls_by_the_share_of_time_that_it_is_hidden():
    per_s = theory.hidden_polls_per_s(10.0, 40.0, every_s=3e7, length_s=1e7)
    assert per_s == pytest.approx(0.75 / 10.0 + 0.25 / 40.0, rel=1e-4)


def test_arguments_are_checked():
    for wrong in (
        lambda: theory.poll_cost_s(-1.0, 30.0, 1e-3),
        lambda: theory.shared_poll(0, 30.0, 1.0, 1e-3, 1e-4),
        lambda: theory.shared_poll(10, 30.0, 0.0, 1e-3, 1e-4),
        lambda: theory.adaptive_polls(0.1, 30.0, 5.0, 0.0),
        lambda: theory.hidden_polls_per_s(30.0, 0.0, 1.0, 1.0),
    ):
        with pytest.raises(ValueError, match="must be"):
            wrong()
