"""What the stages of one turn of the loop hand to each other, and which loops there are.

A stage is a function of the world and of the turn, called from one place and inlined there. It
changes arrays, and returns a small tuple, which costs nothing once it is inlined.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from simlib.core.assignment import TREATMENT, FlagRules
from simlib.core.client_state import Rules
from simlib.core.server import ServerRules
from simlib.engines.compiled.event_list import EventList
from simlib.engines.compiled.numba_support import inlined
from simlib.engines.compiled.state import ClientArrays, EngineOptions

POLLS = PUSHES = GENERAL = True
"""Whether a loop serves polls, serves pushes, and knows every rule; see `variants.variant_of`.
`numba_support.loops` compiles copies in which these names are settled."""

REQUESTS = 1
FIRST = 2
FAILS = 4
IGNORED = 8
CARRIES = 16
SETS_OUT = 32
"""Bits of `Outcome.flags`: a poll sets out, on a new connection; the attempt has failed; what
arrived belongs to an exchange that is over; the client's own connection carries something; a
request has waited in the browser and sets out."""


class World(NamedTuple):
    """Everything that a loop reads and changes; what grows is replaced between two calls.

    `record` are `state.RecordArrays`, which the rules take for a `core.record.Record`. `rules` are
    those of the client in hand; between two turns, of the control cohort.
    """

    arrays: ClientArrays
    record: Any
    q: EventList
    rules: Rules
    treatment_rules: Rules
    server_rules: ServerRules
    options: EngineOptions
    flag: FlagRules


class Turn(NamedTuple):
    """The event that is handled: client, kind, exchange, data and time.

    `half_s` is the time that a message takes from here to the other end, seconds.
    """

    number: int
    kind: int
    exchange: int
    data: int
    now: float
    half_s: float


class Outcome(NamedTuple):
    """What an event means.

    `event` is what the client is fed, -1 for nothing, with its `value`; `message` is what has
    arrived and is counted now, -1 for nothing; `n` events are to be scheduled.
    """

    event: int
    value: int
    message: int
    n: int
    flags: int


@inlined
def world_of(world: World, cohort: int) -> World:
    """Return the world for a client of a cohort: `rules` are that cohort's."""
    rules = rules_of(world, cohort)
    arrays, record, q, _, treatment_rules, server_rules, options, flag = world
    return World(arrays, record, q, rules, treatment_rules, server_rules, options, flag)


@inlined
def rules_of(world: World, cohort: int) -> Rules:
    """Return the rules of a cohort; `world` is the one between two turns."""
    if cohort == TREATMENT:
        return world.treatment_rules
    return world.rules


@inlined
def nothing(n: int) -> Outcome:
    """Return that an event means nothing to its client."""
    return Outcome(-1, 0, -1, n, 0)


@inlined
def ignored() -> Outcome:
    """Return that what arrived belongs to an exchange that is over."""
    return Outcome(-1, 0, -1, 0, IGNORED)
