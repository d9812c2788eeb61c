"""From examples to a batch of tensors."""

from __future__ import annotations

from reasonknee_datasets.collate.batch import Batch
from reasonknee_datasets.collate.collator import QuintupleCollator

__all__ = ["Batch", "QuintupleCollator"]
