"""The scenario: everything that a run depends on except its seed.

The models are frozen and strict: a wrong type, an unknown key or a contradiction is an error that
names path, value and rule. Scenarios are read from and written as TOML; `Scenario.replace` returns
a changed copy.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import pydantic
from pydantic import Field, PrivateAttr

from simlib.core.browser import polls_beside
from simlib.core.faults import FAULTS
from simlib.core.protocol import TRANSPORT_NAMES, Transport, is_stream
from simlib.core.reconnect import POLICIES
from simlib.core.streams import sent_as
from simlib.core.wire import Message, WireSpec, message_sizes
from simlib.errors import ScenarioError
from simlib.renamed import warn
from simlib.scenario.changes import read_changes
from simlib.scenario.curve import Curve, interpolated
from simlib.scenario.fields import (
    FROM_LIST,
    LONGEST_S,
    MOST_CLIENTS,
    Counting,
    Delays,
    FieldError,
    Fraction,
    NotNegative,
    Positive,
    Rate,
    Section,
    Size,
    at_least,
    belongs_to,
    example_path,
    fits_its_kind,
    present_path,
    read_toml,
    scenario_error,
)
from simlib.scenario.places import in_file
from simlib.scenario.reading import MOST_DATA_BYTES, read_text
from simlib.scenario.settings import unknown_field
from simlib.scenario.units import Bytes, Seconds, parse_duration_s

MOST_CHANGES = 20_000_000
MOST_GIVEN_TIMES = 5_000
MOST_BATCHES = 10_000
MOST_BINS = 1_000_000
# In the repository a link to data/scenarios, in a wheel the files themselves.
_EXAMPLES = Path(__file__).parent / "examples"
SHORTEST_S = 1e-3
NO_SAFETY_POLLS = (
    "must be absent when network.connections_per_user is given: safety polls beside a connection "
    "that is pushed to are not in the browser's limit"
)


Point = Annotated[tuple[NotNegative, Annotated[float, Field(ge=0, le=1e6)]], FROM_LIST]
"""A point of a curve: a time, seconds, and a rate relative to the others."""
Points = Annotated[tuple[Point, ...], Field(min_length=2, max_length=1000), FROM_LIST]


class Sessions(Section):
    """Sessions that begin during the run, beside those present from the start."""

    arrivals_per_s: Rate
    """New sessions per second; with a curve, its mean from its first point to its last.
    Elsewhere: arrivalRate (Artillery)."""
    arrivals: Literal["poisson", "even", "curve"] = "poisson"
    """How they arrive: independently (poisson); evenly spaced, the first one gap after the start
    (even); or independently at a rate that changes over the day (curve).
    Elsewhere: constant-arrival-rate (k6: even)."""
    curve: Points | None = None
    """Points of the rate over time: pairs of a time, seconds, and a rate, of which only the ratios
    count, since the mean is `arrivals_per_s`. The first time is 0, the start of the run. The rate
    is linear between two points, and after the last one the curve begins again.
    Elsewhere: ramping-arrival-rate (k6); rampTo (Artillery)."""
    length_s: Positive
    """Mean session length, seconds, of every session, those from the start included."""
    length: Literal["exponential", "constant"] = "exponential"
    """Distribution of the session length."""

    @pydantic.model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        fits_its_kind(self, "arrivals", {"curve": ("curve",)})
        if self.curve is None:
            return self
        if self.curve[0][0] != 0.0:
            raise FieldError("curve.0.0", self.curve[0][0], "must be 0, the start of the run")
        for number, ((before_s, _), (t_s, _)) in enumerate(pairwise(self.curve), start=1):
            if t_s - before_s < SHORTEST_S:
                rule = f"must be >= {before_s + SHORTEST_S:.12g}: times ascend by 1 ms or more"
                raise FieldError(f"curve.{number}.0", t_s, rule)
        if not any(rate for _, rate in self.curve):
            raise FieldError("curve", self.curve, "must have a rate above 0")
        return self

    def at_once(self) -> float:
        """Return how many of the new sessions are there at the busiest time (Little's law)."""
        peak = 1.0 if self.curve is None else Curve(self.curve).peak
        return self.arrivals_per_s * peak * self.length_s

    def expected(self, until_s: float) -> float:
        """Return how many new sessions are expected until a time, seconds."""
        if self.curve is None:
            return self.arrivals_per_s * until_s
        return self.arrivals_per_s * float(Curve(self.curve).passed_s(until_s))


def _ascending(given: Any) -> Any:
    """Return ascending times as a tuple; the first that is wrong is the only one reported."""
    given = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(given, list | tuple):
        raise ValueError("must be a list of times")
    if len(given) > MOST_GIVEN_TIMES:
        raise ValueError(f"must have at most {MOST_GIVEN_TIMES}; a file (kind trace) may have more")
    times: list[float] = []
    for number, value in enumerate(given):
        try:
            t_s = parse_duration_s(value)
        except ValueError as error:
            raise FieldError(str(number), value, str(error)) from None
        if isinstance(t_s, bool) or not isinstance(t_s, int | float):
            raise FieldError(str(number), value, "must be a number")
        before_s = times[-1] if times else 0.0
        if not before_s <= t_s <= LONGEST_S:  # nan is not either
            rule = f"must be >= {before_s:.12g}: times ascend, and are at most {LONGEST_S:g}"
            raise FieldError(str(number), value, rule)
        times.append(float(t_s))
    return tuple(times)


def _etag_kind(given: Any) -> Any:
    """Read what was a switch before there were kinds of tags."""
    if not isinstance(given, bool):
        return given
    kind = "content" if given else "off"
    warn(f"polling.etag = {str(given).lower()}", f'polling.etag = "{kind}"')
    return kind


class Updates(Section):
    """The stream of changes to the server's state; every change is for every client."""

    kind: Literal["poisson", "bursts", "trace", "times"] = "poisson"
    """Independent changes, bursts of changes, or times, read from a file (trace) or given here."""
    rate_per_s: Annotated[float, Field(ge=0, le=1e6)] | None = None
    """Changes (poisson) or bursts (bursts) per second; 0: nothing changes in the whole run."""
    burst_size: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Changes in a burst."""
    burst_gap_s: NotNegative | None = None
    """Time between the changes of a burst, seconds."""
    trace: str | None = None
    """CSV file with a column ``publish_s``, ascending; relative to the scenario's file."""
    publish_s: Annotated[tuple[float, ...], pydantic.BeforeValidator(_ascending)] | None = None
    """The times of the changes, seconds, ascending, at most 5,000; in Python a NumPy array will
    do. Those from the horizon on are left out."""
    delta_bytes: Size = 105
    """JSON of one change, bytes."""
    snapshot_bytes: Size = 5304
    """JSON of the whole board, bytes."""

    @pydantic.model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        needs = {
            "poisson": ("rate_per_s",),
            "bursts": ("rate_per_s", "burst_size", "burst_gap_s"),
            "trace": ("trace",),
            "times": ("publish_s",),
        }
        fits_its_kind(self, "kind", needs)
        return self

    def expected(self, until_s: float) -> float:
        """Return how many changes are expected until a time, seconds; those of a trace count 0."""
        if self.publish_s is not None:
            return float(bisect_left(self.publish_s, until_s))
        return (self.rate_per_s or 0.0) * (self.burst_size or 1) * until_s


class Polling(Section):
    """The polling client, by TanStack Query's rule or at a fixed rate."""

    interval_s: Positive = 30.0
    """``refetchInterval``, seconds, counted from the end of the last fetch, or from one tick to the
    next: see `timer`.
    Elsewhere: refetchInterval (TanStack Query, ms); refreshInterval (SWR, ms); pollInterval (Apollo
    Client, ms); pollingInterval (RTK Query, ms)."""
    jitter_frac: Fraction = 0.0
    """Interval drawn from interval * U(1 - jitter, 1 + jitter)."""
    timer: Literal["after_answer", "fixed_rate"] = "after_answer"
    """When the next poll is due: one interval after the last fetch ended, retries included
    (after_answer), or at start + k * interval whatever the answers take (fixed_rate). One request
    is under way at a time: at a fixed rate, a tick that comes before the answer is skipped, as by
    ``if (inFlight) return``; pauses and fetches between two ticks do not move the ticks.
    Elsewhere: setInterval (browsers: fixed_rate); exhaustMap (RxJS: fixed_rate)."""
    pause_while_dragging: bool = True
    """No fetch while a card is dragged, and one at once when it is dropped."""
    pause_while_hidden: bool = True
    """Ticks are skipped while the tab is hidden (``refetchIntervalInBackground`` false).
    Elsewhere: refetchIntervalInBackground (TanStack Query: the opposite); refreshWhenHidden (SWR:
    the opposite); skipPollingIfUnfocused (RTK Query)."""
    refetch_on_focus: bool = True
    """One fetch at once when the tab is shown (``refetchOnWindowFocus``).
    Elsewhere: refetchOnWindowFocus (TanStack Query); revalidateOnFocus (SWR); refetchOnFocus (RTK
    Query)."""
    stale_s: NotNegative = 0.0
    """``staleTime``, seconds: younger data is not fetched again at a drop or on focus.
    Elsewhere: staleTime (TanStack Query, ms); dedupingInterval (SWR, ms, from the start of a fetch,
    for polls too); focusThrottleInterval (SWR, ms, for focus alone)."""
    retries: Annotated[int, Field(ge=0, le=100)] = 3
    """Further tries of a failed fetch.
    Elsewhere: retry (TanStack Query); errorRetryCount (SWR)."""
    retry_base_s: Positive = 1.0
    """Wait before the first retry, seconds; doubles each time.
    Elsewhere: retryDelay (TanStack Query, a function of the attempt, ms)."""
    retry_cap_s: Positive = 30.0
    """Longest wait before a retry, seconds.
    Elsewhere: retryDelay (TanStack Query, a function of the attempt, ms)."""
    hidden_interval_s: Positive | None = None
    """The interval of a tab that is hidden when the timer is set, seconds, in place of pausing
    while it is hidden; absent: `interval_s`. A timer that is set goes on as it is."""
    active_interval_s: Positive | None = None
    """The interval while something happens, seconds, for `active_for_s` after the client has been
    shown a change or its user has dropped a card; absent: `interval_s`. It is chosen when the timer
    is set, as where TanStack Query or SWR are given a function for the interval; of a hidden tab,
    `hidden_interval_s` goes first."""
    active_for_s: Positive | None = None
    """How long `active_interval_s` holds after a change or a drop, seconds."""
    etag: Annotated[Literal["off", "content", "version"], pydantic.BeforeValidator(_etag_kind)] = (
        "off"
    )
    """Conditional requests: an unchanged board is answered 304 without a body. With a hash of the
    content (content) the server reads the board all the same: that saves bytes, and no work. With a
    version that it compares first (version) an unchanged board costs it `server.check_s`. A proxy
    that compresses may change the tag, so that nothing is ever unchanged: see the reference.
    Elsewhere: ETag, If-None-Match (HTTP headers)."""

    @pydantic.model_validator(mode="after")
    def _cap_above_base(self) -> Self:
        at_least(self, "retry_cap_s", "retry_base_s")
        return self

    @pydantic.model_validator(mode="after")
    def _fits_its_timer(self) -> Self:
        if self.timer == "fixed_rate" and self.jitter_frac > 0.0:
            rule = 'has no meaning when timer is "fixed_rate": must be 0'
            raise FieldError("jitter_frac", self.jitter_frac, rule)
        if self.timer == "fixed_rate" and self.interval_s < SHORTEST_S:
            rule = f'must be >= {SHORTEST_S:g} when timer is "fixed_rate"'
            raise FieldError("interval_s", self.interval_s, rule)
        return self

    @pydantic.model_validator(mode="after")
    def _fits_its_intervals(self) -> Self:
        for name in ("hidden_interval_s", "active_interval_s"):
            if self.timer == "fixed_rate" and getattr(self, name) is not None:
                rule = 'has no meaning when timer is "fixed_rate": must be absent'
                raise FieldError(name, getattr(self, name), rule)
        if self.hidden_interval_s is not None and self.pause_while_hidden:
            rule = "has no meaning when pause_while_hidden is true: a hidden tab does not poll"
            raise FieldError("hidden_interval_s", self.hidden_interval_s, rule)
        belongs_to(self, "active_for_s", "active_interval_s")
        if self.active_interval_s is not None and self.active_for_s is None:
            raise FieldError("active_for_s", None, "must be given with active_interval_s")
        return self


class WebSocket(Section):
    """The client that is pushed to: on a WebSocket, and as far as that has it, on a stream."""

    push: Literal["delta", "snapshot"] = "delta"
    """A push carries the one change, or the whole board; so does an answer of `long_polling`."""
    resync: Literal["none", "snapshot", "replay", "recovery"] = "snapshot"
    """How a client that reconnects gets the changes that it missed: see `core.resync`."""
    replay_changes: Counting | None = None
    """How many of the latest changes the server keeps for a replay.
    Elsewhere: history_size (Centrifugo)."""
    recovery_s: Positive | None = None
    """How long the server keeps the session of a lost connection, seconds (Socket.IO: 120).
    Elsewhere: connectionStateRecovery.maxDisconnectionDuration (Socket.IO, ms)."""
    or_snapshot: bool = False
    """Changes that can be neither replayed nor recovered come as a snapshot, or else are lost."""
    open_timeout_s: Positive = 20.0
    """Longest time from the start of an attempt to READY, seconds.
    Elsewhere: timeout (socket.io-client, ms); open_timeout (Python websockets); handshakeTimeout
    (ws, ms)."""
    upgrade_timeout_s: NotNegative = 0.0
    """Longest time from the upgrade request to its answer, seconds, in place of what is left of
    `open_timeout_s`; 0: that goes on."""
    ready_timeout_s: NotNegative = 0.0
    """Longest time from the upgrade to READY, seconds, in place of what is left of the time-outs
    above; 0: they go on. On a stream READY comes with the answer."""
    safety_poll_s: Annotated[Seconds, Field(ge=1e-3, le=LONGEST_S)] | None = None
    """Time between polls of a client whose connection is open, seconds; absent: no such polls.
    A safety poll does not wait for the answer to the one before, and is not retried. It goes on the
    connection that the one before has left, as long as the server keeps that
    (`server.keep_alive_s`) and the socket beside is open; where its path has died, nothing answers,
    and the next one opens another. Missed changes that it brings are late, not lost; `core.record`
    says how many gaps a client may have. With `notify` it is a fetch like the others, and its time
    counts from the end of the last one."""
    safety_poll_restart: bool = False
    """Whether a message that arrives starts the time to the next safety poll anew. So it is where a
    push is written into TanStack Query's cache: its interval begins again at each
    ``setQueryData``. SWR's ``mutate(data, false)``, Apollo's ``writeQuery`` and RTK Query's
    ``updateQueryData`` leave the timer alone. `notify` counts from the last fetch in any case."""
    token_valid_s: Positive | None = None
    """How long a token is valid from the start of a session, seconds; absent: for ever.
    Elsewhere: exp (a claim of a JSON Web Token, a point in time)."""
    token_resent: bool = False
    """A client that reconnects sends its first token again (``auth`` as an object); if not, it
    reads a fresh one (``auth`` as a function).
    Elsewhere: auth (socket.io-client)."""

    @pydantic.model_validator(mode="after")
    def _fits_its_resync(self) -> Self:
        belongs_to(self, "token_resent", "token_valid_s")
        needs = {"replay": ("replay_changes",), "recovery": ("recovery_s",)}
        may_have = {"replay": ("or_snapshot",), "recovery": ("or_snapshot",)}
        fits_its_kind(self, "resync", needs, may_have)
        return self


class Notify(Section):
    """What a client does that is told of changes (`notify`, `sse_notify`): see `core.notify`."""

    spread_s: NotNegative = 0.0
    """A client that is told of a change waits a random time up to this before it fetches, seconds;
    0: it fetches at once."""
    on_hint: Literal["queue_one", "restart"] = "queue_one"
    """What a client does that is told of a change while it fetches: it fetches once more afterwards
    if need be, as RTK Query does; or it gives the fetch up and restarts, as invalidateQueries of
    TanStack Query and SWR do, so that changes which come faster than a fetch starve it.
    Elsewhere: cancelRefetch (TanStack Query: true restarts)."""


class ServerSentEvents(Section):
    """A client of a stream (`sse`, `sse_notify`), where it may do otherwise than EventSource.

    See `core.streams`. What a client of a WebSocket does as well is set in the sections of that.
    """

    retries_http_errors: bool = False
    """Whether the client asks again after an answer that is an error of HTTP (401, 503 and so on).
    To EventSource such an answer is final; fetch-event-source tries again. A 4xx also ends it if
    `reconnect.retries_4xx` is false."""
    retries_ended: bool = True
    """Whether the client asks again after a stream that has come to its proper end, as EventSource
    does and fetch-event-source does not: see `server.ends_streams`."""
    watches: bool = False
    """Whether the client takes its path for dead when it has heard no comment of the server's for
    `heartbeat.interval_s` + `heartbeat.timeout_s`; no event either where `heartbeat.any_message` is
    true, as event-source-polyfill has it. EventSource never does.
    Elsewhere: heartbeatTimeout (event-source-polyfill, ms, of both together)."""
    streams_per_tab: Annotated[int, Field(ge=1, le=4)] = 1
    """Streams that a tab has open to the server, where the browser has a limit
    (`network.connections_per_user`): the one that is modelled, and others, which take connections
    of the browser's and nothing else; the server does not count them."""


class LongPolling(Section):
    """Requests that the server holds until something changes: see `core.long_polling`.

    What an answer has is `websocket.push`: the changes that the client lacks, or the whole board.
    The check of each request takes the server ``server.poll_s``, each answer to one that it has
    held ``server.send_s``, and a request that it holds counts as a connection.
    """

    timeout_s: Positive = 25.0
    """How long the server holds a request, seconds; then the answer is empty. A proxy that cuts
    silent requests (nginx after 60 s, HAProxy after 50 s) has to be slower.
    Elsewhere: advice.timeout (CometD, ms: 30000); LongPolling.PollTimeout (SignalR: 90 s)."""
    grace_s: Positive = 10.0
    """How much longer than that a client waits for the answer before it gives the request up,
    seconds: so long a dead path goes unnoticed at most, beside `timeout_s`.
    Elsewhere: maxNetworkDelay (CometD, ms: 10000)."""
    pause_s: NotNegative = 0.0
    """Time from an answer to the next request, seconds.
    Elsewhere: advice.interval (CometD, ms: 0)."""


class HeartbeatRules(Section):
    """Pings on an idle WebSocket, or comments on an idle stream."""

    direction: Literal["server", "client", "none"] = "server"
    """Who pings; on a stream the server alone can."""
    interval_s: Positive = 30.0
    """From the last pong to the next ping, seconds.
    Elsewhere: pingInterval (Socket.IO, ms); ping_interval (Python websockets, python-socketio);
    heartbeatIntervalMs (Phoenix, ms); KeepAliveInterval (SignalR); keepAlive (graphql-ws, ms);
    heartbeatOutgoing (stompjs, ms)."""
    timeout_s: Positive = 20.0
    """Silence after which the path counts as dead, seconds.
    Elsewhere: pingTimeout (Socket.IO, ms); ping_timeout (Python websockets, python-socketio);
    serverTimeoutInMilliseconds (SignalR: the interval is a part of it); maxServerPingDelay
    (centrifuge-js, ms)."""
    any_message: bool = False
    """Whether any message that arrives is a sign of life, as it is to SignalR, ActionCable,
    centrifuge and python-socketio; if not, only a ping or pong is, as to socket.io-client, Phoenix
    and websockets. A board counts where there are no safety polls, which bring boards too."""
    closing_s: NotNegative = 0.0
    """How long a client then waits for its dead connection to close, seconds, before the wait for
    its next attempt begins."""


_POLICIES = tuple(POLICIES)


class Reconnect(Section):
    """What a WebSocket client does after a lost connection; attempt k follows k failures."""

    policy: Literal[_POLICIES] = "full_jitter"  # type: ignore[valid-type]
    """How long it waits before an attempt: see `core.reconnect.POLICIES`."""
    base_s: NotNegative = 1.0
    """First delay or its ceiling, seconds.
    Elsewhere: reconnectionDelay (socket.io-client, ms); minReconnectDelay (centrifuge-js, ms);
    reconnectDelay (stompjs, ms); retry (a stream's field, EventSource, ms)."""
    cap_s: NotNegative = 30.0
    """Largest delay or ceiling, seconds.
    Elsewhere: reconnectionDelayMax (socket.io-client, ms); maxReconnectDelay (centrifuge-js,
    stompjs, ms)."""
    factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """The factor by which delays grow from attempt to attempt."""
    jitter_frac: Fraction | None = None
    """Jitter as a fraction of the delay, if the policy reads it.
    Elsewhere: randomizationFactor (socket.io-client)."""
    jitter_from_s: NotNegative | None = None
    """The least jitter in seconds, if the policy reads it; `jitter_s` is the most."""
    jitter_s: NotNegative | None = None
    """Jitter in seconds, if the policy reads it."""
    delays_s: Delays | None = None
    """The delays of a table, seconds, at most 16; the last one is repeated.
    Elsewhere: withAutomaticReconnect (SignalR, ms); reconnectAfterMs (Phoenix, a
    function of the attempt, ms)."""
    attempts: Counting | None = None
    """Failures after which the client gives up; absent: never.
    Elsewhere: reconnectionAttempts (socket.io-client); retryAttempts (graphql-ws)."""
    give_up_s: Positive | None = None
    """Time without a connection after which it gives up, seconds; absent: never."""
    from_start: bool = True
    """Whether it also tries again if its first connection fails."""
    while_hidden: bool = True
    """Whether a hidden tab tries again. If not, it does at once when it is shown, and its count of
    failures starts anew, as Phoenix's."""
    retries_4xx: bool = True
    """Whether the client tries again after its upgrade was answered 4xx, as a proxy's 403 is. If
    not, it gives up then. Busy servers answer 503, which is tried again in any case."""
    reset: Literal["transport", "ready", "never"] = "ready"
    """When the count of failures starts anew: at the upgrade, after authentication, or never."""
    stable_s: NotNegative = 0.0
    """The count starts anew only after a connection was open so long, seconds; 0: at once."""

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        at_least(self, "cap_s", "base_s")
        row = POLICIES[self.policy]
        if row.grows and self.base_s == 0.0:
            raise FieldError("base_s", 0.0, f'must be > 0 when policy is "{self.policy}"')
        fits_its_kind(self, "policy", _PARAMETERS, _LIMITS)
        at_least(self, "jitter_s", "jitter_from_s")
        fits_its_kind(self, "reset", {}, {"ready": ("stable_s",)})
        return self


_PARAMETERS = {
    policy: [name for name in row.reads if Reconnect.model_fields[name].default is None]
    for policy, row in POLICIES.items()
}
"""The parameters of each policy that have no default."""
_LIMITS = {policy: ("attempts", "give_up_s") for policy, row in POLICIES.items() if row.retries}
"""What ends the attempts of the policies that make any."""


class Fallback(Section):
    """Polling instead of push, by the application's own rule: see `core.fallback`."""

    after_failures: Counting | None = None
    """Failures in a row, the lost connection included, after which the client polls."""
    after_s: Positive | None = None
    """Time without a connection after which it polls, seconds. Like the failures, it is looked at
    when an attempt ends: behind a proxy that swallows upgrades, after `open_timeout_s` each."""
    return_s: Positive | None = None
    """Time of polling after which it tries push again, seconds; absent: never."""
    return_factor: Annotated[float, Field(ge=1, le=100)] = 2.0
    """The factor by which that time grows with every failed attempt."""
    return_cap_s: Positive = 3600.0
    """The limit of that time, seconds."""

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        at_least(self, "return_cap_s", "return_s")
        return self


class Activity(Section):
    """User activity, such as dragging a card."""

    every_s: Positive
    """Mean time from the end of one episode to the start of the next, seconds; exponential."""
    length_s: Positive
    """Mean length of an episode, seconds; exponential."""


Quantile = Annotated[tuple[Fraction, NotNegative], FROM_LIST]
"""A share of the clients, and the time that theirs does not exceed, seconds."""
Quantiles = Annotated[
    tuple[Quantile, ...],
    Field(min_length=2, max_length=1000),
    FROM_LIST,
]


class Network(Section):
    """The path between a client and the server."""

    rtt_s: NotNegative = 0.04
    """Round-trip time without queueing, seconds: the median over clients."""
    rtt_spread: Annotated[float, Field(ge=0, le=3)] = 0.0
    """Standard deviation of log(RTT) over clients."""
    rtt_quantiles: Quantiles | None = None
    """Measured round-trip times, in place of the two above: pairs of a share of the clients and the
    time that theirs does not exceed, seconds, both ascending, such as a dashboard's median, p95 and
    p99: ``[[0.5, 0.04], [0.95, 0.18], [0.99, 0.4]]``. Each client draws its own, linear between two
    pairs. Below the first share and above the last it is their time: where the least and the
    greatest are known, give them as shares 0 and 1.
    Elsewhere: histogram_quantile (Prometheus)."""
    shared_down_bytes_per_s: Annotated[float, Field(ge=1, le=1e12)] | None = None
    """Rate of one link that all messages to all clients pass, one after the other and before each
    client's own path, bytes of payload per second, such as the server's uplink or the downlink of
    the office where all clients are; absent: none. It carries replies to polls, pushes, snapshots,
    READY and heartbeats, not what opens, refuses or closes connections; the way up has no limit.
    What waits for it is not in the server's buffers.
    Elsewhere: rate (tc tbf, bits/s)."""
    tls: bool = True
    """One more round trip for each new connection."""
    connections_per_user: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Requests that all tabs of a user (`tabs_per_user`) may have under way at a time, by the
    browser's limit for one origin; absent: any number. Polls, fetches, requests that are held and
    streams share it, WebSockets do not count; what asks for more waits in the browser, and a stream
    gives its place back only when it ends: see `core.browser`. 6 over HTTP/1.1 (Chromium, Firefox,
    Safari). Over HTTP/2 as many as the server allows streams on one connection: nginx 1.22 allows
    128, Caddy 2.6 250, HAProxy 2.6 and Node.js 20 100 (behind HAProxy WebSockets share them, which
    is not modelled); Apache 2.4.71 announces 100 and answers 6.
    Elsewhere: http2_max_concurrent_streams (nginx); tune.h2.fe.max-concurrent-streams (HAProxy);
    SETTINGS_MAX_CONCURRENT_STREAMS (HTTP/2)."""
    idle_s: Positive | None = None
    """Time after which a middlebox closes a silent WebSocket or stream, seconds; absent: none. By
    default nginx (1.22.1 closed after 60.03 s) and the AWS Application Load Balancer take 60 s; TCP
    keep-alive does not count.
    Elsewhere: proxy_read_timeout (nginx); timeout tunnel (HAProxy); idle_timeout.timeout_seconds
    (AWS ALB); stream_idle_timeout (Envoy)."""
    bad_gateway: bool = False
    """A reverse proxy stands before the server, and answers 502 (Bad Gateway) for it while no node
    is up: connections open, and each attempt and each poll gets an error of HTTP at once; false:
    they are refused as by a closed port. To EventSource an error of HTTP is final, a refused port
    is not (`sse.retries_http_errors`); to a WebSocket's reconnect policy both are failed attempts.
    The proxy closes the connection with its answer (nginx would keep it). What a node was at work
    on when it stopped is cut. ALB and HAProxy answer 503, HAProxy after its retries (3 s) until its
    checks have found the server down.
    Elsewhere: proxy_next_upstream, max_fails (nginx); retries, option redispatch (HAProxy);
    HTTPCode_ELB_5XX_Count (AWS ALB)."""
    stream_buffer_bytes: Size | None = None
    """A proxy passes streams (`sse`, `sse_notify`) on in whole pieces of so many bytes, and throws
    away a piece that is not full when a stream is cut; absent: it waits for no piece. The bytes are
    those of the server's answer over HTTP/1.0, its head among them. A proxy that holds something
    back takes all that the server writes, so that `server.slow_consumers` never applies to streams
    behind it. See `core.stream_proxy`; `sl.proxy` has the proxies that do so.
    Elsewhere: proxy_buffer_size, with proxy_buffering on (nginx before 1.31: 4k)."""
    stream_delay_s: Positive | None = None
    """A proxy passes on what it has of a stream so long after the first byte of it, seconds, and
    what has come meanwhile with it; absent: at once, or when a piece is full. HAProxy over HTTP/1.1
    takes 0.2 s for an event that comes alone.
    Elsewhere: option http-no-delay (HAProxy, which switches it off)."""
    stream_held_frac: Fraction = 0.0
    """Share of the clients behind a proxy of their own (of a company, or an antivirus) that passes
    on nothing of a stream before it has ended, not even that it is open: to them a stream is an
    answer that never comes. EventSource waits for it for ever (`websocket.upgrade_timeout_s` of
    ``sl.library("eventsource")``); other clients give up after `websocket.open_timeout_s`, and may
    poll instead (`fallback`). Polls, requests that are held and WebSockets pass; for those, see
    the fault `block_upgrades`: those whom the first of that kind meets are the same clients, as
    far as the shares go. 0: nobody is."""
    unanswered_s: Positive = 924.6
    """Time after which a kernel gives up unacknowledged data, seconds (Linux: tcp_retries2).
    Elsewhere: net.ipv4.tcp_retries2 (Linux, a number of retransmissions)."""

    @pydantic.model_validator(mode="after")
    def _has_one_distribution(self) -> Self:
        if self.rtt_quantiles is None:
            return self
        for name in ("rtt_s", "rtt_spread"):
            given, default = getattr(self, name), type(self).model_fields[name].default
            if given != default:
                rule = f"must be left out, or at {default:g}, when rtt_quantiles are given"
                raise FieldError(name, given, rule)
        for number, (before, (share, rtt_s)) in enumerate(pairwise(self.rtt_quantiles), start=1):
            if share <= before[0]:
                rule = f"must be > {before[0]:.12g}: shares ascend"
                raise FieldError(f"rtt_quantiles.{number}.0", share, rule)
            if rtt_s < before[1]:
                rule = f"must be >= {before[1]:.12g}: quantiles ascend with their shares"
                raise FieldError(f"rtt_quantiles.{number}.1", rtt_s, rule)
        return self

    def median_rtt_s(self) -> float:
        """Return the median round-trip time of the clients, seconds."""
        if self.rtt_quantiles is None:
            return self.rtt_s
        return float(interpolated(self.rtt_quantiles, 0.5))


class ServerSettings(Section):
    """One node: its workers and what each job costs them."""

    workers: Annotated[int, Field(ge=1, le=4096)] = 1
    """Workers of a node that serve jobs in order: event loops, or processes. Polls go to the worker
    that is free first; a WebSocket belongs to the worker that has accepted it.
    Elsewhere: --workers (gunicorn, uvicorn); instances (pm2)."""
    service: Literal["constant", "exponential", "lognormal", "gamma"] = "constant"
    """Distribution of the service times below, which are means; each job draws its own."""
    service_cv: Annotated[float, Field(ge=0.01, le=10)] | None = None
    """Coefficient of variation (standard deviation over mean) of lognormal and gamma times."""
    accept_s: NotNegative = 20e-6
    """Accepting one TCP connection, seconds."""
    poll_s: NotNegative = 1e-3
    """Answering one poll, seconds: reading the board, and sending it."""
    check_s: NotNegative = 0.1e-3
    """Comparing the version that a poll names with the present one, seconds, when `polling.etag` is
    "version"; a poll that finds a change costs `poll_s` on top. The default, a tenth of that of
    `poll_s`, stands for one look-up by key in place of the query of the board: measure yours."""
    cache_s: NotNegative = 0.0
    """How long a node answers polls from a copy of its last answer, seconds; 0: each poll reads the
    board. One poll a cycle makes the copy, and those that come meanwhile wait for it; it makes what
    polls show older by its age. With sockets, a node drops its copy when it hears of a change. See
    `core.answers`.
    Elsewhere: proxy_cache_valid (nginx, with proxy_cache_lock); beresp.ttl (Varnish); s-maxage
    (Cache-Control)."""
    cached_s: NotNegative = 0.1e-3
    """Answering one poll from that copy, seconds; by default a tenth of what `poll_s` is by
    default, an assumption."""
    handshake_s: NotNegative = 0.4e-3
    """Answering one upgrade, or one request for a stream (and its TLS), seconds."""
    authenticate_s: NotNegative = 0.2e-3
    """Checking one token, and sending READY, seconds. A stream's request has the token already: the
    two are one job."""
    snapshot_s: NotNegative = 0.0
    """Reading the board for the snapshot of a client that has authenticated, seconds: what a poll's
    query takes, unless the server has the board in memory. With 0, clients that come back all at
    once have it for nothing, and a run warns of that."""
    fan_out_s: NotNegative = 50e-6
    """Starting one broadcast, seconds."""
    send_s: NotNegative = 10e-6
    """Each send of a broadcast, seconds."""
    heartbeat_s: NotNegative = 10e-6
    """One ping or pong, seconds."""
    close_s: NotNegative = 0.1e-3
    """Closing the connection of a user who is no longer enrolled in a rollout, seconds."""
    max_connections: Counting = 20_000
    """Open WebSockets and streams, and requests that are held (`long_polling`); a further request
    for one, or to be held, is answered 503. gunicorn's sync workers hold one each, as
    ``sl.server("gunicorn sync", workers=4)`` has it. There what is more waits, polls too, until one
    ends: up to 100 clients do so with ``tabs_per_user = clients`` and
    ``network.connections_per_user = workers``.
    Elsewhere: worker_connections (nginx and gunicorn's gevent, for each worker); maxconn (HAProxy);
    ulimit -n (Linux, with all other files)."""
    backlog: Counting = 4096
    """TCP connections waiting to be accepted; a further SYN is dropped.
    Elsewhere: backlog (listen(2), nginx, Node.js, gunicorn); net.core.somaxconn (Linux, its
    limit)."""
    keep_alive_s: NotNegative = 75.0
    """Idle HTTP connections are closed after this, seconds.
    Elsewhere: keepalive_timeout (nginx, aiohttp); server.keepAliveTimeout (Node.js, ms);
    --timeout-keep-alive (uvicorn); --keep-alive (gunicorn)."""
    shed_wait_s: Positive | None = None
    """A poll or upgrade that would wait longer for a worker is answered 503 at once, seconds."""
    admit_per_s: Annotated[float, Field(ge=1e-6, le=1e6)] | None = None
    """Upgrades, or requests for streams, that a node admits per second; a further one is answered
    503. Absent: no limit. One for all nodes together, for polls too, or one that delays, is a
    `rate_limit`.
    Elsewhere: rate (nginx limit_req_zone)."""
    admit_burst: Counting = 1
    """Upgrades admitted at once before that rate applies.
    Elsewhere: burst (nginx limit_req)."""
    slow_consumers: Literal["unbounded", "block", "abort", "close", "drop_oldest", "coalesce"] = (
        "unbounded"
    )
    """The policy for pushes that a client does not take in time: see `core.backpressure`."""
    write_timeout_s: Positive | None = None
    """How long a broadcast waits for one client before it ends, when slow_consumers is abort,
    seconds.
    Elsewhere: org.apache.tomcat.websocket.BLOCKING_SEND_TIMEOUT (Tomcat, ms)."""
    socket_set: Literal["concurrent", "plain"] = "concurrent"
    """In what a worker keeps its sockets: a set that may change during a broadcast (concurrent), or
    one that must not (plain): when a client joins or leaves, the broadcasts that have begun end,
    and those behind never get that update. Requests that are held are in none.
    Elsewhere: ConcurrentHashMap.newKeySet, mutableSetOf, HashSet (Java, Kotlin: plain but for the
    first)."""
    meeting_fails_frac: Fraction = 0.0
    """Probability that an update ends at one of its clients if it begins while another is being
    sent: two threads write to one socket. Those behind never get it."""
    meeting_closes: bool = False
    """Whether the client at which it ends is closed, as by SockJS in Spring."""
    forget_frac: Fraction = 0.0
    """Probability that a plain set breaks when everybody is cut at once, by a `reset` of all: from
    then on nobody is sent anything, whoever comes back or joins, until the server's process ends.
    Clients are connected and hear nothing; only safety polls help. A request that is held is
    answered when its time is over, and what is new comes with the next."""
    buffer_bytes: Size | None = None
    """Memory of the server's process for one client's unsent pushes, bytes.
    Elsewhere: maxBackpressure (uWebSockets.js); client.queue_max_size (Centrifugo)."""
    socket_bytes: Size = 65_536
    """Buffers of the kernels at both ends of one connection, bytes.
    Elsewhere: SO_SNDBUF, SO_RCVBUF (sockets); net.ipv4.tcp_wmem, net.ipv4.tcp_rmem (Linux)."""
    connection_bytes: Size = 65_536
    """Memory of the server for one open WebSocket, bytes. The default is that of the Python
    websockets with compression, by its documentation; without compression it needs 14 KiB."""
    ends_streams: bool = False
    """Whether streams that the server itself ends (a restart, a deploy, a drain, a lifetime) get
    their last chunk, as where a framework is told to shut down; if not, they are cut."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """How many servers there are: nodes behind a balancer, which gives each new connection to one
    that is up (`balancing`). Each has its own workers, backlog and limits, its own sessions and its
    own changes to replay, and sends to its own clients.
    Elsewhere: replicas (Kubernetes)."""
    balancing: Literal["random", "round_robin", "least_connections", "random_of_two"] = "random"
    """Which node gets a new connection, among those that are up: any; each in its turn; the one
    that has the fewest connections, as the balancer counts them; or the one that has fewer, of two
    that are drawn. A node that is up again gets few of its clients back by the first two, and all
    of the next ones by the third: see `core.balancing`.
    Elsewhere: least_conn, random two least_conn (nginx, where round_robin is the default);
    leastconn, roundrobin, random (HAProxy: random is random_of_two); LEAST_REQUEST, ROUND_ROBIN,
    RANDOM (Envoy: LEAST_REQUEST is random_of_two)."""
    hop_s: NotNegative = 0.4e-3
    """Time for a change to reach the nodes through a broker, seconds; with one node there is none.
    The default is what Redis and NATS take on one machine, as Python clients see it."""
    broker_s: NotNegative = 0.0
    """How long the broker works on a change for each node, up or not, before it passes it on,
    seconds. It takes changes in order, so that it bears 1 / (nodes * broker_s) of them per second.
    0: no limit; with one node there is no broker."""

    @pydantic.model_validator(mode="after")
    def _fits_its_policy(self) -> Self:
        fits_its_kind(self, "service", {"lognormal": ("service_cv",), "gamma": ("service_cv",)})
        belongs_to(self, "admit_burst", "admit_per_s")
        bounded = ("block", "close", "drop_oldest")
        waits = {"abort": ("write_timeout_s",)}
        needs = dict.fromkeys(bounded, ("buffer_bytes",)) | waits
        fits_its_kind(self, "slow_consumers", needs)
        fits_its_kind(self, "socket_set", {}, {"plain": ("forget_frac",)})
        if self.meeting_closes and self.meeting_fails_frac == 0.0:
            raise FieldError("meeting_closes", True, "has no meaning when meeting_fails_frac is 0")
        ends_early = self.socket_set == "plain" or self.meeting_fails_frac > 0.0
        if ends_early and self.slow_consumers == "drop_oldest":
            rule = "must be another policy when broadcasts may end early (socket_set is plain, or "
            rule += "meeting_fails_frac is above 0): what waits for a client has to be without gaps"
            raise FieldError("slow_consumers", self.slow_consumers, rule)
        return self


class RateLimit(Section):
    """A rate limit in front of all nodes, which all clients share: see `core.limiter`."""

    kind: Literal["refuse", "delay"] = "refuse"
    """What becomes of a request beyond the rate: it passes at once while there is burst left, and
    is refused when there is none (refuse: a token bucket); or it waits for its turn at the rate,
    and is refused if that is `burst` turns away or more (delay: a leaky bucket).
    Elsewhere: nodelay (nginx limit_req: refuse)."""
    rate_per_s: Annotated[float, Field(ge=1e-6, le=1e6)]
    """Requests per second.
    Elsewhere: rate (nginx limit_req_zone)."""
    burst: Counting = 1
    """Requests that may come at once without one being refused. nginx does not count the first:
    its burst is one fewer.
    Elsewhere: burst (nginx limit_req, one fewer); max_tokens (Envoy)."""
    applies_to: Literal["all", "upgrades", "polls"] = "all"
    """Which requests it counts: upgrades (and requests for streams), polls (safety polls, what
    `notify` and `sse_notify` fetch and what `long_polling` asks, too), or all of them together."""
    status: Literal[503, 429] = 503
    """How a request is refused. Polls are retried in any case, upgrades after 429 as
    `reconnect.retries_4xx` says, streams as `sse.retries_http_errors` does. Bytes are those of a
    503.
    Elsewhere: limit_req_status (nginx)."""


_KINDS = tuple(FAULTS)
_MOST_FAULTS = 32
_MOST_OCCURRENCES = 1000


class Fault(Section):
    """Something that goes wrong: see `core.faults.FAULTS`."""

    kind: Literal[_KINDS]  # type: ignore[valid-type]
    """The kind of fault."""
    start_s: NotNegative
    """When it starts, seconds."""
    repeat_s: Positive | None = None
    """Time from one start to the next, seconds; absent: it happens once. Each time it is a fault
    of its own, and its share of the clients is drawn anew. `scale_out` happens once."""
    repeats: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many more times it happens; absent: as often as it can be over by the horizon."""
    length_s: Positive | None = None
    """How long it lasts, seconds (in a rolling deploy: how long each node is down; with `surge`,
    how long new nodes take to be ready)."""
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the clients that it affects; a restart or deploy affects all."""
    batches: Annotated[int, Field(ge=1, le=MOST_BATCHES)] | None = None
    """The number of batches of a drain."""
    every_s: Positive | None = None
    """Time from one node's turn in a rolling deploy to the next one's, seconds."""
    surge: Annotated[int, Field(ge=0, le=64)] = 0
    """How many new nodes of a rolling deploy start at a time, before as many old ones stop; 0: each
    node stops first. With as many as there are nodes, all change at once (blue and green).
    Elsewhere: maxSurge (Kubernetes, with a maxUnavailable of 0)."""
    answered: bool | None = None
    """Whether a proxy that blocks upgrades answers them: true, with 403 at once; false, never, so
    that an attempt lasts until ``websocket.open_timeout_s``. Absent: true."""
    age_s: Positive | None = None
    """The age at which a `lifetime` ends a WebSocket, counted from READY, seconds."""
    added_s: NotNegative | None = None
    """Latency added to the round trip, seconds.
    Elsewhere: latency (Toxiproxy, ms); delay (tc netem)."""
    jitter_s: NotNegative | None = None
    """Further latency, uniform from 0 to this, drawn anew each second for each client, seconds.
    Elsewhere: jitter (Toxiproxy, ms)."""
    bytes_per_s: Annotated[float, Field(ge=1, le=1e12)] | None = None
    """Bandwidth that is left to each client, on the way down, bytes of payload per second.
    Elsewhere: rate (Toxiproxy, KB/s); rate (tc netem, bits/s)."""

    @pydantic.model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        fits_its_kind(self, "kind", _NEEDED, _OPTIONAL)
        if self.added_s == 0.0 and not self.jitter_s:
            raise FieldError("added_s", 0.0, "must be > 0 when there is no jitter_s")
        at_least(self, "every_s", "length_s", ": one turn is over before the next one")
        belongs_to(self, "repeats", "repeat_s")
        return self

    def fits(self, horizon_s: float, nodes: int) -> bool:
        """Say whether it happens within a run, and is over by its end."""
        return self.start_s < horizon_s and self.end_s(nodes) <= horizon_s

    def times(self, horizon_s: float, nodes: int) -> int:
        """Return how many times it happens in a run, at least once."""
        if self.repeat_s is None:
            return 1
        if self.repeats is not None:
            return 1 + self.repeats
        left_s = horizon_s - self.end_s(nodes)
        times = 1 + max(0, math.floor(min(left_s / self.repeat_s, _MOST_OCCURRENCES)))
        while times > 1 and not self.occurrence(times - 1).fits(horizon_s, nodes):
            times -= 1  # the last would begin at the horizon or, rounded up, end after it
        return times

    def occurrence(self, number: int) -> Fault:
        """Return what happens after `number` times, as a fault that happens once."""
        if self.repeat_s is None:
            return self
        start_s = self.start_s + number * self.repeat_s
        return self.model_copy(update={"start_s": start_s, "repeat_s": None, "repeats": None})

    def end_s(self, nodes: int) -> float:
        """Return when it ends, seconds; with turns (`every_s`), when the last node is back."""
        last_turn = (nodes - 1) // max(1, self.surge)
        return self.start_s + (self.length_s or 0.0) + last_turn * (self.every_s or 0.0)

    def amount(self) -> float:
        """Return the added latency or the bandwidth left; 0 if it changes neither."""
        name = FAULTS[self.kind].amount
        return float(getattr(self, name)) if name else 0.0


_NEEDED = {kind: row.needs for kind, row in FAULTS.items()}
_OPTIONAL = {
    kind: row.may_have if row.adds_node else (*row.may_have, "repeat_s")
    for kind, row in FAULTS.items()
}


class Wire(Section):
    """The settings that byte counts depend on."""

    removed_fields: ClassVar[Mapping[str, str]] = {
        "count": "bytes are counted as IP packets, and as payload beside them "
        "(payload_up_bytes, payload_down_bytes)"
    }

    http: Literal["1.1", "2"] = "1.1"
    """HTTP version of polls and streams.
    Elsewhere: http2 (nginx)."""
    http_client: Literal["chromium", "aiohttp"] = "chromium"
    """The client whose request heads a poll and a request for a stream have."""
    websocket_client: Literal["chromium", "websockets"] = "chromium"
    """The client whose request heads an upgrade has."""
    envelope: Literal["native", "socketio", "sockjs"] = "native"
    """Framing of messages inside the WebSocket. Streams have none."""
    host: Annotated[str, Field(max_length=253, pattern=r"^[A-Za-z0-9._-]+(:\d{1,4})?$")] = (
        "app.example.com"
    )
    """Host header."""
    token_bytes: Annotated[Bytes, Field(ge=120, le=8192)] = 201
    """Length of the JSON Web Token, bytes."""
    deflate_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """permessage-deflate of a WebSocket: compressed over plain size; 1 = off.
    Elsewhere: perMessageDeflate (ws, Socket.IO); compression (Python websockets)."""
    gzip_ratio: Annotated[float, Field(gt=0, le=1)] = 1.0
    """gzip of a poll's answer, by the server or a proxy: compressed over plain size; 1 = off. Both
    sizes are in DevTools, Network. A compressed answer has a weak ETag, which does no harm.
    Elsewhere: gzip, brotli (nginx); compression (Express)."""


Faults = Annotated[tuple[Fault, ...], Field(max_length=_MOST_FAULTS), FROM_LIST]


class Scenario(Section):
    """One board, its clients, their transport and the server.

    Examples
    --------
    >>> scenario = Scenario(updates={"rate_per_s": 0.1}, clients=50)
    >>> scenario.replace({"polling.interval_s": "1 min"}).polling.interval_s
    60.0
    >>> scenario.replace(clients=-1)
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: clients: must be >= 0, got -1
    """

    name: Annotated[str, Field(min_length=1, max_length=100)] = "scenario"
    """A name for tables and titles."""
    transport: Literal[TRANSPORT_NAMES] = "polling"  # type: ignore[valid-type]
    """How changes reach the clients."""
    clients: Annotated[int, Field(ge=0, le=MOST_CLIENTS)] = 200
    """Clients present from the start.
    Elsewhere: --users (Locust); vus (k6)."""
    tabs_per_user: Annotated[int, Field(ge=1, le=100)] = 1
    """Clients that belong to one user, as two tabs of a browser do: clients 0 to n - 1 to the first
    user, the next n to the second, in the order in which they come. Each tab has its own session,
    polls and connections. A rollout enrols users, so that all tabs of one are in one cohort, and
    the live lab's limits of a user are for all of the user's tabs together. The simulated server
    has no limits of users; the browser may have one (`network.connections_per_user`)."""
    ramp_s: NotNegative = 30.0
    """Clients present from the start begin their sessions uniformly over this time, seconds."""
    horizon_s: Annotated[Seconds, Field(ge=1e-3, le=LONGEST_S)] = 600.0
    """Length of the run, seconds.
    Elsewhere: duration (Artillery, k6); --run-time (Locust)."""
    warm_up_s: NotNegative = 0.0
    """Changes published before this are not in the ledger, seconds."""
    cool_down_s: NotNegative = 0.0
    """Changes published within this time of the horizon are not in the ledger, seconds. It should
    be a poll interval or more: or else the last changes are delivered only where a poll is near."""
    bin_s: Positive = 1.0
    """Width of the timeline's bins, seconds."""
    updates: Updates
    sessions: Sessions | None = None
    polling: Polling = Polling()
    websocket: WebSocket = WebSocket()
    notify: Notify = Notify()
    sse: ServerSentEvents = ServerSentEvents()
    long_polling: LongPolling = LongPolling()
    heartbeat: HeartbeatRules = HeartbeatRules()
    reconnect: Reconnect = Reconnect()
    fallback: Fallback | None = None
    """When a client polls instead; absent: never. An empty section: when its library gives up."""
    drag: Activity | None = None
    """Dragging a card; absent: never."""
    hidden: Activity | None = None
    """Hiding the tab; absent: never."""
    timer_throttling: bool = False
    """Whether a hidden tab's timers are throttled as Chrome does: see `core.activity`."""
    network: Network = Network()
    server: ServerSettings = ServerSettings()
    rate_limit: RateLimit | None = None
    """A rate limit in front of the nodes; absent: none."""
    wire: Wire = Wire()
    faults: Faults = ()
    """The faults, in any order."""

    renamed_fields: ClassVar[Mapping[str, str]] = {"throttles_timers": "timer_throttling"}

    _folder: Path = PrivateAttr(default=Path())
    _trace: str | None = PrivateAttr(default=None)
    _text: str | None = PrivateAttr(default=None)
    """What `dump` returned: runs are found and compared by it, many times."""

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise scenario_error(error, type(self)) from None

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        counted_until_s = self.horizon_s - self.cool_down_s
        if self.cool_down_s and self.warm_up_s >= counted_until_s:
            rule = f"must be < horizon_s - cool_down_s ({counted_until_s:g})"
            raise FieldError("warm_up_s", self.warm_up_s, rule)
        if self.warm_up_s >= self.horizon_s:
            raise FieldError(
                "warm_up_s", self.warm_up_s, f"must be < horizon_s ({self.horizon_s:g})"
            )
        if self.ramp_s > self.horizon_s:
            raise FieldError("ramp_s", self.ramp_s, f"must be <= horizon_s ({self.horizon_s:g})")
        if self.horizon_s / self.bin_s > MOST_BINS:
            raise FieldError(
                "bin_s",
                self.bin_s,
                f"must be >= horizon_s / {MOST_BINS} to keep the timeline small",
            )
        if self.clients == 0 and self.sessions is None:
            raise FieldError("clients", 0, "must be >= 1 when there are no [sessions]")
        belongs_to(self, "timer_throttling", "hidden")
        if is_stream(Transport[self.transport.upper()]) and self.heartbeat.direction == "client":
            rule = f"must be server or none when transport is {self.transport}: nothing goes up"
            raise FieldError("heartbeat.direction", "client", rule)
        self._check_waits()
        self._check_browser()
        self._check_shared_link()
        self._check_sizes()
        self._check_amounts()
        self._check_faults()
        return self

    def _check_faults(self) -> None:
        self._check_added_nodes()
        nodes = self.server.nodes
        for number, fault in enumerate(self.faults):
            path, has_turns = f"faults.{number}", "every_s" in FAULTS[fault.kind].needs
            if has_turns and nodes == 1 and fault.surge == 0:
                when = "when server.nodes is 1 and surge is 0"
                rule = f"must not be {fault.kind} {when}: it is a restart"
                raise FieldError(f"{path}.kind", fault.kind, rule)
            if fault.surge > nodes:
                raise FieldError(f"{path}.surge", fault.surge, f"must be <= server.nodes ({nodes})")
            if fault.start_s >= self.horizon_s:
                rule = f"must be < horizon_s ({self.horizon_s:g})"
                raise FieldError(f"{path}.start_s", fault.start_s, rule)
            if not fault.fits(self.horizon_s, nodes):
                name = "every_s" if has_turns else "length_s"
                end_s = fault.end_s(nodes)
                rule = f"must let it end by horizon_s ({self.horizon_s:g}), here at {end_s:g}"
                raise FieldError(f"{path}.{name}", getattr(fault, name), rule)
            if fault.repeat_s is not None:
                self._check_repeats(path, fault, fault.repeat_s)
        self._check_amount_of_faults()
        self._check_restarts()

    def _check_repeats(self, path: str, fault: Fault, repeat_s: float) -> None:
        nodes = self.server.nodes
        lasts_s = fault.end_s(nodes) - fault.start_s
        if repeat_s <= lasts_s:
            rule = f"must be > {lasts_s:g}, as long as it lasts"
            raise FieldError(f"{path}.repeat_s", repeat_s, rule)
        last = fault.occurrence(fault.repeats or 1)
        if not last.fits(self.horizon_s, nodes):
            name = "repeat_s" if fault.repeats is None else "repeats"
            rule = (
                f"must leave time for it within horizon_s ({self.horizon_s:g}), here from "
                f"{last.start_s:g} to {last.end_s(nodes):g}"
            )
            raise FieldError(f"{path}.{name}", getattr(fault, name), rule)

    def _check_amount_of_faults(self) -> None:
        total = 0
        for number, fault in enumerate(self.faults):
            times = fault.times(self.horizon_s, self.server.nodes)
            total += times
            path = f"faults.{number}"
            if times > 1 and total > _MOST_OCCURRENCES:
                rule = f"must keep the faults of a run at {_MOST_OCCURRENCES} or fewer"
                raise FieldError(f"{path}.repeat_s", fault.repeat_s, rule)
            if times * (fault.batches or 0) > MOST_BATCHES:
                rule = f"must keep the batches of all its {times} times at {MOST_BATCHES} or fewer"
                raise FieldError(f"{path}.batches", fault.batches, rule)

    def _check_restarts(self) -> None:
        down_until_s = 0.0
        in_time = sorted(self.faults_by_number().items(), key=lambda item: item[1].start_s)
        for number, fault in in_time:
            if not FAULTS[fault.kind].stops_servers:
                continue
            if fault.start_s < down_until_s:
                place = number % _MOST_FAULTS
                if number < _MOST_FAULTS:
                    rule = f"must be >= {down_until_s:g}, the end of the restart or deploy before"
                    raise FieldError(f"faults.{place}.start_s", fault.start_s, rule)
                rule = (
                    f"must not let it start at {fault.start_s:g}, within a restart or deploy that "
                    f"ends at {down_until_s:g}"
                )
                raise FieldError(f"faults.{place}.repeat_s", self.faults[place].repeat_s, rule)
            down_until_s = fault.end_s(self.server.nodes)

    def _check_added_nodes(self) -> None:
        stops_s = [fault.start_s for fault in self.faults if FAULTS[fault.kind].stops_servers]
        has_added = False
        for number, fault in enumerate(self.faults):
            if not FAULTS[fault.kind].adds_node:
                continue
            path, kind = f"faults.{number}", fault.kind
            if self.server.nodes == 1:
                rule = f"must not be {kind} when server.nodes is 1: no node is left to add"
                raise FieldError(f"{path}.kind", kind, rule)
            if has_added:
                raise FieldError(
                    f"{path}.kind", kind, f"must not be {kind} twice: it adds one node"
                )
            if stops_s and fault.start_s > min(stops_s):
                rule = f"must be <= {min(stops_s):g}, the start of a restart or deploy"
                raise FieldError(f"{path}.start_s", fault.start_s, rule)
            has_added = True

    def _check_waits(self) -> None:
        rule, row = self.reconnect, POLICIES[self.reconnect.policy]
        last_s = (rule.delays_s or (rule.base_s,))[-1]
        is_constant = row.retries and not row.grows
        measured = self.network.rtt_quantiles
        is_near = self.network.rtt_s == 0.0 if measured is None else measured[0][1] == 0.0
        if is_constant and last_s == 0.0 and rule.attempts is None and is_near:
            name = "rtt_s is 0" if measured is None else "rtt_quantiles begin at 0 s"
            words = f"must end above 0 when network.{name}, or time would stand still in an outage"
            raise FieldError(f"reconnect.{row.reads[0]}", 0.0, words)

    def _check_browser(self) -> None:
        if self.network.connections_per_user is None:
            if self.sse.streams_per_tab > 1:
                rule = "has no meaning without network.connections_per_user: must be 1"
                raise FieldError("sse.streams_per_tab", self.sse.streams_per_tab, rule)
            return
        safety_poll_s = self.websocket.safety_poll_s
        transport = Transport[self.transport.upper()]
        if safety_poll_s is not None and polls_beside(transport, safety_poll_s):
            raise FieldError("websocket.safety_poll_s", safety_poll_s, NO_SAFETY_POLLS)

    def _check_shared_link(self) -> None:
        rate, is_narrow = self.network.shared_down_bytes_per_s, False
        for fault in self.faults:
            is_narrow = is_narrow or FAULTS[fault.kind].amount == "bytes_per_s"
        policy = self.server.slow_consumers
        if rate is not None and is_narrow and policy in ("block", "abort"):
            rule = f"must be absent when slow_consumers is {policy} and a fault narrows paths"
            raise FieldError("network.shared_down_bytes_per_s", rate, rule)

    def _check_sizes(self) -> None:
        try:
            sizes = message_sizes(self.wire_spec(), "payload")
        except ScenarioError as error:
            name = error.path.rpartition(".")[2]
            path = f"updates.{name}" if name in Updates.model_fields else f"wire.{name}"
            raise FieldError(path, error.value, error.rule) from None
        push = sent_as(Transport[self.transport.upper()], Message.PUSH)
        given, push_bytes = self.server.buffer_bytes, int(sizes[push, 1])
        if given is not None and given < push_bytes:
            rule = f"must be >= {push_bytes}, the size of one push"
            raise FieldError("server.buffer_bytes", given, rule)

    def _check_amounts(self) -> None:
        publish_s, changes = self.updates.publish_s, self.updates.expected(self.horizon_s)
        if publish_s and not changes:
            rule = f"must be < horizon_s ({self.horizon_s:g}), or nothing is published"
            raise FieldError("updates.publish_s.0", publish_s[0], rule)
        if changes > MOST_CHANGES:
            raise FieldError(
                "updates.rate_per_s",
                self.updates.rate_per_s,
                f"must keep the changes of a run below {MOST_CHANGES} (here {changes:.3g})",
            )
        if self.sessions is not None:
            arrivals = self.sessions.expected(self.horizon_s)
            if arrivals > MOST_CLIENTS:
                raise FieldError(
                    "sessions.arrivals_per_s",
                    self.sessions.arrivals_per_s,
                    f"must keep the sessions of a run below {MOST_CLIENTS} (here {arrivals:.3g})",
                )

    @classmethod
    def load(cls, path: str | Path) -> Scenario:
        """Read a scenario from a TOML file.

        Parameters
        ----------
        path : str or Path

        Returns
        -------
        Scenario

        Raises
        ------
        ScenarioError
            The file is missing, is not TOML or has more than 256 KiB, or its scenario is not valid.
        """
        path, values = read_toml(path, "scenario")
        try:
            scenario = cls(**values)
        except ScenarioError as error:
            raise in_file(error, path) from None
        scenario._folder = path.parent
        return scenario

    @classmethod
    def example(cls, name: str) -> Scenario:
        """Return a scenario that comes with the package, to start from.

        Parameters
        ----------
        name : str
            ``"matters"``: a board that 200 lawyers look at all day, polled every 30 s, and what
            its server takes for each job. ``"product"``: 5,000 tabs that are told to fetch.
            ``"dashboard"``: what one server of a dashboard for a million readers sees.
            ``"fleet"``: 50,000 devices that ask every 10 s, by published figures.
            ``data/scenarios`` of the repository has their files, which say where each value is
            from.

        Raises
        ------
        ScenarioError
            There is no such example; the error lists those that there are.

        Examples
        --------
        >>> board = Scenario.example("matters")
        >>> board.clients, board.polling.interval_s
        (200, 30.0)
        """
        return cls.load(example_path(_EXAMPLES, name))

    @classmethod
    def parse(cls, text: str, *, trace: str | None = None) -> Scenario:
        """Return the scenario of a text that `dump` wrote.

        Parameters
        ----------
        text : str
            TOML.
        trace : str, optional
            The text of its trace file, in place of the file.

        Raises
        ------
        ScenarioError, ValueError
            The scenario is not valid, or the text is not TOML.
        """
        scenario = cls(**tomllib.loads(text))
        scenario._trace = trace
        return scenario

    def dump(self) -> str:
        """Return the scenario as TOML, from which `Scenario.load` reads an equal one."""
        import tomli_w

        if self._text is None:
            self._text = tomli_w.dumps(self.model_dump(exclude_none=True))
        return self._text

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy as pydantic makes it: what is updated is not validated; see `replace`."""
        copy = super().model_copy(update=update, deep=deep)
        copy._text = None
        return copy

    def replace(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Scenario:
        """Return this scenario with some fields changed.

        Parameters
        ----------
        changes : mapping of str to object, optional
            Dotted paths and their new values, such as ``{"reconnect.cap_s": 60}``; None removes an
            optional field or section.
        **named
            The same for fields of the top level: ``clients=1000``.

        Returns
        -------
        Scenario
            Validated as a whole.

        Raises
        ------
        ScenarioError
            A path does not exist, or the new scenario is not valid.
        """
        values = self.model_dump(exclude_none=True)
        optional = _paths()
        for given, value in read_changes(changes, named).items():
            path = present_path(Scenario, given)
            if path not in optional:
                raise unknown_field(Scenario, path, value)
            if value is None and not optional[path]:
                raise ScenarioError(path, value, "must be given: it cannot be taken away")
            *sections, name = path.split(".")
            if value is None and sections and sections[0] not in values:
                continue  # nothing is there to be taken away, and an empty section says something
            place = values
            for section in sections:
                place = place.setdefault(section, {})
                if not isinstance(place, dict):
                    raise ScenarioError(section, place, "must be a table of settings")
            if value is None:
                place.pop(name, None)
            else:
                place[name] = value
        scenario = type(self)(**values)
        scenario._folder = self._folder
        if scenario.updates.trace == self.updates.trace:
            scenario._trace = self._trace
        return scenario

    @property
    def throttles_timers(self) -> bool:
        """Was renamed to `timer_throttling`."""
        warn("Scenario.throttles_timers", "Scenario.timer_throttling")
        return self.timer_throttling

    def __eq__(self, other: object) -> bool:
        # Scenarios are compared by content: the folder of a trace is not part of it.
        return (
            isinstance(other, Scenario)
            and self.dump() == other.dump()
            and (self.updates.trace is None or self.hash == other.hash)
        )

    def __hash__(self) -> int:
        return hash(self.dump())

    @property
    def hash(self) -> str:
        """A digest of the scenario, 16 hexadecimal digits; a trace is part of it by its content."""
        digest = hashlib.sha256(self.dump().encode())
        if self.updates.trace is not None:
            digest.update(self.read_trace().encode())
        return digest.hexdigest()[:16]

    def read_trace(self) -> str:
        """Return the text of the trace file, as it was when it was first read.

        Raises
        ------
        ScenarioError
            The file cannot be read.
        """
        trace = str(self.updates.trace)
        if self._trace is None:
            path = self._folder / trace
            self._trace = read_text(path, "CSV file", MOST_DATA_BYTES, label="updates.trace")
        return self._trace

    def faults_by_number(self) -> dict[int, Fault]:
        """Return every fault of a run by its number, with those that repeat as often as they do.

        Each is a fault that happens once. Its number is the address of the draws that say whom it
        affects: for the first time that of its place in `faults`, and for each further time 32
        more, so that no other fault's draws depend on how often one repeats.

        Examples
        --------
        >>> reset = {"kind": "reset", "start_s": 60, "repeat_s": 240, "share": 0.5}
        >>> scenario = Scenario(updates={"rate_per_s": 0.1}, horizon_s=600, faults=[reset])
        >>> {number: fault.start_s for number, fault in scenario.faults_by_number().items()}
        {0: 60.0, 32: 300.0, 64: 540.0}
        """
        return {
            place + _MOST_FAULTS * time: fault.occurrence(time)
            for place, fault in enumerate(self.faults)
            for time in range(fault.times(self.horizon_s, self.server.nodes))
        }

    def wire_spec(self) -> WireSpec:
        """Return the settings that byte counts depend on."""
        return WireSpec(
            http_version=self.wire.http,
            http_client=self.wire.http_client,
            websocket_client=self.wire.websocket_client,
            host=self.wire.host,
            token_bytes=self.wire.token_bytes,
            envelope=self.wire.envelope,
            delta_bytes=self.updates.delta_bytes,
            snapshot_bytes=self.updates.snapshot_bytes,
            push=self.websocket.push,
            resumes=self.websocket.resync in ("replay", "recovery"),
            etag=self.polling.etag != "off",
            deflate_ratio=self.wire.deflate_ratio,
            gzip_ratio=self.wire.gzip_ratio,
            tls=self.network.tls,
        )


@cache
def _paths() -> dict[str, bool]:
    """Every field's dotted path, and whether it may be absent."""
    optional = {}
    for name, field in Scenario.model_fields.items():
        options = [field.annotation, *get_args(field.annotation)]
        optional[name] = type(None) in options
        for option in options:
            if isinstance(option, type) and issubclass(option, pydantic.BaseModel):
                for inner, inner_field in option.model_fields.items():
                    optional[f"{name}.{inner}"] = type(None) in get_args(inner_field.annotation)
    return optional
