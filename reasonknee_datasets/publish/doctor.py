"""The check of a prepared repository before and after its publication."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from reasonknee_datasets.publish import card_checks, content_checks, parquet_checks
from reasonknee_datasets.publish.inspected import Diagnostic, Inspected, inspect_repository

Severity = Literal["error", "warning"]
Check = Callable[[Inspected], Iterator[Diagnostic]]

CHECKS: Mapping[str, Check] = {
    "first-rows": parquet_checks.check_first_rows,
    "scan-size": parquet_checks.check_scan_size,
    "row-groups": parquet_checks.check_row_groups,
    "conversion": parquet_checks.check_conversion,
    "column-types": parquet_checks.check_column_types,
    "files-per-folder": content_checks.check_files_per_folder,
    "files-per-repository": content_checks.check_files_per_repository,
    "card-configs": card_checks.check_configs,
    "card-counts": card_checks.check_counts,
    "card-features": card_checks.check_features,
    "croissant": card_checks.check_croissant,
    "gating": card_checks.check_gating,
    "redistribution": card_checks.check_redistribution,
    "missing-volumes": content_checks.check_missing_volumes,
    "checksums": content_checks.check_checksums,
    "patients": content_checks.check_patients,
    "boxes": content_checks.check_boxes,
}
"""Every check by its name, in the order of the report."""


@dataclass(frozen=True, slots=True)
class DoctorFinding:
    """One problem of a repository.

    Attributes
    ----------
    check : str
        Name of the check in `CHECKS`.
    severity : {"error", "warning"}
        An error breaks the page, a loader or the terms of the data; a warning may be a problem.
    found : str
        The problem, with its place.
    remedy : str
        Remedy.
    """

    check: str
    severity: Severity
    found: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.check}: {self.found} {self.remedy}"


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """Outcome of `examine`; its string is what ``reasonknee doctor`` prints.

    Attributes
    ----------
    location : str
        The repository.
    checks : tuple of str
        Checks that were run.
    findings : tuple of DoctorFinding
        In the order of the checks.
    """

    location: str
    checks: tuple[str, ...]
    findings: tuple[DoctorFinding, ...]

    @property
    def errors(self) -> tuple[DoctorFinding, ...]:
        """Findings of severity "error"."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    def to_json(self) -> str:
        """Return the report as JSON with the keys ``location``, ``ok``, ``checks`` and ``findings``."""
        tree = {"location": self.location, "ok": not self.errors, "checks": self.checks}
        return json.dumps({**tree, "findings": [asdict(finding) for finding in self.findings]}, indent=2)

    def __str__(self) -> str:
        failed = {finding.check: finding.severity for finding in reversed(self.findings)}
        failed |= {finding.check: "error" for finding in self.errors}
        lines = [f"{self.location}"]
        for check in self.checks:
            lines.append(f"  {failed.get(check, 'ok'):8} {check}")
            for finding in self.findings:
                if finding.check == check:
                    lines.append(f"    {finding.found} {finding.remedy}")
        warnings = len(self.findings) - len(self.errors)
        return "\n".join([*lines, f"{len(self.errors)} errors, {warnings} warnings"])


def examine(
    data_dir: str | os.PathLike[str],
    *,
    volumes_dir: str | os.PathLike[str] | None = None,
    storage_options: Mapping[str, Any] | None = None,
    token: bool | str | None = None,
    hashes: bool = True,
    progress: bool = True,
) -> DoctorReport:
    """Check what the Hub, its viewer, ``datasets`` and Croissant need of a prepared repository.

    Parameters
    ----------
    data_dir : str or path
        A folder, ``hf://datasets/owner/name`` or another fsspec URL.
    volumes_dir : str or path, optional
        The place that contains ``volumes/``, if not the repository; by default ``REASONKNEE_VOLUMES``.
    storage_options : mapping, optional
        Given to fsspec; never kept.
    token : str or bool, optional
        The Hub's, for ``hf://``.
    hashes : bool, optional
        Whether every file is read and compared with its SHA-256.
    progress : bool, optional
        Whether progress bars are shown.

    Returns
    -------
    DoctorReport

    Raises
    ------
    RepositoryNotFoundError
        If there is no manifest.
    RepositoryError
        If the manifest is damaged, or a file cannot be read.
    """
    repository = inspect_repository(
        data_dir, volumes_dir=volumes_dir, storage_options=storage_options, token=token, progress=progress
    )
    names = tuple(name for name in CHECKS if hashes or name != "checksums")
    findings = [
        DoctorFinding(name, each.severity, each.text, each.remedy)
        for name in names
        for each in CHECKS[name](repository)
    ]
    return DoctorReport(repository.root, names, tuple(findings))
