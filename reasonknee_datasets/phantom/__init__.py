"""A synthetic release with meaning: knees whose grades can be measured in their voxels."""

from __future__ import annotations

from reasonknee_datasets.phantom.dicom_download import check_downloads, write_download, write_downloads
from reasonknee_datasets.phantom.knee import DrawnKnee, KneeSpec, draw_knee
from reasonknee_datasets.phantom.mask_labels import LABELS, REGION_NAMES, region_of
from reasonknee_datasets.phantom.release_writer import write_release
from reasonknee_datasets.phantom.study_plan import PhantomError

__all__ = [
    "LABELS",
    "REGION_NAMES",
    "DrawnKnee",
    "KneeSpec",
    "PhantomError",
    "check_downloads",
    "draw_knee",
    "region_of",
    "write_download",
    "write_downloads",
    "write_release",
]
