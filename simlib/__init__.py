"""Rehearse a web app's move from polling to WebSocket: simulate, measure, compare, decide.

The names below are the whole public interface. Each is imported when it is first used, so
``import simlib`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simlib import figures, theory
    from simlib.analysis import bucketing, metrics, outages, rollouts
    from simlib.engines import simulate
    from simlib.errors import (
        LedgerError,
        LiveError,
        ProtocolError,
        RunFileError,
        ScenarioError,
        SimlibError,
    )
    from simlib.experiment import compare, grid, replicate, sweep
    from simlib.live import measure, on_loopback
    from simlib.publish import notebook
    from simlib.rollout import trials
    from simlib.rollout.trials import rehearse, roll_out, tune
    from simlib.run import Ledger, Run
    from simlib.scenario import Plan, Scenario
    from simlib.scenario.presets import library

__version__ = "0.1.0"

__all__ = [
    "Ledger",
    "LedgerError",
    "LiveError",
    "Plan",
    "ProtocolError",
    "Run",
    "RunFileError",
    "Scenario",
    "ScenarioError",
    "SimlibError",
    "cohorts",
    "compare",
    "figures",
    "grid",
    "library",
    "measure",
    "metrics",
    "notebook",
    "on_loopback",
    "outages",
    "rehearsal",
    "rehearse",
    "replicate",
    "roll_out",
    "rollouts",
    "simulate",
    "sweep",
    "theory",
    "tune",
]

_HOMES = {
    "Ledger": "run",
    "LedgerError": "errors",
    "LiveError": "errors",
    "Plan": "scenario",
    "ProtocolError": "errors",
    "Run": "run",
    "RunFileError": "errors",
    "Scenario": "scenario",
    "ScenarioError": "errors",
    "SimlibError": "errors",
    "compare": "experiment",
    "grid": "experiment",
    "library": "scenario.presets",
    "measure": "live",
    "on_loopback": "live",
    "rehearse": "rehearsal",
    "replicate": "experiment",
    "roll_out": "rehearsal",
    "simulate": "engines",
    "sweep": "experiment",
    "tune": "rehearsal",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'simlib' has no attribute {name!r}")
    if name in _HOMES:
        return getattr(import_module(f"simlib.{_HOMES[name]}"), name)
    return import_module(f"simlib.{name}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
