"""Valid scenarios of every kind, small enough to run by the hundred."""

from __future__ import annotations

from hypothesis import reject
from hypothesis import strategies as st

import simlib as sl
from simlib.core.faults import FAULTS
from simlib.core.protocol import IS_STREAM, TRANSPORT_NAMES
from simlib.core.reconnect import POLICIES

TIMES_S = st.sampled_from([0.5, 1.0, 2.0, 5.0, 10.0, 30.0])
SERVICE_S = st.sampled_from([0.0, 1e-4, 0.01, 0.5])


ARRIVALS = [
    {},
    {"arrivals": "even"},
    {"arrivals": "curve", "curve": [[0.0, 0.0], [9.0, 3.0], [30.0, 0.5]]},
]
"""What a ``[sessions]`` says of how they come, beside their rate and length."""

PUBLISH_S = st.lists(st.sampled_from([0.0, 2.0, 5.5, 19.9, 30.0, 149.0]), max_size=12).map(
    lambda times: sorted([*times, 7.5]) if times else []
)
"""When changes are published, some of them at once, and some after the end."""

JITTER = {
    "jitter_frac": st.sampled_from([0.15, 0.5]),
    "jitter_from_s": st.sampled_from([0.0, 0.3]),
    "jitter_s": st.sampled_from([0.5, 5.0]),
    "delays_s": st.just([0.0, 0.5, 4.0]),
}
"""Parameters of reconnect policies that have no default."""


@st.composite
def reconnects(draw) -> dict[str, object]:
    """A ``[reconnect]`` of any policy."""
    policy = draw(st.sampled_from(list(POLICIES)))
    row = POLICIES[policy]
    base_s = draw(TIMES_S)
    reset = draw(st.sampled_from(["transport", "ready", "never"]))
    limits = {}
    if row.retries:
        limits["attempts"] = draw(st.sampled_from([None, None, 1, 4]))
        limits["give_up_s"] = draw(st.sampled_from([None, None, 10.0]))
    return {
        "policy": policy,
        "base_s": base_s,
        "cap_s": base_s * draw(st.sampled_from([1.0, 8.0])),
        "factor": draw(st.sampled_from([1.0, 1.5, 2.0])),
        "from_start": draw(st.booleans()),
        "while_hidden": draw(st.booleans()),
        "retries_4xx": draw(st.booleans()),
        "reset": reset,
        "stable_s": draw(st.sampled_from([0.0, 3.0])) if reset == "ready" else 0.0,
        **{name: draw(JITTER[name]) for name in row.reads if name in JITTER},
        **limits,
    }


SHARED = {"shared_down_bytes_per_s": 7000.0}
"""A link that takes longer for a board than most jobs take the server."""

PROXIES = st.fixed_dictionaries(
    {
        "stream_buffer_bytes": st.sampled_from([None, None, 1, 64, 300, 1000, 4096, 2**30]),
        "stream_delay_s": st.sampled_from([None, None, 0.2, 0.5, 2.0]),
        "stream_held_frac": st.sampled_from([0.0, 0.0, 0.5, 1.0]),
        "bad_gateway": st.booleans(),
    }
)
"""Proxies that hold back what streams carry, or do not."""

FAULT = {
    "length_s": st.sampled_from([0.5, 2.5, 10.0]),
    "share": st.sampled_from([0.5, 1.0]),
    "batches": st.integers(1, 3),
    "every_s": st.sampled_from([10.0, 11.0]),
    "surge": st.sampled_from([0, 1, 2]),
    "answered": st.sampled_from([None, True, False]),
    "age_s": st.sampled_from([0.5, 2.0, 5.0]),
    "added_s": st.sampled_from([0.001, 0.5, 5.0]),
    "jitter_s": st.sampled_from([None, 2.0]),
    "bytes_per_s": st.sampled_from([1.0, 500.0, 20_000.0]),
}
"""What faults are given beside their kind and start."""


@st.composite
def faults(draw, horizon_s, nodes) -> list[dict[str, object]]:
    """Up to three faults within the horizon, often at the same moments."""
    found, down_until_s = [], 0.0
    for _ in range(draw(st.sampled_from([0, 0, 1, 2, 3]))):
        kind = draw(st.sampled_from(list(FAULTS)))
        row = FAULTS[kind]
        start_s = draw(st.sampled_from([0.0, 2.0, 5.0, 7.5]))
        fields = {name: draw(FAULT[name]) for name in (*row.needs, *row.may_have)}
        surge = fields.get("surge", 0)
        turns_s = (nodes - 1) // max(1, surge) * fields.get("every_s", 0.0)
        if row.stops_servers:
            start_s = max(start_s, down_until_s)
        end_s = start_s + fields.get("length_s", 0.0) + turns_s
        fewest = surge or (2 if "every_s" in row.needs or row.adds_node else 1)
        lasts_s = end_s - start_s
        repeat_s = draw(st.sampled_from([None, None, 12.5]))
        is_in_time = repeat_s and start_s + repeat_s < horizon_s
        if is_in_time and not row.adds_node and lasts_s < repeat_s <= horizon_s - end_s:
            fields |= {"repeat_s": repeat_s, "repeats": 1}
            end_s += repeat_s
        if end_s <= horizon_s and nodes >= fewest and _in_order(found, row, start_s):
            found.append({"kind": kind, "start_s": start_s, **fields})
            if row.stops_servers:
                down_until_s = end_s
    return found


