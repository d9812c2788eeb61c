"""OAI downloads and volumes that others converted, brought to the official image paths on their masks' grids."""

from __future__ import annotations

from reasonknee_datasets.oai.proof import Claim
from reasonknee_datasets.oai.refusals import REFUSALS, Refusal
from reasonknee_datasets.oai.series import convert_series, read_series

__all__ = ["REFUSALS", "Claim", "Refusal", "convert_series", "read_series"]
