"""Which copy of the loop a run needs.

There are three copies: one that polls, one that pushes, and the general one, which knows every
rule. A feature that the first two lack is never left out in silence: every setting of a workload is
listed here as one that they honour, or with the value under which it does nothing. A run goes to
the general loop if a setting is anything else, or is not listed at all.

Compiling a loop takes longer than most runs. So small runs go to the general loop, which nobody can
do without, and only large ones to the other two, which are faster and take less memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from simlib.core.answers import Etag
from simlib.core.broadcasts import SOUND
from simlib.core.browser import NO_LIMIT as NO_BROWSER_LIMIT
from simlib.core.client_state import Differs
from simlib.core.limiter import NO_LIMIT
from simlib.core.protocol import Transport
from simlib.core.reconnect import runs_on
from simlib.core.stream_proxy import AT_ONCE
from simlib.scenario.workload import Workload

FROM_CLIENTS = 100_000
"""From so many clients on, a run may go to the loop of its transport."""
_HONOURED = {
    *("rules", "server", "etag", "drag", "hidden", "unanswered_s"),
    *("publish_s", "start_s", "end_s", "rtt_s", "sizes", "stream_bytes", "buckets"),
    "bad_gateway",  # of servers that stop, which go elsewhere
}
_NEUTRAL: dict[str, Any] = {
    "fault_events": (),
    "delays": (),
    "limits": (),
    "nodes": 1,
    "rate_limit": NO_LIMIT,
    "shared_bytes_per_s": math.inf,
    "stream_proxy": AT_ONCE,
    "idle_s": math.inf,
    "browser": NO_BROWSER_LIMIT,
    "flag": None,
    "treatment_rules": None,
}
_HONOURED_RULES = {
    *("seed", "replication", "transport", "transports", "tls"),
    *("interval_s", "active_for_s", "jitter_frac", "stale_s"),
    *("pause_while_dragging", "pause_while_hidden", "refetch_on_focus"),
    *("retries", "retry_base_s", "retry_cap_s", "push_is_snapshot", "resync", "open_timeout_s"),
    *("upgrade_timeout_s", "ready_timeout_s", "closing_s"),
    *("watches", "retries_http_errors", "retries_ended"),  # of streams, which go elsewhere
    *("spread_s", "on_hint", "hold_s", "answer_timeout_s", "ask_pause_s"),
    *("token_valid_s", "heartbeat", "heartbeat_interval_s", "heartbeat_timeout_s", "reconnect"),
}
_NEUTRAL_RULES: dict[str, Any] = {
    "has_flag": False,
    "differs": Differs.NOTHING,
    "fixed_rate": False,
    "safety_poll_s": math.inf,
    "safety_poll_restart": False,
    "any_message": False,
    "throttles_timers": False,
    "hidden_interval_s": math.inf,
    "active_interval_s": math.inf,
}
_HONOURED_SERVER = {
    *("workers", "law", "law_parameter", "hop_s"),
    *("accept_s", "poll_s", "check_s", "cached_s", "handshake_s", "authenticate_s"),
    *("snapshot_s", "fan_out_s", "send_s", "heartbeat_s", "close_s", "max_connections"),
    *("backlog", "keep_alive_s", "shed_wait_s", "admit_per_s", "admit_burst", "sending"),
    *("drops_copy", "ends_streams", "balancing", "broker_s"),
}
_NEUTRAL_SERVER: dict[str, Any] = {"cache_s": 0.0, "loop": SOUND}
_OF_PUSH = {"idle_s", "safety_poll_s", "safety_poll_restart", "any_message", "fallback"}
"""Settings that mean nothing to clients that poll all the time."""


class Variant(NamedTuple):
    """A copy of the loop: whether it polls, whether it pushes; the general one does both."""

    polls: bool
    pushes: bool

    @property
    def is_general(self) -> bool:
        """Whether it knows every rule."""
        return self.polls and self.pushes

    @property
    def label(self) -> str:
        """Its name.

        Examples
        --------
        >>> [copy.label for copy in COPIES]
        ['general', 'pushes', 'polls']
        """
        return "general" if self.is_general else "polls" if self.polls else "pushes"


GENERAL = Variant(polls=True, pushes=True)
PUSHES = Variant(polls=False, pushes=True)
POLLS = Variant(polls=True, pushes=False)
COPIES = (GENERAL, PUSHES, POLLS)
"""All of them; the one that takes longest to compile comes first."""


def variant_of(workload: Workload) -> Variant:
    """Return the copy of the loop that a workload needs.

    Examples
    --------
    >>> from simlib.scenario import Scenario, compile_workload
    >>> board = Scenario(updates={"rate_per_s": 0.1}, clients=100_000)
    >>> variant_of(compile_workload(board, 1, 0))
    Variant(polls=True, pushes=False)
    >>> variant_of(compile_workload(board.replace({"server.nodes": 2}), 1, 0)).is_general
    True
    >>> variant_of(compile_workload(board.replace(clients=1000), 1, 0)).is_general
    True
    """
    if goes_to_general_loop(len(workload.start_s), workload._asdict):
        return GENERAL
    polls = workload.rules.transport == Transport.POLLING
    return POLLS if polls else PUSHES


def goes_to_general_loop(clients: int, settings: Callable[[], Mapping[str, Any]]) -> bool:
    """Say whether a run of so many clients goes to the general loop.

    Parameters
    ----------
    clients : int
    settings : callable
        Returns them as `scenario.workload.common_fields` does, or all of a workload; it is called
        only where they decide.
    """
    return clients < FROM_CLIENTS or needs_general_loop(settings())


def needs_general_loop(settings: Mapping[str, Any]) -> bool:
    """Say whether some of a workload's settings ask for the general loop."""
    rules = settings["rules"]._asdict()
    skipped = _OF_PUSH if rules["transport"] == Transport.POLLING else set()
    if "fallback" not in skipped and rules["fallback"].is_on:
        return True
    if rules["transport"] not in (Transport.POLLING, Transport.WEBSOCKET):
        return True
    if rules["transport"] != Transport.POLLING and runs_on(rules["reconnect"].policy):
        return True
    if settings["etag"] == Etag.VERSION:
        return True
    server = settings["server"]._asdict()
    if rules["transport"] != Transport.POLLING and server["workers"] > 1:
        return True  # a socket belongs to one of them
    others = rules.keys() - _HONOURED_RULES - skipped - {"fallback"}
    return any(
        name not in neutral or values[name] != neutral[name]
        for values, names, neutral in (
            (rules, others, _NEUTRAL_RULES),
            (server, server.keys() - _HONOURED_SERVER, _NEUTRAL_SERVER),
            (settings, settings.keys() - _HONOURED - skipped, _NEUTRAL),
        )
        for name in names
    )
