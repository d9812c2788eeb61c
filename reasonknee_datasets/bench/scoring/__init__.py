"""Scoring: from a `Truth` and `Answers` to `Results`, and from two `Answers` to a `Comparison`.

Everything is counted once by patient (confusions, right records, sums over boxes); a resample of patients is then a row
of a matrix product, whatever the number of records.
"""

from __future__ import annotations

from reasonknee_datasets.bench.scoring.compare import paired_difference
from reasonknee_datasets.bench.scoring.lost_points import lost_points
from reasonknee_datasets.bench.scoring.score import score

__all__ = ["lost_points", "paired_difference", "score"]
