"""Lazy NIfTI volumes: opened on first touch, decoded once for all readers, read by region."""

from __future__ import annotations

from reasonknee_datasets.volumes.byte_source import bytes_read
from reasonknee_datasets.volumes.cache import CacheInfo, DecodeCache, cache_info, shared_cache, use_cache
from reasonknee_datasets.volumes.credentials import find_credentials, redact, set_credentials
from reasonknee_datasets.volumes.disk import DiskCache, DiskInfo
from reasonknee_datasets.volumes.fingerprints import (
    VolumeFingerprint,
    fingerprint,
    hash_voxels,
    index_hash,
    verify_sha256,
)
from reasonknee_datasets.volumes.image import LazyVolume
from reasonknee_datasets.volumes.limits import set_threads, thread_count
from reasonknee_datasets.volumes.opening import open_volume
from reasonknee_datasets.volumes.packing import PackReport, pack, pack_files
from reasonknee_datasets.volumes.reference import ExpectedFile, Geometry

__all__ = [
    "CacheInfo",
    "DecodeCache",
    "DiskCache",
    "DiskInfo",
    "ExpectedFile",
    "Geometry",
    "LazyVolume",
    "PackReport",
    "VolumeFingerprint",
    "bytes_read",
    "cache_info",
    "find_credentials",
    "fingerprint",
    "hash_voxels",
    "index_hash",
    "open_volume",
    "pack",
    "pack_files",
    "redact",
    "set_credentials",
    "set_threads",
    "shared_cache",
    "thread_count",
    "use_cache",
    "verify_sha256",
]
