"""Clients that are told of changes and fetch them: what the herd costs, in both engines."""

from __future__ import annotations

import pandas as pd
import pytest

import simlib as sl
from simlib.core.wire import Message
from simlib.scenario import compile_workload

TABS, POLL_S, EVERY_S = 1000, 0.002, 10.0
BOARD = sl.Scenario(
    transport="notify",
    clients=TABS,
    ramp_s=5.0,
    horizon_s=605.0,
    warm_up_s=5.0,
    updates={"rate_per_s": 1.0 / EVERY_S},
    heartbeat={"direction": "none"},
    server={"poll_s": POLL_S, "send_s": 0.0, "fan_out_s": 0.0},
)


def one_summary(scenario, **options):
    return sl.simulate(scenario, progress=False, **options).metrics().iloc[0]


@pytest.fixture(scope="module")
def regular():
    """The board with a change every ten seconds."""
    updates = {"updates": {"kind": "trace", "trace": "changes.csv"}}
    times = "\n".join(str(10 * k) for k in range(1, 61))
    return sl.Scenario.parse(BOARD.replace(updates).dump(), trace=f"publish_s\n{times}\n")


def test_every_change_is_followed_by_a_herd_that_keeps_the_server_busy(regular):
    """A change every 10 s and 2 ms a fetch: 20 % busy, and a queue of 2 s after each change."""
    told = one_summary(regular)
    assert told["utilisation"] == pytest.approx(TABS * POLL_S / EVERY_S, rel=0.02)
    assert told["latency_max_s"] == pytest.approx(TABS * POLL_S, rel=0.1)
    assert told["average_latency_s"] == pytest.approx(TABS * POLL_S / 2.0, rel=0.1)
    polled = one_summary(regular.replace({"transport": "polling", "polling.interval_s": 30.0}))
    assert polled["utilisation"] == pytest.approx(TABS * POLL_S / 30.0, rel=0.03)


def test_a_window_spreads_the_herd(regular):
    spread_s = 5.0
    told = one_summary(regular.replace({"notify.spread_s": spread_s}))
    assert told["utilisation"] == pytest.approx(TABS * POLL_S / EVERY_S, rel=0.02)
    # The queue of a spread herd is short beside the wait itself.
    assert told["average_latency_s"] == pytest.approx(spread_s / 2.0, rel=0.05)
    assert told["latency_max_s"] < spread_s + 0.5


def test_coalescing_saves_as_many_fetches_as_renewal_theory_says():
    """A change starts a fetch unless one is awaited: of changes at a rate r, r / (1 + r w) do.

    w is the mean time from being told to the server's answer; changes come as a Poisson stream, so
    that they see time averages.
    """
    tabs = 200
    board = BOARD.replace(
        {
            "clients": tabs,
            "horizon_s": 3605.0,
            "updates.rate_per_s": 0.2,
            "server.poll_s": TABS * POLL_S / tabs,
        }
    )
    fetches, changes, waits_s = 0, 0, []
    for replication in range(5):
        run = sl.simulate(board, replication=replication, keep=("deliveries",), progress=False)
        fetches += run.frame("clients")["polls"].sum()
        deliveries = run.frame("deliveries")
        changes += len(deliveries)
        # What a fetch brings is applied at once; the client has waited since the oldest of it.
        waits_s.append(deliveries.groupby(["client", "applied_s"])["latency_s"].max().mean())
    rate_per_s = changes / tabs / (5 * 3600.0)
    expected = changes / (1.0 + rate_per_s * sum(waits_s) / len(waits_s))
    assert fetches == pytest.approx(expected, rel=0.03)
    assert fetches < 0.9 * changes


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_bytes_are_counts_times_the_sizes_of_the_wire(engine):
    board = BOARD.replace({"clients": 5, "horizon_s": 60.0, "ramp_s": 0.0})
    clients = sl.simulate(board, engine=engine, progress=False).frame("clients")
    sizes = compile_workload(board, 1, 0).sizes
    opening = [
        *(Message.TCP_OPEN, Message.TLS_OPEN, Message.UPGRADE_REQUEST, Message.UPGRADE_RESPONSE),
        *(Message.AUTH, Message.READY),
    ]
    for _, row in clients.iterrows():
        fetches = row["polls"]
        beside = sizes[Message.TCP_OPEN] + sizes[Message.TLS_OPEN]
        beside = beside + sizes[Message.POLL_REQUEST_FIRST] + sizes[Message.POLL_RESPONSE_FIRST]
        expected = sum(sizes[message] for message in opening) + beside
        expected = expected + row["messages"] * sizes[Message.NOTICE]
        later = sizes[Message.POLL_REQUEST] + sizes[Message.POLL_RESPONSE]
        expected = expected + (fetches - 1) * later
        assert [row["up_bytes"], row["down_bytes"]] == expected[2:].tolist()
        assert 1 < fetches <= row["messages"]


