"""What a reader of a run has to know before any of its figures: one check a row of `CHECKS`.

A check reads what the run has recorded and returns one sentence, with its number and what would be
right, or nothing. A new check is a function and its row in `CHECKS`. One that needs no more than
the scenario and a few numbers of the run is a `Rule`: its function returns sentences as data, from
the scenario alone, so that a page that simulates by itself says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from simlib.core.measures import ratio
from simlib.core.protocol import (
    SOCKET_TRANSPORTS,
    TOLD_TRANSPORTS,
    TRANSPORTS,
    Transport,
    fetches,
    has_socket,
    holds,
    is_stream,
)
from simlib.core.record import Count
from simlib.core.streams import sent_as
from simlib.core.wire import Message, message_sizes
from simlib.run.sentences import (
    LAST_PART,
    QUEUED_FRAC,
    SATURATED_FRAC,
    Piece,
    Sentence,
    said,
    say,
    two,
    words_s,
)
from simlib.run.tables import (
    Columns,
    distinct,
    equal,
    latency_quantiles,
    ledger_of,
    node_utilisations,
)
from simlib.scenario import Scenario
from simlib.scenario.presets import LIBRARIES
from simlib.scenario.workload import publish_times_s

_PENDING_FRAC = 0.05
_UNSEEN_FRAC = 0.01
_LATE_FRAC = 0.1
_FALLEN_FRAC = 0.1
_HIDDEN_FRAC = 0.05
"""The part of a treatment's time that a warm-up may hide."""
_MILLISECONDS = 1000.0
_LONG_RTT_S = 5.0
_LONG_COST_S = 1.0
"""A worker that is busy for so long with one poll or send serves nobody else meanwhile."""
_COSTS = ("poll_s", "check_s", "cached_s", "handshake_s", "authenticate_s", "fan_out_s", "send_s")
_BUSY_FRAC = 0.85
_FREE_FRAC = 0.5
"""A server that is so busy with what it is given for nothing would answer late."""
_ASKED_FRAC = 0.7
_PROCESSES = ("server", "clients", "proxy")
_PASS_ON = (
    "Let it pass streams on at once (X-Accel-Buffering: no, proxy_buffering off): leave "
    "network.stream_buffer_bytes out."
)
_BLOCKING = "a proxy that blocks upgrades"
_WAITS = {
    "polling": (
        "polling.interval_s",
        "polling.hidden_interval_s",
        "polling.active_interval_s",
    ),
    "long_polling": ("long_polling.timeout_s", "long_polling.pause_s", "reconnect.base_s"),
    "socket": (
        "heartbeat.interval_s",
        "heartbeat.timeout_s",
        "reconnect.base_s",
        "websocket.open_timeout_s",
        "websocket.safety_poll_s",
    ),
}
"""The waits that a client repeats, by what it does."""
_SECTIONS = tuple(dict.fromkeys(path.split(".")[0] for paths in _WAITS.values() for path in paths))


class RunWarning(NamedTuple):
    """Something that makes figures of a run mean less than they seem to.

    Attributes
    ----------
    kind : str
        One or two words: a key of `CHECKS`.
    sentence : str
        What is wrong, with its number, and what would be right.

    Examples
    --------
    >>> print(RunWarning("late", "Changes were published up to 2 s late."))
    Changes were published up to 2 s late.
    """

    kind: str
    sentence: str

    @property
    def brief(self) -> str:
        """What is wrong, without what follows from it and what would be right."""
        return self.sentence.partition(": ")[0].removesuffix(".")

    def __str__(self) -> str:
        return self.sentence

    def __repr__(self) -> str:
        return f"{self.kind}: {self.sentence}"


class Facts(NamedTuple):
    """What the checks read: a run's scenario, provenance and tables."""

    scenario: Scenario
    provenance: dict[str, Any]
    tables: Mapping[str, Columns]

    @property
    def end_s(self) -> float:
        """How far the run came, seconds."""
        return float(self.provenance.get("end_of_run_s", self.scenario.horizon_s))


class About(NamedTuple):
    """What sentences are made from, before a run is known: its scenario, and who has run it.

    Attributes
    ----------
    scenario : Scenario
    end_s : float
        How far the run came, seconds.
    transports : tuple of Transport
        Which clients have, in a rollout those of both cohorts.
    is_live : bool
        Whether the live lab has run it.
    exposures : dict of str to ndarray, optional
        Of a rollout.
    """

    scenario: Scenario
    end_s: float
    transports: tuple[Transport, ...]
    is_live: bool = False
    exposures: Columns | None = None


def foreseen(scenario: Scenario, transports: Sequence[int] = ()) -> About:
    """Return what sentences are made from of a run to its end, by an engine.

    Parameters
    ----------
    scenario : Scenario
    transports : sequence of int, optional
        Of a rollout, the `Transport` of each cohort.
    """
    own = {Transport(one) for one in transports} or {Transport[scenario.transport.upper()]}
    return About(scenario, scenario.horizon_s, tuple(sorted(own)))


def may_poll(about: About) -> bool:
    """Say whether a client may ever poll: by its transport, or as it falls back to that.

    Examples
    --------
    >>> board = Scenario.example("matters").replace(transport="websocket")
    >>> falls_back = board.replace(fallback={"after_failures": 2})
    >>> may_poll(foreseen(board)), may_poll(foreseen(falls_back))
    (False, True)
    """
    polled = Transport.POLLING in about.transports
    return polled or about.scenario.fallback is not None


