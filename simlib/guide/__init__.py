"""The migration guide, read critically: what it does, what follows, and what would be right."""

from __future__ import annotations

from simlib.guide.auditing import audit, readable
from simlib.guide.corrected import corrected_guide, repaired
from simlib.guide.defects import DEFECTS, Defect

__all__ = ["DEFECTS", "Defect", "audit", "corrected_guide", "readable", "repaired"]
