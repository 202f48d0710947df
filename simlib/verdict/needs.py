"""What a board needs, what its resources cost, and what goes wrong while it is judged."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

import pydantic
from pydantic import Field

from simlib.errors import ScenarioError
from simlib.scenario.changes import read_changes
from simlib.scenario.fields import (
    FieldError,
    Fraction,
    NotNegative,
    Positive,
    Section,
    at_least,
    belongs_to,
    read_toml,
    scenario_error,
)
from simlib.scenario.places import in_file
from simlib.scenario.units import Bytes
from simlib.verdict.measures import JUDGED, ConditionName

Price = Annotated[float, Field(ge=0, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1)]
Hours = Annotated[float, Field(gt=0, le=744)]
Money = Annotated[float, Field(gt=0, le=1e12)]
Nodes = Annotated[int, Field(ge=1, le=100_000)]
Amount = Annotated[Bytes, Field(gt=0, le=2**60)]


class Prices(Section):
    """What resources cost, in any one currency; what has no price is not counted."""

    per_gb_down: Price | None = None
    """A gigabyte (10^9 bytes) of IP packets from the server to clients."""
    per_gb_up: Price | None = None
    """A gigabyte of IP packets from clients to the server."""
    per_server_hour: Price | None = None
    """A server for an hour. As many run, all the time, as a candidate needs (`Needs.nodes`), or as
    the scenario has, and at least `Needs.least_nodes`. As it is today they are never fewer than the
    scenario has: those are paid for."""
    per_memory_gb_hour: Price | None = None
    """A gigabyte of memory for an hour, of that which open WebSockets take."""
    open_hours: Hours
    """Hours of a month in which as many clients are there as in the scenario, such as 176: 22 days
    of 8 hours."""
    server_hours: Hours = 730.5
    """Hours of a month in which servers run: by default all of a mean month's."""

    @pydantic.model_validator(mode="after")
    def _has_one(self) -> Self:
        names = ("per_gb_down", "per_gb_up", "per_server_hour", "per_memory_gb_hour")
        if all(getattr(self, name) is None for name in names):
            raise FieldError(names[0], None, f"must be given, or another of {', '.join(names)}")
        return self


class Trouble(Section):
    """What goes wrong: proxies in every run of a candidate, and one restart in the second.

    With `surge` the restart is a deploy node by node, which is judged as a restart is; each client
    from the moment at which its own server goes, and by the longest time that it is away.
    """

    restart_s: Positive = 5.0
    """How long the server is down in the restart of the second run, seconds (in a deploy node by
    node: each server, or with ``surge > 0`` how long new ones take to be ready)."""
    surge: Annotated[int, Field(ge=0, le=64)] | None = None
    """How many new servers of a deploy node by node start at a time, before as many old ones go; 0:
    each stops first, and is back before the next one does. Absent: all restart at once. A single
    server that stops first restarts.
    Elsewhere: maxSurge (Kubernetes, with a maxUnavailable of 0)."""
    every_s: Positive | None = None
    """Time from one turn of a deploy node by node to the next one, seconds; absent: ``restart_s``,
    so that the next goes as soon as the one before is done."""
    bad_gateway: bool = True
    """Whether a reverse proxy answers 502 for the server meanwhile, as nginx does: to EventSource
    that is final (`sse.retries_http_errors`). False: connections are refused, unless
    `network.bad_gateway` says otherwise."""
    bad_proxy_frac: Fraction | None = None
    """The team's share of clients behind proxies that block upgrades and pass on nothing of a
    stream before its end (`network.stream_held_frac`), as its own logs or a trial say; absent: none
    are. They are there in every run and count in every measure: those who poll instead are as stale
    as polls are, and those who see nothing are never fresh."""
    proxies_answer: bool = True
    """Whether these proxies answer an upgrade, with 403 at once; or else never."""

    @pydantic.model_validator(mode="after")
    def _takes_turns(self) -> Self:
        belongs_to(self, "every_s", "surge")
        at_least(self, "every_s", "restart_s", ": one turn is over before the next one")
        return self

    @property
    def called(self) -> str:
        """What sentences call what the servers go through."""
        return "restart" if self.surge is None else "deploy"

    def stops_all(self, nodes: int) -> bool:
        """Say whether all of so many servers are down at once."""
        return self.surge is None or (self.surge == 0 and nodes == 1)


