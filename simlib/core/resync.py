"""Resynchronisation: which missed changes a client that reconnects gets, and how.

A change is pushed once, to the clients that are subscribed at that moment. Changes that a client
missed reach it by a *snapshot* of the whole board after it is authenticated; by *replay*, if it
names the last change that it has seen and the server still keeps the later ones; by *recovery* of
its session, as in Socket.IO; or never.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Resync(IntEnum):
    """How the server brings an authenticated client up to date."""

    NONE = 0
    SNAPSHOT = 1
    REPLAY = 2
    RECOVERY = 3


class Resume(IntEnum):
    """The outcome for one client: it missed nothing, has lost it, or gets it by a message."""

    NOTHING = 0
    LOST = 1
    SNAPSHOT = 2
    REPLAY = 3


class ResyncRules(NamedTuple):
    """The settings: `kind` is a `Resync`.

    `replay_changes` is how many of the latest changes the server keeps, `recovery_s` how long it
    keeps a session, seconds. Changes that can be neither replayed nor recovered come as a snapshot
    if `or_snapshot` is set, and are lost otherwise.
    """

    kind: int
    replay_changes: int
    recovery_s: float
    or_snapshot: bool


def resume_outcome(
    rules: ResyncRules, seen: int, version: int, kept_from: int, has_session: bool, away_s: float
) -> int:
    """Return how a client that is authenticated gets the changes that it missed.

    Parameters
    ----------
    rules : ResyncRules
    seen, version : int
        How many changes the client has seen, and how many there are.
    kept_from : int
        How many changes there were when the server's process started: it keeps none of these.
    has_session : bool
        Whether the same process has served the client before, and sent it something: Socket.IO
        does not recover a session whose client holds no offset.
    away_s : float
        How long the client had no connection, seconds.

    Returns
    -------
    Resume

    References
    ----------
    socket.io-adapter 2.5.8, ``SessionAwareAdapter``: the conditions of a recovery.

    Examples
    --------
    >>> replay = ResyncRules(Resync.REPLAY, 10, 0.0, False)
    >>> [Resume(resume_outcome(replay, seen, 20, 0, False, 5.0)).name for seen in (20, 10, 9)]
    ['NOTHING', 'REPLAY', 'LOST']
    """
    if rules.kind == Resync.SNAPSHOT:
        return Resume.SNAPSHOT + 0
    if seen >= version:
        return Resume.NOTHING + 0
    if rules.kind == Resync.REPLAY and seen >= max(kept_from, version - rules.replay_changes):
        return Resume.REPLAY + 0
    if rules.kind == Resync.RECOVERY and has_session and away_s <= rules.recovery_s:
        return Resume.REPLAY + 0
    if rules.kind != Resync.NONE and rules.or_snapshot:
        return Resume.SNAPSHOT + 0
    return Resume.LOST + 0
