"""Reports: results.json, and the same tables as Markdown, HTML, CSV and LaTeX."""

from __future__ import annotations

from reasonknee_datasets.bench.report.export import to_eval_results, to_markdown
from reasonknee_datasets.bench.report.group_tables import Table, comparison_tables
from reasonknee_datasets.bench.report.result_tables import result_tables
from reasonknee_datasets.bench.report.write import (
    check_report,
    read_report,
    write_comparison,
    write_error_decomposition,
    write_report,
)

__all__ = [
    "Table",
    "check_report",
    "comparison_tables",
    "read_report",
    "result_tables",
    "to_eval_results",
    "to_markdown",
    "write_comparison",
    "write_error_decomposition",
    "write_report",
]