class Rule(NamedTuple):
    """A check that needs no more than the scenario and the numbers of `Numbers`.

    Attributes
    ----------
    sentences : callable
        Returns the sentences of a scenario, of which the first that is true is said.
    reads : tuple of str
        The settings, or parts of a scenario, that decide about them.
    """

    sentences: Callable[[About], Sequence[Sentence]]
    reads: tuple[str, ...] = ()


def warnings_of(facts: Facts) -> tuple[RunWarning, ...]:
    """Return the warnings of a run, the worst kinds first."""
    known, numbers = _about_run(facts), Numbers(facts)
    found = (
        (kind, said(check.sentences(known), numbers) if isinstance(check, Rule) else check(facts))
        for kind, check in CHECKS.items()
    )
    return tuple(RunWarning(kind, sentence) for kind, sentence in found if sentence)


def kinds(warnings: Iterable[RunWarning]) -> str:
    """Return the kinds of warnings as one text, each kind once.

    Examples
    --------
    >>> kinds([RunWarning("late", "By 2 s."), RunWarning("late", "By 3 s.")])
    'late'
    """
    return ", ".join(dict.fromkeys(warning.kind for warning in warnings))


def kinds_of(texts: Iterable[str]) -> str:
    """Return the kinds of warnings of many runs, of texts that `kinds` returned, each once.

    Examples
    --------
    >>> kinds_of(["full, unseen", "", "unseen"])
    'full, unseen'
    """
    every = (kind for text in texts for kind in text.split(", ") if kind)
    return ", ".join(dict.fromkeys(every))


# -- the run itself --------------------------------------------------------------------------------


def _incomplete(facts: Facts) -> str:
    if facts.provenance.get("complete", True):
        return ""
    horizon_s = facts.scenario.horizon_s
    return (
        f"The run ended after {facts.end_s:,.4g} of {horizon_s:,.10g} s: its figures are of that "
        "part alone. Run it to its end."
    )


def _parts(facts: Facts) -> list[tuple[str, float]]:
    """Return the parts of a run in which something may be too busy: their words and beginnings."""
    warm_up_s = facts.scenario.warm_up_s
    last_s = max(LAST_PART * facts.end_s, warm_up_s)
    return [("", warm_up_s), (" of the last quarter of the run", last_s)]


def _saturated(about: About) -> Sequence[Sentence]:
    """Utilisation beyond the limit: of all nodes together, or else of the busiest one.

    It is the mean after the warm-up, or over the last quarter of the run.
    """
    nodes = about.scenario.server.nodes
    found = []
    for head, when in (("", ""), ("late_", " of the last quarter of the run")):
        for of_all in (True, False):
            who, which, others, remedy = "The server", "busy_frac", "", "more server.workers"
            if not of_all:
                who, which = f"Node {{{head}busiest:count}}", "busiest_frac"
                others = f" (all {nodes} nodes together {{{head}busy_frac:three_percent}} %)"
                remedy = f"a smaller share of the clients, {remedy}"
            advice = f"Give it {remedy}, cheaper requests or fewer clients."
            if about.is_live:
                advice = "Slow the lab down (time_scale) or use fewer clients."
            limits = [f"{head}busiest_frac > {SATURATED_FRAC}"]
            limits += [f"{head}busy_frac > {SATURATED_FRAC}"] if of_all else []
            sentence = (
                f"{who} was busy {{{head}{which}:three_percent}} % of the time{when}{others}: "
                f"above {SATURATED_FRAC * 100:g} % latencies are mostly time in its queue, and may "
                f"depend on how long the run was ({words_s(about.end_s)}). {advice}"
            )
            found.append(say(limits, sentence))
    return found


def _shared_link(facts: Facts) -> str:
    """A link that all clients share, by the payload that came to them: nearly all passes it.

    What the link carried for connections that had ended is not among that. Where it is so full that
    connections end before much arrives, what was to pass it says so.
    """
    rate, timeline = facts.scenario.network.shared_down_bytes_per_s, facts.tables["timeline"]
    if rate is None:
        return ""
    once = equal(timeline, "cohort", timeline["cohort"][0])
    t_s, width_s = timeline["t_s"][once], timeline["width_s"][once]
    n_bytes = timeline["payload_down_bytes"].reshape(-1, len(t_s)).sum(axis=0)
    for when, from_s in _parts(facts):
        counted = t_s >= min(from_s, t_s[-1])
        total_s = float(width_s[counted].sum())
        busy = float(n_bytes[counted].sum()) / rate / total_s if total_s > 0.0 else 0.0
        asked = _asked_of_link(facts) / rate
        if max(busy, asked) > SATURATED_FRAC:
            was = f"was busy {busy * 100:.3g} % of the time{when}"
            if busy <= SATURATED_FRAC:
                was = f"was to carry {asked * 100:.3g} % of what it can"
            return (
                f"The link that all clients share {was}: "
                f"above {SATURATED_FRAC * 100:g} % latencies are mostly time in its queue, and "
                f"may depend on how long the run was ({words_s(facts.end_s)}). Raise "
                "network.shared_down_bytes_per_s, send fewer or smaller messages (deltas, "
                "polling.etag), or use fewer clients."
            )
    return ""


