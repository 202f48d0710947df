"""How a server answers polls: the board, a version that is compared first, a copy in memory."""

from __future__ import annotations

import math

import pytest

from simlib.core.answers import (
    ANOTHER,
    NOTHING,
    Answer,
    Etag,
    answer_of,
    has_copy,
    has_shortcuts,
    keep,
    version_named,
)
from simlib.core.server import ServerRules, ServerState, clear_server, new_server

POLL_S, CHECK_S, CACHED_S = 1.0, 0.25, 0.125


def rules_with(**settings):
    costs = {"poll_s": POLL_S, "check_s": CHECK_S, "cached_s": CACHED_S}
    return ServerRules(**{**dict.fromkeys(ServerRules._fields, 0.0), **costs, **settings})


PLAIN, CACHED = rules_with(), rules_with(cache_s=10.0)


@pytest.mark.parametrize("etag", [Etag.OFF, Etag.CONTENT])
@pytest.mark.parametrize("named", [NOTHING, ANOTHER, 3, 5])
def test_without_a_version_to_compare_every_poll_reads_the_board(etag, named):
    assert answer_of(PLAIN, ServerState(), [], etag, named, 5, 7.0).cost_s == POLL_S
    assert not has_shortcuts(PLAIN, etag)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        (NOTHING, Answer(0.0, POLL_S, NOTHING, True)),
        (ANOTHER, Answer(0.0, CHECK_S + POLL_S, NOTHING, True)),
        (4, Answer(0.0, CHECK_S + POLL_S, NOTHING, True)),
        (5, Answer(0.0, CHECK_S, 5, True)),
    ],
)
def test_a_version_is_compared_before_the_board_is_read(named, expected):
    assert answer_of(PLAIN, ServerState(), [], Etag.VERSION, named, 5, 7.0) == expected
    assert has_shortcuts(PLAIN, Etag.VERSION)


def test_a_client_names_what_it_has_seen_if_it_has_fetched_it_whole():
    assert version_named(Etag.VERSION, -math.inf, 5, False) == NOTHING
    assert version_named(Etag.OFF, 9.0, 5, False) == NOTHING
    assert version_named(Etag.VERSION, 9.0, 5, True) == ANOTHER
    assert version_named(Etag.VERSION, 9.0, 5, False) == 5


@pytest.mark.parametrize("etag", Etag)
def test_a_copy_is_made_once_a_cycle_and_waited_for(etag):
    state = ServerState()
    assert answer_of(CACHED, state, [], etag, 2, 2, 0.0) == Answer(0.0, POLL_S, NOTHING, True)
    keep(CACHED, state, 2, POLL_S)
    for start_s, wait_s in ((0.5, 0.5), (POLL_S, 0.0), (10.99, 0.0)):
        answer = answer_of(CACHED, state, [], etag, 2, 3, start_s)
        assert answer == Answer(wait_s, CACHED_S, 2, False)
    assert answer_of(CACHED, state, [], etag, 2, 3, 11.0).is_kept


def test_a_copy_that_is_too_old_is_compared_before_it_is_made_anew():
    state = ServerState()
    keep(CACHED, state, 2, 1.0)
    for present, cost_s, version in ((2, CHECK_S, 2), (3, CHECK_S + POLL_S, NOTHING)):
        # What the client holds has nothing to do with it.
        answers = {
            answer_of(CACHED, state, [], Etag.VERSION, named, present, 11.0)
            for named in (NOTHING, 2, 3)
        }
        assert answers == {Answer(0.0, cost_s, version, True)}
    assert answer_of(CACHED, state, [], Etag.CONTENT, 2, 2, 11.0).cost_s == POLL_S


@pytest.mark.parametrize("hop_s", [0.0, 0.5])
def test_a_node_that_tells_of_a_change_drops_its_copy_as_it_hears_of_it(hop_s):
    heard_s = [0.3 + hop_s, 3.0 + hop_s]
    for drops in (False, True):
        rules = rules_with(cache_s=10.0, drops_copy=drops)
        state = ServerState()
        keep(rules, state, 1, 1.0)
        assert has_copy(rules, state, heard_s, 2.9 + hop_s)
        assert has_copy(rules, state, heard_s, 3.0 + hop_s) == (not drops)
        keep(rules, state, 2, 4.0)
        assert has_copy(rules, state, heard_s, 4.0)


def test_a_copy_of_which_a_node_knows_better_is_not_waited_for():
    """It is compared from 11 s on, and good again from 11.25 s on; the change comes at 11.1 s."""
    heard_s = [0.3, 11.1]
    for drops in (False, True):
        rules = rules_with(cache_s=10.0, drops_copy=drops)
        state = ServerState()
        keep(rules, state, 1, 1.0)
        first = answer_of(rules, state, heard_s, Etag.VERSION, 0, 1, 11.0)
        assert first == Answer(0.0, CHECK_S, 1, True)
        keep(rules, state, first.version, 11.0 + first.cost_s)
        assert answer_of(rules, state, heard_s, Etag.VERSION, 1, 1, 11.0625).version == 1
        second = answer_of(rules, state, heard_s, Etag.VERSION, 1, 2, 11.125)
        anew, old = Answer(0.0, CHECK_S + POLL_S, NOTHING, True), Answer(0.125, CACHED_S, 1, False)
        assert second == (anew if drops else old)


def test_a_process_that_ends_takes_its_copy_with_it():
    server = new_server(1)
    keep(CACHED, server.state, 2, 1.0)
    assert has_copy(CACHED, server.state, [], 2.0)
    clear_server(server, 2.0)
    assert not has_copy(CACHED, server.state, [], 2.0)
    assert answer_of(CACHED, server.state, [], Etag.VERSION, 2, 2, 2.0).cost_s == POLL_S


def test_without_a_time_for_it_nothing_is_kept():
    state = ServerState()
    keep(PLAIN, state, 2, 1.0)
    assert (state.copied_s, state.copy_until_s, state.copy_version) == (0.0, 0.0, 0)
