"""Publication of a prepared repository: previews, the check before upload, upload to the Hub, and download."""

from __future__ import annotations

from reasonknee_datasets.publish.doctor import DoctorFinding, DoctorReport, examine
from reasonknee_datasets.publish.download import Downloaded, download
from reasonknee_datasets.publish.previews import add_previews
from reasonknee_datasets.publish.push import PushPlan, push

__all__ = ["DoctorFinding", "DoctorReport", "Downloaded", "PushPlan", "add_previews", "download", "examine", "push"]