def _asked_of_link(facts: Facts) -> float:
    """Return the payload that changes or polls were to bring down, bytes per second."""
    scenario, timeline = facts.scenario, facts.tables["timeline"]
    counted_s = facts.end_s - scenario.warm_up_s
    sizes = message_sizes(scenario.wire_spec(), "payload")[:, 1]
    transport = Transport[scenario.transport.upper()]
    if TRANSPORTS[transport].has_socket and not TRANSPORTS[transport].fetches:
        push = sent_as(transport, Message.PUSH)
        n_bytes = int(facts.tables["clients"]["eligible"].sum()) * int(sizes[push])
    else:
        is_held = scenario.transport == "long_polling"
        polls = timeline["polls"] - timeline["unchanged"]
        n_bytes = int(polls[timeline["t_s"] >= scenario.warm_up_s].sum())
        n_bytes *= int(sizes[Message.HELD_REPLY if is_held else Message.POLL_RESPONSE])
    return n_bytes / counted_s if counted_s > 0.0 else 0.0


def _broker(about: About) -> Sequence[Sentence]:
    """A broker that is asked to tell of more changes than it has time for, after the warm-up."""
    server, is_told = about.scenario.server, about.scenario.transport in TOLD_TRANSPORTS
    if server.nodes == 1 or server.broker_s == 0.0:
        return ()
    bears_per_s = 1.0 / (server.nodes * server.broker_s)
    when = [f"published_per_s >= {bears_per_s!r}", *([] if is_told else ["messages > 0"])]
    sentence = (
        "The broker was asked to tell of {published_per_s:two} changes per second and bears "
        f"{two(bears_per_s)}, 1 / (server.nodes x server.broker_s): its backlog grew all the "
        f"time, and latencies depend on how long the run was ({words_s(about.end_s)}). Give it a "
        "smaller server.broker_s, fewer nodes or fewer changes."
    )
    return (say(when, sentence),)


def _about_run(facts: Facts) -> About:
    names = distinct(facts.tables["timeline"]["transport"])
    transports = tuple(Transport[str(name).upper()] for name in names)
    is_live = facts.provenance.get("engine") == "live"
    return About(facts.scenario, facts.end_s, transports, is_live, facts.tables.get("exposures"))


def _asked_for(about: About) -> tuple[str, str]:
    """Return the words for what clients ask the server for, and for what they get by it."""
    rows = [TRANSPORTS[transport] for transport in about.transports]
    kinds = {
        ("upgrades", "WebSocket"): any(row.upgrades for row in rows),
        ("requests for streams", "stream"): any(row.is_stream for row in rows),
        ("requests that were to be held", "connection"): any(row.is_held for row in rows),
    }
    there = [words for words, is_there in kinds.items() if is_there]
    asked, had = zip(*(there or [("requests", "connection")]), strict=True)
    return " and ".join(asked), had[0] if len(had) == 1 else "connection"


def _full(about: About) -> Sequence[Sentence]:
    """Connections that the server refused, by what it had no room for."""
    server = about.scenario.server
    node = "a node has" if server.nodes > 1 else "the server has"
    what, its = _asked_for(about)
    refused, dropped = ("refused > 0",), ("dropped_syns > 0",)
    return (
        say(
            ["refused + dropped_syns > 0"],
            Piece(
                f"{{refused:count}} {what} were answered 503, as {node} server.max_connections = "
                f"{server.max_connections:,}",
                refused,
            ),
            Piece(
                f", and {{without:count}} of {{tried:count}} clients never had a {its}",
                (*refused, "tried > 0"),
            ),
            Piece("; ", (*refused, *dropped)),
            Piece(
                f"{{dropped_syns:count}} SYNs were dropped, as server.backlog = {server.backlog:,} "
                "was full; they are sent again after 1, 3, 7 s and so on",
                dropped,
            ),
            ". Raise ",
            Piece("server.max_connections", refused),
            Piece(" or ", (*refused, *dropped)),
            Piece("server.backlog", dropped),
            ", or use fewer clients.",
        ),
    )


def unseen_frac(clients: Columns, rows: Any = slice(None)) -> float:
    """Return the share of clients that saw none of the changes that were eligible for them.

    Clients without an eligible change do not count; NaN if that is all of them.
    """
    eligible, delivered = clients["eligible"][rows], clients["delivered"][rows]
    return float(ratio(((eligible > 0) & (delivered == 0)).sum(), (eligible > 0).sum()))


def _unseen(_: About) -> Sequence[Sentence]:
    return (
        say(
            [f"unseen_frac >= {_UNSEEN_FRAC}"],  # not where there was nothing to see
            "{unseen:count} of {due:count} clients ({unseen_frac:two_percent} %) saw no change at "
            "all: latencies leave them out, so they look better the more such clients there are. "
            "Read latencies beside the share of changes that were seen.",
        ),
    )


def _pending(about: About) -> Sequence[Sentence]:
    when = [f"pending_frac > {_PENDING_FRAC}"]
    sentence = (
        "{pending:count} of {eligible:count} changes for a client ({pending_frac:two_percent} %) "
        "were not seen by the end: latencies are of the others alone. "
    )
    advice = "Use a longer horizon_s, or a cool_down_s as long as a change takes."
    kept = f"A proxy had {{held_back:count}} to pass on at the end. {_PASS_ON}"
    whose, others = Piece(kept, ("kept_frac > 0.5",)), Piece(advice, ("kept_frac <= 0.5",))
    plain = say([*when, "held_back <= 0"], sentence, advice)
    network, has_streams = about.scenario.network, any(map(is_stream, about.transports))
    if not has_streams:
        return plain, say(when, sentence, whose, others)
    if network.stream_held_frac:
        return (plain,)  # the rest is `_held_back`'s
    return plain, say([*when, "thrown_away <= 0", "streamed > 0"], sentence, whose, others)


