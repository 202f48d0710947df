"""What is assumed of a board and may be otherwise: numbers and switches, and how they are varied.

An assumption is a setting of the scenario by its path, or a field of the needs by ``needs.`` and
its path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from simlib.core.protocol import TRANSPORTS, Transport, is_stream
from simlib.errors import ScenarioError
from simlib.errors import shown as shown_value
from simlib.scenario import Scenario
from simlib.scenario.presets import proxy
from simlib.scenario.suggestions import hint
from simlib.verdict.candidates import CANDIDATES, TODAY, Case
from simlib.verdict.decision import Asked
from simlib.verdict.measures import JUDGED
from simlib.verdict.needs import Needs
from simlib.verdict.runs import conditions

NEEDS = "needs."
"""What the path of a field of the needs begins with."""
Ends = tuple[Any, Any]
"""The least and the greatest value of an assumption, or a switch's off and on."""
ASSUMPTIONS = (
    "clients",
    "updates.rate_per_s",
    "updates.snapshot_bytes",
    "updates.delta_bytes",
    "server.poll_s",
    "server.send_s",
    "network.rtt_s",
    "needs.trouble.bad_proxy_frac",
    "needs.trouble.restart_s",
)
"""What is varied where nobody says what: what a team knows least of its board."""


_PIECES = "network.stream_buffer_bytes"


class Switch(NamedTuple):
    """An assumption that has two values and nothing between.

    Attributes
    ----------
    ends : callable
        Returns the two, of what is asked.
    matters : callable
        Says whether it may make a difference to a candidate's scenario, with these needs.
    beside : tuple of str
        Other paths that are set together with it.
    """

    ends: Callable[[Asked], tuple[Any, Any]]
    matters: Callable[[Scenario, Needs], bool]
    beside: tuple[str, ...] = ()


def _off_on(_: Asked) -> tuple[bool, bool]:
    return False, True


def _pieces(asked: Asked) -> tuple[None, int]:
    return None, asked.scenario.network.stream_buffer_bytes or proxy("nginx")[_PIECES]


def _held_at_once(asked: Asked) -> tuple[int, int]:
    """As many as sync workers hold, and as many as there are, or by default."""
    server = asked.scenario.server
    usual = type(server).model_fields["max_connections"].default
    few, many = server.workers, server.max_connections
    return few, many if many > few else max(usual, few + 1)


def _gives_up_at_errors(scenario: Scenario, needs: Needs) -> bool:
    """Whether all servers are down at once, and a client takes the proxy's error for the end."""
    is_judged = any(JUDGED[name].run == "rough" for name in (*needs.limits, needs.ranked_by))
    is_down = needs.trouble.stops_all(scenario.server.nodes)
    gives_up = _has_stream(scenario, needs) and not scenario.sse.retries_http_errors
    return is_judged and is_down and gives_up


def _has_stream(scenario: Scenario, _: Needs) -> bool:
    return is_stream(Transport[scenario.transport.upper()])


def _is_held(scenario: Scenario, _: Needs) -> bool:
    """Whether the server answers a request for long; workers that do so alone open no WebSocket."""
    row = TRANSPORTS[Transport[scenario.transport.upper()]]
    return row.is_held or row.is_stream


def _is_blocked(scenario: Scenario, needs: Needs) -> bool:
    upgrades = TRANSPORTS[Transport[scenario.transport.upper()]].upgrades
    return bool(upgrades and needs.trouble.bad_proxy_frac)


SWITCHES = {
    "network.bad_gateway": Switch(_off_on, _gives_up_at_errors, ("needs.trouble.bad_gateway",)),
    _PIECES: Switch(_pieces, _has_stream),
    "server.max_connections": Switch(_held_at_once, _is_held),
    "needs.trouble.proxies_answer": Switch(_off_on, _is_blocked),
}
"""What is switched where nobody says what to vary, if it matters to a candidate that is weighed: a
proxy's error while the server is down, one that passes streams on in pieces, workers that hold one
stream each, and proxies that answer an upgrade or never do."""
_FACTOR = 2.0


# -- what is changed -------------------------------------------------------------------------------


def changed(asked: Asked, over: str, value: Any) -> Asked:
    """Return what is asked with one assumption changed; a whole number is rounded."""
    return all_changed(asked, {over: value})


