"""Boxes in voxels, and the conventions in which the official six numbers may be written."""

from __future__ import annotations

from reasonknee_datasets.boxes.box import Box, label_boxes, world_bounds
from reasonknee_datasets.boxes.conventions import CONVENTIONS, BoxConvention
from reasonknee_datasets.boxes.inference import (
    APART,
    EXACT,
    NEAR,
    Agreement,
    ConventionReport,
    agreement_scores,
    compare_conventions,
    infer_convention,
)

__all__ = [
    "APART",
    "CONVENTIONS",
    "EXACT",
    "NEAR",
    "Agreement",
    "Box",
    "BoxConvention",
    "ConventionReport",
    "agreement_scores",
    "compare_conventions",
    "infer_convention",
    "label_boxes",
    "world_bounds",
]