def _queued(about: About) -> Sequence[Sentence]:
    """Requests that waited in the browser, as the user's other tabs had all of its connections."""
    limit = about.scenario.network.connections_per_user
    if limit is None:
        return ()
    return (
        say(
            ["waited > 0"],
            "{waited:count} of {clients:count} tabs waited for a connection of their browser for "
            "{waited_frac:two_percent} % of their time",
            Piece(", and {never:count} never had one for what they asked", ("never > 0",)),
            f": network.connections_per_user = {limit} is for all tabs of a user, and a stream "
            "gives its connection back only when it ends. Serve HTTP/2, use one stream for all "
            "tabs of a user, or a WebSocket.",
        ),
    )


def _broken_off(about: About) -> Sequence[Sentence]:
    """Updates that a broadcast did not bring to all of its clients, as it ended early."""
    server = about.scenario.server
    causes = [
        (server.slow_consumers == "abort", "clients that read too slowly (slow_consumers)"),
        (server.socket_set == "plain", "joins and leaves (socket_set)"),
        (server.meeting_fails_frac > 0.0, "updates that met (meeting_fails_frac)"),
    ]
    named = " or ".join(words for is_set, words in causes if is_set)
    return (
        say(
            ["failed_updates > 0"],
            "{failed_updates:count} updates were lost for some clients ({unsent:count} messages "
            f"were not sent) by {named}: their broadcasts ended there, and their authors were told "
            "that saving failed. What is lost is late nowhere: latencies do not show it. Catch "
            'what one send raises, and use server.socket_set = "concurrent".',
        ),
    )


def _forgotten(about: About) -> Sequence[Sentence]:
    """Sockets, and requests held, of a server that sends to none of them any more."""
    when = ["forgotten > 0"]
    if about.transports == (Transport.LONG_POLLING,):
        sentence = (
            "{forgotten:count} requests were held by a server that had forgotten whom to answer "
            "when everybody was cut at once: they are answered when their time is over, and what "
            'is new comes with the next. Use server.socket_set = "concurrent".'
        )
        return (say(when, sentence),)
    its = {"WebSocket": "sockets", "stream": "streams"}.get(_asked_for(about)[1], "connections")
    what = f"{its} were let in"
    if Transport.LONG_POLLING in about.transports:
        what += ", or requests held,"
    sentence = (
        f"{{forgotten:count}} {what} by a server that had forgotten all of its {its} when "
        "everybody was cut at once: nobody is sent any change on them, and no latency shows it. "
        'Use server.socket_set = "concurrent", or websocket.safety_poll_s against what is left.'
    )
    return (say(when, sentence),)


def _held_back(about: About) -> Sequence[Sentence]:
    """Changes that a proxy in front of streams threw away, or has passed none of on."""
    network = about.scenario.network
    piece, share = network.stream_buffer_bytes, network.stream_held_frac
    if not any(map(is_stream, about.transports)) or not (share or piece):
        return ()
    pieces = ", pieces among them" if piece else ""
    shares = (
        f"Proxies of a share of {share:g} of the clients passed on nothing of their streams "
        "(network.stream_held_frac): {thrown_away:count} changes were lost with streams that were "
        f"cut, and {{held_back:count}} were kept back at the end{pieces}. Only "
        "a client that gives up waiting (websocket.open_timeout_s) may poll instead (fallback)."
    )
    if share:
        return (say(["thrown_away + held_back > 0"], shares),)
    thrown = (
        "A proxy threw {thrown_away:count} changes away that were to be told, with pieces of less "
        f"than {piece:,} bytes of streams that were cut: a client gets them later only if the "
        f"server sends them again (websocket.resync). {_PASS_ON}"
    )
    held = (
        "No change came by a stream: a proxy had {held_back:count} to pass on at the end, for want "
        f"of a piece of {piece:,} bytes. {_PASS_ON}"
    )
    return say(["thrown_away > 0"], thrown), say(["held_back > 0", "streamed <= 0"], held)


def _given_up(about: About) -> Sequence[Sentence]:
    """Clients that never try again because of how HTTP has answered them, or ended a stream."""
    error, end = ("given_up > 0",), ("given_up_at_end > 0",)
    both = (*error, *end)
    settings = _refusing(about)
    rest = ", ".join(settings)
    goes_on = ", ".join(_giving_up(about, settings))
    by_proxy, by_server = "bad_gateways > 0", "refused > 0"
    some = () if rest else ("bad_gateways + refused > 0",)
    return (
        say(
            ["given_up + given_up_at_end > 0"],
            "{given_up + given_up_at_end:count} of ",
            Piece("{tried:count}", ("tried > 0",)),
            Piece("{clients:count}", ("tried <= 0",)),
            " clients have given up for good, as ",
            Piece("requests were answered with an error of HTTP", error),
            Piece(" (", (*error, *some)),
            Piece("network.bad_gateway", (*error, by_proxy)),
            Piece(", ", (*error, by_proxy, *(() if rest else (by_server,)))),
            Piece("server.max_connections", (*error, by_server)),
            Piece(f", {rest}" if rest else "", (*error, by_server)),
            Piece(rest, (*error, "refused <= 0")),
            Piece(")", (*error, *some)),
            Piece(" ({given_up:count} of them) and ", both),
            Piece("streams came to their proper end (server.ends_streams)", end),
            Piece(" ({given_up_at_end:count} of them)", both),
            ": they see nothing more, and no latency shows it. ",
            Piece(f"Use a client that tries again ({goes_on}), or answer with no error.", error),
            Piece(" ", both),
            Piece("Use a client that opens an ended stream again (sse.retries_ended).", end),
        ),
    )


