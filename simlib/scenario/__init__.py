"""What is to be run: frozen, validated values, and their compilation to arrays."""

from simlib.scenario.model import Scenario
from simlib.scenario.plan import Plan
from simlib.scenario.workload import Workload, compile_workload, new_record

__all__ = ["Plan", "Scenario", "Workload", "compile_workload", "new_record"]
