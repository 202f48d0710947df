"""The cadence of a polling client: TanStack Query's arithmetic, or ``setInterval``'s.

The interval timer is cleared and set again whenever the query's state changes, so the next fetch
starts one interval after the last one *ended*: the period is interval + fetch time and requests
never pile up (TanStack Query v5, ``queryObserver.ts``). Retries wait 1, 2, 4 s without jitter
(``retryer.ts``). A tick while the tab is hidden is skipped, and the grid of ticks goes on.

At a *fixed rate* (`Rules.fixed_rate`) ticks come at start + k * interval whatever the answers
take, as those of ``setInterval``. One request is under way at a time: a tick that comes before the
answer, or before the last retry, is skipped, as by ``if (inFlight) return`` or by RxJS's
``exhaustMap``. Nothing moves the ticks: neither a pause, nor a fetch on focus or at a drop. All
else is as above. (A ``setInterval`` without such a guard lets requests overlap when answers take
longer than the interval, which is not modelled.)

An *adaptive* interval is that of a function (TanStack Query's ``refetchInterval``, SWR's
``refreshInterval``): it is asked whenever the timer is set, which is after each fetch. A tab that
is hidden then waits for `Rules.hidden_interval_s`; one that has been shown a change, or whose user
has dropped a card, up to `Rules.active_for_s` ago waits for `Rules.active_interval_s`. A timer that
runs already is left alone, so a tab that is shown again goes on waiting, unless it fetches on
focus.
"""

from __future__ import annotations

import math

from simlib.core.answers import Etag
from simlib.core.client_state import (
    NEVER_S,
    Client,
    Differs,
    Rules,
    assigned_transport,
    fetch,
    move,
    see_all,
)
from simlib.core.draws import Stream, uniform
from simlib.core.fallback import returns
from simlib.core.long_polling import set_out
from simlib.core.protocol import Action, Event, Pause, State, Transport
from simlib.core.reconnect import doubled_s
from simlib.core.wire import Message


def next_tick_s(now: float, interval_s: float, jitter_frac: float, u: float) -> float:
    """Return when the interval timer that is set at `now` fires.

    Parameters
    ----------
    now, interval_s : float
        Seconds.
    jitter_frac : float
        The interval is drawn from interval * U(1 - jitter, 1 + jitter); 0 to 1.
    u : float
        A uniform draw on [0, 1); ignored without jitter.

    Examples
    --------
    >>> next_tick_s(100.0, 30.0, 0.0, 0.9)
    130.0
    """
    return now + interval_s * (1.0 + jitter_frac * (2.0 * u - 1.0))


def next_on_grid_s(now: float, start_s: float, interval_s: float) -> float:
    """Return the first of the ticks at start + k * interval that comes after `now`.

    Parameters
    ----------
    now, start_s, interval_s : float
        Seconds; ``now >= start_s``.

    Examples
    --------
    >>> [next_on_grid_s(now, 4.0, 10.0) for now in (4.0, 13.5, 14.0, 36.0)]
    [14.0, 14.0, 24.0, 44.0]
    """
    k = math.floor((now - start_s) / interval_s)
    while start_s + k * interval_s <= now:
        k += 1
    return start_s + k * interval_s


def retry_delay_s(failures: int, base_s: float, cap_s: float) -> float:
    """Return the wait before a failed fetch is tried again.

    Examples
    --------
    >>> [retry_delay_s(k, 1.0, 30.0) for k in (1, 2, 3)]
    [1.0, 2.0, 4.0]
    """
    return doubled_s(base_s, failures - 1, cap_s)


def is_stale(now: float, fetched_s: float, stale_s: float) -> bool:
    """Return whether data fetched at `fetched_s` may be fetched again (``staleTime``).

    Examples
    --------
    >>> is_stale(10.0, 10.0, 0.0), is_stale(12.0, 10.0, 5.0)
    (True, False)
    """
    return now - fetched_s >= stale_s


def is_kept(opened_s: float, kept_until_s: float, now: float) -> bool:
    """Return whether a poll can use the connection of the poll before.

    Parameters
    ----------
    opened_s : float
        When that connection was opened, seconds; infinite if there is none.
    kept_until_s : float
        Until when the server keeps it open, seconds.
    now : float
        Seconds.

    Examples
    --------
    >>> is_kept(0.0, 75.0, 30.0), is_kept(0.0, 75.0, 80.0), is_kept(math.inf, 75.0, 30.0)
    (True, False, False)
    """
    return opened_s < math.inf and kept_until_s >= now


def is_unchanged(etag: int, fetched_s: float, seen: int, version: int) -> bool:
    """Return whether the server answers 304: the client names the version that is shown.

    Examples
    --------
    >>> is_unchanged(Etag.CONTENT, 5.0, 7, 7), is_unchanged(Etag.CONTENT, -math.inf, 0, 0)
    (True, False)
    """
    return bool(etag != Etag.OFF and fetched_s > -math.inf and seen == version)


def request_of(etag: int, fetched_s: float, first: int) -> int:
    """Return which request a client sends; the first on a connection has uncompressed headers.

    Examples
    --------
    >>> Message(request_of(Etag.CONTENT, 5.0, 0)).name
    'POLL_CONDITIONAL'
    """
    if etag != Etag.OFF and fetched_s > -math.inf:
        return Message.POLL_CONDITIONAL - first
    return Message.POLL_REQUEST - first