def _giving_up(about: About, refusing: list[str]) -> list[str]:
    """Return the settings by which clients do not come back after an error of HTTP.

    All that may be the cause are named, since where one alone is changed, the next may end them.
    """
    scenario, rule = about.scenario, about.scenario.reconnect
    limit, transports = scenario.rate_limit, about.transports
    has_streams, has_sockets = any(map(is_stream, transports)), any(map(has_socket, transports))
    may_be_4xx = {"websocket.token_valid_s", _BLOCKING}
    if limit is not None and limit.status < 500:
        may_be_4xx.add("rate_limit")
    ends = {
        "sse.retries_http_errors": has_streams and not scenario.sse.retries_http_errors,
        "reconnect.policy": rule.policy == "none",
        "reconnect.attempts": rule.attempts is not None,
        "reconnect.give_up_s": rule.give_up_s is not None,
        "reconnect.from_start": not rule.from_start,
        "reconnect.retries_4xx": (
            has_sockets and not rule.retries_4xx and not may_be_4xx.isdisjoint(refusing)
        ),
    }
    found = [name for name, is_true in ends.items() if is_true]
    return found or ["reconnect"]  # of a rollout, a cohort has them otherwise


def _refusing(about: About) -> list[str]:
    """Return the settings by which requests for a connection may be answered with an error.

    Beside these there may be network.bad_gateway and server.max_connections, if a run has counted
    such answers.
    """
    scenario = about.scenario
    server, limit = scenario.server, scenario.rate_limit
    has_streams = any(map(is_stream, about.transports))
    limited = {"all", *("polls" if holds(each) else "upgrades" for each in about.transports)}
    kinds = {fault.kind for fault in scenario.faults}
    may_answer = {
        "server.admit_per_s": server.admit_per_s is not None,
        "server.shed_wait_s": server.shed_wait_s is not None,
        "rate_limit": limit is not None and limit.applies_to in limited,
        "websocket.token_valid_s": has_streams and scenario.websocket.token_resent,
        _BLOCKING: not has_streams and "block_upgrades" in kinds,
    }
    return [name for name, is_true in may_answer.items() if is_true]


def _free_snapshots(facts: Facts) -> str:
    """Boards that many clients get at once when they connect, and that cost the server nothing."""
    scenario, timeline = facts.scenario, facts.tables["timeline"]
    server, push = scenario.server, scenario.websocket
    name = "poll_s" if server.cache_s == 0.0 else "cached_s"
    cost_s, loops = getattr(server, name), server.nodes * server.workers
    gets_boards = push.resync == "snapshot" or push.or_snapshot
    # The lab's server reads its board for whoever connects, whatever the setting.
    if server.snapshot_s > 0.0 or not gets_boards or facts.provenance.get("engine") == "live":
        return ""
    given = [
        each for each in _about_run(facts).transports if has_socket(each) and not fetches(each)
    ]
    mine = np.isin(timeline["transport"], [each.name.lower() for each in given])
    bins = int((timeline["cohort"] == timeline["cohort"][0]).sum())
    opened = np.where(mine, timeline["opened"], 0).reshape(-1, bins).sum(axis=0)
    width_s = np.maximum(timeline["width_s"][:bins], 1.0)
    most = int(np.argmax(opened / width_s))
    busy_s = float(opened[most]) * cost_s / loops
    if not busy_s > _FREE_FRAC * width_s[most]:
        return ""
    workers = "the worker" if loops == 1 else f"each of the {loops} workers"
    return (
        f"{opened[most]:,} clients connected within {words_s(width_s[most])} at "
        f"{timeline['t_s'][most]:,.10g} s, and their boards cost nothing (server.snapshot_s = 0): "
        f"read as a poll's is (server.{name} = {words_s(cost_s)}), they take {workers} "
        f"{words_s(busy_s)}. Give server.snapshot_s what reading the board takes; 1e-6 if it is in "
        "memory."
    )


def _fell_back(facts: Facts) -> str:
    """Clients that one outage has sent to polling for longer than it took itself."""
    scenario, rule = facts.scenario, facts.scenario.fallback
    found: tuple[float, float, Any] = (0.0, 0.0, None)
    for fault in scenario.faults_by_number().values() if rule is not None else ():
        end_s = fault.end_s(scenario.server.nodes)
        polls_s = rule.return_s if rule and rule.return_s else facts.end_s - end_s
        if end_s < facts.end_s and end_s - fault.start_s < polls_s:
            fallen, present = _fallen(facts, fault.start_s, end_s + polls_s)
            if fallen > found[0]:
                found = fallen, present, fault
    fallen, present, fault = found
    if rule is None or fault is None or fallen < _FALLEN_FRAC * present:
        return ""
    long_s = fault.end_s(scenario.server.nodes) - fault.start_s
    length = f" of {words_s(long_s)}" if long_s else ""
    polls = "for good, as fallback.return_s is absent"
    if rule.return_s is not None:
        polls = f"for fallback.return_s = {words_s(rule.return_s)} and longer"
    return (
        f"{fallen:,.0f} of {present:,.0f} clients ({two(100.0 * fallen / present)} %) fell back "
        f"to polling in the {fault.kind.replace('_', ' ')}{length} at {fault.start_s:,.10g} s: "
        f"each then polls {polls}, and is as late as polling is. Let the rule outlast a deploy "
        "(a larger fallback.after_failures, or fallback.after_s), or shorten fallback.return_s."
    )


