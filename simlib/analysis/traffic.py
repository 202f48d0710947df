"""The bytes of one client at any rate of change, by the closed forms of `theory.traffic`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from simlib import theory
from simlib.core.wire import Layer, Message, message_sizes
from simlib.errors import ScenarioError
from simlib.scenario import Scenario
from simlib.scenario.suggestions import scenario_rule


def bytes_by_rate(
    scenario: Scenario, rates_per_s: Sequence[float], *, layer: Layer = "ip"
) -> pd.DataFrame:
    """Return the bytes per hour of one client at different rates of change, by closed forms.

    Parameters
    ----------
    scenario : Scenario
        The settings of wire, polling, heartbeat and network; changes are Poisson, for all clients.
    rates_per_s : sequence of float
        Changes per second in the whole system, > 0.
    layer : {"ip", "tls", "payload"}, optional
        What is counted: IP packets, or what TCP carries, with and without the records of TLS.

    Returns
    -------
    pandas.DataFrame
        ``rate_per_s``, ``transport`` ("polling", "polling with ETag", "websocket"),
        ``bytes_per_h`` (up and down, of one client whose connection stays open). Its ``attrs`` have
        ``crossover_per_s``, the rate above which push costs more than polling without ETag, and
        ``crossover_etag_per_s``, the same with ETag.
    """
    if not isinstance(scenario, Scenario):
        raise ScenarioError("scenario", scenario, scenario_rule(scenario))
    if layer not in get_args(Layer):
        raise ScenarioError("layer", layer, f"must be one of {', '.join(get_args(Layer))}")
    costs = _exchange_bytes(scenario, layer)
    period_s = scenario.polling.interval_s + scenario.network.median_rtt_s()
    period_s += scenario.server.poll_s
    try:
        rates = np.asarray(rates_per_s, dtype=float)
    except (TypeError, ValueError):
        raise ScenarioError("rates_per_s", rates_per_s, "must be numbers > 0") from None
    if rates.ndim != 1 or not (np.isfinite(rates) & (rates > 0)).all():
        raise ScenarioError("rates_per_s", rates_per_s, "must be a list of numbers > 0")
    lines = {
        "polling": theory.polling_bytes_per_s(rates, period_s, costs["poll"]),
        "polling with ETag": theory.polling_bytes_per_s(
            rates, period_s, costs["changed"], costs["unchanged"]
        ),
        "websocket": theory.push_bytes_per_s(
            rates, costs["push"], costs["heartbeat_period_s"], costs["heartbeat"]
        ),
    }
    table = pd.concat(
        [
            pd.DataFrame(
                {
                    "rate_per_s": rates,
                    "transport": name,
                    "bytes_per_h": np.broadcast_to(line, rates.shape) * 3600.0,
                }
            )
            for name, line in lines.items()
        ],
        ignore_index=True,
    )
    beats = {
        "heartbeat_period_s": costs["heartbeat_period_s"],
        "heartbeat_bytes": costs["heartbeat"],
    }
    table.attrs["crossover_per_s"] = theory.crossover_rate_per_s(
        period_s, costs["poll"], costs["push"], **beats
    )
    table.attrs["crossover_etag_per_s"] = theory.crossover_rate_per_s(
        period_s, costs["changed"], costs["push"], costs["unchanged"], **beats
    )
    return table


def _exchange_bytes(scenario: Scenario, layer: Layer) -> dict[str, float]:
    """Return the bytes up and down of each kind of exchange, on a connection that is open."""

    def both(sizes: NDArray[np.int64], *messages: Message) -> float:
        return float(sum(sizes[message].sum() for message in messages))

    plain = message_sizes(scenario.replace({"polling.etag": "off"}).wire_spec(), layer)
    etag = message_sizes(scenario.replace({"polling.etag": "content"}).wire_spec(), layer)
    beats = {
        "server": (Message.PING_DOWN, Message.PONG_UP),
        "client": (Message.PING_UP, Message.PONG_DOWN),
        "none": (),
    }[scenario.heartbeat.direction]
    period_s = np.inf
    if beats:
        period_s = scenario.heartbeat.interval_s + scenario.network.median_rtt_s()
    return {
        "poll": both(plain, Message.POLL_REQUEST, Message.POLL_RESPONSE),
        "changed": both(etag, Message.POLL_CONDITIONAL, Message.POLL_RESPONSE),
        "unchanged": both(etag, Message.POLL_CONDITIONAL, Message.NOT_MODIFIED),
        "push": both(plain, Message.PUSH),
        "heartbeat": both(plain, *beats),
        "heartbeat_period_s": period_s,
    }
