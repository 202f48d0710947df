"""What a page asks of a run beside its loop: to lay it out from the seed, and to add it up.

Python lays a run out with NumPy (`scenario.workload`, `core.record`, `compiled.simulation`) and
adds it up from its tables (`run.summary`). A page has neither, so here are the same results for a
module, from the same draws and the same table of metrics; tests compare them to the last bit.
"""

from __future__ import annotations

from typing import Any

from simlib.core import measures
from simlib.core.draws import Stream, exponential, normal, uniform
from simlib.core.elementary import exp, power_of_two
from simlib.core.record import (
    BUCKETS_PER_OCTAVE,
    FIRST_OCTAVE,
    TICK_S,
    Count,
    Wait,
    value_of,
)
from simlib.engines.compiled import event_list
from simlib.engines.compiled.numba_support import called, inlined
from simlib.engines.compiled.references import by_reference
from simlib.engines.compiled.state import MOST_OUT
from simlib.engines.compiled.turn import World

AS_IT_IS = -1.0
"""In place of what `lay_out` draws by: the table stays as the page has it."""

LEVELS = (*measures.QUANTILES, *measures.WAIT_QUANTILES, "latency_max_s", "busiest_utilisation")
"""What is no sum, among the numbers of a tally."""
TALLIED = (*(what.name.lower() for what in Count), *measures.SUMS, *LEVELS)
"""The numbers of a tally by name, in order."""
SAMPLES = ("deliveries", "seconds")
"""The first rows of a tally: of the whole run, and after the warm-up; see `measures.Measure`."""

SPANS = ("connected_s", "present_s", "fallback_s")
"""The rows of a tally's spans."""

_IS_OPEN, _IS_PRESENT, _FALLEN, _WHOLE, _LESS = range(len(SPANS) + 2)
_PAYLOAD_UP, _PAYLOAD_DOWN = Count.PAYLOAD_UP_BYTES + 0, Count.PAYLOAD_DOWN_BYTES + 0
_UP, _DOWN = Count.UP_BYTES + 0, Count.DOWN_BYTES + 0
_SUM = len(Count)
_WIDTH, _PRESENT, _FALLBACK, _CONNECTED, _LATENCY, _ANSWERED, _OPENED, _BUSY, _THERE = range(
    _SUM, _SUM + len(measures.SUMS)
)
_QUANTILES = tuple(measures.QUANTILES.values())
_WAITS = tuple((what + 0, level) for what, level in measures.WAIT_QUANTILES.values())
_FIRST_LEVEL = _SUM + len(measures.SUMS)
_MAX, _BUSIEST = len(TALLIED) - 2, len(TALLIED) - 1
_NO_VALUE = float("nan")


def lay_out(
    given: World,
    ramp_s: float,
    rate_per_s: float,
    rtt_s: float,
    rtt_spread: float,
    clients: float,
    arrivals_per_s: float,
    length_s: float,
) -> int:
    """Fill a run's tables that depend on the seed, in a world that has not begun.

    Parameters
    ----------
    given : World
        Its first client's row is filled in, and stands for all; arrays have their lengths.
    ramp_s : float
        Sessions start at a uniform moment of so many seconds; `AS_IT_IS`: when they do now.
    rate_per_s : float
        Changes are a Poisson stream of this rate; `AS_IT_IS`: they come when they do now.
    rtt_s, rtt_spread : float
        Round trips are lognormal with this median and spread; `AS_IT_IS`: they are as they are.
    clients : float
        How many sessions start within the ramp; the others arrive later.
    arrivals_per_s, length_s : float
        Others arrive as a Poisson stream of this rate, and all sessions have an exponential length
        with this mean; a rate `AS_IT_IS`: sessions end when they do now.
    """
    world = by_reference(given)
    if rtt_s >= 0.0:
        _draw_round_trips(world, rtt_s, rtt_spread)
    if ramp_s >= 0.0:
        _draw_sessions(world, ramp_s, int(clients), arrivals_per_s, length_s)
    return _lay_out(world, rate_per_s)


@called
def _draw_round_trips(world: World, rtt_s: float, rtt_spread: float) -> int:
    half_s, seed, replication = world.arrays.half_s, world.rules.seed, world.rules.replication
    for number in range(len(half_s)):
        u = uniform(seed, replication, number, Stream.ROUND_TRIP + 0, 0)
        v = uniform(seed, replication, number, Stream.ROUND_TRIP + 0, 1)
        half_s[number] = rtt_s * exp(rtt_spread * normal(u, v)) / 2.0
    return 0