def _fallen(facts: Facts, from_s: float, until_s: float) -> tuple[float, float]:
    """Return how many clients fell back within a time, and the most that were to be pushed to.

    Those that polled before are left out: they come back to polling whatever happens, as behind a
    proxy that blocks upgrades.
    """
    timeline = facts.tables["timeline"]
    is_told = np.isin(timeline["transport"], list(TOLD_TRANSPORTS))
    t_s, width_s = timeline["t_s"], timeline["width_s"]
    rows = is_told & (t_s + width_s > from_s) & (t_s < until_s)
    present = float(timeline["present_count"][rows].max(initial=0.0))
    fallbacks = float(timeline["fallbacks"][rows].sum())
    return min(fallbacks, present, float(_new_to_polls(facts, from_s, until_s))), present


def _new_to_polls(facts: Facts, from_s: float, until_s: float) -> int:
    """Return how many clients poll within a time whose connection before, if any, was no poll's."""
    log = facts.tables["connections"]
    client, opened_s, polls = log["client"], log["opened_s"], log["transport"] == "polling"
    order = np.lexsort((opened_s, client))
    order = order[opened_s[order] < from_s]
    is_last = np.diff(client[order], append=-1) != 0
    polled_before = client[order][is_last & polls[order]]
    within = polls & (opened_s >= from_s) & (opened_s < until_s)
    return len(np.setdiff1d(client[within], polled_before))


def _is_of_a_library(path: str, value: float) -> bool:
    """Say whether a client library has this value by default, so that it is no slip."""
    return any(library.changes.get(path) == value for library in LIBRARIES.values())


def _interval(about: About) -> Sequence[Sentence]:
    scenario = about.scenario
    transports = {each.name.lower() for each in about.transports}
    paths = [*_WAITS["polling"]] if may_poll(about) else []
    paths += _WAITS["socket"] if transports & set(SOCKET_TRANSPORTS) else []
    paths += _WAITS["long_polling"] if "long_polling" in transports else []
    found = []
    for path in dict.fromkeys(paths):
        section, name = path.split(".")
        if section == "heartbeat" and scenario.heartbeat.direction == "none":
            continue
        part = getattr(scenario, section)
        value_s = getattr(part, name)
        if value_s is None or value_s <= scenario.horizon_s:
            continue
        if value_s == type(part).model_fields[name].default or _is_of_a_library(path, value_s):
            continue
        hint = (
            f"; if milliseconds were meant, {words_s(value_s / _MILLISECONDS)}"
            if value_s >= _MILLISECONDS
            else ""
        )
        found.append(f"{path} is {value_s:,.10g} s ({words_s(value_s)}){hint}")
    longer = f"that is longer than the run ({scenario.horizon_s:,.10g} s), in which it never passes"
    return (say([], f"{'; '.join(found)}: {longer}."),) if found else ()


def _cut_while_held(about: About) -> Sequence[Sentence]:
    """Requests that a middlebox cuts before the server lets go of them."""
    scenario = about.scenario
    idle_s, timeout_s = scenario.network.idle_s, scenario.long_polling.timeout_s
    is_held = Transport.LONG_POLLING in about.transports
    if not is_held or idle_s is None or idle_s > timeout_s:
        return ()
    sentence = (
        f"A middlebox cuts each request that is held for network.idle_s = {words_s(idle_s)}: the "
        f"server would hold it for {words_s(timeout_s)}, so where nothing changes for so long, it "
        "counts as failed. Make long_polling.timeout_s less than network.idle_s."
    )
    return (say([], sentence),)


def _unit(about: About) -> Sequence[Sentence]:
    """Round trips and costs of the server that nobody has, but in milliseconds everybody."""
    network, server = about.scenario.network, about.scenario.server
    quantiles = network.rtt_quantiles
    rtt = "rtt_s" if quantiles is None else "rtt_quantiles"
    rtt_s = network.rtt_s if quantiles is None else quantiles[0][1]
    times = [(f"network.{rtt}", rtt_s, _LONG_RTT_S)]
    times += [(f"server.{name}", getattr(server, name), _LONG_COST_S) for name in _COSTS]
    found = [
        f"{path} is {words_s(value_s)}{' at the least' if path.endswith('quantiles') else ''} "
        f"({value_s / _MILLISECONDS:.10g} if milliseconds were meant)"
        for path, value_s, long_s in times
        if value_s >= long_s
    ]
    right = 'settings that end in _s are seconds, or a text such as "2 ms"'
    return (say([], f"{'; '.join(found)}: {right}."),) if found else ()