def test_clients_that_are_told_lose_nothing_through_a_restart():
    board = BOARD.replace(
        {"clients": 50, "faults": [{"kind": "restart", "start_s": 100.0, "length_s": 30.0}]}
    )
    run = sl.simulate(board, progress=False)
    assert run.ledger.lost == 0
    assert run.frame("clients")["reconnects"].min() >= 1


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_no_fetch_is_answered_while_no_server_is_up(engine):
    """Clients whose sockets have died unheard poll on, and the server stops after that."""
    board = BOARD.replace(
        {
            "clients": 5,
            "horizon_s": 60.0,
            "updates.rate_per_s": 0.5,
            "websocket.safety_poll_s": 3.0,
            "network.unanswered_s": 3.0,
            "faults": [
                {"kind": "path_loss", "start_s": 5.0, "length_s": 5.0},
                {"kind": "restart", "start_s": 20.0, "length_s": 20.0},
            ],
        }
    )
    run = sl.simulate(board, engine=engine, keep=("deliveries",), progress=False)
    applied_s = run.frame("deliveries")["applied_s"]
    assert applied_s.between(15.0, 20.0).any()
    assert not applied_s.between(20.1, 40.0).any()


def test_clients_that_are_told_fall_back_to_polls_and_return():
    board = BOARD.replace(
        {
            "clients": 20,
            "fallback": {"after_failures": 1, "return_s": 60.0},
            "faults": [{"kind": "block_upgrades", "start_s": 0.0, "length_s": 200.0}],
        }
    )
    connections = sl.simulate(board, progress=False).frame("connections")
    assert (connections["transport"] == "polling").sum() >= 20
    last = connections.groupby("client")["transport"].last()
    assert (last == "notify").all()


@pytest.mark.parametrize(
    "cohorts",
    [("polling", "notify"), ("notify", "websocket"), ("websocket", "notify")],
    ids=" to ".join,
)
def test_engines_agree_on_a_rollout_that_goes_back(cohorts):
    control, treatment = cohorts
    fleet = sl.Scenario(
        clients=30,
        horizon_s=600.0,
        updates={"rate_per_s": 0.1},
        sessions={"arrivals_per_s": 0.05, "length_s": 300.0},
        notify={"spread_s": 1.0},
        fallback={"after_failures": 2, "return_s": 30.0},
        faults=[{"kind": "restart", "start_s": 200.0, "length_s": 8.0}],
    )
    plan = sl.Plan(
        flag={"propagation": "polled", "every_s": 20.0},
        check_every_s=30.0,
        stages=[{"percent": 30, "bake_s": 120}, {"percent": 80, "bake_s": 120}],
        control={"transport": control},
        treatment={"transport": treatment},
        guardrails=[{"metric": "latency_p95_s", "below": 1e-4}],
        rollback={"sockets": "drained", "window_s": 20.0},
    )
    one, other = (
        sl.roll_out(plan, fleet, engine=engine, keep=("deliveries", "events"), progress=False)
        for engine in ("simpy", "compiled")
    )
    assert one.history["percent"].iloc[-1] == 0.0
    assert (one.run.frame("connections")["transport"] == treatment).any()
    for name in ("timeline", "clients", "connections", "latency", "deliveries", "events"):
        pd.testing.assert_frame_equal(one.run.frame(name), other.run.frame(name), check_exact=True)


