"""How a server answers a poll: it reads the board, compares a version first, or has a copy.

*Comparing a version* (`Etag.VERSION`). A request that names the version which its client holds
first costs a look-up of the present one (`ServerRules.check_s`), at the start of its service. If
the two are one, that is all, and the answer is 304: a change that is made meanwhile comes with the
next poll. If not, the board is read as well (`ServerRules.poll_s`), and the answer shows it as it
is at the end of the service, as every board that is read. A request that names no version is
answered from the board at once: a client's first one, and a safety poll beside a WebSocket.

*A copy in memory* (`ServerRules.cache_s`). Each node keeps the last answer for so long after it was
ready, and meanwhile answers all polls from it, at `ServerRules.cached_s`. The first poll whose
service starts after that makes the next copy and pays for it: nothing is read ahead. Polls whose
service starts while a copy is made wait for it, and are answered from it. So nobody reads the board
a second time, and nobody is shown what is older than the copy: nginx's ``proxy_cache_lock``, Go's
``singleflight``, a promise that is remembered; not ``proxy_cache_use_stale updating``. A poll that
waits holds its worker, which counts as busy: where there is one worker, nobody waits that way, as
the copy is made by the time that it is free. With `Etag.VERSION` a copy that is too old is
first compared with the board, and kept for another cycle if nothing has changed (nginx's
``proxy_cache_revalidate``); whether a client is answered 304 depends on the copy.

Where clients have sockets, or requests that are held, nodes hear of changes in order to tell of
them, and a node drops its copy as it hears of a change (`ServerRules.drops_copy`), also one that is
just compared: whoever is told of a change and fetches it is not given what was there before. A
process that ends takes its copy with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from simlib.core.server import ServerRules, ServerState

NOTHING = -1
"""In place of a version: a client that names none, or an answer that is yet to be read."""
ANOTHER = -2
"""In place of a version: one that the server does not have."""


class Etag(IntEnum):
    """What a server makes of a request that names the version which its client holds."""

    OFF = 0
    CONTENT = 1
    VERSION = 2


class Answer(NamedTuple):
    """What answering a poll takes, and what it shows.

    Attributes
    ----------
    wait_s : float
        How long the worker first waits for a copy, seconds.
    cost_s : float
        The mean time of the work, seconds.
    version : int
        Which changes it shows, up to the one of this number; `NOTHING`: those that are made by the
        end of the work.
    is_kept : bool
        Whether it is the node's next copy, if nodes have copies.
    """

    wait_s: float
    cost_s: float
    version: int
    is_kept: bool


def has_shortcuts(rules: ServerRules, etag: int) -> bool:
    """Say whether some polls cost less than others."""
    return bool(rules.cache_s > 0.0 or etag == Etag.VERSION)


def version_named(etag: int, fetched_s: float, seen: int, has_gaps: bool) -> int:
    """Return the version that a client's request names, `NOTHING` if it names none.

    Parameters
    ----------
    etag : Etag
    fetched_s : float
        When the client last fetched, seconds; ``-inf`` if it never has.
    seen : int
        Up to which change it has seen the board.
    has_gaps : bool
        Whether it has missed changes before that one.

    Examples
    --------
    >>> version_named(Etag.CONTENT, 5.0, 7, False), version_named(Etag.OFF, 5.0, 7, False)
    (7, -1)
    """
    if etag == Etag.OFF or fetched_s == -math.inf:
        return NOTHING + 0
    return ANOTHER + 0 if has_gaps else seen + 0


def answer_of(
    rules: ServerRules,
    state: ServerState,
    heard_s: Sequence[float],
    etag: int,
    named: int,
    present: int,
    start_s: float,
) -> Answer:
    """Return how a node answers a poll whose service can start at `start_s`.

    Parameters
    ----------
    rules : ServerRules
    state : ServerState
        The node's.
    heard_s : sequence of float
        When the nodes hear of the changes, seconds.
    etag : Etag
    named : int
        What `version_named` returns for the client.
    present : int
        How many changes are made by `start_s`.
    start_s : float
        Seconds.

    Examples
    --------
    >>> costs = {name: 0.0 for name in ServerRules._fields}
    >>> rules = ServerRules(**{**costs, "poll_s": 0.5, "check_s": 0.25})
    >>> board = [1.0, 2.0]
    >>> answer_of(rules, ServerState(), board, Etag.VERSION, 2, 2, 9.0)
    Answer(wait_s=0.0, cost_s=0.25, version=2, is_kept=True)
    >>> answer_of(rules, ServerState(), board, Etag.VERSION, 1, 2, 9.0).cost_s
    0.75
    """
    if rules.cache_s > 0.0:
        if start_s < state.copied_s and not _is_dropped(rules, state, heard_s, start_s):
            wait_s = state.copied_s - start_s
            return Answer(wait_s, rules.cached_s + 0.0, state.copy_version + 0, False)
        if has_copy(rules, state, heard_s, start_s):
            return Answer(0.0, rules.cached_s + 0.0, state.copy_version + 0, False)
        named = state.copy_version if state.copy_until_s > 0.0 else NOTHING
    if etag == Etag.VERSION and named != NOTHING:
        if named == present:
            return Answer(0.0, rules.check_s + 0.0, present + 0, True)
        return Answer(0.0, rules.check_s + rules.poll_s, NOTHING + 0, True)
    return Answer(0.0, rules.poll_s + 0.0, NOTHING + 0, True)


def has_copy(
    rules: ServerRules, state: ServerState, heard_s: Sequence[float], start_s: float
) -> bool:
    """Say whether a node's copy may be shown at `start_s`, seconds.

    Examples
    --------
    >>> rules = {name: 0.0 for name in ServerRules._fields} | {"cache_s": 2.0}
    >>> state = ServerState()
    >>> keep(ServerRules(**rules), state, 0, 9.0)
    >>> [has_copy(ServerRules(**rules), state, [10.0], t) for t in (10.5, 11.0)]
    [True, False]
    >>> has_copy(ServerRules(**rules | {"drops_copy": True}), state, [10.0], 10.5)
    False
    """
    return start_s < state.copy_until_s and not _is_dropped(rules, state, heard_s, start_s)


def _is_dropped(
    rules: ServerRules, state: ServerState, heard_s: Sequence[float], start_s: float
) -> bool:
    """Say whether a node has heard by `start_s` of a change that its copy does not show."""
    if rules.drops_copy and state.copy_version < len(heard_s):
        return heard_s[state.copy_version] <= start_s
    return False


def keep(rules: ServerRules, state: ServerState, version: int, done_s: float) -> None:
    """Keep an answer as the node's copy, from when it is done on, if nodes have copies.

    `version` says which changes it shows.
    """
    if rules.cache_s > 0.0:
        state.copy_version = version
        state.copied_s = done_s
        state.copy_until_s = done_s + rules.cache_s
