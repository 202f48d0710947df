"""How long clients take to come back after an outage, and how often they try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from simlib.errors import ScenarioError
from simlib.theory.arguments import FloatArray, plain, real, reals, whole_count

_STEPS = 40_000


class Recovery(NamedTuple):
    """How clients reconnect that lost their server at time 0, for an outage.

    Attributes
    ----------
    mean_attempts : float
        Mean number of attempts, the successful one included.
    mean_s : float
        Mean time from the loss to the successful attempt, seconds.
    t_s, back_frac : ndarray of float64, shape (n,)
        Times, seconds, and the share of the clients that are connected again by then; ascending.
    """

    mean_attempts: float
    mean_s: float
    t_s: FloatArray
    back_frac: FloatArray

    def quantile_s(self, share: ArrayLike) -> float | FloatArray:
        """Return the time by which a share of the clients is connected again, seconds.

        Raises
        ------
        ScenarioError
            A share is outside (0, 1).
        """
        shares = reals("share", share, "(0, 1)")
        return plain(np.interp(shares, self.back_frac, self.t_s))


def recovery_full_jitter(
    outage_s: float, base_s: float, cap_s: float, factor: float = 2.0
) -> Recovery:
    """Return how clients with full jitter reconnect: waits of U(0, min(cap, base * factor**k)).

    Parameters
    ----------
    outage_s : float
        Time without a server, seconds, > 0.
    base_s, cap_s : float
        First ceiling and its limit, seconds, > 0, cap >= base.
    factor : float, optional
        Growth of the ceiling, >= 1.

    Returns
    -------
    Recovery

    Raises
    ------
    ScenarioError
        An argument is out of range.

    Notes
    -----
    An attempt takes no time and is refused until the outage is over. The density of the time of
    attempt k is that of attempt k - 1 averaged over the window of its wait. It is computed on a
    grid of 40,000 steps of the outage, until all but 1e-9 of the clients are past the outage. The
    parts past the outage add up to the answer, whose error is below one part in a thousand for
    ceilings of more than a thousandth of the outage.

    References
    ----------
    Brooker (2015), Exponential Backoff And Jitter, AWS Architecture Blog: the policy. The sum
    over attempts is the renewal equation (Feller 1971, An Introduction to Probability Theory,
    vol. 2, chapter XI).

    Examples
    --------
    >>> recovery = recovery_full_jitter(0.5, 1.0, 1.0)
    >>> round(recovery.mean_attempts, 3)  # exp(0.5), while the outage is shorter than a ceiling
    1.649
    """
    outage_s, base_s, cap_s, factor = _checked(outage_s, base_s, cap_s, factor)
    step_s = outage_s / _STEPS
    beyond = int(np.ceil(cap_s / step_s)) + 1
    if beyond > 50 * _STEPS:
        raise ScenarioError("cap_s", cap_s, f"must be at most 50 times outage_s ({outage_s:g})")
    back = np.zeros(beyond)  # probability per cell of the time since the outage's end
    failing = np.zeros(_STEPS)  # probability per cell of the outage: the last attempt failed there
    attempts, ceiling_s, share = 0.0, base_s, 1.0
    first = True
    while share > 1e-9:
        attempts += share
        window = ceiling_s / step_s
        spread = _spread(None if first else failing, window, beyond)
        first = False
        failing, past = spread[:_STEPS], spread[_STEPS:]
        back += past
        share = float(failing.sum())
        ceiling_s = min(cap_s, ceiling_s * factor)
    t_s = outage_s + step_s * np.arange(1, beyond + 1)
    total = back.sum()
    mean_s = float(((t_s - step_s / 2.0) * back).sum() / total)
    back_frac = np.concatenate(([0.0], np.cumsum(back) / total))
    return Recovery(attempts, mean_s, np.concatenate(([outage_s], t_s)), back_frac)


def _spread(failing: FloatArray | None, window: float, beyond: int) -> FloatArray:
    """Probability per cell after a wait of U(0, window) cells from `failing`, or from time 0."""
    edges = np.arange(_STEPS + beyond + 1, dtype=np.float64)
    if failing is None:
        return np.diff(np.minimum(edges / window, 1.0))
    # The integral of the distribution function; its difference over the window is the average.
    level = np.concatenate(([0.0], np.cumsum(failing)))
    area = np.concatenate(([0.0], np.cumsum((level[1:] + level[:-1]) / 2.0)))
    inside = np.arange(_STEPS + 1, dtype=np.float64)

    def integral(at: FloatArray) -> FloatArray:
        whole = np.interp(at, inside, area, left=0.0)
        return np.where(at > _STEPS, area[-1] + level[-1] * (at - _STEPS), whole)

    return np.asarray(np.diff((integral(edges) - integral(edges - window)) / window))


def recovery_exponential(
    outage_s: float, base_s: float, cap_s: float, factor: float = 2.0
) -> tuple[int, float]:
    """Return attempts and time to reconnect of clients that wait min(cap, base * factor**k).

    Parameters
    ----------
    outage_s : float
        Time without a server, seconds, > 0.
    base_s, cap_s : float
        First wait and its limit, seconds, > 0, cap >= base.
    factor : float, optional
        Growth of the wait, >= 1.

    Returns
    -------
    attempts : int
        Number of attempts, the successful one included.
    back_s : float
        Time from the loss to the successful attempt, seconds; the same for all clients.

    Raises
    ------
    ScenarioError
        An argument is out of range.

    Examples
    --------
    >>> recovery_exponential(5.0, 1.0, 30.0)  # after 1, 3 and 7 s
    (3, 7.0)
    """
    outage_s, wait_s, cap_s, factor = _checked(outage_s, base_s, cap_s, factor)
    attempts, t = 0, 0.0
    while t < outage_s:
        t += min(cap_s, wait_s)
        wait_s = min(cap_s, wait_s * factor)
        attempts += 1
    return attempts, t


def drain_peak_per_s(
    clients: int, window_s: ArrayLike, batches: int, spread_s: float
) -> float | FloatArray:
    """Return the peak rate of reconnections of a drain in batches, per second.

    Parameters
    ----------
    clients : int
        Connections that are drained, >= 1.
    window_s : float or array of float
        Time from the first batch to what would be the one after the last, seconds, > 0.
    batches : int
        >= 1.
    spread_s : float
        A client reconnects after a wait of U(0, spread), seconds, > 0.

    Returns
    -------
    float or ndarray of float64
        The largest sum of the rates of the batches that overlap, of the shape of `window_s`.

    Raises
    ------
    ScenarioError
        An argument is out of range.

    Examples
    --------
    >>> drain_peak_per_s(1000, 100.0, 10, 5.0), drain_peak_per_s(1000, 100.0, 10, 20.0)
    (20.0, 10.0)
    """
    clients, batches = whole_count("clients", clients), whole_count("batches", batches)
    windows_s = reals("window_s", window_s, "(0, inf)")
    spread_s = real("spread_s", spread_s, "(0, inf)")
    overlap = np.minimum(batches, np.ceil(spread_s / (windows_s / batches) - 1e-9))
    return plain(np.asarray(clients / batches / spread_s * overlap))


def rolling_deploy_moves(nodes: int, surge: int = 0) -> FloatArray:
    """Return how often a tab is cut while one node after the other restarts.

    Parameters
    ----------
    nodes : int
        From 2 to 64. A balancer gives each new connection to a random node among those that are up,
        and a tab that is cut reconnects before the node that it left is back.
    surge : int, optional
        From 0 to `nodes`, as ``faults.*.surge``: as many new nodes are up before old ones stop. A
        tab that is cut then reconnects to any node, before the next turn.

    Returns
    -------
    ndarray of float64, shape (nodes + 1,)
        The share of the tabs that is cut 0, 1, 2 ... times. Its mean is
        ``(nodes - 1) / nodes * ((nodes / (nodes - 1)) ** nodes - 1)``: 1.5 for two nodes, rising
        towards e - 1. With a `surge` that divides `nodes` into ``m`` turns it is
        ``(1 + 1 / m) ** m - 1``: 1 for one turn, 1.25 for two, rising towards e - 1 too.

    Raises
    ------
    ScenarioError
        `nodes` or `surge` is out of range.

    Examples
    --------
    >>> rolling_deploy_moves(2).tolist()
    [0.0, 0.5, 0.5]
    >>> rolling_deploy_moves(2, surge=1).tolist(), rolling_deploy_moves(2, surge=2).tolist()
    ([0.0, 0.75, 0.25], [0.0, 1.0, 0.0])
    """
    nodes = int(real("nodes", nodes, "[2, 64]", whole=True))
    surge = int(real("surge", surge, f"[0, {nodes}]", whole=True))
    at_once, up = max(1, surge), nodes if surge > 0 else nodes - 1
    # Backwards from the last node: a tab that leaves node k may move to one that restarts later.
    from_node = np.zeros((nodes, nodes + 1))
    for k in reversed(range(nodes)):
        later = from_node[(k // at_once + 1) * at_once :]
        further = later.sum(axis=0)
        further[0] += up - len(later)
        from_node[k, 1:] = further[:-1] / up
    return np.asarray(from_node.mean(axis=0))


def leaked_connections(drops: int | Sequence[int], *, closes_old: bool) -> int | list[int]:
    """Return how many connections a tab has that builds a new one at every drop, on its own.

    The library reconnects the old connection too, and every connection's drop runs the handler:
    without closing, a tab has 1, 2, 4, 8 connections after 0, 1, 2, 3 drops. If the handler closes
    the old connection first, the closing runs it again: 1, 1, 2, 3, 5.

    Parameters
    ----------
    drops : int or sequence of int
        How often the server cut all connections, from 0 to 1000.
    closes_old : bool
        Whether the handler closes the old connection before it opens the new one.

    Returns
    -------
    int or list of int
        One for each of `drops`.

    Raises
    ------
    ScenarioError
        `drops` is out of range.

    References
    ----------
    socket.io-client 4.8.4, ``build/cjs/index.js``: a second ``io()`` for the same namespace always
    makes a new manager. Counted on its real clients over four restarts of a server.

    Examples
    --------
    >>> leaked_connections(range(5), closes_old=False)
    [1, 2, 4, 8, 16]
    >>> leaked_connections(range(5), closes_old=True)
    [1, 1, 2, 3, 5]
    """
    if isinstance(drops, Sequence):
        return [_leaked(one, closes_old) for one in drops]
    return _leaked(drops, closes_old)


def _leaked(drops: Any, closes_old: bool) -> int:
    before, now = 0, 1
    for _ in range(int(real("drops", drops, "[0, 1000]", whole=True))):
        before, now = (now, before + now) if closes_old else (now, 2 * now)
    return now


def _checked(
    outage_s: Any, base_s: Any, cap_s: Any, factor: Any
) -> tuple[float, float, float, float]:
    """Return the parameters of an outage and of growing waits, checked."""
    outage_s = real("outage_s", outage_s, "(0, inf)")
    base_s = real("base_s", base_s, "(0, inf)")
    cap_s = real("cap_s", cap_s, "(0, inf)")
    if cap_s < base_s:
        raise ScenarioError("cap_s", cap_s, f"must be >= base_s ({base_s:g})")
    return outage_s, base_s, cap_s, real("factor", factor, "[1, inf)")
