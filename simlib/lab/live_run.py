"""A measurement that is watched, without a widget: frames meanwhile, a comparison afterwards.

The run is that of `measure`, on the real server, with samples (`live.watching`). What is compared
with it is the same scenario simulated, with the kill at the moment at which it came.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simlib.analysis.agreement import compare
from simlib.core.measures import GUIDE_METRICS
from simlib.core.protocol import Transport
from simlib.core.record import MetricsSnapshot
from simlib.engines import simulate
from simlib.errors import Interrupted
from simlib.live import measure
from simlib.live.watching import Order
from simlib.rollout.controller import read
from simlib.run import Run
from simlib.scenario import Scenario

if TYPE_CHECKING:
    import pandas as pd

_WINDOW_S = 1.0
"""Rates and latencies of a frame are of so much of the time before it, seconds by the clock."""
_ROUNDING = 1e-9


class Frame(NamedTuple):
    """What is shown of a moment.

    Attributes
    ----------
    t : float
        Seconds of the scenario.
    connected : float
        Open connections.
    metrics : dict of str to float
        The six metrics and quantiles of latency over the last moment, by name; NaN where nothing
        was delivered.
    """

    t: float
    connected: float
    metrics: dict[str, float]


class Comparison(NamedTuple):
    """How far a measurement is from its prediction.

    Attributes
    ----------
    t_s : ndarray
        The bins' times, seconds.
    measured, low, high, mean : ndarray
        Open connections: measured, and of the simulated replications least, most and mean.
    inside_frac : float
        The part of the bins in which the measured curve lies within the band.
    off : float
        By how many connections it is off the mean, on average over time.
    off_frac : float
        The same as a share of the clients.
    latency : DataFrame or None
        As `analysis.agreement.compare` has it; None where the run was stopped early, or nothing was
        delivered.
    replications : int
    """

    t_s: NDArray[np.float64]
    measured: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    mean: NDArray[np.float64]
    inside_frac: float
    off: float
    off_frac: float
    latency: pd.DataFrame | None
    replications: int


class LiveRun:
    """A measurement in a thread of its own, which is a `Watcher` of itself.

    Parameters
    ----------
    scenario : Scenario
    show : callable
        Is called with each `Frame`, in that thread.
    every_s : float
        From one frame to the next, seconds by the clock.
    down_s : float or None
        How long the server is down after a kill, seconds of the scenario.
    **options
        As `measure` takes them: ``seed``, ``time_scale``.

    Attributes
    ----------
    run : Run or None
        What was measured, once that is over.
    """

    def __init__(
        self,
        scenario: Scenario,
        show: Callable[[Frame], Any],
        *,
        every_s: float,
        down_s: float | None,
        **options: Any,
    ) -> None:
        self.scenario, self.every_s, self.down_s = scenario, every_s, down_s
        self.run: Run | None = None
        self._show, self._options = show, options
        self._samples: list[MetricsSnapshot] = []
        self._is_kill, self._is_stop = threading.Event(), threading.Event()

    def kill(self) -> None:
        """Have the server killed at the next sample; once."""
        self._is_kill.set()

    def stop(self) -> None:
        """Have the run ended at the next sample."""
        self._is_stop.set()

    def measure(self) -> Run:
        """Measure, until the end or until it is stopped; frames are shown meanwhile.

        Raises
        ------
        ScenarioError, LiveError
            As `measure` raises them.
        """
        try:
            self.run = measure(self.scenario, progress=False, watch=self, **self._options)
        except Interrupted as stopped:
            self.run = stopped.result
        return self.run

    def see(self, sample: MetricsSnapshot) -> Order | None:
        """Show a sample, and say what is to be done."""
        scale = float(self._options.get("time_scale", 1.0))
        self._samples.append(sample)
        before = self._samples[0]
        while len(self._samples) > 2 and sample.t - self._samples[1].t >= _WINDOW_S * scale:
            before = self._samples.pop(0)
        if sample.t > before.t:
            self._show(frame_of(before, sample, self.scenario))
        if self._is_stop.is_set():
            return Order.STOP
        return Order.KILL if self._is_kill.is_set() else None


def frame_of(before: MetricsSnapshot, now: MetricsSnapshot, scenario: Scenario) -> Frame:
    """Return what is shown of the time between two samples."""
    transport = int(Transport[scenario.transport.upper()])
    transports: Any = (transport,) * len(now.present)
    values = read(before, now, 0, scenario, transports).values
    names = (*GUIDE_METRICS, "latency_p50_s", "latency_p95_s")
    shown = {name: values[name] for name in names if name in values}
    return Frame(now.t, float(now.connected.sum()), shown)


def compared(run: Run, replications: int) -> Comparison:
    """Simulate a measured run, and return how far the two are apart.

    Parameters
    ----------
    run : Run
        That `measure` returned; of one that was stopped, what came before is compared.
    replications : int
        Simulated, the first one on the measurement's own draws.
    """
    seed = int(run.provenance["seed"])
    predicted = [
        simulate(run.scenario, seed=seed, replication=number, progress=False)
        for number in range(replications)
    ]
    end_s = float(run.provenance["end_of_run_s"])
    t_s, measured = _connections(run)
    curves = np.array([_connections(one)[1][: len(measured)] for one in predicted])
    is_whole = t_s + run.scenario.bin_s <= end_s + _ROUNDING
    t_s, measured, curves = t_s[is_whole], measured[is_whole], curves[:, is_whole]
    low, high, mean = curves.min(axis=0), curves.max(axis=0), curves.mean(axis=0)
    inside = (measured >= low - _ROUNDING) & (measured <= high + _ROUNDING)
    off = float(np.abs(measured - mean).mean())
    latency = None
    if end_s == run.scenario.horizon_s and run.ledger.delivered and predicted[0].ledger.delivered:
        with contextlib.suppress(ValueError):
            latency = compare(predicted[0], run)
    clients = max(1, run.scenario.clients)
    return Comparison(
        t_s,
        measured,
        low,
        high,
        mean,
        float(inside.mean()),
        off,
        off / clients,
        latency,
        replications,
    )


def _connections(run: Run) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    timeline = run.columns("timeline")
    t_s, place = np.unique(timeline["t_s"], return_inverse=True)
    connected = np.bincount(place, weights=timeline["connection_count"])
    return t_s, np.asarray(connected, dtype=np.float64)
