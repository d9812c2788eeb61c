"""The files of a report."""

from __future__ import annotations

RESULTS = "results.json"
OUTCOMES = "outcomes.parquet"
COMPARISON = "comparison.json"
LOSSES = "losses.json"
