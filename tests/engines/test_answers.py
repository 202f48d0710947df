"""Cheaper polls in both engines, which agree with each other and with theory."""

from __future__ import annotations

import numba
import numpy as np
import pytest

import simlib as sl
from simlib import theory
from simlib.scenario import compile_workload
from tests.engines.test_compiled_engine import KEPT, assert_equal_runs
from tests.quick import ENGINE

INTERPRETED = bool(numba.config.DISABLE_JIT)
FETCH_S = 0.1
LONG = sl.Scenario(
    clients=4,
    ramp_s=10.0,
    horizon_s=10_000.0 if INTERPRETED else 100_000.0,
    warm_up_s=20.0,
    bin_s=1000.0,
    updates={"rate_per_s": 0.1},
    polling={"interval_s": 9.9},
    network={"rtt_s": FETCH_S, "tls": False},
    server={"poll_s": 1e-3, "check_s": 2e-4, "accept_s": 0.0},
)
"""Few clients for a long time: it is the changes that are random, and all clients see the same."""
WITHIN = 0.03 if INTERPRETED else 0.01
"""What is left to chance: interpreted runs are a tenth as long."""
PERIOD_S = LONG.polling.interval_s + FETCH_S


def simulated(scenario, seed=3):
    """A run and its only row of metrics; the beginning is the same in both engines."""
    assert_equal_runs(scenario.replace({"horizon_s": 1500.0, "bin_s": 100.0}), seed=seed)
    run = sl.simulate(scenario, seed=seed, engine=ENGINE, progress=False)
    return run, run.metrics().iloc[0]


def rate_of(run):
    """The rate at which changes really came, per second."""
    counted_s = run.scenario.horizon_s - run.scenario.warm_up_s
    return run.ledger.eligible / len(run.frame("clients")) / counted_s


@pytest.mark.parametrize("etag", ["off", "content", "version"])
def test_the_work_of_polls_is_as_theory_says(etag):
    run, row = simulated(LONG.replace({"polling.etag": etag}))
    server = LONG.server
    check_s = server.check_s if etag == "version" else None
    cost_s = theory.poll_cost_s(rate_of(run), PERIOD_S, server.poll_s, check_s)
    polls_per_s = theory.poll_request_rate_per_s(LONG.clients, LONG.polling.interval_s, FETCH_S)
    assert row["utilisation"] == pytest.approx(polls_per_s * cost_s, rel=WITHIN)
    clients = run.frame("clients")
    unchanged = 0.0 if etag == "off" else np.exp(-rate_of(run) * PERIOD_S)
    share = clients["unchanged"].sum() / clients["polls"].sum()
    assert share == pytest.approx(unchanged, rel=WITHIN)


def test_only_the_work_differs_between_the_kinds_of_tags():
    board = LONG.replace({"horizon_s": 3000.0, "server.poll_s": 0.0, "server.check_s": 0.0})
    content, version = (
        sl.simulate(board.replace({"polling.etag": etag}), keep=KEPT, progress=False)
        for etag in ("content", "version")
    )
    for name in ("clients", "deliveries", "latency"):
        assert content.frame(name).equals(version.frame(name))


def test_a_change_that_is_made_while_a_version_is_compared_comes_with_the_next_poll():
    """Its client asks at 0 and then at 10; the server compares from 10 on, and takes 4 s for it."""
    board = sl.Scenario(
        clients=1,
        ramp_s=0.0,
        horizon_s=40.0,
        updates={"kind": "times", "publish_s": [12.0]},
        polling={"interval_s": 10.0, "etag": "version"},
        network={"rtt_s": 0.0, "tls": False},
        server={"accept_s": 0.0, "poll_s": 0.0, "check_s": 4.0},
    )
    run = assert_equal_runs(board, keep=KEPT)
    assert run.frame("deliveries")["applied_s"].tolist() == [28.0]  # after 24 + 4
    assert run.frame("clients")["unchanged"].tolist() == [1]  # at 14
    content = board.replace({"polling.etag": "content", "server.poll_s": 4.0})
    run = assert_equal_runs(content, keep=KEPT)
    assert run.frame("deliveries")["applied_s"].tolist() == [18.0]  # read at the end: 14 + 4


