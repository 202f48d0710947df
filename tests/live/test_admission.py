"""The limits of users and addresses, and the check of tokens: without a socket."""

from __future__ import annotations

import logging
import math
import random

import pytest

import simlib as sl
from simlib.core import wire
from simlib.core.reconnect import MOST_DELAYS, POLICIES, Policy, decorrelated_s, delay_s
from simlib.core.wire import WireSpec
from simlib.live import admission
from simlib.live.admission import Admission, RateLimit, limits_of
from simlib.live.ipc import BriefHandler
from simlib.live.tokens import TokenCheck, make_token
from simlib.scenario import compile_workload

SECRET = "s" * 32
BOARD = sl.Scenario(transport="websocket", clients=30, updates={"rate_per_s": 1.0})


def limits(board=BOARD, time_scale=1.0, clients=30, path_losses=0, other_waits_s=()):
    return limits_of(
        [compile_workload(board, 1, 0).rules],
        clients=clients,
        other_waits_s=other_waits_s,
        path_losses=path_losses,
        time_scale=time_scale,
    )


def test_the_limits_of_a_user_are_for_all_tabs_together():
    one = limits()
    rules = [compile_workload(BOARD, 1, 0).rules]
    given = {"clients": 30, "other_waits_s": (), "path_losses": 0, "time_scale": 1.0}
    two = limits_of(rules, **given, tabs_per_user=2)
    assert two.user_per_s == 2 * one.user_per_s
    assert two.address_per_s == one.address_per_s
    used = Admission(two._replace(user_sockets=2, burst=2))
    assert [used.takes_socket(number) for number in (6, 7, 6, 8)] == [True, True, False, True]
    used.gives_back_socket(7)
    assert used.takes_socket(6)
    asked = [used.admits(number, 5.0) for number in (0, 0, 1, 1, 0, 2)]
    assert asked == [True, True, True, True, False, True]
    assert used.wait_s(1, 5.0) > 0.0 == used.wait_s(3, 5.0)


@pytest.mark.parametrize("policy", [name for name, row in POLICIES.items() if row.retries])
@pytest.mark.parametrize("time_scale", [1.0, 50.0])
def test_a_client_that_reconnects_as_its_policy_says_never_meets_its_limit(policy, time_scale):
    given = {"base_s": 1.0, "cap_s": 8.0, "jitter_frac": 0.5, "jitter_s": 1.0, "jitter_from_s": 0.1}
    needed = {name: value for name, value in given.items() if name in POLICIES[policy].reads}
    if "delays_s" in POLICIES[policy].reads:
        needed["delays_s"] = [0.2, 1.0, 5.0]
    board = BOARD.replace(
        {f"reconnect.{name}": value for name, value in needed.items()}
        | {"reconnect.policy": policy}
    )
    rule = compile_workload(board, 1, 0).rules.reconnect
    per_s = limits(board, time_scale).user_per_s
    draw = random.Random(3)
    for k in range(MOST_DELAYS):
        user, now = RateLimit(per_s=per_s, burst=admission._BURST), 100.0
        for _ in range(500):  # each connection counts the failures anew, and is lost again
            assert user.admits(7, now)
            now += wait_s(rule, k, draw.random()) / time_scale


def wait_s(rule, k, u):
    """What a client waits before attempt `k` of a row, in seconds."""
    if rule.policy == Policy.DECORRELATED_JITTER:
        return decorrelated_s(rule, rule.base_s, u)
    return delay_s(rule, k, u)


def test_waits_of_zero_give_no_limit_and_no_wait_at_all_gives_none_of_its_own():
    at_once = BOARD.replace({"reconnect": {"policy": "fixed", "base_s": 0.0}})
    assert limits(at_once).user_per_s == math.inf
    never = BOARD.replace({"reconnect": {"policy": "none"}})
    assert limits(never).user_per_s < limits().user_per_s
    unlimited = RateLimit(per_s=math.inf, burst=1)
    assert all(unlimited.admits("a", 5.0) for _ in range(10_000))
    assert unlimited.wait_s("a", 5.0) == 0.0


def test_limits_grow_with_the_fleet_the_time_scale_and_what_else_users_do():
    usual = limits()
    assert limits(clients=60).address_per_s == 2.0 * usual.address_per_s
    assert limits(time_scale=10.0).user_per_s > 8.0 * usual.user_per_s
    assert limits(time_scale=10.0).frames_per_s > usual.frames_per_s
    assert limits(other_waits_s=[0.1]).user_per_s == pytest.approx(usual.user_per_s + 40.0)
    assert limits(path_losses=2).user_sockets == usual.user_sockets + 4
    assert limits(clients=0).address_per_s == usual.user_per_s


