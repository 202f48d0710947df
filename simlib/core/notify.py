"""A client that is told of changes and fetches them: its socket says that something has changed.

The connection is that of `websocket`: handshake, heartbeats, waits. A message on it has no data
but the number of the latest change. The client then fetches by HTTP, beside its socket, what a poll
fetches, as a message handler does that calls TanStack Query's ``invalidateQueries``. With a window
(`Rules.spread_s`) each client waits a random part of it first, so that not all of them fetch at
once.

What a client is told while it waits is *coalesced*: one fetch brings all of it. What it is told
while it fetches is a matter of its library (`OnHint`):

* it *queues one* more fetch, which follows only if the reply was read before the latest change that
  the client knows of. RTK Query does so, and who holds ``invalidateQueries`` back until the fetch
  is over;
* it gives the fetch up and *restarts*: ``invalidateQueries`` of TanStack Query, ``mutate`` of SWR,
  ``switchMap`` of RxJS. The server has worked for nothing, and changes that come faster than a
  fetch are not shown until they stop for so long. The connection is closed, as browsers do for a
  query function that hands its ``signal`` on; without it, and in SWR, the reply still comes and is
  left unread. What is given up while its connection opens counts as sent. With a window, the fetch
  under way goes on until the wait is over, and what is told meanwhile joins it.

Libraries that *join* the fetch under way are not modelled: Apollo, ``cancelRefetch: false``,
``exhaustMap``. They may never show the last change.

When a socket opens, READY names the latest change, and a client that has not seen it fetches.

A fetch that fails is tried again as a poll is, and after its last try the client waits for the next
change. With a safety poll (`Rules.safety_poll_s`), it also fetches so long after its last fetch.

While a card is dragged the query is disabled: nothing begins to be fetched, but a fetch that has
begun is tried again, and is not given up for what is told meanwhile. A hidden tab fetches what it
is told of. Its safety polls are skipped, as in `polling`, and a retry is held back until the tab is
shown or the client is told of more.
"""

from __future__ import annotations

from enum import IntEnum

from simlib.core.client_state import NEVER_S, Client, Rules, see_all
from simlib.core.draws import Stream, uniform
from simlib.core.polling import is_disabled, is_stale, retry_delay_s
from simlib.core.protocol import Action, Event, Pause
from simlib.core.websocket import opened, watch

FETCHES = (1 << 15) - 1
"""How many fetches have numbers of their own, before the numbers begin anew."""


class OnHint(IntEnum):
    """What a client does that is told of a change while it fetches."""

    QUEUE_ONE = 0
    RESTART = 1


def is_awaited(client: Client, exchange: int, number: int) -> bool:
    """Say whether a client still waits for the reply to a fetch, by its number and its exchange.

    Examples
    --------
    >>> client = Client(0)
    >>> client.fetch_number = 3
    >>> is_awaited(client, 0, 3), is_awaited(client, 0, 2)
    (True, False)
    """
    return bool(client.exchange == exchange and client.fetch_number == number)


def concerns_data(client: Client, event: int, now: float) -> bool:
    """Say whether an event of an open socket is about what the client fetches.

    The others, its heartbeats and its end, are those of every socket: see `websocket`.
    """
    if event == Event.DEADLINE:
        return bool(client.fetch_due_s <= now)
    is_reply = Event.FETCHED <= event <= Event.FAILED
    return bool(event == Event.READY or event == Event.PUSH or is_reply)


def on_data(client: Client, rules: Rules, event: int, now: float, value: int) -> int:
    """Handle an event that `concerns_data`; `value` is the number of the latest change."""
    if event == Event.READY:
        _end_fetch(client)
        client.fetch_failures = 0
        client.fetch_due_s = now + rules.safety_poll_s
        client.told = client.seen
        opened(client, rules, now)
        return _hear_of(client, rules, now, value)
    if event == Event.PUSH:
        return _hear_of(client, rules, now, value)
    if event == Event.DEADLINE:
        return _on_due(client, rules, now)
    _end_fetch(client)
    if event == Event.FAILED:
        return _on_failure(client, rules, now)
    client.fetch_failures = 0
    client.fetched_s = now
    if event == Event.FETCHED:
        see_all(client, value)
    return _go_on(client, rules, now)


