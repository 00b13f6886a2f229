"""Hypothesis for all tests: the same examples in every run, and no deadline, since the machine may be busy otherwise.

`HYPOTHESIS_PROFILE=explore` looks for new examples; what it finds becomes a test of its own.
"""

import os

from hypothesis import HealthCheck, settings

QUIET = [HealthCheck.too_slow]
settings.register_profile("same", deadline=None, derandomize=True, suppress_health_check=QUIET)
settings.register_profile("explore", deadline=None, print_blob=True, suppress_health_check=QUIET)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))