SHARED = sl.Scenario(
    clients=60,
    ramp_s=30.1,
    horizon_s=3000.0 if INTERPRETED else 30_000.0,
    warm_up_s=70.0,
    cool_down_s=80.0,
    bin_s=100.0,
    updates={"rate_per_s": 1.0},
    polling={"interval_s": 30.0, "jitter_frac": 0.05},
    network={"rtt_s": FETCH_S, "tls": False},
    server={"accept_s": 0.0, "poll_s": 5e-3, "cached_s": 1e-3, "cache_s": 7.3},
)
"""Jitter mixes the phases of the clients: else those who make a copy, and are answered later for
it, come to poll together with those who follow them."""


@pytest.mark.parametrize("cache_s", [1.0, 7.3, 40.0])
def test_a_shared_copy_costs_one_query_a_cycle_and_ages_what_is_shown(cache_s):
    scenario = SHARED.replace({"server.cache_s": cache_s})
    _, row = simulated(scenario)
    server, down_s = scenario.server, FETCH_S / 2.0 + scenario.server.cached_s
    shared = theory.shared_poll(
        scenario.clients, 30.0 + FETCH_S, cache_s, server.poll_s, server.cached_s
    )
    polled = theory.staleness_jittered(30.0, 0.05, FETCH_S, down_s)
    expected_s = polled.mean + shared.mean_age_s
    assert row["average_latency_s"] == pytest.approx(expected_s, rel=WITHIN)
    longest_s = polled.quantile(1.0) + cache_s + server.poll_s
    assert 0.95 * longest_s < row["latency_max_s"] <= longest_s
    assert row["utilisation"] == pytest.approx(shared.utilisation, rel=WITHIN)


def test_each_node_has_its_own_copy():
    """Three nodes make three copies a cycle, as often as theory says of a third of the clients."""
    board = SHARED.replace({"server.nodes": 3, "server.cached_s": 0.0, "clients": 180})
    _, row = simulated(board.replace(horizon_s=1500.0))
    shared = theory.shared_poll(60, 30.0 + FETCH_S, 7.3, board.server.poll_s, 0.0)
    assert row["utilisation"] == pytest.approx(shared.utilisation, rel=0.02)


def test_polls_that_meet_a_copy_in_the_making_wait_for_it():
    """Five ask at once of as many workers: one reads the board for 2 s, four are answered then."""
    board = sl.Scenario(
        clients=5,
        ramp_s=0.0,
        horizon_s=10.0,
        updates={"rate_per_s": 0.0},
        polling={"interval_s": 30.0},
        network={"rtt_s": 0.0, "tls": False},
        server={"workers": 5, "accept_s": 0.0, "poll_s": 2.0, "cached_s": 0.5, "cache_s": 3.0},
    )
    run = assert_equal_runs(board, keep=KEPT)
    events = run.frame("events").query("event == 'fetched'")
    assert events["t_s"].tolist() == [2.0, 2.5, 2.5, 2.5, 2.5]
    assert run.metrics().iloc[0]["utilisation"] == pytest.approx((2.0 + 4 * 2.5) / 5 / 10.0)


@pytest.mark.parametrize("nodes", [1, 3])
def test_who_is_told_of_a_change_is_not_given_an_old_copy(nodes):
    """Without the rule, a client would fetch the old board again and again."""
    board = sl.Scenario(
        transport="notify",
        clients=20,
        ramp_s=5.0,
        horizon_s=200.0,
        updates={"rate_per_s": 0.2},
        network={"rtt_s": 0.02},
        heartbeat={"direction": "none"},
        server={"cache_s": 30.0, "poll_s": 5e-3, "cached_s": 1e-4, "nodes": nodes},
    )
    run = assert_equal_runs(board)
    plain = sl.simulate(board.replace({"server.cache_s": 0.0}), seed=3, progress=False)
    row, its = run.metrics().iloc[0], plain.metrics().iloc[0]
    assert row["latency_max_s"] < 1.0
    assert run.ledger == plain.ledger
    assert run.frame("clients")["polls"].sum() <= plain.frame("clients")["polls"].sum() * 1.01
    assert row["utilisation"] < its["utilisation"] / 3.0  # a herd costs a query, not one each


ADAPTIVE = LONG.replace(
    {
        "clients": 3,
        "updates.rate_per_s": 0.02,
        "polling.interval_s": 29.9,
        "polling.active_interval_s": 4.9,
        "polling.active_for_s": 32.0,
    }
)
HIDING = LONG.replace(
    {
        "clients": 20,
        "updates.rate_per_s": 0.01,
        "polling.interval_s": 20.0,
        "polling.hidden_interval_s": 55.0,
        "polling.pause_while_hidden": False,
        "polling.refetch_on_focus": False,
        "hidden": {"every_s": 80.0, "length_s": 50.0},
    }
)


