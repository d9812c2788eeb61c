"""The official release, read as a whole: records, masks and images to quintuples, and every fault reported at once."""

from __future__ import annotations

from reasonknee_datasets.release.checks import ReleaseOptions
from reasonknee_datasets.release.convention import BoxCheck
from reasonknee_datasets.release.reader import Release, open_release
from reasonknee_datasets.release.rebuild import rebuild_record
from reasonknee_datasets.release.region_labels import LabelMap, read_mapping, read_names, read_questions
from reasonknee_datasets.release.release_volumes import ReleaseVolume
from reasonknee_datasets.release.report import KINDS, Kind, NulledGrade, ProblemGroup, ReleaseReport

__all__ = [
    "KINDS",
    "BoxCheck",
    "Kind",
    "LabelMap",
    "NulledGrade",
    "ProblemGroup",
    "Release",
    "ReleaseOptions",
    "ReleaseReport",
    "ReleaseVolume",
    "open_release",
    "read_mapping",
    "read_names",
    "read_questions",
    "rebuild_record",
]
