"""The broker between nodes: when they hear of changes.

It takes each change in order, and works on it once for every node, one after the other, whether
that is up or not. It passes a change on when it has done so for all nodes, and `hop_s` later all of
them have heard of it. So it bears ``1 / (nodes * broker_s)`` changes per second: it is a queue with
one server and constant service, M/D/1 where changes are independent (see ``theory.md1``), and
beyond that its backlog grows for as long as it is asked for more.

Polls, and what is fetched beside a socket, read the board itself and wait for no broker. What a
node sends by itself, a board that it sends to who connects among it, has what the node has heard.
"""

from __future__ import annotations

from collections.abc import Sequence

from simlib.core.server import ServerRules


def heard_s(rules: ServerRules, publish_s: Sequence[float]) -> list[float]:
    """Return when the nodes hear of each change, seconds.

    Parameters
    ----------
    rules : ServerRules
        Their `broker_s` is what a change costs the broker for all nodes together.
    publish_s : sequence of float
        When the changes are made, ascending, seconds.

    Examples
    --------
    >>> rules = ServerRules(**{name: 0.0 for name in ServerRules._fields})
    >>> heard_s(rules._replace(hop_s=0.5, broker_s=2.0), [10.0, 11.0, 20.0])
    [12.5, 14.5, 22.5]
    """
    if rules.broker_s == 0.0:
        return [t + rules.hop_s for t in publish_s]
    heard, free_s = [], 0.0
    for t in publish_s:
        free_s = max(t, free_s) + rules.broker_s
        heard.append(free_s + rules.hop_s)
    return heard