def _in_order(found, row, start_s) -> bool:
    """Say whether a node that is added is there before any server stops, and only one is added."""
    others = [(FAULTS[fault["kind"]], fault["start_s"]) for fault in found]
    if row.adds_node:
        return not any(
            other.adds_node or (other.stops_servers and t < start_s) for other, t in others
        )
    return not any(row.stops_servers and other.adds_node and start_s < t for other, t in others)


def rate_limits() -> st.SearchStrategy[dict[str, object] | None]:
    """A ``[rate_limit]``, or none."""
    return st.none() | st.fixed_dictionaries(
        {
            "kind": st.sampled_from(["refuse", "delay"]),
            "rate_per_s": st.sampled_from([0.2, 0.7, 2.0]),
            "burst": st.sampled_from([1, 3, 20]),
            "applies_to": st.sampled_from(["all", "upgrades", "polls"]),
            "status": st.sampled_from([503, 429]),
        }
    )


def senders() -> st.SearchStrategy[dict[str, object]]:
    """What a ``[server]`` says of slow consumers."""
    policy = st.sampled_from(["block", "close", "drop_oldest"])
    bounded = {"slow_consumers": policy, "buffer_bytes": st.sampled_from([8000, 20_000])}
    return st.one_of(
        st.fixed_dictionaries({"slow_consumers": st.sampled_from(["unbounded", "coalesce"])}),
        st.fixed_dictionaries(bounded),
        st.fixed_dictionaries(
            {
                "slow_consumers": st.just("abort"),
                "write_timeout_s": st.sampled_from([0.5, 5.0, 20.0]),
            }
        ),
    )


def loops() -> st.SearchStrategy[dict[str, object]]:
    """What a ``[server]`` says of the ends of broadcasts."""
    frac = st.sampled_from([0.0, 0.5, 1.0])
    return st.one_of(
        st.just({}),
        st.just({}),
        st.fixed_dictionaries({"socket_set": st.just("plain"), "forget_frac": frac}),
        st.fixed_dictionaries(
            {
                "socket_set": st.sampled_from(["concurrent", "plain"]),
                "meeting_fails_frac": st.sampled_from([0.5, 1.0]),
                "meeting_closes": st.booleans(),
            }
        ),
    )


def round_trips() -> st.SearchStrategy[dict[str, object]]:
    """What a ``[network]`` says of round-trip times."""
    measured = [[0.5, 0.04], [0.9, 0.1234567], [0.99, 1.7]]
    return st.one_of(
        st.fixed_dictionaries(
            {
                "rtt_s": st.sampled_from([0.0, 0.04, 1.0]),
                "rtt_spread": st.sampled_from([0.0, 0.5]),
            }
        ),
        st.just({"rtt_quantiles": measured}),
    )


def balancings() -> st.SearchStrategy[str]:
    """Which node of a ``[server]`` gets a new connection."""
    return st.sampled_from(["random", "round_robin", "least_connections", "random_of_two"])


def laws() -> st.SearchStrategy[dict[str, object]]:
    """What a ``[server]`` says of service times."""
    cv = st.sampled_from([0.3, 1.0, 2.5])
    return st.one_of(
        st.fixed_dictionaries({"service": st.sampled_from(["constant", "exponential"])}),
        st.fixed_dictionaries(
            {"service": st.sampled_from(["lognormal", "gamma"]), "service_cv": cv}
        ),
    )


def resyncs() -> st.SearchStrategy[dict[str, object]]:
    """What a ``[websocket]`` says of missed changes."""
    plain = st.fixed_dictionaries({"resync": st.sampled_from(["none", "snapshot"])})
    replay = {"resync": st.just("replay"), "replay_changes": st.sampled_from([1, 5, 1000])}
    recovery = {"resync": st.just("recovery"), "recovery_s": st.sampled_from([1.0, 120.0])}
    stand_in = {"or_snapshot": st.booleans()}
    return st.one_of(
        plain,
        st.fixed_dictionaries({**replay, **stand_in}),
        st.fixed_dictionaries({**recovery, **stand_in}),
    )