@called
def _draw_sessions(
    world: World, ramp_s: float, clients: int, arrivals_per_s: float, length_s: float
) -> int:
    """Draw when sessions start and end, as `scenario.workload` does."""
    start_s, end_s, t = world.arrays.start_s, world.arrays.end_s, 0.0
    seed, replication = world.rules.seed, world.rules.replication
    for number in range(len(start_s)):
        if number < clients:
            start_s[number] = uniform(seed, replication, number, Stream.START + 0, 0) * ramp_s
        else:
            u = uniform(seed, replication, 0, Stream.SESSION_GAP + 0, number - clients)
            t += exponential(u, 1.0 / arrivals_per_s)
            start_s[number] = t
    _sort(start_s)
    if arrivals_per_s >= 0.0:
        for number in range(len(start_s)):
            u = uniform(seed, replication, number, Stream.SESSION_LENGTH + 0, 0)
            end_s[number] = min(start_s[number] + exponential(u, length_s), world.record.horizon_s)
    return 0


@called
def _lay_out(world: World, rate_per_s: float) -> int:
    arrays, record, seed, replication = (
        world.arrays,
        world.record,
        world.rules.seed,
        world.rules.replication,
    )
    start_s, publish_s, rows = arrays.start_s, record.publish_s, arrays.rows
    if rate_per_s > 0.0:
        t = 0.0
        for number in range(len(publish_s)):
            u = uniform(seed, replication, 0, Stream.PUBLISH + 0, number)
            t += exponential(u, 1.0 / rate_per_s)
            publish_s[number] = t
    _hear(world)
    for number in range(len(record.last)):
        before = published(publish_s, value_of(arrays.end_s, number))
        record.last[number] = min(before, record.until)
    seen = 0
    for number in range(len(rows)):
        while seen < len(publish_s) and publish_s[seen] < start_s[number]:
            seen += 1
        if number > 0:
            rows[number] = rows[0]
        rows[number].number = number
        rows[number].seen = seen
    return 0


@called
def published(publish_s: Any, t: float) -> int:
    """Return how many changes are published before a time."""
    low, high = 0, len(publish_s)
    while low < high:
        middle = (low + high) // 2
        if publish_s[middle] < t:
            low = middle + 1
        else:
            high = middle
    return low


