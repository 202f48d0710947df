"""The engines, which advance the simulated time, behind one call."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol

from simlib import progress as bars
from simlib.core.record import MetricsSnapshot
from simlib.engines.choice import ENGINES as ENGINES
from simlib.engines.choice import check_engine, chosen_engine
from simlib.engines.forecast import Estimate as Estimate
from simlib.engines.forecast import Forecast, expected_bytes
from simlib.engines.forecast import estimate as estimate
from simlib.errors import Interrupted, ScenarioError
from simlib.processes import end_event, terminable
from simlib.renamed import renamed_arguments
from simlib.run import Run, check_keep, make_run
from simlib.scenario import RolloutController, Scenario, compile_workload, enrolled, new_record
from simlib.scenario.expected import sessions as expected_sessions

_FITS_BYTES = 50e6
"""So much is there, and need not be asked for."""
_FIRST_SLICE = 1.0 / 256.0
_SLICE_TAKES_S = 0.1
_AT_ONCE_S = 0.25
"""What is expected to be over sooner need not be looked after: it may take some times as long."""


class Simulation(Protocol):
    """The methods of an engine's simulation."""

    is_interrupted: bool

    @property
    def events(self) -> int:
        """How many events have been handled."""

    def run_until(self, t: float) -> None:
        """Handle every event before `t`, seconds."""

    def snapshot(self) -> MetricsSnapshot:
        """Return the figures of the run so far."""

    def set_percentage(self, percent: float) -> None:
        """Set the percentage of users who are enrolled from now on."""

    def interrupt(self) -> None:
        """End `run_until` soon, after an event that is completely recorded."""

    def now_s(self) -> float:
        """Return how far the run has come, seconds."""

    def finish(self) -> None:
        """Record what is still open when the run ends."""


@renamed_arguments(conductor="controller")
def simulate(
    scenario: Scenario,
    *,
    seed: int = 1,
    replication: int = 0,
    engine: str = "auto",
    keep: tuple[str, ...] = (),
    progress: bool = True,
    controller: RolloutController | None = None,
) -> Run:
    """Simulate a scenario.

    Parameters
    ----------
    scenario : Scenario
    seed, replication : int, optional
        In [0, 2**64); the same pair gives the same run, and every scenario on the same pair
        shares its publish times, sessions and users' activity.
    engine : {"auto", "simpy", "compiled"}, optional
        ``"simpy"`` is the readable reference. ``"compiled"`` is hundreds of times faster, once it
        is compiled: the first run on a machine waits for that, up to a minute, unless
        ``python -m simlib.engines.warm`` has done it. Both give the same tables. ``"auto"`` takes
        the compiled engine for runs that SimPy needs more than half a second for (some hundred
        clients over ten minutes), and for smaller ones too once it is loaded. Where it has never
        been compiled, it takes SimPy for what that does in ten seconds, while a process at the
        lowest priority compiles for later runs (``SIMLIB_COMPILE_AHEAD=0`` in the environment:
        none does). ``run.provenance`` says which it was.
    keep : tuple of str, optional
        Tables to keep beside the usual ones: ``"deliveries"``, ``"events"``.
    progress : bool, optional
        A progress bar on stderr for runs longer than two seconds, and one for compiling.
    controller : RolloutController, optional
        It carries out a rollout meanwhile: see `trials.roll_out`. Each client's flag says which
        transport it uses then, whatever ``scenario.transport`` says, and which settings it obeys.

    Returns
    -------
    Run
        Its ``warnings`` say what its figures do not.

    Raises
    ------
    ScenarioError
        An argument is out of range, or the engine cannot run the scenario.
    Interrupted
        After Ctrl-C or SIGTERM; its ``result`` is the run so far, with ``is_complete`` false.

    Examples
    --------
    >>> scenario = Scenario(updates={"rate_per_s": 0.1}, clients=5, horizon_s=120)
    >>> run = simulate(scenario, seed=7)
    >>> ledger = run.ledger
    >>> ledger.delivered + ledger.lost + ledger.pending == ledger.eligible
    True
    """
    check_engine(engine)
    if isinstance(scenario, Scenario):
        engine = chosen_engine(engine, [scenario])
        _refuse_too_large(scenario, engine, has_flag=controller is not None)
    workload = compile_workload(scenario, seed, replication)
    if controller is not None:
        rules = controller.cohort_rules(scenario, workload)
        workload = enrolled(workload, controller.flag, controller.buckets(workload), rules)
    check_keep(keep, len(workload.publish_s), len(workload.start_s))
    record = new_record(scenario, workload, keep)
    simulation = _engine(engine)(workload, record)
    if engine == "compiled":
        with terminable(), compiling(engine, is_shown=progress):
            simulation.prepare()
    with _interruptible(simulation):
        is_forecast = controller is None and (progress or end_event() is not None)
        forecast = Forecast(scenario, engine) if is_forecast else None
        end_of_run_s = _run(simulation, scenario.horizon_s, progress, controller, forecast)
        record.end_at(end_of_run_s)
        simulation.finish()
        run = make_run(
            scenario,
            record,
            start_s=workload.start_s,
            end_s=workload.end_s,
            rtt_s=workload.rtt_s,
            end_of_run_s=end_of_run_s,
            provenance={
                "engine": engine,
                "seed": seed,
                "replication": replication,
                "complete": end_of_run_s == scenario.horizon_s,
                "end_of_run_s": end_of_run_s,
            },
        )
    run.provenance["interrupted"] = simulation.is_interrupted
    if simulation.is_interrupted:
        words = f"the run came to {end_of_run_s:,.4g} of {scenario.horizon_s:,.10g} s"
        raise Interrupted(words, run)
    return run


