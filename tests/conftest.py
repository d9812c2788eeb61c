"""Profiles of hypothesis, and the synthetic release that many tests read."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Derandomised in CI, so that a red run means that the code changed; `dev` keeps looking for new examples.
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
