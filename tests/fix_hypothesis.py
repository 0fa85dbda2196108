"""Hypothesis profiles: `ci` by default, `nightly` under LUKHAS_NIGHTLY=1.

Neither has a deadline: timings belong in benchmarks, and a real server may pause to fork.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

NIGHTLY = os.environ.get("LUKHAS_NIGHTLY") == "1"

_SLOW_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]

settings.register_profile(
    "ci",
    max_examples=200,
    stateful_step_count=30,
    deadline=None,
    print_blob=True,
    suppress_health_check=_SLOW_IS_FINE,
)
settings.register_profile(
    "nightly",
    max_examples=2_000,
    stateful_step_count=50,
    deadline=None,
    print_blob=True,
    suppress_health_check=_SLOW_IS_FINE,
)
settings.load_profile("nightly" if NIGHTLY else "ci")
