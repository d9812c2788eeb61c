"""A training loader that decodes each volume once, resumes exactly, and keeps the device fed."""

from __future__ import annotations

from importlib.util import find_spec

from reasonknee_datasets.errors import missing_extra

if find_spec("torch") is None:
    raise missing_extra("torch", "torch", "make_dataloader")

from reasonknee_datasets.loader.loader import ResumableLoader
from reasonknee_datasets.loader.make import make_dataloader
from reasonknee_datasets.loader.prefetch import prefetch_to_device
from reasonknee_datasets.loader.sampler import VolumeGroupedSampler
from reasonknee_datasets.loader.shared_folder import SharedInfo

__all__ = ["ResumableLoader", "SharedInfo", "VolumeGroupedSampler", "make_dataloader", "prefetch_to_device"]