def reply_of(unchanged: bool, first: int) -> int:
    """Return which response the client receives.

    Examples
    --------
    >>> Message(reply_of(False, 1)).name
    'POLL_RESPONSE_FIRST'
    """
    return (Message.NOT_MODIFIED if unchanged else Message.POLL_RESPONSE) - first


def on_poll(client: Client, rules: Rules, event: int, now: float, value: int) -> int:
    """Handle an event of a polling client: a response, a failure, its timer."""
    if event == Event.FETCHED or event == Event.UNCHANGED:
        client.failures = 0
        client.fetched_s = now
        if event == Event.FETCHED:
            if value > client.seen:
                stir(client, rules, now)
            see_all(client, value)
        rearm(client, rules, now)
    elif event == Event.FAILED:
        client.failures += 1
        if client.failures <= rules.retries:
            client.deadline_s = now + retry_delay_s(
                client.failures, rules.retry_base_s, rules.retry_cap_s
            )
        else:
            move(client, Event.EXHAUST)
            client.failures = 0
            rearm(client, rules, now)
    elif event == Event.DEADLINE:
        hidden = client.pauses & Pause.HIDDEN
        if client.state == State.RETRYING and hidden:
            return Action.NONE  # held back until the tab is shown
        if client.state == State.IDLE and hidden and rules.pause_while_hidden:
            rearm(client, rules, now)  # the tick is skipped, the grid goes on
            return Action.NONE
        if (
            rules.fallback.is_on
            and assigned_transport(client, rules) != Transport.POLLING
            and client.state == State.IDLE
            and returns(rules.fallback, client.fallbacks, now - client.since_s)
        ):
            client.transport = assigned_transport(client, rules)
            client.since_s = now
            client.fetch_due_s = NEVER_S
            return Action.CLOSE | set_out(client, rules, now)
        return fetch(client)
    return Action.NONE


def change_poll_rules(client: Client, rules: Rules, now: float) -> int:
    """A polling client obeys other rules from now on, which the flag has given to its tab.

    As TanStack Query's ``setOptions`` does it, another interval sets the timer anew, and a query
    that is no longer disabled fetches if its data is stale. What is under way goes on.
    """
    if rules.differs & Differs.POLL_TIMER:
        start_ticks(client, rules, now)
    if client.state != State.IDLE:
        return Action.NONE
    was_disabled = client.deadline_s == NEVER_S
    disabled = is_disabled(client, rules)
    if was_disabled and not disabled and is_stale(now, client.fetched_s, rules.stale_s):
        return fetch(client)
    if was_disabled != disabled or rules.differs & Differs.POLL_TIMER:
        rearm(client, rules, now)
    return Action.NONE


def is_disabled(client: Client, rules: Rules) -> bool:
    """Say whether the query is disabled: a card is being dragged."""
    return bool(client.pauses & Pause.DRAGGING) and rules.pause_while_dragging


def start_ticks(client: Client, rules: Rules, now: float) -> None:
    """From `now` on the client polls by these rules: at a fixed rate, its ticks count from here."""
    if rules.fixed_rate:
        client.since_s = now


def rearm(client: Client, rules: Rules, now: float) -> None:
    """Set the interval timer anew, `now`; at a fixed rate, for the tick that comes next."""
    if is_disabled(client, rules):
        client.deadline_s = NEVER_S
        return
    if rules.fixed_rate:
        client.deadline_s = next_on_grid_s(now, client.since_s, rules.interval_s)
        return
    u = 0.5
    if rules.jitter_frac > 0.0:
        u = uniform(rules.seed, rules.replication, client.number, Stream.POLL_JITTER, client.draws)
        client.draws += 1
    interval_s = present_interval_s(client, rules, now)
    client.deadline_s = next_tick_s(now, interval_s, rules.jitter_frac, u)


def present_interval_s(client: Client, rules: Rules, now: float) -> float:
    """Return the interval of the timer that is set `now`, seconds.

    Examples
    --------
    >>> from simlib.scenario import Scenario, compile_workload
    >>> board = Scenario(
    ...     updates={"rate_per_s": 0.1}, polling={"active_interval_s": 5, "active_for_s": 60}
    ... )
    >>> client, rules = Client(0), compile_workload(board, 1, 0).rules
    >>> stir(client, rules, 100.0)
    >>> [present_interval_s(client, rules, now) for now in (100.0, 159.0, 160.0)]
    [5.0, 5.0, 30.0]
    """
    if rules.hidden_interval_s < NEVER_S and client.pauses & Pause.HIDDEN:
        return rules.hidden_interval_s + 0.0
    if rules.active_interval_s < NEVER_S and now < client.fetch_due_s < NEVER_S:
        return rules.active_interval_s + 0.0
    return rules.interval_s + 0.0


def stir(client: Client, rules: Rules, now: float) -> None:
    """The board has moved `now`, or the user has: the client polls faster for a while."""
    if rules.active_interval_s < NEVER_S:
        client.fetch_due_s = now + rules.active_for_s
