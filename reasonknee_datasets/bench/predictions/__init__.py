"""Predictions from files or from Python: each becomes a row of `Answers`, or a problem with a name and a count."""

from __future__ import annotations

from reasonknee_datasets.bench.predictions.problem_log import NOTES, PROBLEMS, Problem
from reasonknee_datasets.bench.predictions.read import Predictions, read_predictions

__all__ = ["NOTES", "PROBLEMS", "Predictions", "Problem", "read_predictions"]
