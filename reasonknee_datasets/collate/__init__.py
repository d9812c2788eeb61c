"""From examples to a batch of tensors."""

from __future__ import annotations

from importlib.util import find_spec

from reasonknee_datasets.errors import missing_extra

if find_spec("torch") is None:
    raise missing_extra("torch", "torch", "QuintupleCollator")

from reasonknee_datasets.collate.batch import Batch
from reasonknee_datasets.collate.collator import QuintupleCollator

__all__ = ["Batch", "QuintupleCollator"]
