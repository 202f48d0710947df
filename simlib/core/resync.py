"""What a client that comes back has missed, and whether it still gets it.

A push comes once, to whoever listens at that moment. What happened while a client was away reaches
it by a *snapshot* of the whole board after it is let in; by *replay*, where it names the last
change that it has seen and the server still keeps those after it; by *recovery* of its session, as
Socket.IO does it; or never.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple


class Resync(IntEnum):
    """What the server does for a client that it lets in."""

    NONE = 0
    SNAPSHOT = 1
    REPLAY = 2
    RECOVERY = 3


class Resume(IntEnum):
    """How one client gets what it missed: there is nothing, it is lost, or by which message."""

    NOTHING = 0
    LOST = 1
    SNAPSHOT = 2
    REPLAY = 3


class ResyncRules(NamedTuple):
    """The settings: `kind` is a `Resync`.

    `replay_changes` is how many of the latest changes the server keeps, `recovery_s` for how long
    it keeps a session, seconds. What can be neither replayed nor recovered comes as a snapshot if
    `or_snapshot`, and is lost if not.
    """

    kind: int
    replay_changes: int
    recovery_s: float
    or_snapshot: bool


def resume_outcome(
    rules: ResyncRules, seen: int, version: int, kept_from: int, has_session: bool, away_s: float
) -> int:
    """Return how a client that is let in gets what it has missed.

    Parameters
    ----------
    rules : ResyncRules
    seen, version : int
        Changes that the client has seen, and that there are.
    kept_from : int
        Changes that the server's process was started after: it keeps none of them.
    has_session : bool
        Whether this very process has served the client before, and sent it something: Socket.IO
        recovers no session whose client holds no offset.
    away_s : float
        How long the client had no connection, seconds.

    Returns
    -------
    Way

    References
    ----------
    socket.io-adapter 2.5.8, ``SessionAwareAdapter``: what recovery asks for.

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
