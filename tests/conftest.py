"""What all tests share: how hypothesis searches."""

from __future__ import annotations

import os

from hypothesis import settings

# In CI the examples are the same in every run, so that a failure is the change's own doing; at a
# desk they differ, so that somebody meets the rare one. Never a deadline: machines are shared.
settings.register_profile("ci", derandomize=True, deadline=None, print_blob=True)
settings.register_profile("desk", deadline=None)
settings.load_profile("ci" if os.environ.get("CI") else "desk")
