"""What a limit of the browser does to a run, in both engines."""

from __future__ import annotations

import numba
import numpy as np
import pandas as pd
import pytest

import simlib as sl
from simlib.core.assignment import FlagRules, Propagation
from simlib.core.protocol import TRANSPORT_NAMES, Transport
from simlib.engines import simulate
from simlib.engines.compiled.variants import variant_of
from simlib.scenario import compile_workload
from tests.engines.test_compiled_engine import (
    ALWAYS,
    KEPT,
    PAIRS,
    assert_equal_runs,
    board_of,
)
from tests.engines.test_rollouts import Script

INTERPRETED = bool(numba.config.DISABLE_JIT)
HTTP = [name for name in TRANSPORT_NAMES if name not in ("websocket", "notify")]
BOARD = sl.Scenario(
    updates={"rate_per_s": 0.2},
    clients=7,
    tabs_per_user=7,
    ramp_s=10.0,
    horizon_s=100.0,
    polling={"interval_s": 5.0},
    network={"connections_per_user": 6},
)


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_a_limit_that_nobody_reaches_changes_nothing(transport):
    board = BOARD.replace(
        {
            "transport": transport,
            "server.nodes": 2,
            "notify.on_hint": "restart",
            "hidden": {"every_s": 7.0, "length_s": 7.0},
            "fallback": {"after_failures": 2, "return_s": 5.0},
            "faults": [
                {"kind": "restart", "start_s": 30.0, "length_s": 5.0},
                {"kind": "path_loss", "start_s": 60.0, "length_s": 9.0, "share": 0.5},
            ],
        }
    )
    limited = assert_equal_runs(board.replace({"network.connections_per_user": 20}), keep=KEPT)
    free = assert_equal_runs(board.replace({"network.connections_per_user": None}), keep=KEPT)
    for name in (*ALWAYS, *KEPT):
        one = limited.frame(name).drop(columns="queued_s", errors="ignore")
        pd.testing.assert_frame_equal(one, free.frame(name), check_exact=True)
    assert (limited.frame("clients")["queued_s"] == 0.0).all()


@pytest.mark.parametrize("transport", TRANSPORT_NAMES)
def test_engines_agree_on_a_limit_and_every_pair_of_faults(transport):
    some = PAIRS[TRANSPORT_NAMES.index(transport) :: len(TRANSPORT_NAMES)] if INTERPRETED else PAIRS
    for number, pair in enumerate(some):
        board = board_of(pair, transport)
        changes = {
            "network.connections_per_user": 1 + number % 4,
            "tabs_per_user": 4,
            "sse.streams_per_tab": 1 + number % 2,
            "websocket.safety_poll_s": None,
            "server.keep_alive_s": (0.0, 3.0, 75.0)[number % 3],
            "long_polling.timeout_s": 5.0,
            "long_polling.grace_s": 2.0,
            "websocket.open_timeout_s": 6.0,
        }
        assert_equal_runs(board.replace(changes), keep=KEPT)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_requests_that_share_one_connection_are_answered_one_after_the_other(engine):
    """Three tabs poll at the same time, and each poll takes 2 s: TCP, and the request."""
    board = sl.Scenario(
        updates={"rate_per_s": 0.0},
        clients=3,
        tabs_per_user=3,
        ramp_s=0.0,
        horizon_s=20.0,
        polling={"interval_s": 30.0},
        network={"rtt_s": 1.0, "tls": False, "connections_per_user": 1},
        server={"accept_s": 0.0, "poll_s": 0.0},
    )
    run = sl.simulate(board, engine=engine, keep=["events"], progress=False)
    answers = run.frame("events").query("event == 'fetched'")
    assert answers["t_s"].tolist() == [2.0, 4.0, 6.0]
    assert answers["client"].tolist() == [0, 1, 2]
    assert run.frame("clients")["queued_s"].tolist() == [0.0, 2.0, 4.0]
    # The wait is a part of what a user waits for a poll.
    assert run.frame("timeline")["poll_response_sum_s"].sum() == pytest.approx(12.0)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("transport", ["sse", "sse_notify"])
def test_a_seventh_stream_opens_when_a_tab_is_closed(transport, engine):
    board = BOARD.replace(
        {
            "transport": transport,
            "websocket.open_timeout_s": 1000.0,  # EventSource has none
            "sessions": {"arrivals_per_s": 1e-9, "length_s": 50.0, "length": "constant"},
        }
    )
    run = sl.simulate(board, engine=engine, progress=False)
    clients = run.frame("clients").sort_values("start_s")
    opened = run.frame("connections").sort_values("opened_s")
    closes_s, starts_s = clients["end_s"].iloc[0], clients["start_s"].iloc[6]
    assert (opened["opened_s"].iloc[:6] < 11.0).all()
    assert opened["opened_s"].iloc[6] - closes_s == pytest.approx(3 * 0.04, abs=0.01)
    if transport == "sse":
        assert clients["queued_s"].iloc[6] == pytest.approx(closes_s - starts_s)
    else:  # behind six streams no fetch is answered either
        assert clients["queued_s"].iloc[6] >= closes_s - starts_s
        polls = run.frame("timeline").query("@starts_s + 1.0 < t_s < @closes_s - 1.0")["polls"]
        assert polls.sum() == 0