def hinted(times_s, on_hint, *, engine="simpy", **changes):
    """One client that is told of changes at some times, and takes 1.9 s to fetch one."""
    board = BOARD.replace(
        {
            "clients": 1,
            "ramp_s": 0.0,
            "warm_up_s": 0.0,
            "horizon_s": 60.0,
            "network.rtt_s": 1e-3,
            "server": {"poll_s": 1.9, "workers": 64, "send_s": 0.0, "fan_out_s": 0.0},
            "updates": {"kind": "times", "publish_s": list(times_s)},
            "notify.on_hint": on_hint,
            **changes,
        }
    )
    return sl.simulate(board, engine=engine, keep=("deliveries",), progress=False)


FORTY = [10.0 + 0.5 * k for k in range(40)]


@pytest.mark.parametrize(
    ("on_hint", "requests", "first_s"), [("restart", 40, 19.5 + 1.9), ("queue_one", 10, 1.9)]
)
def test_hints_that_are_faster_than_a_fetch_starve_who_restarts(on_hint, requests, first_s):
    run = hinted(FORTY, on_hint)
    assert run.frame("clients")["polls"].sum() == requests
    shown = run.frame("deliveries")
    assert len(shown) == 40
    assert shown["applied_s"].min() - FORTY[0] == pytest.approx(first_s, abs=0.05)
    busy_s = run.metrics()["utilisation"].iloc[0] * 64 * 60.0
    assert busy_s == pytest.approx(1.9 * requests, rel=0.01)  # also for what is given up


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_fetch_that_is_given_up_takes_its_connection_with_it(engine):
    """The second fetch opens another: two round trips more, its segments, a first request."""
    far = {"network.rtt_s": 0.4, "server.keep_alive_s": 60.0}
    times = [2.0, 10.0, 11.0]  # the first one opens a connection that is kept
    runs = [hinted(times, on_hint, engine=engine, **far) for on_hint in ("restart", "queue_one")]
    restarted, queued = (run.frame("deliveries").set_index("version") for run in runs)
    hint_s, fetch_s = 0.2 + 0.55e-3, 0.4 + 1.9
    assert queued["applied_s"][3] == pytest.approx(10.0 + hint_s + fetch_s, abs=1e-2)
    assert restarted["applied_s"][3] == pytest.approx(11.0 + hint_s + 0.8 + fetch_s, abs=1e-2)
    sizes = compile_workload(runs[0].scenario, 1, 0).sizes
    opened = sizes[Message.TCP_OPEN] + sizes[Message.TLS_OPEN] + sizes[Message.TCP_CLOSE]
    more = opened + sizes[Message.POLL_REQUEST_FIRST] + sizes[Message.POLL_RESPONSE_FIRST]
    more = more - sizes[Message.POLL_RESPONSE]  # that of the fetch that is given up never comes
    bytes_of = [run.frame("clients")[["up_bytes", "down_bytes"]].iloc[0] for run in runs]
    assert (bytes_of[0] - bytes_of[1]).tolist() == more[2:].tolist()


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_fetch_that_lasts_many_hints_starves_for_all_of_them(engine):
    times = [10.0 + 0.05 * k for k in range(300)]
    shown = hinted(times, "restart", engine=engine).frame("deliveries")
    assert shown["applied_s"].min() == pytest.approx(times[-1] + 1.9, abs=0.05)


@pytest.mark.parametrize("rate_per_s", [0.25, 0.5, 1.0])
def test_restarts_take_as_long_as_theory_says(rate_per_s):
    """The 99.99 % interval of twelve replications has the mean wait for a gap in the hints."""
    board = hinted([10.0], "restart").scenario.replace(
        {
            "clients": 50,
            "horizon_s": 1005.0,
            "warm_up_s": 5.0,
            "cool_down_s": 100.0,
            "server.workers": 512,
            "updates": {"rate_per_s": rate_per_s},
        }
    )
    waits_s, requests = [], []
    for replication in range(12):
        run = sl.simulate(board, replication=replication, engine="compiled", progress=False)
        waits_s.append(run.metrics()["average_latency_s"].iloc[0])
        requests.append(run.frame("timeline")["polls"].sum() / 50 / 1005.0)
    fetch_s = 1.9 + 4.0e-3 / 2.0 + 0.5e-3
    expected = sl.theory.restarted_fetch_s(rate_per_s, fetch_s)
    _, low, high = sl.theory.mean_interval(waits_s, confidence=0.9999)
    assert low < expected < high
    assert sum(requests) / 12 == pytest.approx(rate_per_s, rel=0.1)
