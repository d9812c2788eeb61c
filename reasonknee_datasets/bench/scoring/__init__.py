"""Scoring: from a `Truth` and `Answers` to `Results`, and from two `Answers` to a `Comparison`.

Everything is counted once by patient (confusions, right records, sums over boxes); a resample of patients is then a row
of a matrix product, whatever the number of records. `score` reads in this order: a `SlotTable`, the statistics of each
grouping by `Key`, and from these the groups of the results. ``record_exact`` itself is in
`reasonknee_datasets.bench.metrics.grades`.
"""

from __future__ import annotations

from reasonknee_datasets.bench.scoring.score import paired_difference, score

__all__ = ["paired_difference", "score"]
