"""Folders that tests read: the project's root, and real files that may lie beside it."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
# Real MRI, and the complete official question and split files. They are not part of the project: tests that read
# them are skipped where they are absent.
SHARED = ROOT.parent / "shared"