def all_changed(asked: Asked, values: Mapping[str, Any]) -> Asked:
    """Return what is asked with some assumptions changed together."""
    of_needs, of_scenario = {}, {}
    for over, given in values.items():
        value = round(given) if is_whole_number(asked, over) else given
        for path in (over, *(SWITCHES[over].beside if over in SWITCHES else ())):
            if path.startswith(NEEDS):
                of_needs[path.removeprefix(NEEDS)] = value
            else:
                of_scenario[path] = value
    return asked._replace(
        scenario=asked.scenario.replace(of_scenario) if of_scenario else asked.scenario,
        needs=asked.needs.replace(of_needs) if of_needs else asked.needs,
    )


def value_of(asked: Asked, over: Any, place: str = "over", *, may_be_0: bool = False) -> float:
    """Return an assumption's value as it is.

    Raises
    ------
    ScenarioError
        It is no path of a number > 0 of the scenario or, after ``needs.``, of the needs.
    """
    if not isinstance(over, str) or not over:
        rule = 'must be the path of one assumption, such as "clients" or "needs.latency_p95_s"'
        raise ScenarioError(place, over, rule)
    value = _value(asked, over)
    if type(value) in (int, float) and 0.0 <= value < math.inf and (value > 0.0 or may_be_0):
        return float(value)
    rule = 'must be the path of a setting that is a number > 0, or "needs." and that of a need'
    known = _settings_of(asked)
    numbers = [path for path, one in known.items() if type(one) in (int, float) and one > 0.0]
    # A section that is not set has no settings yet.
    if known.get(over, known.get(over.partition(".")[0], over)) is None:
        rule += "; this one is not set: give it a value to begin with"
    elif type(value) is bool:
        rule += "; this one is a switch, which tornado alone varies"
    elif type(value) in (int, float):
        rule += f"; this one is {value:g}: give it another value to begin with"
    else:
        rule += hint(over, [*numbers, *SWITCHES])
    raise ScenarioError(place, over, rule)


def _settings_of(asked: Asked) -> dict[str, Any]:
    """Return all that may be changed, set or not, by path."""
    found: dict[str, Any] = {}
    for prefix, values in (("", asked.scenario.model_dump()), (NEEDS, asked.needs.model_dump())):
        for name, value in values.items():
            inner = value if isinstance(value, dict) else {"": value}
            found |= {f"{prefix}{name}.{path}".rstrip("."): one for path, one in inner.items()}
    return found


def _value(asked: Asked, over: str) -> Any:
    if over.startswith(NEEDS):
        return _of_needs(asked.needs, over.removeprefix(NEEDS))
    return _of_scenario(asked.scenario, over)


def is_whole_number(asked: Asked, over: str) -> bool:
    """Say whether an assumption is a whole number."""
    return type(_value(asked, over)) is int


def _check_range(asked: Asked, over: str, place: str, ends: Any) -> tuple[float, float]:
    """Return the ends of a range; those of what is a whole number have to be whole."""
    if not isinstance(ends, list | tuple) or len(ends) != 2:
        raise ScenarioError(place, ends, "must be a pair of low and high")
    is_number = all(type(end) in (int, float) and abs(end) < math.inf for end in ends)
    if not is_number or not 0.0 < ends[0] < ends[1]:
        raise ScenarioError(place, ends, "must be two numbers with 0 < low < high")
    if is_whole_number(asked, over) and any(end != round(end) for end in ends):
        raise ScenarioError(place, ends, f"must be whole numbers, as {over} is one")
    return float(ends[0]), float(ends[1])


def _of_scenario(scenario: Scenario, path: str) -> Any:
    found: Any = scenario
    for name in path.split("."):
        found = getattr(found, name, None) if name in type(found).model_fields else None
        if not hasattr(type(found), "model_fields"):
            return found if path.endswith(name) else None
    return found


def _of_needs(needs: Needs, path: str) -> Any:
    section, _, name = path.rpartition(".")
    place = getattr(needs, section, None) if section else needs
    return getattr(place, name, None) if name in getattr(type(place), "model_fields", {}) else None


# -- how it is varied ------------------------------------------------------------------------------