def _warm_up(about: About) -> Sequence[Sentence]:
    scenario, exposures = about.scenario, about.exposures
    warm_up_s, horizon_s = scenario.warm_up_s, scenario.horizon_s
    left_out_s = warm_up_s + scenario.cool_down_s
    found = []
    if left_out_s > 0.5 * horizon_s:
        found.append(f"{left_out_s:,.10g} of {horizon_s:,.10g} s count for nothing")
    # A fault that repeats is hidden if its last time is.
    nodes = scenario.server.nodes
    lasts = [each.occurrence(each.times(horizon_s, nodes) - 1) for each in scenario.faults]
    # One that acts from the start until after the warm-up is a condition of the whole run.
    hidden = [
        fault
        for fault in lasts
        if fault.start_s < warm_up_s and (fault.start_s > 0.0 or fault.end_s(nodes) <= warm_up_s)
    ]
    if hidden:
        found.append(f"the {hidden[0].kind} at {hidden[0].start_s:,.10g} s begins within it")
    if exposures is not None and warm_up_s > 0.0:
        mine = exposures["cohort"] == "treatment"
        from_s, to_s = exposures["from_s"][mine], exposures["to_s"][mine]
        hidden_s = np.clip(np.minimum(to_s, warm_up_s) - from_s, 0.0, None).sum()
        if hidden_s > _HIDDEN_FRAC * (to_s - from_s).sum():
            found.append(f"the rollout begins at {from_s.min():,.4g} s, within it")
    hides = f"The warm-up ({warm_up_s:,.10g} s) hides some of what is asked"
    advice = "Shorten warm_up_s, or let it happen later."
    return (say([], f"{hides}: {'; '.join(found)}. {advice}"),) if found else ()


# -- the numbers of sentences --------------------------------------------------------------------


class Numbers(dict[str, float]):
    """The numbers of a run that sentences use: `sentences.NUMBERS` and counts, as they are asked.

    Parameters
    ----------
    facts : Facts
    """

    def __init__(self, facts: Facts) -> None:
        super().__init__()
        self._facts = facts

    def __missing__(self, name: str) -> float:
        if name in _COUNTS:
            self[name] = float(self._facts.tables["timeline"][name].sum())
        else:
            self.update(_OF_NUMBERS[name](self._facts))
        return self[name]


_COUNTS = {what.name.lower() for what in Count}


def _busy(facts: Facts, head: str, from_s: float) -> dict[str, float]:
    of_nodes = node_utilisations(facts.tables, from_s)
    busiest = int(of_nodes.argmax())
    return {
        f"{head}busy_frac": float(of_nodes.mean()),
        f"{head}busiest_frac": float(of_nodes[busiest]),
        f"{head}busiest": busiest,
    }


def _busy_after(facts: Facts) -> dict[str, float]:
    return _busy(facts, "", facts.scenario.warm_up_s)


def _busy_late(facts: Facts) -> dict[str, float]:
    return _busy(facts, "late_", max(LAST_PART * facts.end_s, facts.scenario.warm_up_s))


def _tried(facts: Facts) -> dict[str, float]:
    connections, clients = facts.tables["connections"], facts.tables["clients"]
    is_socket = np.isin(connections["transport"], list(SOCKET_TRANSPORTS))
    tried = clients["client"][clients["attempts"] > 0]
    without = len(np.setdiff1d(tried, connections["client"][is_socket]))
    return {"clients": len(clients["client"]), "tried": len(tried), "without": without}


def _waited(facts: Facts) -> dict[str, float]:
    clients = facts.tables["clients"]
    waits_s = clients["queued_s"]
    present_s = np.minimum(clients["end_s"], facts.end_s) - clients["start_s"]
    waited = waits_s > QUEUED_FRAC * np.maximum(present_s, 0.0)
    is_connected = np.isin(clients["client"], facts.tables["connections"]["client"])
    fetching = [each.name.lower() for each, row in TRANSPORTS.items() if row.fetches]
    is_served = is_connected & ~np.isin(clients["transport"], fetching)
    shares = waits_s[waited] / present_s[waited]
    return {
        "waited": int(waited.sum()),
        "never": int((waited & (clients["polls"] == 0) & ~is_served).sum()),
        "waited_frac": float(shares.mean()) if len(shares) else np.nan,
    }


def _seen(facts: Facts) -> dict[str, float]:
    clients = facts.tables["clients"]
    frac, due = unseen_frac(clients), int((clients["eligible"] > 0).sum())
    return {"due": due, "unseen": round(frac * due) if due else 0, "unseen_frac": frac}


def _outstanding(facts: Facts) -> dict[str, float]:
    ledger = ledger_of(facts.tables["clients"])
    held = int(facts.tables["timeline"]["held_back"].sum())
    return {
        "eligible": ledger.eligible,
        "pending": ledger.pending,
        "pending_frac": float(ratio(ledger.pending, ledger.eligible)),
        "kept_frac": float(ratio(held, ledger.pending)),
    }


def _streamed(facts: Facts) -> dict[str, float]:
    timeline = facts.tables["timeline"]
    streams = [each.name.lower() for each, row in TRANSPORTS.items() if row.is_stream]
    mine = np.isin(timeline["transport"], streams)
    return {"streamed": int(timeline["messages"][mine].sum())}


def _published(facts: Facts) -> dict[str, float]:
    scenario, provenance = facts.scenario, facts.provenance
    from_s, end_s = scenario.warm_up_s, facts.end_s
    publish_s = publish_times_s(scenario, provenance["seed"], provenance["replication"])
    counted = int(((publish_s >= from_s) & (publish_s < end_s)).sum())
    return {"published_per_s": counted / (end_s - from_s) if end_s > from_s else 0.0}


