"""Who has how many sockets after nodes have restarted.

Sockets stay where they are, so what a restart moves stays moved. Here clients come back at once,
and all together are so many that shares stand for numbers: the limit of many clients, in which what
a balancer gives flows to the nodes (for two that are drawn, see Mitzenmacher 2001). Flows change
only when two nodes come to have as many, so that shares are piecewise linear, and exact.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simlib.core.balancing import Balancing
from simlib.errors import ScenarioError
from simlib.theory.arguments import FloatArray, real

_RULES = [rule.name.lower() for rule in Balancing]
_SAME = 1e-9


def after_restart(nodes: int, balancing: str) -> FloatArray:
    """Return which share of the sockets each node has after the first one has restarted.

    It is back before its clients are, as where a process restarts at once.

    Parameters
    ----------
    nodes : int
        From 2 to 64. Before, each has as many sockets.
    balancing : str
        As ``server.balancing``.

    Returns
    -------
    ndarray of float64, shape (nodes,)
        By ``random`` and ``round_robin`` the first has ``1 / nodes ** 2``; by
        ``least_connections`` all have as many as before; by ``random_of_two`` the first has
        ``(2 * nodes - 1) / nodes ** 3``. The others share what is left.

    Raises
    ------
    ScenarioError
        `nodes` is out of range, or `balancing` is no rule.

    Examples
    --------
    Of 300 sockets on three nodes, as HAProxy 2.6 gives them by ``roundrobin`` and ``random``:

    >>> (300 * after_restart(3, "round_robin")).round().tolist()
    [33.0, 133.0, 133.0]
    >>> (300 * after_restart(3, "random_of_two")).round().tolist()
    [56.0, 122.0, 122.0]
    """
    nodes, balancing = _checked(nodes, balancing)
    shares = np.full(nodes, 1.0 / nodes)
    moved, shares[0] = shares[0], 0.0
    return _given(shares, np.arange(nodes), moved, balancing)


def after_rolling_deploy(nodes: int, balancing: str, surge: int = 0) -> FloatArray:
    """Return which share of the sockets each node has after all have restarted in turn.

    The clients of each are on the other nodes before it is back; with `surge`, they are on all
    nodes, of which those that have replaced theirs are empty.

    Parameters
    ----------
    nodes : int
        From 2 to 64. Before, each has as many sockets.
    balancing : str
        As ``server.balancing``.
    surge : int, optional
        From 0 to `nodes`, as ``faults.*.surge``.

    Returns
    -------
    ndarray of float64, shape (nodes,)
        In the order in which the nodes restart; the last one has nothing. By ``random`` and
        ``round_robin``, with ``q = nodes / (nodes - 1)``, node ``k`` (from 0) has
        ``q ** k / nodes`` when it stops, which goes to the others in equal parts: it ends with
        ``(q ** nodes - q ** (k + 1)) / nodes``. By ``least_connections`` what each one leaves goes
        to the one before it, which is empty: all but the last end with ``1 / (nodes - 1)``.

        With a `surge` that divides `nodes` into ``m`` turns, and ``q = 1 + 1 / m``, the nodes of
        turn ``j`` (from 0) end with ``(q ** m - q ** j) / nodes`` by ``random`` and
        ``round_robin``, and with ``1 / nodes`` by ``least_connections``.

    Raises
    ------
    ScenarioError
        `nodes` or `surge` is out of range, or `balancing` is no rule.

    References
    ----------
    M. Mitzenmacher (2001), The power of two choices in randomized load balancing, IEEE Transactions
    on Parallel and Distributed Systems 12(10): the fluid limit of two choices.

    Examples
    --------
    >>> after_rolling_deploy(3, "round_robin").round(4).tolist()
    [0.625, 0.375, 0.0]
    >>> after_rolling_deploy(3, "least_connections").round(4).tolist()
    [0.5, 0.5, 0.0]
    >>> after_rolling_deploy(3, "round_robin", surge=1).round(4).tolist()
    [0.4568, 0.3457, 0.1975]
    """
    nodes, balancing = _checked(nodes, balancing)
    surge = int(real("surge", surge, f"[0, {nodes}]", whole=True))
    all_nodes, at_once = np.arange(nodes), max(1, surge)
    shares = np.full(nodes, 1.0 / nodes)
    for first in range(0, nodes, at_once):
        turn = all_nodes[first : first + at_once]
        moved, shares[turn] = float(shares[turn].sum()), 0.0
        up = all_nodes if surge > 0 else np.delete(all_nodes, turn)
        shares = _given(shares, up, moved, balancing)
    return shares


def _given(shares: FloatArray, up: NDArray[np.int64], amount: float, balancing: str) -> FloatArray:
    """Return the shares after the nodes that are `up` have been given an amount."""
    shares = shares.copy()
    if balancing in ("random", "round_robin"):
        shares[up] += amount / len(up)
        return shares
    while amount > _SAME:
        # Nodes that have as many get as much each. A lower level rises faster, up to the next.
        up = up[np.argsort(shares[up], kind="stable")]
        at = np.cumsum(np.diff(shares[up], prepend=shares[up[0]]) > _SAME)
        n = np.bincount(at)
        levels = np.bincount(at, shares[up]) / n
        flows = np.eye(1, len(levels))[0]
        if balancing == "random_of_two":
            flows = np.diff(1.0 - (1.0 - n.cumsum() / len(up)) ** 2, prepend=0.0)
        rates = flows / n
        step = amount
        if len(levels) > 1:
            step = min(amount, float((np.diff(levels) / -np.diff(rates)).min()))
        shares[up] += step * rates[at]
        amount -= step
    return shares


def _checked(nodes: int, balancing: str) -> tuple[int, str]:
    if balancing not in _RULES:
        raise ScenarioError("balancing", balancing, f"must be {' or '.join(_RULES)}")
    return int(real("nodes", nodes, "[2, 64]", whole=True)), balancing