def test_a_stream_that_gives_up_asks_anew_behind_the_others():
    board = BOARD.replace({"transport": "sse", "clients": 8, "tabs_per_user": 8})
    run = assert_equal_runs(board.replace({"websocket.open_timeout_s": 20.0}), keep=KEPT)
    clients = run.frame("clients")
    waited = clients[clients["queued_s"] > 0.0]
    assert len(waited) == 2
    assert (waited["connections"] == 0).all()
    assert (waited["attempts"] > 2).all()
    assert (waited["up_bytes"] == 0).all()
    (warning,) = [str(each) for each in run.warnings if each.kind == "queued"]
    assert "2 of 8 tabs waited" in warning
    assert "2 never had one" in warning


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_websockets_do_not_count_and_what_they_tell_of_is_fetched_at_once(engine):
    for transport in ("websocket", "notify"):
        board = BOARD.replace({"transport": transport, "clients": 50, "tabs_per_user": 50})
        run = sl.simulate(board, engine=engine, progress=False)
        clients = run.frame("clients")
        assert (clients["connections"] == 1).all()
        # Fifty fetches in a row of six at a time, each of three round trips and 2 ms at the most.
        most_s = (50 // 6) * 0.15 if transport == "notify" else 0.0
        assert (clients["queued_s"] <= most_s * clients["eligible"]).all()
        assert clients["delivered"].sum() > 0.95 * clients["eligible"].sum()


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_seventh_tab_whose_requests_are_held_waits_for_the_end_of_another(engine):
    """Nothing changes: the first of six requests is answered after 25 s, and the seventh sets out.

    Then one of the others waits. Its time-out runs from when it asked, as that of a page does, and
    so a request that is held for long enough behind another one is given up.
    """
    board = BOARD.replace(
        {
            "transport": "long_polling",
            "updates": {"rate_per_s": 0.0},
            "ramp_s": 0.0,
            "horizon_s": 45.0,
            "long_polling.grace_s": 30.0,
        }
    )
    run = sl.simulate(board, engine=engine, keep=["events"], progress=False)
    answers = run.frame("events").query("event == 'unchanged'")
    assert answers["t_s"].iloc[:6].to_numpy() == pytest.approx(25.0, abs=0.5)
    clients = run.frame("clients")
    assert clients["queued_s"].iloc[6] == pytest.approx(25.0, abs=0.5)
    assert clients["queued_s"].sum() == pytest.approx(45.0, abs=0.5)
    assert clients["errors"].sum() == 0
    given_up = sl.simulate(
        board.replace({"long_polling.grace_s": 10.0}), engine=engine, progress=False
    )
    assert given_up.frame("clients")["errors"].iloc[6] == 1  # 35 s after it asked


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_what_waits_in_the_browser_is_not_cut(engine):
    """All are cut while the seventh stream waits: six fail, the seventh takes a free connection."""
    board = BOARD.replace(
        {
            "transport": "sse",
            "websocket.open_timeout_s": 1000.0,
            "reconnect": {"policy": "fixed", "base_s": 3.0, "cap_s": 3.0},
            "faults": [{"kind": "reset", "start_s": 50.0}],
            "horizon_s": 60.0,
        }
    )
    run = sl.simulate(board, engine=engine, progress=False)
    errors = run.frame("clients")["errors"].to_numpy()
    last = run.frame("clients")["start_s"].idxmax()
    assert errors.sum() == 6
    assert errors[last] == 0
    mine = run.frame("connections").query("client == @last")
    assert mine["opened_s"].iloc[0] == pytest.approx(50.02 + 0.12, abs=0.01)
    # And one of the six does not come back.
    assert (run.frame("connections")["opened_s"] > 50.0).sum() == 6


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_rollback_from_streams_to_polling_gives_the_connections_back(engine):
    flag = FlagRules(
        Propagation.POLLED + 0, 5.0, 0.0, 1.0, False, 0.0, 0.0, (Transport.POLLING, Transport.SSE)
    )
    script = Script(flag, [(0.0, 100.0), (50.0, 0.0)])
    board = BOARD.replace({"websocket.open_timeout_s": 1000.0, "ramp_s": 0.0})
    run = simulate(board, engine=engine, progress=False, controller=script)
    clients = run.frame("clients")
    assert (clients["polls"] > 5).all()
    queued_s = np.sort(clients["queued_s"])
    assert 40.0 < queued_s[-1] < 56.0
    assert queued_s[-2] < 1.0


@pytest.mark.parametrize("transport", ["websocket", "sse"])
def test_safety_polls_beside_what_is_pushed_are_refused_with_a_limit(transport):
    polled = {"transport": transport, "websocket.safety_poll_s": 60.0}
    with pytest.raises(sl.ScenarioError, match="safety_poll_s: must be absent when network"):
        BOARD.replace(polled)
    number = int(Transport[transport.upper()])
    flag = FlagRules(Propagation.POLLED + 0, 5.0, 0.0, 1.0, False, 0.0, 0.0, (0, number))
    with pytest.raises(sl.ScenarioError, match="safety_poll_s: must be absent when network"):
        simulate(
            BOARD.replace({"websocket.safety_poll_s": 60.0}),
            engine="simpy",
            progress=False,
            controller=Script(flag, []),
        )


def test_safety_polls_of_those_that_fetch_share_the_limit():
    for transport in ("notify", "sse_notify"):
        board = BOARD.replace(
            {
                "transport": transport,
                "websocket.safety_poll_s": 1.0,
                "network.connections_per_user": 2,
                "network.rtt_s": 1.0,
            }
        )
        run = assert_equal_runs(board, keep=KEPT)
        assert run.frame("clients")["queued_s"].max() > 10.0


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_the_fast_loops_are_not_taken_with_a_limit(transport, monkeypatch):
    monkeypatch.setattr("simlib.engines.compiled.variants.FROM_CLIENTS", 0)
    limited = BOARD.replace({"transport": transport, "network.connections_per_user": 1})
    free = limited.replace({"network.connections_per_user": None})
    assert variant_of(compile_workload(limited, 1, 0)).is_general
    assert not variant_of(compile_workload(free, 1, 0)).is_general
    assert_equal_runs(limited.replace({"network.rtt_s": 2.0}))


def test_one_leader_tab_is_a_board_of_users_and_saves_as_much_as_there_are_tabs():
    """Nine tabs with a stream each, or one tab that shares its stream with the other eight."""
    each = BOARD.replace({"transport": "sse", "clients": 36, "tabs_per_user": 9, "ramp_s": 0.0})
    leader = each.replace({"clients": 4, "tabs_per_user": 1})
    free = each.replace({"network.connections_per_user": None})
    run, alone, unlimited = (
        sl.simulate(board, engine="simpy", progress=False) for board in (each, leader, free)
    )
    assert (run.frame("clients")["connections"] == 0).sum() == 4 * 3  # of each user, three hang
    assert (alone.frame("clients")["queued_s"] == 0.0).all()
    assert alone.ledger.pending + alone.ledger.lost == 0
    for name in ("connections", "messages", "up_bytes", "down_bytes"):
        of_tabs, of_users = (one.frame("clients")[name].sum() for one in (unlimited, alone))
        assert of_tabs == 9 * of_users > 0


SYNC_WORKERS = BOARD.replace(
    {
        "transport": "sse",
        "clients": 3,
        "tabs_per_user": 3,
        "ramp_s": 3.0,
        "heartbeat.direction": "none",
        "websocket.open_timeout_s": 1000.0,
        "server.workers": 2,
        "network.connections_per_user": None,
    }
)
"""As observed on gunicorn 27.0.1 with two sync workers and three streams."""


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_stream_beyond_one_for_each_sync_worker_waits_until_one_is_killed(engine):
    killed = {"kind": "lifetime", "start_s": 0.0, "length_s": 100.0, "age_s": 30.0}
    queued = {"network.connections_per_user": 2, "faults": [killed]}
    run = sl.simulate(SYNC_WORKERS.replace(queued), engine=engine, progress=False)
    first, _, third = run.frame("connections").sort_values("opened_s").head(3).itertuples()
    assert third.opened_s - first.closed_s == pytest.approx(3 * 0.04, abs=0.01)
    assert run.frame("clients")["queued_s"].loc[third.client] > 25.0


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_stream_beyond_one_for_each_sync_worker_is_refused(engine):
    sync = sl.server("gunicorn sync", workers=2)
    refused = SYNC_WORKERS.replace({**sync, **sl.library("eventsource")})
    run = sl.simulate(refused, engine=engine, progress=False)
    clients = run.frame("clients").sort_values("start_s")
    assert (clients["delivered"].iloc[:2] > 0).all()
    assert clients[["delivered", "connections", "errors"]].iloc[2].tolist() == [0, 0, 1]


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
def test_a_sync_worker_keeps_no_connection_alive(engine):
    polled = BOARD.replace({"transport": "polling", "clients": 3, "polling.interval_s": 10.0})
    run = sl.simulate(polled.replace(sl.server("gunicorn sync")), engine=engine, progress=False)
    clients = run.frame("clients")
    assert clients["polls"].min() > 3
    assert (clients["connections"] == clients["polls"]).all()
