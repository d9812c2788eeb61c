"""Checks of data: rows and images that cannot be right, by name, with examples and remedies."""

from reasonknee_datasets.quality.data_checker import CheckedVolume, DataChecker
from reasonknee_datasets.quality.data_checks import (
    CHECKS,
    DataCheck,
    Example,
    FindingGroup,
    QualityReport,
    check_allowed_names,
)
from reasonknee_datasets.quality.image_checks import ImageStatistics, measure_image

__all__ = [
    "CHECKS",
    "CheckedVolume",
    "DataCheck",
    "DataChecker",
    "Example",
    "FindingGroup",
    "ImageStatistics",
    "QualityReport",
    "check_allowed_names",
    "measure_image",
]