def _refuse_too_large(scenario: Scenario, engine: str, *, has_flag: bool) -> None:
    """Raise, before anything is allocated, if this machine has too little memory for the run."""
    import psutil

    parts = expected_bytes(scenario, engine, has_flag=has_flag)
    needed, (of_clients, of_bins, _) = sum(parts), parts
    if needed < _FITS_BYTES:
        return
    free = psutil.virtual_memory().available
    if needed > free:
        rule = (
            f"must leave a run that fits in memory: this one takes about {needed / 1e9:.3g} GB "
            f"with the {engine} engine, and {free / 1e9:.3g} GB are free"
        )
        if of_clients > of_bins:
            clients = math.ceil(expected_sessions(scenario, scenario.horizon_s))
            raise ScenarioError("clients", clients, rule)
        raise ScenarioError("bin_s", scenario.bin_s, rule)


def compiling(engine: str, *, is_shown: bool) -> AbstractContextManager[None]:
    """Return a context that shows how far numba has come, if the engine has to be compiled.

    Parameters
    ----------
    engine : str
    is_shown : bool
        Whether it shows anything.
    """
    if engine != "compiled" or not is_shown:
        return nullcontext()
    from simlib.engines.compiled.compiling import shown_compiling

    return shown_compiling()


def _engine(name: str) -> Any:
    """Return the engine's simulation; the compiled one takes a moment to load."""
    if name == "compiled":
        from simlib.engines.compiled import simulation

        return simulation.Simulation
    from simlib.engines import reference

    return reference.Simulation


def _run(
    simulation: Simulation,
    horizon_s: float,
    progress: bool,
    controller: RolloutController | None,
    forecast: Forecast | None,
) -> float:
    """Advance the time to the horizon, slice by slice, and return the time that was reached.

    A slice is as long as takes about a tenth of a second of this thread's own time, so that Ctrl-C
    is heard soon, the bar moves, and a short run is one slice; by the clock, slices of a thread
    that waits for others would become ever shorter. On another thread than the main one, without a
    bar, a run is one slice from the start if it is expected to be short, or if nobody may end it.
    """
    is_over, expected_s = end_event(), 0.0 if forecast is None else forecast.seconds
    is_followed = progress or threading.current_thread() is threading.main_thread()
    is_followed |= is_over is not None and not 0.0 < expected_s < _AT_ONCE_S
    first = min(_FIRST_SLICE, _SLICE_TAKES_S / max(expected_s, _SLICE_TAKES_S))
    t, slice_s = 0.0, horizon_s * (first if is_followed else 1.0)
    with bars.run_bar(horizon_s, "simulate", expected_s=expected_s, is_on=progress) as bar:
        while t < horizon_s and not simulation.is_interrupted:
            while controller is not None and controller.due_s() <= t:
                percent = controller.observe(simulation.snapshot())
                if percent is not None:
                    simulation.set_percentage(percent)
            began_s = time.thread_time()
            end_s = t + slice_s if t + slice_s < horizon_s * (1.0 - _FIRST_SLICE) else horizon_s
            if controller is not None:
                end_s = min(end_s, controller.due_s())
            simulation.run_until(end_s)
            if progress:
                share = end_s / horizon_s if forecast is None else forecast.share(end_s)
                bar.advance(end_s - t, share, simulation.events)
            if is_over is not None and is_over.is_set() and end_s < horizon_s:
                simulation.interrupt()
            t = end_s
            took_s = time.thread_time() - began_s
            slice_s *= min(16.0, max(0.25, _SLICE_TAKES_S / max(took_s, 1e-6)))
    return simulation.now_s() if simulation.is_interrupted else horizon_s


@contextmanager
def _interruptible(simulation: Simulation) -> Iterator[None]:
    """Let Ctrl-C or SIGTERM end the run after the present event, not while it is being recorded."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, lambda _number, _frame: simulation.interrupt())
    try:
        with terminable():
            yield
    finally:
        # None: the handler was not installed from Python, so Python cannot restore it.
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
