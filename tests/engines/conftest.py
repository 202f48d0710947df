"""What tests of the engines share."""

from __future__ import annotations

import pytest

from simlib.engines.compiled import variants


@pytest.fixture(scope="module", autouse=True)
def every_loop():
    """Small runs go to the loop of their transport, as else large ones do."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(variants, "FROM_CLIENTS", 0)
        yield
