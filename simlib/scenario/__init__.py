"""Scenarios: frozen, validated values, and their compilation to arrays."""

from simlib.scenario.model import Scenario
from simlib.scenario.workload import (
    RolloutController,
    Workload,
    compile_workload,
    enrolled,
    fault_windows,
    new_record,
)

__all__ = [
    "RolloutController",
    "Scenario",
    "Workload",
    "compile_workload",
    "enrolled",
    "fault_windows",
    "new_record",
]
