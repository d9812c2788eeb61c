"""Folders that tests read: the project's root, and official files and real MRI from a folder that a variable names."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
DATA = ROOT / "tests" / "data"
# `question_files/*.json` and `split_files/*.csv` of the official release, and `knee_mri/` with real MRI. They are not
# part of the project; tests that read them are skipped where the variable names no folder with them.
OFFICIAL = Path(os.environ.get("REASONKNEE_TEST_DATA") or DATA / "official")
NO_OFFICIAL = "set REASONKNEE_TEST_DATA to a folder with the official files and the real MRI (CONTRIBUTING.md)"
