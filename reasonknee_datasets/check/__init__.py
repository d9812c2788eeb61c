"""Checks of a prepared repository."""

from reasonknee_datasets.check.file_hashes import FileProblem, FileReport, check_files

__all__ = ["FileProblem", "FileReport", "check_files"]
