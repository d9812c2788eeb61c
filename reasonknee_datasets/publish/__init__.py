"""Publication of a prepared repository: previews, the check before upload, upload to the Hub, and download."""

from __future__ import annotations

from reasonknee_datasets.publish.doctor import DoctorFinding, DoctorReport, examine
from reasonknee_datasets.publish.previews import add_previews

__all__ = ["DoctorFinding", "DoctorReport", "add_previews", "examine"]
