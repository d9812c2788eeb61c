"""From an official release to a repository that loads: shards, volumes, index, priors, manifest and card."""

from __future__ import annotations

from reasonknee_datasets.prepare.build import Prepared, prepare

__all__ = ["Prepared", "prepare"]
