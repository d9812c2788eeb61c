"""Checks of a prepared repository: its files, rows and images."""

from reasonknee_datasets.check.check_page import make_check_folder, write_check_report
from reasonknee_datasets.check.file_hashes import FileProblem, FileReport, check_files
from reasonknee_datasets.check.repository_check import check_data

__all__ = ["FileProblem", "FileReport", "check_data", "check_files", "make_check_folder", "write_check_report"]