def test_what_a_user_asks_for_counts_for_the_user_and_the_rest_for_the_address():
    gate = Admission(limits())
    tries = 500
    assert sum(gate.admits(3, 9.0) for _ in range(tries)) == gate.limits.burst
    assert gate.admits(4, 9.0)
    assert sum(gate.bears_failure("10.0.0.1", 9.0) for _ in range(tries)) == gate.limits.burst
    assert gate.bears_failure("10.0.0.2", 9.0)
    let_in = sum(gate.lets_in("10.0.0.1", 9.0) for _ in range(tries))
    assert let_in == pytest.approx(gate.limits.address_burst, abs=1)  # sums of rates are rounded
    assert gate.lets_in("10.0.0.2", 9.0)
    taken = [gate.takes_socket(3) for _ in range(tries)]
    assert sum(taken) == gate.limits.user_sockets
    gate.gives_back_socket(3)
    assert gate.takes_socket(3)
    assert gate.refused == {
        "requests": tries - gate.limits.burst,
        "failures": tries - gate.limits.burst,
        "connections": tries - let_in,
        "sockets": tries - gate.limits.user_sockets,
    }
    wait_s = gate.users.wait_s(3, 9.0)
    assert not gate.admits(3, 9.0 + 0.99 * wait_s)
    assert gate.admits(3, 9.0 + 1.01 * wait_s)


def test_connections_that_stay_open_are_capped_and_those_that_end_make_room():
    gate = Admission(limits(), most_connections=200)
    most = gate.limits.address_connections
    for k in range(most):
        assert gate.lets_in("10.0.0.1", 100.0 + k)
    assert not gate.lets_in("10.0.0.1", 1000.0)
    gate.goes("10.0.0.1")
    assert gate.lets_in("10.0.0.1", 1000.0)
    for k in range(200 - most):
        assert gate.lets_in("10.0.0.2", 1000.0 + k)
    assert not gate.lets_in("10.0.0.3", 2000.0)
    for _ in range(most):
        gate.goes("10.0.0.1")
    assert "10.0.0.1" not in gate.connections


def test_many_names_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(admission, "_MOST_NAMES", 10)
    limit = RateLimit(per_s=1.0, burst=1)
    assert all(limit.admits(name, 5.0) for name in range(10))
    assert not limit.admits(10, 5.5)
    assert limit.admits(10, 6.5)
    assert len(limit.due_s) == 1


@pytest.mark.parametrize("envelope", ["native", "socketio", "sockjs"])
@pytest.mark.parametrize("resumes", [False, True])
@pytest.mark.parametrize("length", [160, 161, 163, 201, 500, 8192])
def test_a_token_of_any_length_is_found_where_it_belongs_and_nowhere_else(
    length, resumes, envelope
):
    spec = WireSpec(token_bytes=length, resumes=resumes, envelope=envelope)
    token = make_token(SECRET, 123, length)
    assert len(token) == length
    check = TokenCheck(SECRET, spec, clients=124)
    message = wire.auth_text(spec, token, 77)
    assert check.of_header(f"Bearer {token}") == 123
    assert check.of_message(message) == (123, 77 if resumes else 0)
    for header in (token, f"bearer {token}", f"Bearer {token} ", f"Bearer {token}x", f"x{token}"):
        assert check.of_header(header) is None
    for text in (token, message + " ", message[:-1], message.replace(token, token[::-1])):
        assert check.of_message(text) is None
    assert check.of_message(message.encode()) is None
    assert TokenCheck("y" * 32, spec, clients=124).of_header(f"Bearer {token}") is None
    assert TokenCheck(SECRET, spec, clients=123).of_header(f"Bearer {token}") is None
    if resumes:
        assert check.of_message(message.replace("0000000077", "00000000x7")) is None
        assert check.of_message(message.replace("0000000077", "+000000077")) is None


def test_what_is_logged_of_strangers_is_short_and_ends(capsys):
    logger = logging.getLogger("tests.strangers")
    handler = BriefHandler()
    logger.addHandler(handler)
    logger.propagate = False
    for _ in range(1000):
        try:
            raise ValueError("two\nlines \x1b[31m" + "a" * 1000)
        except ValueError:
            logger.exception("bad request")
    logger.removeHandler(handler)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 100
    assert max(map(len, lines)) < 400
    assert lines[0].startswith(r"tests.strangers: bad request: ValueError: two\nlines \x1b[31maaa")
    assert lines[-1].endswith("(no more is logged)")