class Release(Section):
    """How a candidate is rolled out, where the needs ask for that.

    To 10, 25, 50 and 100 % of the users, each for a fifth of the time that counts, and then back by
    the kill switch; no guardrail stops it.
    """

    flag_every_s: Positive = 60.0
    """How often an open tab reads the flag, seconds.
    Elsewhere: refreshInterval (unleash-proxy-client)."""
    jitter_s: NotNegative = 0.0
    """The longest time that a tab waits before it acts on a new percentage, seconds; uniform."""


class Needs(Section):
    """What a board needs at least: limits, each of which the whole interval of a mean has to keep.

    Absent limits are not judged. Staleness, bytes, money, load, memory and nodes are those of the
    calm run, in which the team's share of bad proxies is there, too; what a restart, or a deploy
    node by node (`Trouble.surge`), does is in
    `without_push_frac`, `missed_frac`, `back_s`, `fell_back_frac` and `pushed_again_s` alone.

    Examples
    --------
    >>> needs = Needs(latency_p95_s=2.0, utilisation=0.7, trouble={"bad_proxy_frac": 0.03})
    >>> needs.limits
    {'latency_p95_s': 2.0, 'utilisation': 0.7}
    >>> Needs(latency_p95_s=-1.0)
    Traceback (most recent call last):
        ...
    simlib.errors.ScenarioError: latency_p95_s: must be > 0, got -1.0
    """

    latency_p50_s: Positive | None = None
    """Half of the changes are seen within this, seconds.
    Elsewhere: p50_s; median_s."""
    latency_p95_s: Positive | None = None
    """95 % of the changes are seen within this, seconds.
    Elsewhere: p95_s; staleness_s."""
    latency_max_s: Positive | None = None
    """Every change is seen within this, seconds, in the calm run.
    Elsewhere: max_s; worst_s."""
    bytes_per_h: Amount | None = None
    """IP packets of a client in an hour, up and down together, bytes."""
    money_per_month: Money | None = None
    """What a month costs by `prices`, in their currency: traffic and servers together."""
    traffic_money_per_month: Money | None = None
    """What of that is for IP packets, in the currency of `prices`."""
    servers_money_per_month: Money | None = None
    """What of that is for servers and the memory of open WebSockets, in the currency of
    `prices`."""
    utilisation: Annotated[float, Field(gt=0, le=1)] | None = None
    """The busy part of the time of the busiest node's workers. With `nodes`, what one node bears:
    a candidate gets as many nodes as keep it."""
    memory_bytes: Amount | None = None
    """The most that the open WebSockets of one node take, bytes. With `nodes`, what one bears."""
    nodes: Nodes | None = None
    """How many servers there may be. A candidate needs as many as keep `utilisation` and
    `memory_bytes`, of which one has to be given."""
    least_nodes: Nodes = 1
    """How many servers the team runs at least, such as 2, so that one may fail. As many are counted
    and paid for, of today's and of each candidate; the runs have those of the scenario."""
    without_push_frac: Share | None = None
    """Share of the clients that should have an open stream at the end of the run with a restart,
    and have none: that poll instead, still try, or have given up. Needs
    ``trouble.bad_proxy_frac``."""
    missed_frac: Share | None = None
    """Share of the changes of the run with a restart that clients have not seen by its end. With
    `sessions`, what came in the last poll interval of a tab that then closed is among them, though
    a reload fetches the whole board: give a limit beyond what today's has."""
    back_s: Positive | None = None
    """Time from the start of a restart until 99 % of those whom it cut off are back, seconds. Who
    polls instead of being pushed to is back: see `pushed_again_s`."""
    fell_back_frac: Share | None = None
    """Share of those whose stream a restart cut that then poll instead, until they return; 0 where
    nobody is pushed to."""
    pushed_again_s: Positive | None = None
    """Time from the start of a restart until 99 % of those whose stream it cut have one again,
    seconds; 0 where nobody is pushed to."""
    harmed_frac: Share | None = None
    """Share of the users who were enrolled in the rollout and met a request or a connection that
    failed, or a change that never reached them: those behind a bad proxy, too. What differs on the
    server alone is there before it begins."""
    roll_back_s: Positive | None = None
    """Time from the kill switch until 99 % of the tabs are as they were, seconds."""
    rank_by: str | None = None
    """By which measure those that meet every need are ranked, the least first; absent: by
    ``money_per_month`` if there are prices, or else by ``bytes_per_h``."""
    worth_frac: Fraction = 0.0
    """What a change has to save at least of the measure that they are ranked by to be made at all,
    as a share of what today's takes. 0: whatever is more than noise."""
    prices: Prices | None = None
    """Absent: money is not judged."""
    trouble: Trouble = Trouble()
    release: Release = Release()

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except pydantic.ValidationError as error:
            raise scenario_error(error, type(self)) from None

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        if not self.limits:
            rule = f"must be given, or another need: {', '.join(JUDGED)}"
            raise FieldError("latency_p95_s", None, rule)
        if self.prices is None:
            for name in self.limits:
                if JUDGED[name].kind == "money":
                    raise FieldError("prices", None, f"must be given when {name} is a need")
        if self.nodes is not None and self.utilisation is None and self.memory_bytes is None:
            rule = "must be given, or memory_bytes, when nodes is a need: what one node bears"
            raise FieldError("utilisation", None, rule)
        if self.nodes is not None and self.least_nodes > self.nodes:
            rule = f"must be <= nodes ({self.nodes}), how many there may be"
            raise FieldError("least_nodes", self.least_nodes, rule)
        if self.without_push_frac is not None and self.trouble.bad_proxy_frac is None:
            rule = "must be given when without_push_frac is a need"
            raise FieldError("trouble.bad_proxy_frac", None, rule)
        if self.rank_by is not None and self.rank_by not in JUDGED:
            raise FieldError("rank_by", self.rank_by, f"must be one of {', '.join(JUDGED)}")
        if self.rank_by and JUDGED[self.rank_by].kind == "money" and self.prices is None:
            raise FieldError("prices", None, f"must be given when rank_by is {self.rank_by}")
        return self

    @property
    def limits(self) -> dict[str, float]:
        """The limits that are judged, by their measures; with `nodes`, not those of one node."""
        of_one_node = () if self.nodes is None else ("utilisation", "memory_bytes")
        given = {name: getattr(self, name) for name in JUDGED if name not in of_one_node}
        return {name: float(limit) for name, limit in given.items() if limit is not None}

    @property
    def conditions(self) -> tuple[ConditionName, ...]:
        """What candidates are run in: a rollout only if a limit, or the ranking, asks for it."""
        asked = {JUDGED[name].run for name in (*self.limits, self.ranked_by)}
        return ("calm", "rough", "rollout") if "rollout" in asked else ("calm", "rough")

    @property
    def ranked_by(self) -> str:
        """The measure by which candidates that meet every need are ranked."""
        usual = "bytes_per_h" if self.prices is None else "money_per_month"
        return self.rank_by or usual

    @classmethod
    def load(cls, path: str | Path) -> Needs:
        """Read needs from a TOML file, with the tables ``[prices]``, ``[trouble]``, ``[release]``.

        Raises
        ------
        ScenarioError
            The file is missing, is not TOML, or its needs are not valid.
        """
        path, values = read_toml(path, "needs")
        try:
            return cls(**values)
        except ScenarioError as error:
            raise in_file(error, path) from None

    @classmethod
    def parse(cls, text: str) -> Needs:
        """Return the needs of a text that `dump` wrote.

        Raises
        ------
        ScenarioError
            It is not TOML, or its needs are not valid.
        """
        try:
            return cls(**tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            raise ScenarioError("text", text, f"must be TOML: {error}") from None

    def dump(self) -> str:
        """Return the needs as TOML."""
        import tomli_w

        return tomli_w.dumps(self.model_dump(exclude_none=True))

    def replace(self, changes: Mapping[str, Any] | None = None, /, **named: Any) -> Needs:
        """Return these needs with some fields changed; None takes one away.

        Parameters
        ----------
        changes : mapping of str to object, optional
            Dotted paths, such as ``{"trouble.bad_proxy_frac": 0.1}``, and their new values.
        **named
            The same for fields of the top level.

        Examples
        --------
        >>> Needs(latency_p95_s=2.0).replace({"trouble.restart_s": 10, "utilisation": 0.5}).limits
        {'latency_p95_s': 2.0, 'utilisation': 0.5}
        """
        values = self.model_dump(exclude_none=True)
        for path, value in read_changes(changes, named).items():
            section, _, name = path.rpartition(".")
            place = values.setdefault(section, {}) if section else values
            if not isinstance(place, dict):
                raise ScenarioError(path, value, "must be a field of a section")
            if value is None:
                place.pop(name, None)
            else:
                place[name] = value
        return type(self)(**values)


def needs_of(given: Any) -> Needs:
    """Return needs that are given as they are, or as a mapping of their fields.

    Raises
    ------
    ScenarioError
        They are neither, or not valid.
    """
    if isinstance(given, Needs):
        return given
    if not isinstance(given, Mapping):
        raise ScenarioError("needs", given, "must be Needs, or a mapping of its fields")
    return Needs(**given)
