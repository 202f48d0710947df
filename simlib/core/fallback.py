"""When a client that cannot get its pushes polls instead, and when it tries for them again.

Many clients look as if they did and do not: socket.io-client with ``transports: ["websocket",
"polling"]`` never tries the second. So this is the application's own rule, on top of its library.
Coming back is held off by a wait that grows with every attempt in vain (hysteresis), and one such
attempt is enough to poll on.
"""

from __future__ import annotations

from typing import NamedTuple

from simlib.core.reconnect import grown_s


class FallbackRules(NamedTuple):
    """The settings; without `is_on` a client never polls instead.

    It does after `after_failures` failures in a row, the lost connection among them, or
    `after_s` seconds without a connection; also when its library gives up. After `return_s`
    seconds of polling it tries to be pushed to again; that wait grows by `factor` up to `cap_s`.
    """

    is_on: bool
    after_failures: int
    after_s: float
    return_s: float
    factor: float
    cap_s: float


def falls_back(rule: FallbackRules, failures: int, fallbacks: int, away_s: float) -> bool:
    """Say whether a client polls from now on.

    Parameters
    ----------
    rule : FallbackRules
    failures : int
        In a row, this one among them.
    falls : int
        How often it has fallen back since it was last pushed to.
    away_s : float
        Seconds without a connection.

    Examples
    --------
    >>> rule = FallbackRules(True, 3, 60.0, 300.0, 2.0, 3600.0)
    >>> falls_back(rule, 2, 0, 5.0), falls_back(rule, 3, 0, 5.0), falls_back(rule, 1, 1, 5.0)
    (False, True, True)
    """
    return rule.is_on and (
        fallbacks > 0 or failures >= rule.after_failures or away_s >= rule.after_s
    )


def returns(rule: FallbackRules, fallbacks: int, polling_s: float) -> bool:
    """Say whether a client that has polled for so long, seconds, tries to be pushed to again.

    Examples
    --------
    >>> rule = FallbackRules(True, 3, 60.0, 300.0, 2.0, 3600.0)
    >>> returns(rule, 1, 300.0), returns(rule, 2, 300.0), returns(rule, 2, 600.0)
    (True, False, True)
    """
    return polling_s >= grown_s(rule.return_s, rule.factor, fallbacks - 1, rule.cap_s)
