"""Conversion of OAI downloads, or volumes from other tools, to the official images on their masks' grids."""

from __future__ import annotations

from reasonknee_datasets.oai.conversion import convert
from reasonknee_datasets.oai.conversion_errors import REFUSALS, Refusal
from reasonknee_datasets.oai.conversion_report import STATUSES, ConversionReport, RowOutcome
from reasonknee_datasets.oai.series import convert_series, read_series
from reasonknee_datasets.oai.series_identity import Claim

__all__ = [
    "REFUSALS",
    "STATUSES",
    "Claim",
    "ConversionReport",
    "Refusal",
    "RowOutcome",
    "convert",
    "convert_series",
    "read_series",
]
