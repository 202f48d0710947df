"""The rules of a proxy that holds back what streams carry."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.core import stream_proxy
from simlib.core.resync import Resume
from simlib.core.stream_proxy import ProxyBuffer, ProxyRules, Stretch
from simlib.core.wire import Message

PUSH, COMMENT, BOARD = Message.STREAM_PUSH, Message.STREAM_COMMENT, Message.STREAM_SNAPSHOT
NEVER_S = math.inf


class Proxy:
    """A buffer with its stretches, as a driver uses them."""

    def __init__(self, rules, head_bytes=0):
        self.buffer, self.stretches = ProxyBuffer(rules), []
        stream_proxy.write_head(self.buffer, head_bytes)

    def write(self, message, value, n_bytes, *, n=1, now=0.0):
        if len(self.stretches) == self.buffer.stretches:
            self.stretches.append(Stretch())
        return stream_proxy.write(self.buffer, self.stretches, message, value, n, n_bytes, now)

    def passed(self):
        found = []
        while stream_proxy.has_passed(self.buffer, self.stretches):
            found.append(stream_proxy.take(self.buffer, self.stretches))
        stream_proxy.close_ranks(self.buffer, self.stretches)
        return found


@given(
    st.integers(1, 40),
    st.integers(0, 60),
    st.lists(st.tuples(st.sampled_from([PUSH, COMMENT, BOARD]), st.integers(1, 90))),
)
def test_an_event_passes_with_the_piece_that_has_its_last_byte(piece, head_bytes, events):
    """Counted byte by byte, from the first one of the head."""
    proxy, ends, written = Proxy(ProxyRules(piece, NEVER_S), head_bytes), [], head_bytes
    sent = []
    for version, (message, n_bytes) in enumerate(events):
        proxy.write(message, version, n_bytes)
        written += n_bytes
        ends.append(written)
        sent += proxy.passed()
        assert len(sent) == sum(end <= written // piece * piece for end in ends)
        assert proxy.buffer.events == len(ends) - len(sent)
        assert proxy.buffer.event_bytes == sum(n for _, n in events[len(sent) : len(ends)])
    changes = [value for message, value in sent if message != COMMENT]
    assert changes == [v for v, (kind, _) in enumerate(events[: len(sent)]) if kind != COMMENT]


@given(st.integers(1, 300), st.integers(1, 50), st.integers(1, 100))
def test_events_written_at_once_pass_like_events_written_one_by_one(piece, n, n_bytes):
    at_once, one_by_one = (Proxy(ProxyRules(piece, NEVER_S), 17) for _ in range(2))
    at_once.write(PUSH, 5, n_bytes, n=n)
    passed = []
    for version in range(5, 5 + n):
        one_by_one.write(PUSH, version, n_bytes)
        passed += one_by_one.passed()
    assert at_once.passed() == passed
    for name in ProxyBuffer.__slots__:
        assert getattr(at_once.buffer, name) == getattr(one_by_one.buffer, name), name


def test_changes_that_follow_each_other_take_one_row():
    proxy = Proxy(ProxyRules(10**6, NEVER_S))
    for version in range(1, 100):
        proxy.write(PUSH, version, 57)
    proxy.write(COMMENT, 0, 8)
    proxy.write(COMMENT, 0, 8)
    proxy.write(PUSH, 101, 57)  # its forerunner was not sent
    assert len(proxy.stretches) == 3
    stream_proxy.release(proxy.buffer)
    versions = [value for message, value in proxy.passed() if message == PUSH]
    assert versions == [*range(1, 100), 101]


def test_what_comes_while_something_is_delayed_goes_with_it():
    proxy = Proxy(ProxyRules(0, 0.25))
    assert proxy.write(PUSH, 1, 57, now=1.0) == 1.25
    assert proxy.write(PUSH, 2, 57, now=1.125) == NEVER_S
    assert proxy.passed() == []
    stream_proxy.release(proxy.buffer)
    assert proxy.passed() == [(PUSH, 1), (PUSH, 2)]
    assert proxy.write(PUSH, 3, 57, now=1.5) == 1.75


def test_a_full_piece_goes_before_its_delay_is_over_and_the_rest_waits_anew():
    proxy = Proxy(ProxyRules(100, 2.0))
    assert proxy.write(PUSH, 1, 60, now=1.0) == 3.0
    assert proxy.write(PUSH, 2, 60, now=2.0) == 4.0
    assert proxy.passed() == [(PUSH, 1)]
    assert proxy.write(PUSH, 3, 80, now=2.5) == NEVER_S  # both pieces are full
    assert proxy.passed() == [(PUSH, 2), (PUSH, 3)]
    assert proxy.buffer.due_s == NEVER_S


@pytest.mark.parametrize(
    ("rules", "is_end", "is_lost"),
    [
        (ProxyRules(4096, NEVER_S), False, True),
        (ProxyRules(4096, NEVER_S), True, False),
        (ProxyRules(4096, 0.2), False, True),
        (ProxyRules(0, 0.2), False, False),  # the kernel has it, and sends it
    ],
)
def test_a_cut_throws_away_what_waits_for_a_piece(rules, is_end, is_lost):
    assert stream_proxy.throws_away(ProxyBuffer(rules), is_end) == is_lost


def test_what_is_thrown_away_counts_changes_and_boards():
    proxy = Proxy(ProxyRules(4096, NEVER_S))
    proxy.write(Message.STREAM_READY, stream_proxy.ready_data(3, Resume.NOTHING), 20)
    proxy.write(BOARD, 3, 500)
    proxy.write(PUSH, 4, 57, n=2)
    proxy.write(COMMENT, 0, 8)
    proxy.write(Message.STREAM_NOTICE, 6, 40)
    assert stream_proxy.drop(proxy.buffer, proxy.stretches) == 4
    assert (proxy.buffer.events, proxy.passed()) == (0, [])
