"""The files of a repository that follow from its manifest: the dataset card and the Croissant metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from reasonknee_datasets import card
from reasonknee_datasets.croissant import CROISSANT, write_metadata
from reasonknee_datasets.manifest import FileRecord, Manifest
from reasonknee_datasets.prepare.staging import hash_file

SIDE_FILES = (card.CARD, CROISSANT)


def write_side_files(root: Path, manifest: Manifest, arrow_bytes: Mapping[str, Mapping[str, int]]) -> Manifest:
    """Write card and Croissant metadata of a repository, and return its manifest with their sizes and hashes.

    `manifest`: its contents. `arrow_bytes`: size of the rows in memory.
    """
    (root / card.CARD).write_text(card.render(manifest, arrow_bytes), encoding="utf-8", newline="\n")
    (root / CROISSANT).write_text(write_metadata(manifest), encoding="utf-8", newline="\n")
    written = {name: FileRecord((root / name).stat().st_size, hash_file(root / name)) for name in SIDE_FILES}
    return replace(manifest, files={**manifest.files, **written}, digest="")