def poll_rate(run):
    """Polls of a client per second."""
    clients = run.frame("clients")
    return clients["polls"].sum() / (clients["end_s"] - clients["start_s"]).sum()


def test_an_interval_that_follows_changes_is_as_theory_says():
    found, expected = [], []
    for seed in range(1 if INTERPRETED else 8):
        changes = {"horizon_s": 10_000.0 if INTERPRETED else 200_000.0}
        run, row = simulated(ADAPTIVE.replace(changes), seed=seed)
        adaptive = theory.adaptive_polls(rate_of(run), 29.9, 4.9, 32.0, FETCH_S, FETCH_S / 2.0)
        found.append([poll_rate(run), row["average_latency_s"]])
        expected.append([adaptive.polls_per_s, adaptive.mean_staleness_s])
    ratio = np.mean(found, axis=0) / np.mean(expected, axis=0)
    assert ratio == pytest.approx([1.0, 1.0], rel=0.08 if INTERPRETED else 0.01)


def test_hidden_tabs_poll_as_slowly_as_theory_says():
    run, _ = simulated(HIDING)
    expected = theory.hidden_polls_per_s(20.0, 55.0, 80.0, 50.0, FETCH_S)
    assert poll_rate(run) == pytest.approx(expected, rel=WITHIN)


def polls_of(board, events):
    """When a client's answers come, by its interval at the end of each; its clock is by hand."""
    polling, answered_s = board.polling, []
    hidden, active_until_s, fetches = False, -1.0, events["event"].isin(["fetched", "unchanged"])
    seen, due_s = 0, None
    changes = compile_workload(board, 3, 0).publish_s
    for t, event in zip(events["t_s"], events["event"], strict=True):
        if event in ("hide", "show"):
            hidden = event == "hide"
        elif event == "drag_end":
            active_until_s = t + (polling.active_for_s or 0.0)
        elif event in ("fetched", "unchanged"):
            assert due_s is None or t == pytest.approx(due_s)
            shown = np.searchsorted(changes, t - FETCH_S / 2.0)
            if shown > seen:
                active_until_s = t + (polling.active_for_s or 0.0)
            seen, wait_s = shown, polling.interval_s
            if hidden and polling.hidden_interval_s is not None:
                wait_s = polling.hidden_interval_s
            elif t < active_until_s:
                wait_s = polling.active_interval_s
            due_s = t + wait_s + FETCH_S
            answered_s.append(t)
    assert len(answered_s) == fetches.sum()
    return answered_s


def test_every_single_poll_comes_when_its_interval_says():
    """Both intervals at once, and drags: a second reading of the rule, poll by poll."""
    board = HIDING.replace(
        {
            "clients": 8,
            "horizon_s": 5000.0,
            "polling.active_interval_s": 4.9,
            "polling.active_for_s": 32.0,
            "polling.pause_while_dragging": False,
            "drag": {"every_s": 300.0, "length_s": 3.0},
            "server.poll_s": 0.0,
        }
    )
    run = assert_equal_runs(board, keep=KEPT)
    found = 0
    for _, events in run.frame("events").groupby("client"):
        found += len(polls_of(board, events))
    assert found > 1000


@pytest.mark.parametrize("how", ["propagation", "fallback"])
def test_a_client_that_comes_to_polling_from_a_socket_is_not_active_by_that(how):
    """A socket's safety poll is due at a time that must not be taken for one of activity."""
    board = sl.Scenario(
        transport="websocket",
        clients=3,
        ramp_s=0.0,
        horizon_s=300.0,
        updates={"rate_per_s": 0.0},
        websocket={"safety_poll_s": 250.0},
        polling={"interval_s": 30.0, "active_interval_s": 1.0, "active_for_s": 10.0},
        fallback={"after_failures": 1},
        faults=[{"kind": "reset", "start_s": 20.0}],
        network={"rtt_s": 0.0},
        reconnect={"policy": "fixed", "base_s": 1.0},
    )
    if how == "fallback":
        run = assert_equal_runs(board)
        assert run.frame("clients")["polls"].max() < 15
        return
    plan = sl.Plan(
        flag={"propagation": "pushed"},
        control={"transport": "websocket"},
        treatment={"transport": "polling"},
        stages=[{"percent": 100, "bake_s": 100}],
    )
    runs = [
        sl.roll_out(plan, board.replace(fallback=None, faults=[]), engine=engine).run
        for engine in ("simpy", "compiled")
    ]
    polls = [run.frame("clients")["polls"].tolist() for run in runs]
    assert polls[0] == polls[1]
    assert max(polls[0]) < 15