def fallbacks() -> st.SearchStrategy[dict[str, object] | None]:
    """A ``[fallback]``, or none."""
    return st.none() | st.fixed_dictionaries(
        {
            "after_failures": st.sampled_from([None, 1, 2]),
            "after_s": st.sampled_from([None, 5.0]),
            "return_s": st.sampled_from([None, 1.0, 10.0]),
            "return_factor": st.sampled_from([1.0, 2.0]),
        }
    )


@st.composite
def intervals(draw, timer) -> dict[str, object]:
    """What a ``[polling]`` says of hidden tabs, and of a client that has been shown a change."""
    found = {"pause_while_hidden": draw(st.booleans())}
    if timer == "fixed_rate":
        return found
    if not found["pause_while_hidden"]:
        found["hidden_interval_s"] = draw(st.sampled_from([None, 0.5, 13.0]))
    if draw(st.booleans()):
        found["active_interval_s"] = draw(st.sampled_from([0.25, 1.0, 5.0]))
        found["active_for_s"] = draw(st.sampled_from([0.5, 4.0, 20.0]))
    return found


@st.composite
def scenarios(draw) -> sl.Scenario:
    """A scenario with ties, queues, refusals and early ends among its kind.

    In some, no time is round: sums of such times are rounded, which no sum of halves ever is.
    """
    values = draw(_values())
    if values["server"]["slow_consumers"] in ("block", "abort") and any(
        fault["kind"] == "bandwidth" for fault in values["faults"]
    ):
        values["network"].pop("shared_down_bytes_per_s", None)
    if values["server"]["slow_consumers"] == "drop_oldest":
        for name in ("socket_set", "forget_frac", "meeting_fails_frac", "meeting_closes"):
            values["server"].pop(name, None)
    unit_s = draw(st.sampled_from([1.0, 1.0, 0.628709007359844, 1.0 / 3.0]))
    if unit_s == 1.0:
        return sl.Scenario(**values)
    try:
        return sl.Scenario(**_in_units_of(unit_s, values))
    except sl.ScenarioError:  # rounded, a fault ends after the horizon
        reject()


