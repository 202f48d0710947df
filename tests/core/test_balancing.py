"""Which node a balancer gives a new connection to, and how many connections it counts there."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simlib.core.balancing import (
    Balancing,
    forget_node,
    give,
    is_counting,
    new_balancer,
    node_for,
    take_back,
    take_turn,
)

UP = [False, False, False]
RULES = list(Balancing)


def given_in_turn(rule, is_down, connections, draws):
    """The nodes that get new connections, one after the other, none of which ends."""
    balancer = new_balancer(rule, len(is_down), len(draws))
    balancer.connections[:] = connections
    found = []
    for client, (u, v) in enumerate(draws):
        node = node_for(balancer, is_down, u, v)
        found.append(node)
        if node >= 0:
            give(balancer, node, client, 1)
    return found


def test_each_node_that_is_up_has_its_turn():
    at = [(0.9, 0.9)] * 5
    assert given_in_turn(Balancing.ROUND_ROBIN, UP, [7, 0, 0], at) == [0, 1, 2, 0, 1]
    assert given_in_turn(Balancing.ROUND_ROBIN, [False, True, False], [0] * 3, at) == [
        *(0, 2, 0, 2, 0)
    ]


def test_the_emptiest_node_gets_all_until_it_has_as_many_and_then_they_take_turns():
    at = [(0.9, 0.9)] * 7
    found = given_in_turn(Balancing.LEAST_CONNECTIONS, UP, [3, 0, 3], at)
    assert found == [1, 1, 1, 2, 0, 1, 2]


def test_of_two_that_are_drawn_the_one_with_fewer_gets_it_or_else_the_second():
    for connections, expected in (([5, 0, 4], 2), ([4, 0, 5], 0), ([4, 0, 4], 2)):
        assert given_in_turn(Balancing.RANDOM_OF_TWO, UP, connections, [(0.1, 0.9)]) == [expected]
    assert given_in_turn(Balancing.RANDOM_OF_TWO, UP, [9, 0, 0], [(0.1, 0.2)]) == [0]  # drawn twice


@pytest.mark.parametrize("rule", RULES)
def test_nobody_gets_anything_where_all_are_down(rule):
    assert given_in_turn(rule, [True, True], [0, 0], [(0.1, 0.9)]) == [-1]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("up", range(3))
def test_the_only_node_that_is_up_gets_all(rule, up):
    is_down = [node != up for node in range(3)]
    draws = [(0.0, 0.99), (0.99, 0.0), (0.5, 0.5)]
    assert given_in_turn(rule, is_down, [4, 4, 4], draws) == [up] * 3


@pytest.mark.parametrize("rule", RULES)
def test_only_who_looks_at_the_numbers_counts_and_only_where_there_is_a_choice(rule):
    looks = rule in (Balancing.LEAST_CONNECTIONS, Balancing.RANDOM_OF_TWO)
    assert is_counting(new_balancer(rule, 2, 5)) == looks
    assert not is_counting(new_balancer(rule, 1, 5))


def test_a_request_of_its_own_takes_a_turn_and_is_not_counted():
    balancer = new_balancer(Balancing.LEAST_CONNECTIONS, 3, 1)
    take_turn(balancer, 1)
    assert balancer.connections == [0, 0, 0]
    assert node_for(balancer, UP, 0.0, 0.0) == 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["give", "take_back", "forget"]),
        st.integers(0, 2),
        st.integers(0, 4),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(STEPS)
def test_what_is_counted_is_the_latest_connection_of_each_client_unless_it_has_ended(steps):
    balancer, latest = new_balancer(Balancing.LEAST_CONNECTIONS, 3, 5), {}
    for what, node, client, exchange in steps:
        if what == "give":
            kept = client in latest and latest[client][1] > exchange
            if kept:
                continue  # exchanges only ever grow
            give(balancer, node, client, exchange)
            latest[client] = node, exchange
        elif what == "take_back":
            take_back(balancer, client, exchange)
            if client in latest and latest[client][1] <= exchange:
                del latest[client]
        else:
            forget_node(balancer, node)
            latest = {key: each for key, each in latest.items() if each[0] != node}
    counted = Counter(node for node, _ in latest.values())
    assert balancer.connections == [counted[node] for node in range(3)]
