"""What is to be run: frozen, validated values, and their compilation to arrays."""

from simlib.scenario.model import Scenario
from simlib.scenario.workload import Workload, compile_workload, new_record

__all__ = ["Scenario", "Workload", "compile_workload", "new_record"]
