"""Reports: results.json, a Markdown table, a page that needs nothing else, and the Hub's evaluation results."""

from __future__ import annotations

from reasonknee_datasets.bench.report.hub import to_eval_results
from reasonknee_datasets.bench.report.load_report import read_report
from reasonknee_datasets.bench.report.losses import write_losses
from reasonknee_datasets.bench.report.markdown import to_markdown
from reasonknee_datasets.bench.report.report_table import Table
from reasonknee_datasets.bench.report.result_tables import comparison_tables, result_tables
from reasonknee_datasets.bench.report.write import check_report, write_comparison, write_report

__all__ = [
    "Table",
    "check_report",
    "comparison_tables",
    "read_report",
    "result_tables",
    "to_eval_results",
    "to_markdown",
    "write_comparison",
    "write_losses",
    "write_report",
]
