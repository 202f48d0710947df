"""Rate limits in front of the nodes: one that refuses, one that delays, by hand and as nginx's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import simlib as sl
from simlib.core.limiter import LimiterRules, LimiterState, passes_s

BOARD = sl.Scenario(
    transport="websocket",
    clients=10,
    ramp_s=0.0,
    horizon_s=60.0,
    updates={"rate_per_s": 0.0},
    network={"rtt_s": 0.0, "tls": False},
    heartbeat={"direction": "none"},
    reconnect={"policy": "fixed", "base_s": 1.0},
    server=dict.fromkeys(
        ("accept_s", "poll_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s"), 0.0
    ),
)
"""Nothing takes time: ten clients ask for an upgrade at once, and ask again a second later."""
POLLED = BOARD.replace({"transport": "polling", "polling.interval_s": 40.0})
KINDS = ("refuse", "delay")


def passing(kind, *, per_s, burst, at_s):
    rules = LimiterRules(per_s, burst, kind == "delay", True, True, 503)
    state = LimiterState()
    return [passes_s(state, rules, t) for t in at_s]


def limited(scenario, **limit):
    changed = scenario.replace({"rate_limit": limit})
    return sl.simulate(changed, engine="simpy", progress=False)


def opened_s(run):
    return np.sort(run.frame("connections")["opened_s"]).round(9).tolist()


# -- the rule ------------------------------------------------------------------------------------


def test_a_token_bucket_of_three_at_two_a_second():
    at_s = [10.0, 10.0, 10.0, 10.0, 10.25, 10.5, 10.75, 11.0, 20.0, 20.0, 20.0, 20.0]
    expected = [10.0, 10.0, 10.0, -1.0, -1.0, 10.5, -1.0, 11.0, 20.0, 20.0, 20.0, -1.0]
    assert passing("refuse", per_s=2.0, burst=3, at_s=at_s) == expected


def test_a_leaky_bucket_of_three_at_two_a_second():
    at_s = [10.0, 10.0, 10.0, 10.0, 10.25, 10.5, 10.75, 11.0, 20.0, 20.0, 20.0, 20.0]
    expected = [10.0, 10.5, 11.0, -1.0, -1.0, 11.5, -1.0, 12.0, 20.0, 20.5, 21.0, -1.0]
    assert passing("delay", per_s=2.0, burst=3, at_s=at_s) == expected


def test_without_a_burst_both_kinds_are_the_same():
    at_s = [1.0, 1.25, 1.5, 1.5, 1.75, 2.0, 9.0, 9.0]
    expected = [1.0, -1.0, 1.5, -1.0, -1.0, 2.0, 9.0, -1.0]
    assert all(passing(kind, per_s=2.0, burst=1, at_s=at_s) == expected for kind in KINDS)


@pytest.mark.parametrize("kind", KINDS)
@given(
    now=st.floats(0.0, 86_400.0),
    per_s=st.floats(0.01, 1000.0),
    burst=st.integers(1, 300),
)
def test_a_whole_burst_passes_and_no_more_whatever_is_rounded(kind, now, per_s, burst):
    found = passing(kind, per_s=per_s, burst=burst, at_s=[now] * (burst + 1))
    assert [t >= 0.0 for t in found] == [True] * burst + [False]


@pytest.mark.parametrize("kind", KINDS)
@given(start_s=st.floats(0.0, 600.0), interval_s=st.floats(0.001, 60.0))
def test_what_comes_at_the_rate_is_never_refused(kind, start_s, interval_s):
    at_s = [start_s + k * interval_s for k in range(200)]
    assert min(passing(kind, per_s=1.0 / interval_s, burst=1, at_s=at_s)) >= 0.0


def nginx_limit_req(at_ms, rate, burst, is_nodelay):
    """Pass or delay in ms, -1 for busy, as ngx_http_limit_req_lookup and _account count.

    `rate` is in thousandths of a request per second, `burst` in thousandths of a request.
    """
    excess = last = None
    for now in at_ms:
        if last is None:
            found = 0
        else:
            found = max(0, excess - rate * (now - last) // 1000 + 1000)
            if found > burst:
                yield -1
                continue
        excess, last = found, now
        yield now if is_nodelay else now + excess * 1000 // rate


@pytest.mark.parametrize("kind", KINDS)
@given(
    gaps_ms=st.lists(st.sampled_from([0, 0, 0, 1, 3, 8, 30, 200]), min_size=1, max_size=60),
    burst=st.sampled_from([0, 1, 5, 20]),
)
def test_it_admits_refuses_and_delays_as_nginx_does(kind, gaps_ms, burst):
    at_ms = (1000 + np.cumsum(gaps_ms)).tolist()
    expected = list(nginx_limit_req(at_ms, 125_000, 1000 * burst, kind == "refuse"))
    # In milliseconds, of which a request at 125/s takes eight: no sum is rounded.
    found = passing(kind, per_s=0.125, burst=burst + 1, at_s=[float(t) for t in at_ms])
    assert found == expected


# -- what comes of it in a run -------------------------------------------------------------------


def test_upgrades_beyond_a_token_bucket_are_refused_and_come_again():
    run = limited(BOARD, kind="refuse", rate_per_s=1.0, burst=4)
    assert opened_s(run) == [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert run.frame("clients")["errors"].sum() == 6 + 5 + 4 + 3 + 2 + 1


def test_upgrades_wait_in_a_leaky_bucket_and_beyond_it_are_refused():
    run = limited(BOARD, kind="delay", rate_per_s=1.0, burst=4)
    assert opened_s(run) == [float(t) for t in range(10)]
    assert run.frame("clients")["errors"].sum() == 6 + 5 + 4 + 3 + 2 + 1


def test_a_bucket_that_holds_all_delays_all_and_refuses_nobody():
    run = limited(BOARD, kind="delay", rate_per_s=4.0, burst=10)
    assert opened_s(run) == [t / 4.0 for t in range(10)]
    assert run.frame("clients")["errors"].sum() == 0


def test_one_that_gives_up_while_it_waits_has_had_its_turn():
    # Seven leave after 2.5 s and ask again after 3.5 s, when the next turn is at 10 s, and so on.
    impatient = {"websocket.open_timeout_s": 2.5}
    run = limited(BOARD.replace(impatient), kind="delay", rate_per_s=1.0, burst=1000)
    assert opened_s(run) == [0.0, 1.0, 2.0]


def test_a_fleet_of_partysocket_comes_in_as_it_did_behind_a_real_nginx():
    # nginx 1.22.1, limit_req rate=10r/s burst=200 without nodelay, 100 clients of partysocket 1.3.0
    # (it gives up a try after 4 s): 40 were in after 4 s, half after 11 s, the last after 26.0 s,
    # with 226 to 231 tries. Patient clients: all after 10.2 s, with 100 tries.
    fleet = {
        "clients": 100,
        "network.rtt_s": 0.001,
        "reconnect": {"policy": "exponential", "base_s": 3.0, "factor": 1.3, "cap_s": 10.0},
    }
    limit = {"kind": "delay", "rate_per_s": 10.0, "burst": 201, "applies_to": "upgrades"}
    patient = limited(BOARD.replace(fleet), **limit)
    assert opened_s(patient)[-1] == pytest.approx(9.9, abs=0.01)
    assert patient.frame("clients")["attempts"].sum() == 100
    run = limited(BOARD.replace({**fleet, "websocket.open_timeout_s": 4.0}), **limit)
    found_s = np.array(opened_s(run))
    assert (found_s < 4.0).sum() == 40
    assert found_s[49] == pytest.approx(11.0, abs=0.2)
    assert found_s[-1] == pytest.approx(26.0, abs=0.1)
    assert 226 <= run.frame("clients")["attempts"].sum() <= 231


def test_polls_beyond_the_limit_are_refused_and_retried_by_the_clients_rule():
    run = limited(POLLED, kind="refuse", rate_per_s=1.0, burst=4)
    # Six are refused at 0 s, five after 1 s, three after 3 s (two tokens more), none after 7 s.
    assert run.frame("clients")["errors"].sum() == 6 + 5 + 3
    assert run.frame("clients")["polls"].sum() > 20


def test_a_poll_waits_in_the_queue_of_a_limit_and_is_answered():
    run = limited(POLLED, kind="delay", rate_per_s=2.0, burst=10)
    clients = run.frame("clients")
    assert clients["errors"].sum() == 0
    assert (clients["polls"] == 2).all()  # at 0 s, and 40 s after its answer


def test_a_limit_applies_to_what_it_is_said_to():
    for scenario, other in ((BOARD, "polls"), (POLLED, "upgrades")):
        free = sl.simulate(scenario, engine="simpy", progress=False).frame("clients")
        run = limited(scenario, rate_per_s=0.1, applies_to=other)
        assert run.frame("clients").equals(free)
        assert limited(scenario, rate_per_s=0.1).frame("clients")["errors"].sum() > 0


def test_upgrades_and_polls_share_one_limit():
    told = BOARD.replace({"transport": "notify", "clients": 2, "updates.rate_per_s": 0.5})
    run = limited(told, rate_per_s=0.2, burst=2)
    apart = limited(told, rate_per_s=0.2, burst=2, applies_to="polls")
    assert run.frame("clients")["errors"].sum() > apart.frame("clients")["errors"].sum() > 0


def test_all_nodes_are_behind_one_limit():
    run = limited(BOARD.replace({"server.nodes": 4}), rate_per_s=1.0, burst=4)
    assert opened_s(run).count(0.0) == 4
    assert opened_s(run)[-1] == 6.0


@pytest.mark.parametrize(("status", "opened"), [(503, 10), (429, 4)])
def test_after_429_a_client_that_does_not_retry_4xx_gives_up(status, opened):
    board = BOARD.replace({"reconnect.retries_4xx": False})
    run = limited(board, rate_per_s=1.0, burst=4, status=status)
    assert len(opened_s(run)) == opened


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({}, "rate_limit.rate_per_s: must be given"),
        ({"rate_per_s": 0}, "rate_limit.rate_per_s: must be >= 1e-06, got 0"),
        ({"rate_per_s": 1, "burst": 0}, "rate_limit.burst: must be >= 1, got 0"),
        ({"rate_per_s": 1, "kind": "leaky"}, "rate_limit.kind: must be 'refuse' or 'delay'"),
        ({"rate_per_s": 1, "status": 500}, "rate_limit.status: must be 503 or 429, got 500"),
    ],
)
def test_a_limit_that_is_none_is_refused_by_name(limit, said):
    with pytest.raises(sl.ScenarioError) as caught:
        BOARD.replace({"rate_limit": limit})
    assert str(caught.value).startswith(said)
