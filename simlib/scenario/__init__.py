"""What is to be run: frozen, validated values, and their compilation to arrays."""

from simlib.scenario.model import Scenario
from simlib.scenario.plan import Plan
from simlib.scenario.workload import (
    Conductor,
    Workload,
    compile_workload,
    enrolled,
    new_record,
)

__all__ = [
    "Conductor",
    "Plan",
    "Scenario",
    "Workload",
    "compile_workload",
    "enrolled",
    "new_record",
]