def on_pause(client: Client, rules: Rules, event: int, now: float) -> int:
    """A drag ends, or the tab is shown: fetch what was put off, or what is stale."""
    if client.fetch_failures > 0 and not _is_fetching(client):
        if event == Event.SHOW and _is_held(client):
            return _fetch(client, rules, now)
        return Action.NONE  # a retry is due, and whatever comes up now joins it
    if _is_fetching(client) or is_disabled(client, rules):
        return Action.NONE
    is_old = is_stale(now, client.fetched_s, rules.stale_s)
    if event == Event.SHOW and rules.refetch_on_focus and is_old:
        return _fetch(client, rules, now)
    if event == Event.DRAG_END and rules.pause_while_dragging:
        if is_old or client.told > client.seen:
            return _fetch(client, rules, now)
        client.fetch_due_s = now + rules.safety_poll_s
        watch(client, rules, client.beat_s, now)
    return Action.NONE


def _hear_of(client: Client, rules: Rules, now: float, version: int) -> int:
    """The client is told of change number `version`."""
    is_due = client.told > client.seen and not _is_held(client)
    client.told = max(client.told, version)
    if client.told <= client.seen:
        return Action.NONE
    restarts = rules.on_hint == OnHint.RESTART
    if _is_fetching(client):
        if not restarts:
            return Action.NONE  # another fetch may follow, see `_go_on`
        is_due = client.fetch_due_s < NEVER_S  # the wait for a restart
    elif client.fetch_failures > 0 and rules.spread_s == 0.0:
        is_due = is_due and not restarts
    if is_due:
        return Action.NONE
    return _fetch_soon(client, rules, now)


def _is_fetching(client: Client) -> bool:
    return bool(client.fetch_number > 0)


def _end_fetch(client: Client) -> None:
    if client.fetch_number > 0:
        client.fetch_number = -client.fetch_number


def _is_held(client: Client) -> bool:
    """Say whether a retry is held back because the tab is hidden."""
    is_waiting = client.fetch_failures > 0 and not _is_fetching(client)
    return bool(is_waiting and client.fetch_due_s == NEVER_S)


def _fetch_soon(client: Client, rules: Rules, now: float) -> int:
    """Begin a fetch now, or after a random part of the window."""
    if is_disabled(client, rules):
        return Action.NONE  # when the drag ends: see `on_pause`
    client.fetch_failures = 0
    if rules.spread_s == 0.0:
        return _fetch(client, rules, now)
    u = uniform(rules.seed, rules.replication, client.number, Stream.SPREAD, client.told)
    client.fetch_due_s = now + rules.spread_s * u
    watch(client, rules, client.beat_s, now)
    return Action.NONE


def _fetch(client: Client, rules: Rules, now: float) -> int:
    gives_up = _is_fetching(client)
    client.fetch_number = abs(client.fetch_number) % FETCHES + 1
    client.fetch_due_s = NEVER_S
    watch(client, rules, client.beat_s, now)
    return Action.FETCH | Action.GIVE_UP_FETCH if gives_up else Action.FETCH + 0


def _on_due(client: Client, rules: Rules, now: float) -> int:
    """The wait, the retry or the safety poll is due."""
    is_hidden = bool(client.pauses & Pause.HIDDEN)
    is_put_off = is_hidden if client.fetch_failures > 0 else is_disabled(client, rules)
    if is_put_off:
        client.fetch_due_s = NEVER_S  # see `on_pause`
    elif is_hidden and rules.pause_while_hidden and client.told <= client.seen:
        client.fetch_due_s = now + rules.safety_poll_s  # the tick is skipped, the grid goes on
    else:
        return _fetch(client, rules, now)
    watch(client, rules, client.beat_s, now)
    return Action.NONE


def _on_failure(client: Client, rules: Rules, now: float) -> int:
    client.fetch_failures += 1
    retry_s = NEVER_S
    if client.fetch_failures <= rules.retries:
        delay_s = retry_delay_s(client.fetch_failures, rules.retry_base_s, rules.retry_cap_s)
        retry_s = now + delay_s
    is_waiting = client.fetch_due_s < NEVER_S  # for a restart, which a hidden tab does not put off
    if is_waiting and (client.fetch_due_s <= retry_s or client.pauses & Pause.HIDDEN):
        client.fetch_failures = 0
        return Action.NONE
    if retry_s < NEVER_S:
        client.fetch_due_s = retry_s
        watch(client, rules, client.beat_s, now)
        return Action.NONE
    client.fetch_failures = 0
    client.told = client.seen + 0
    return _go_on(client, rules, now)


def _go_on(client: Client, rules: Rules, now: float) -> int:
    """A fetch is over: another one follows if the client has been told of more."""
    if client.told > client.seen and client.fetch_due_s < NEVER_S:
        return Action.NONE  # it is due already: the wait for a restart
    client.fetch_due_s = now + rules.safety_poll_s
    watch(client, rules, client.beat_s, now)
    if client.told > client.seen:
        return _fetch_soon(client, rules, now)
    return Action.NONE