def switches_of(asked: Asked, weighed: Sequence[Scenario], given: Any) -> dict[str, Ends]:
    """Return the switches that are varied, and their two values.

    Parameters
    ----------
    asked : Asked
    weighed : sequence of Scenario
        Of the candidates at hand; what matters to none of them is not varied unless it is given.
    given : mapping of str to pair, or None
        As `tornado` is given it.

    Raises
    ------
    ScenarioError
        A switch is given other values.
    """
    if given is None:
        return {
            over: row.ends(asked)
            for over, row in SWITCHES.items()
            if any(row.matters(scenario, asked.needs) for scenario in weighed)
            and _has_both(asked, over, row.ends(asked))
        }
    found: dict[str, Ends] = {}
    for over, ends in given.items() if isinstance(given, Mapping) else ():
        if not isinstance(over, str):
            continue
        value = _value(asked, over)
        is_switch = type(value) is bool or (over in SWITCHES and value is None)
        wanted = SWITCHES[over].ends(asked) if over in SWITCHES else (False, True)
        is_pair = _is_pair(ends) and tuple(ends) == wanted
        if is_switch and not is_pair:
            rule = f"must be {wanted}: it is a switch"
            rule += ", unless it has a value to begin with" if value is None else ""
            raise ScenarioError(f"assumptions[{shown_value(over)}]", ends, rule)
        if is_pair and (is_switch or over in SWITCHES):
            found[over] = wanted
    return found


def _is_pair(ends: Any) -> bool:
    """Say whether two single values are given; arrays, for one, are not equal or unequal."""
    return isinstance(ends, list | tuple) and not any(hasattr(end, "__len__") for end in ends)


def _has_both(asked: Asked, over: str, ends: Ends) -> bool:
    """Say whether both values of a switch make scenarios."""
    try:
        for value in ends:
            changed(asked, over, value)
    except ScenarioError:
        return False
    return True


def as_it_is(asked: Asked, over: str) -> Any:
    """Return an assumption's value; a switch that is set in more places than one is on in any."""
    beside = SWITCHES[over].beside if over in SWITCHES else ()
    return any(_value(asked, path) for path in beside) or _value(asked, over)


def as_number(value: Any) -> float:
    """Return a value as tables have it: what is off, or not set, is 0."""
    return float(value or 0.0)


def in_words(value: Any) -> str:
    """Return a value of a switch for readers.

    Examples
    --------
    >>> [in_words(value) for value in (False, True, None, 4096)]
    ['off', 'on', 'off', '4,096']
    """
    if value is None or isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:,}"


def ranges_of(
    asked: Asked, given: Any, switches: Mapping[str, Ends] = MappingProxyType({})
) -> dict[str, tuple[float, float]]:
    """Return the numbers that are varied, and their ends; absent: the usual ones.

    Parameters
    ----------
    asked : Asked
    given : mapping of str to pair, or None
    switches : mapping of str to pair, optional
        Those of the given ones that are switches.

    Raises
    ------
    ScenarioError
        A path or a range is not valid.
    """
    if given is None:
        found = {over: _usual_range(asked, over) for over in ASSUMPTIONS}
        return {over: ends for over, ends in found.items() if ends[0] < ends[1]}
    if not isinstance(given, Mapping) or not given:
        raise ScenarioError("assumptions", given, "must be a mapping of paths to low and high")
    found = {}
    for over, ends in given.items():
        if over in switches:
            continue
        place = f"assumptions[{shown_value(over)}]"
        value_of(asked, over, place, may_be_0=True)
        found[over] = _check_range(asked, over, place, ends)
        for end in found[over]:
            changed(asked, over, end)
    return found


def skipped_of(ranges: Mapping[str, Any], given: Any) -> tuple[str, ...]:
    """Return the usual numbers that are not varied, if those were asked for."""
    return tuple(over for over in ASSUMPTIONS if given is None and over not in ranges)


def _check_runs(asked: Asked) -> None:
    """Refuse what asks for runs that cannot be: a restart may not be over by the end of one."""
    today = Case(CANDIDATES[TODAY], asked.scenario)
    conditions(today, [asked.scenario], asked.needs)


def _usual_range(asked: Asked, over: str) -> tuple[float, float]:
    """Return half and double of an assumption; as it is where one of them could not be run."""
    try:
        today = value_of(asked, over)
    except ScenarioError:
        return 0.0, 0.0
    low, high = today / _FACTOR, today * _FACTOR
    if over.endswith("_frac"):
        high = min(1.0, high)
    if is_whole_number(asked, over):
        low = max(1.0, float(round(low)))
    ends = []
    for value in (low, high):
        try:
            _check_runs(changed(asked, over, value))
            ends.append(value)
        except ScenarioError:
            ends.append(today)
    return ends[0], ends[1]