@inlined
def _sort(values: Any) -> None:
    """Sort numbers in ascending order, in place: a heap sort (Williams 1964)."""
    n = len(values)
    for place in range(n // 2 - 1, -1, -1):
        _sift(values, place, n)
    for end in range(n - 1, 0, -1):
        values[0], values[end] = values[end], values[0]
        _sift(values, 0, end)


@called
def _sift(values: Any, place: int, end: int) -> int:
    """Let a number sink in a heap until none below it is larger."""
    sinking = values[place]
    while 2 * place + 1 < end:
        below = 2 * place + 1
        if below + 1 < end and values[below + 1] > values[below]:
            below += 1
        if values[below] <= sinking:
            break
        values[place] = values[below]
        place = below
    values[place] = sinking
    return place


@inlined
def _hear(world: World) -> None:
    """Say when nodes hear of each change, as `core.broker.heard_s` does."""
    publish_s, heard_s, rules = world.record.publish_s, world.arrays.heard_s, world.server_rules
    free_s = 0.0
    for number in range(len(publish_s)):
        free_s = max(publish_s[number], free_s) + rules.broker_s
        passed_on_s = publish_s[number] if rules.broker_s == 0.0 else free_s
        heard_s[number] = passed_on_s + rules.hop_s


def has_room(given: World) -> int:
    """Say whether a percentage can be set now: each client may learn of it by two events."""
    world = by_reference(given)
    is_there = event_list.room(world.q) >= 2 * len(world.arrays.rows) + MOST_OUT
    return int(is_there)


def tally(
    given: World, warm_up_s: float, cohort: int, sums: Any, spans_s: Any, edges_s: Any
) -> int:
    """Add up what a run that has ended has of one cohort.

    Parameters
    ----------
    given : World
    warm_up_s : float
        Rates count from then on, seconds.
    cohort : int
        0 without a rollout, which has one.
    sums : ndarray of float64, shape (len(SAMPLES) + bins, len(TALLIED)), or more rows
        Zeros; filled for each sample, and then for each time bin, which has no levels.
    spans_s : ndarray of float64, shape (len(SPANS) + 2, bins or more)
        Zeros; filled with the seconds of each bin that connections are open, clients present, and
        clients polling instead of being pushed to. The other rows are for counting.
    edges_s : ndarray of float64, shape (buckets + 1,)
        Filled with the edges of the histogram's buckets, seconds.
    """
    for place in range(len(edges_s)):
        edges_s[place] = _edge_s(place)
    return _tally(by_reference(given), warm_up_s, cohort, sums, spans_s)


@called
def _tally(world: World, warm_up_s: float, cohort: int, sums: Any, spans_s: Any) -> int:
    arrays, record, bins = world.arrays, world.record, world.record.bins.shape[1]
    if record.bins.shape[0] == 1:
        _span_sessions(world, spans_s[:, :bins])
    else:
        _span_times(record.exposures, cohort, _IS_PRESENT, record.bin_s, spans_s[:, :bins])
    _span_rows(record.connections, cohort, record.bin_s, spans_s[:, :bins])
    _span_times(record.fallbacks, cohort, _FALLEN, record.bin_s, spans_s[:, :bins])
    from_s = min(warm_up_s, (bins - 1) * record.bin_s)
    nodes, workers = arrays.servers.free_s.shape
    for place in range(bins):
        _add_bin(world, place, cohort, sums[0], spans_s, nodes * workers)
        _add_bin(world, place, cohort, sums[len(SAMPLES) + place], spans_s, nodes * workers)
        if place * record.bin_s >= from_s:
            _add_bin(world, place, cohort, sums[1], spans_s, nodes * workers)
    for sample in range(len(SAMPLES)):
        _set_levels(world, cohort, sums[sample], from_s)
    return 0


@inlined
def _span_sessions(world: World, spans_s: Any) -> None:
    arrays, record = world.arrays, world.record
    for number in range(len(arrays.start_s)):
        end_s = min(value_of(arrays.end_s, number), record.horizon_s)
        _span(spans_s, _IS_PRESENT, arrays.start_s[number], end_s, record.bin_s)
    _close(spans_s, _IS_PRESENT, record.bin_s)


@inlined
def _span_rows(log: Any, cohort: int, bin_s: float, spans_s: Any) -> None:
    for row in range(log[1][0]):
        entry = log[0][row]
        if entry.cohort == cohort:
            _span(spans_s, _IS_OPEN, entry.opened_s, entry.closed_s, bin_s)
    _close(spans_s, _IS_OPEN, bin_s)


@called
def _span_times(log: Any, cohort: int, what: int, bin_s: float, spans_s: Any) -> int:
    for row in range(log[1][0]):
        entry = log[0][row]
        if entry.cohort == cohort:
            _span(spans_s, what, entry.from_s, entry.to_s, bin_s)
    return _close(spans_s, what, bin_s)


@called
def _span(spans_s: Any, what: int, from_s: float, to_s: float, bin_s: float) -> int:
    """Note an interval: in how many whole bins more, and what the first and the last has of it."""
    last_bin, end_s = spans_s.shape[1] - 1, max(from_s, to_s)
    first, last = min(int(from_s / bin_s), last_bin), min(int(end_s / bin_s), last_bin)
    spans_s[_WHOLE, first] += 1.0
    spans_s[_WHOLE, last] -= 1.0
    spans_s[_LESS, first] += from_s - first * bin_s
    spans_s[what, last] += end_s - last * bin_s
    return first


@called
def _close(spans_s: Any, what: int, bin_s: float) -> int:
    """Put together what was noted, as `core.record.occupancy_s` does; the rest is 0 again."""
    whole = 0.0
    for place in range(spans_s.shape[1]):
        whole += spans_s[_WHOLE, place]
        covered_s = whole * bin_s - spans_s[_LESS, place] + spans_s[what, place]
        spans_s[what, place] = max(covered_s, 0.0)
        spans_s[_WHOLE, place] = spans_s[_LESS, place] = 0.0
    return 0


@called
def _add_bin(world: World, place: int, cohort: int, total: Any, spans_s: Any, workers: int) -> int:
    """Add what a time bin has of each sum: counts, and the seconds of `run.summary.sums_of`."""
    record = world.record
    counts, messages = record.bins[cohort, place], record.messages[cohort, place]
    sizes = record.sizes
    for what in range(len(counts)):
        total[what] += counts[what]
    for kind in range(len(messages)):
        total[_PAYLOAD_UP] += messages[kind] * sizes[kind, 0]
        total[_PAYLOAD_DOWN] += messages[kind] * sizes[kind, 1]
        total[_UP] += messages[kind] * sizes[kind, 2]
        total[_DOWN] += messages[kind] * sizes[kind, 3]
    width_s = _width_s(record, place)
    total[_WIDTH] += width_s
    total[_THERE] += width_s
    total[_CONNECTED] += spans_s[_IS_OPEN, place]
    total[_PRESENT] += spans_s[_IS_PRESENT, place]
    total[_FALLBACK] += spans_s[_FALLEN, place]
    total[_LATENCY] += record.latency_ticks[cohort, place] * TICK_S
    total[_ANSWERED] += record.wait_ticks[Wait.POLL + 0, cohort, place] * TICK_S
    total[_OPENED] += record.wait_ticks[Wait.CONNECTION + 0, cohort, place] * TICK_S
    for node in range(len(record.busy_s)):
        total[_BUSY] += record.busy_s[node, place] / workers
    return 0


@inlined
def _width_s(record: Any, place: int) -> float:
    left_s = record.horizon_s - place * record.bin_s
    return max(0.0, left_s) if place == record.bins.shape[1] - 1 else min(left_s, record.bin_s)


@called
def _set_levels(world: World, cohort: int, total: Any, from_s: float) -> int:
    """Set what is no sum: quantiles, the slowest, the busiest node."""
    record, histogram = world.record, world.record.histogram[cohort]
    own, last = _last_of(histogram), -1
    for each in range(len(record.histogram)):
        last = max(last, _last_of(record.histogram[each]))
    most_s = _NO_VALUE + 0.0
    if last >= 0:
        most_s = min(_edge_s(last + 1), max(record.latency_max_s[0], _edge_s(last)))
    place = _FIRST_LEVEL
    for level in _QUANTILES:
        total[place] = _quantile(histogram, level, last, most_s)
        place += 1
    for what, level in _WAITS:
        total[place] = _quantile(record.wait_histogram[what, cohort], level, -1, 0.0)
        place += 1
    total[_MAX] = most_s if own == last else _edge_s(own + 1)
    if own < 0:
        total[_MAX] = _NO_VALUE + 0.0
    total[_BUSIEST] = _busiest(world, from_s)
    return 0


@called
def _last_of(count: Any) -> int:
    """Return the last bucket that holds something; -1: all are empty."""
    last = len(count) - 1
    while last >= 0 and count[last] == 0:
        last -= 1
    return last


@called
def _quantile(count: Any, level: float, last: int, most_s: float) -> float:
    """Return a quantile of what lies in buckets, as `run.tables.quantiles_of` does.

    Bucket `last` ends at `most_s`.
    """
    total, before = 0, 0
    for bucket in range(len(count)):
        total += count[bucket]
    if total == 0:
        return _NO_VALUE + 0.0
    for bucket in range(len(count)):
        held = count[bucket]
        if held > 0 and before + held >= level * total:
            low_s = _edge_s(bucket)
            high_s = most_s if bucket == last else _edge_s(bucket + 1)
            return low_s + (high_s - low_s) * ((level * total - before) / held)
        before += held
    return most_s + 0.0


@called
def _edge_s(bucket: int) -> float:
    """Return where a bucket begins, see `core.record.bucket_edges_s`."""
    if bucket == 0:
        return 0.0
    octave, step = (bucket - 1) // BUCKETS_PER_OCTAVE, (bucket - 1) % BUCKETS_PER_OCTAVE
    return power_of_two(octave + FIRST_OCTAVE) * (1.0 + step / BUCKETS_PER_OCTAVE)


@inlined
def _busiest(world: World, from_s: float) -> float:
    """Return which part of its workers' time the busiest node worked."""
    busiest = 0.0
    for node in range(len(world.record.busy_s)):
        busiest = max(busiest, busy_of(world, node, from_s))
    return busiest


@called
def busy_of(world: World, node: int, from_s: float) -> float:
    """Return which part of its workers' time a node worked, in bins from a time on."""
    record, workers = world.record, world.arrays.servers.free_s.shape[1]
    busy_s, total_s = 0.0, 0.0
    for place in range(record.bins.shape[1]):
        if place * record.bin_s >= from_s:
            busy_s += record.busy_s[node, place] / workers
            total_s += _width_s(record, place)
    return busy_s / total_s if total_s > 0.0 else 0.0
