"""How tests run what either engine may run, as both give the same bits: on the faster one."""

from __future__ import annotations

import numba

ENGINE = "simpy" if numba.config.DISABLE_JIT else "compiled"
QUICK = {"engine": ENGINE, "on": "serial", "progress": False}