def _in_units_of(unit_s, value, name=""):
    """Multiply every time in a scenario's values."""
    if isinstance(value, dict):
        return {key: _in_units_of(unit_s, each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [_in_units_of(unit_s, each, name) for each in value]
    is_time = name.endswith("_s") and not name.endswith("per_s") and value is not None
    return value * unit_s if is_time else value


@st.composite
def _values(draw) -> dict[str, object]:
    horizon_s = draw(st.sampled_from([20.0, 60.0, 150.0]))
    nodes = draw(st.sampled_from([1, 1, 2, 3]))
    updates = draw(
        st.one_of(
            st.fixed_dictionaries({"rate_per_s": st.sampled_from([0.0, 1e-6, 0.05, 0.5, 1.5])}),
            st.fixed_dictionaries(
                {
                    "kind": st.just("bursts"),
                    "rate_per_s": st.sampled_from([0.02, 0.1]),
                    "burst_size": st.integers(1, 6),
                    "burst_gap_s": st.sampled_from([0.0, 0.01, 1.0]),
                }
            ),
            st.fixed_dictionaries({"kind": st.just("times"), "publish_s": PUBLISH_S}),
        )
    )
    activity = st.none() | st.fixed_dictionaries({"every_s": TIMES_S, "length_s": TIMES_S})
    sessions = {
        "arrivals_per_s": st.sampled_from([0.01, 0.1]),
        "length_s": TIMES_S,
        "length": st.sampled_from(["exponential", "constant"]),
    }
    arrivals = draw(st.none() | st.sampled_from(ARRIVALS))
    hidden = draw(activity)
    tokens = st.sampled_from([{}, {}, {"token_valid_s": 5.0, "token_resent": True}])
    jitter_frac = draw(st.sampled_from([0.0, 0.5, 1.0]))
    timer = draw(st.sampled_from(["after_answer", "after_answer", "fixed_rate"]))
    services = ("accept_s", "poll_s", "handshake_s", "authenticate_s", "snapshot_s", "send_s")
    services += ("check_s", "cached_s")
    transport = draw(st.sampled_from(TRANSPORT_NAMES))
    has_client_pings = not IS_STREAM[TRANSPORT_NAMES.index(transport)]
    limit = draw(st.sampled_from([None, None, None, None, 1, 2, 3, 6]))
    has_no_limit = limit is None  # safety polls are refused with one, of some transports
    return dict(  # noqa: C408 (the names of settings)
        transport=transport,
        clients=draw(st.integers(1, 8)),
        tabs_per_user=draw(st.sampled_from([1, 1, 2] if has_no_limit else [1, 2, 3, 8])),
        ramp_s=draw(st.sampled_from([0.0, 5.0, 20.0])),
        horizon_s=horizon_s,
        warm_up_s=draw(st.sampled_from([0.0, 7.0])),
        cool_down_s=draw(st.sampled_from([0.0, 5.0])),
        bin_s=draw(st.sampled_from([0.3, 1.0, 50.0])),
        updates=updates,
        sessions=None if arrivals is None else draw(st.fixed_dictionaries(sessions)) | arrivals,
        polling={
            "interval_s": draw(TIMES_S),
            "jitter_frac": jitter_frac,
            "timer": "after_answer" if jitter_frac else timer,
            "pause_while_dragging": draw(st.booleans()),
            "refetch_on_focus": draw(st.booleans()),
            "stale_s": draw(st.sampled_from([0.0, 4.0])),
            "retries": draw(st.integers(0, 3)),
            "etag": draw(st.sampled_from(["off", "content", "version"])),
            **draw(intervals(timer if not jitter_frac else "after_answer")),
        },
        websocket={
            "push": draw(st.sampled_from(["delta", "snapshot"])),
            **draw(resyncs()),
            **draw(tokens),
            "safety_poll_s": draw(st.sampled_from([None, None, *[1.0, 7.0] * has_no_limit])),
            "safety_poll_restart": draw(st.booleans()),
            "open_timeout_s": draw(st.sampled_from([0.2, 3.0, 20.0])),
            "upgrade_timeout_s": draw(st.sampled_from([0.0, 0.0, 1.0, 5.0])),
            "ready_timeout_s": draw(st.sampled_from([0.0, 0.0, 0.5, 30.0])),
        },
        notify={
            "spread_s": draw(st.sampled_from([0.0, 0.0, 2.0])),
            "on_hint": draw(st.sampled_from(["queue_one", "restart"])),
        },
        sse={
            "retries_http_errors": draw(st.booleans()),
            "retries_ended": draw(st.booleans()),
            "watches": draw(st.booleans()),
            "streams_per_tab": 1 if has_no_limit else draw(st.sampled_from([1, 1, 2, 4])),
        },
        long_polling={
            "timeout_s": draw(st.sampled_from([0.5, 2.0, 25.0])),
            "grace_s": draw(st.sampled_from([0.01, 1.0, 10.0])),
            "pause_s": draw(st.sampled_from([0.0, 0.0, 0.5])),
        },
        heartbeat={
            "direction": draw(st.sampled_from(["server", "none", *["client"] * has_client_pings])),
            "interval_s": draw(TIMES_S),
            "timeout_s": draw(st.sampled_from([0.01, 1.0, 20.0])),
            "any_message": draw(st.booleans()),
            "closing_s": draw(st.sampled_from([0.0, 0.0, 1.5])),
        },
        reconnect=draw(reconnects()),
        fallback=draw(fallbacks()),
        drag=draw(activity),
        hidden=hidden,
        timer_throttling=hidden is not None and draw(st.booleans()),
        network={
            **draw(round_trips()),
            **draw(st.sampled_from([{}, {}, SHARED])),
            "tls": draw(st.booleans()),
            "connections_per_user": limit,
            "idle_s": draw(st.sampled_from([None, None, 0.6, 4.0])),
            **draw(PROXIES),
            "unanswered_s": draw(st.sampled_from([3.0, 900.0])),
        },
        server={
            "workers": draw(st.integers(1, 3)),
            **draw(laws()),
            "hop_s": draw(st.sampled_from([0.0, 0.4e-3, 0.5])),
            **{name: draw(SERVICE_S) for name in services},
            "cache_s": draw(st.sampled_from([0.0, 0.0, 0.3, 4.0])),
            "max_connections": draw(st.sampled_from([1, 4, 1000])),
            "backlog": draw(st.sampled_from([1, 3, 1000])),
            "keep_alive_s": draw(st.sampled_from([0.0, 3.0, 75.0])),
            "shed_wait_s": draw(st.sampled_from([None, 0.2])),
            "socket_bytes": draw(st.sampled_from([200, 10_000])),
            "nodes": nodes,
            "balancing": draw(balancings()),
            "broker_s": draw(st.sampled_from([0.0, 0.0, 1e-3, 0.5, 4.0])),
            "ends_streams": draw(st.booleans()),
            **draw(senders()),
            **draw(loops()),
            **draw(st.sampled_from([{}, {"admit_per_s": 0.7, "admit_burst": 3}])),
        },
        rate_limit=draw(rate_limits()),
        faults=draw(faults(horizon_s, nodes)),
        wire={
            "envelope": draw(st.sampled_from(["native", "socketio", "sockjs"])),
            "gzip_ratio": draw(st.sampled_from([1.0, 0.126])),
            "http": draw(st.sampled_from(["1.1", "2"])),
        },
    )
