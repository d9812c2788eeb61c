"""Checks of a prepared repository."""

from reasonknee_datasets.check.files import FileProblem, FileReport, check_files

__all__ = ["FileProblem", "FileReport", "check_files"]
