"""Checks of data: rows and images that cannot be right, by name, with examples and remedies."""

from reasonknee_datasets.quality.data_checker import CheckedVolume, DataChecker
from reasonknee_datasets.quality.data_checks import CHECKS, DataCheck, check_allowed_names
from reasonknee_datasets.quality.image_statistics import ImageStatistics, measure_image
from reasonknee_datasets.quality.quality_report import Example, FindingGroup, QualityReport

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