_OF_NUMBERS: dict[str, Callable[[Facts], dict[str, float]]] = {
    **dict.fromkeys(("busy_frac", "busiest_frac", "busiest"), _busy_after),
    **dict.fromkeys(("late_busy_frac", "late_busiest_frac", "late_busiest"), _busy_late),
    **dict.fromkeys(("clients", "tried", "without"), _tried),
    **dict.fromkeys(("waited", "never", "waited_frac"), _waited),
    **dict.fromkeys(("due", "unseen", "unseen_frac"), _seen),
    **dict.fromkeys(("eligible", "pending", "pending_frac", "kept_frac"), _outstanding),
    "streamed": _streamed,
    "published_per_s": _published,
}
"""What finds each number, which may find others with it."""


# -- the live lab ----------------------------------------------------------------------------------


def _late(facts: Facts) -> str:
    late = facts.provenance.get("publish_late_s")
    if late is None:
        return ""
    scale = facts.provenance.get("time_scale", 1.0)
    p50_s, p95_s = latency_quantiles(facts.tables["latency"], np.array([0.5, 0.95]))
    # Latencies count from the intended time, so that lateness is in them.
    if not (late["median"] * scale > _LATE_FRAC * p50_s or late["max"] * scale > p95_s):
        return ""
    return (
        f"Changes were published up to {two(late['max'] * scale)} s late (median "
        f"{two(late['median'] * scale)} s, in the scenario's time): latencies include that. Slow "
        "the lab down (time_scale), use fewer clients, or stop other programs."
    )


def _not_quiet(facts: Facts) -> str:
    if facts.provenance.get("quiet", True):
        return ""
    cores = facts.provenance.get("cpu", {}).get("other_cores")
    took = "part" if cores is None else f"{two(cores)}"
    return (
        f"Other programs took {took} of the machine's processors: latencies are inconclusive. "
        "Measure again while nothing else runs."
    )


def _overloaded(facts: Facts) -> str:
    cores = facts.provenance.get("cpu", {})
    busy = {name: cores.get(f"{name}_cores", 0.0) for name in ("client", "proxy")}
    name = max(busy, key=lambda one: busy[one])
    asked = max((facts.provenance.get("load", {}).get(one, 0.0) for one in _PROCESSES), default=0.0)
    if asked > _ASKED_FRAC and busy[name] <= _BUSY_FRAC:
        return (
            f"The lab was asked for {two(asked * 100)} % of what this machine bore when it began: "
            "it may have fallen behind at times. Slow it down (time_scale), or use fewer clients."
        )
    if busy[name] <= _BUSY_FRAC:
        return ""
    words = {"client": "process of all clients", "proxy": "proxy"}[name]
    return (
        f"The lab's {words} was busy {two(busy[name] * 100)} % of the time: it measured itself. "
        "Slow the lab down (time_scale), or use fewer clients."
    )


def _shared(facts: Facts) -> str:
    server, processors = facts.scenario.server, facts.provenance.get("node_processors")
    if processors is None or processors >= server.nodes or facts.provenance["emulates_sends"]:
        return ""
    messages = int(facts.tables["timeline"]["messages"].sum())
    # A processor sends for all of its nodes; the simulation has each node send for itself.
    rounds = server.nodes / processors - 1.0
    waits_s = len(facts.tables["clients"]["client"]) / server.nodes * rounds * server.send_s
    p50_s = float(latency_quantiles(facts.tables["latency"], np.array([0.5]))[0])
    if messages == 0 or not waits_s > _LATE_FRAC * p50_s:
        return ""
    return (
        f"The {server.nodes} nodes shared {processors} of the machine's processors: their "
        f"broadcasts took turns, some {two(waits_s)} s longer than where each has its own. Let "
        "the lab emulate their sends (emulate_sends), or use a machine of "
        f"{server.nodes + 1} processors."
    )


_OF_GIVING_UP = ("sse", "reconnect", "rate_limit", "server", "websocket", "faults", "transport")

CHECKS: dict[str, Rule | Callable[[Facts], str]] = {
    "incomplete": _incomplete,
    "saturated": Rule(_saturated, ("server.nodes", "horizon_s")),
    "shared link": _shared_link,
    "broker": Rule(_broker, ("server.nodes", "server.broker_s", "transport", "horizon_s")),
    "full": Rule(_full, ("server", "transport")),
    "queued": Rule(_queued, ("network.connections_per_user",)),
    "unseen": Rule(_unseen),
    "pending": Rule(_pending, ("network", "transport")),
    "broken off": Rule(_broken_off, ("server",)),
    "forgotten": Rule(_forgotten, ("transport",)),
    "held back": Rule(_held_back, ("network", "transport")),
    "given up": Rule(_given_up, _OF_GIVING_UP),
    "free snapshots": _free_snapshots,
    "fell back": _fell_back,
    "interval": Rule(_interval, (*_SECTIONS, "fallback", "horizon_s", "transport")),
    "cut while held": Rule(
        _cut_while_held, ("network.idle_s", "long_polling.timeout_s", "transport")
    ),
    "unit": Rule(_unit, ("network", "server")),
    "warm-up": Rule(_warm_up, ("warm_up_s", "cool_down_s", "horizon_s", "faults", "server.nodes")),
    "overloaded": _overloaded,
    "shared": _shared,
    "late": _late,
    "not quiet": _not_quiet,
}
"""The kinds of warnings, in the order in which they are given, and what finds them."""
