"""Fallback: when a client that cannot connect polls instead, and when it tries push again.

Many clients seem to do so and do not: socket.io-client with ``transports: ["websocket",
"polling"]`` never tries the second. So this is the application's own rule, on top of its library.
A client tries push again after a wait, which grows with every failed attempt (hysteresis); after
one failed attempt it goes on polling.
"""

from __future__ import annotations

from typing import NamedTuple

from simlib.core.reconnect import grown_s


class FallbackRules(NamedTuple):
    """The settings; without `is_on` a client never falls back.

    A client falls back after `after_failures` failures in a row, the lost connection included, or
    `after_s` seconds without a connection; also when its library gives up. After `return_s` seconds
    of polling it tries push again; this wait grows by `factor` up to `cap_s`.
    """

    is_on: bool
    after_failures: int
    after_s: float
    return_s: float
    factor: float
    cap_s: float


def falls_back(rule: FallbackRules, failures: int, fallbacks: int, away_s: float) -> bool:
    """Return whether a client falls back to polling now.

    Parameters
    ----------
    rule : FallbackRules
    failures : int
        How many in a row, this one included.
    fallbacks : int
        How often it has fallen back since its connection was last open.
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
    """Return whether a client that has polled for `polling_s` seconds tries push again.

    Examples
    --------
    >>> rule = FallbackRules(True, 3, 60.0, 300.0, 2.0, 3600.0)
    >>> returns(rule, 1, 300.0), returns(rule, 2, 300.0), returns(rule, 2, 600.0)
    (True, False, True)
    """
    return polling_s >= grown_s(rule.return_s, rule.factor, fallbacks - 1, rule.cap_s)
