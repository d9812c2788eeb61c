"""`Results`, `Comparison` and `ErrorDecomposition`: the contents of the JSON file of each kind of report."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from reasonknee_datasets.bench.results.details import (
    Case,
    ConventionCheck,
    Difference,
    LostShares,
    Outcomes,
    ReasoningScores,
)
from reasonknee_datasets.bench.results.group_results import ABOUT_TOTALS, HEADLINE, By, Estimate, Group, Rule, Unit
from reasonknee_datasets.bench.results.serial import (
    differences_to_pandas,
    from_plain,
    groups_to_pandas,
    lost_shares_to_pandas,
    to_plain,
)
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # no stubs among the test dependencies

FORMAT = 2
"""Format of the JSON files; files of another one are refused."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the intervals were made.

    Attributes
    ----------
    resamples, seed : int
        Resamples of patients with all their records, and the seed of their draws.
    level : float
        Of the intervals: 0.95.
    patients : int
        How many there are to draw from.
    """

    resamples: int
    seed: int
    level: float
    patients: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """Scores of answers that do not depend on the image, on the same records.

    Attributes
    ----------
    name, about : str
        For example ``question_majority``, and in a sentence what it answers.
    totals : mapping of rule to (mapping of str to Estimate)
        Of everything.
    localisation : mapping of unit to (mapping of str to Estimate), or None
    differences : tuple of Difference
        The model less the baseline, with the same draws; empty for an expected score, which has no answers.
    warnings : tuple of str
        One for each paired interval of a headline number that reaches 0.
    """

    name: str
    about: str
    totals: Mapping[Rule, Mapping[str, Estimate]]
    localisation: Mapping[Unit, Mapping[str, Estimate]] | None
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything about one set of answers.

    Attributes
    ----------
    identity : RunMetadata or None
        Metadata of the run; the caller of ``score`` states it.
    sampling : Sampling
    rules : tuple of rule
        Which rules for missing answers were applied; ``missing_as_prior`` is absent where no priors were given.
    about_totals : str
        States that it is unknown which total the paper used.
    groups : tuple of Group
        ``("all", "all")`` first, then by category, question, slot, attribute, subregion, side and visit.
    conventions : ConventionCheck or None
        None where there are no boxes.
    worst : tuple of Case
        The records that lost most, worst first, equally many of each category; the IoU breaks ties.
    baselines : tuple of Baseline
        Empty until a report adds them.
    warnings : tuple of str
    reasoning : ReasoningScores or None
        Metrics of the reasoning, apart from every total; None where no text has any, or it was not asked for.
    outcomes : Outcomes or None
        Every record's outcome as columns, in memory only: not in the JSON, and None when read from one.
    """

    sampling: Sampling
    rules: tuple[Rule, ...]
    groups: tuple[Group, ...]
    conventions: ConventionCheck | None = None
    worst: tuple[Case, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    warnings: tuple[str, ...] = ()
    reasoning: ReasoningScores | None = None
    identity: RunMetadata | None = None
    about_totals: str = ABOUT_TOTALS
    format: int = FORMAT
    outcomes: Outcomes | None = field(default=None, compare=False, repr=False)

    def group(self, by: By = "all", value: str = "all") -> Group:
        """Return one group.

        Raises
        ------
        BenchError
            If there is none of that name.
        """
        for group in self.groups:
            if (group.by, group.value) == (by, value):
                return group
        known = ", ".join(group.value for group in self.groups if group.by == by) or "none"
        raise BenchError(f"There is no group {value!r} by {by}. Groups by {by}: {known}.")

    def total(
        self, name: str = HEADLINE, rule: Rule = "missing_as_wrong", by: By = "all", value: str = "all"
    ) -> Estimate:
        """Return one total, by default the headline."""
        return self.group(by, value).totals[rule].metrics[name]

    def to_pandas(self) -> pd.DataFrame:
        """Return every statistic of every group as a data frame, one a row."""
        return groups_to_pandas(self.groups)

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes; it follows `schema`."""
        return cast("dict[str, Any]", to_plain(self))

    def dumps(self) -> str:
        """Write it as JSON text, one group a line."""
        item = self.to_json()
        groups = ",\n".join(json.dumps(group, allow_nan=False) for group in item.pop("groups"))
        rest = ",\n".join(f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in item.items())
        return f'{{\n{rest},\n"groups": [\n{groups}\n]\n}}\n'

    @classmethod
    def from_json(cls, item: object) -> Results:
        """Read what `to_json` returned.

        Raises
        ------
        BenchError
            If it is of another format, or something in it is of the wrong type, missing or unknown; the message names
            the place.
        """
        return cast("Results", from_plain(cls, item, "results"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Paired differences of two answer sets over the same records: first less second, with the same draws.

    Attributes
    ----------
    first, second : RunMetadata or None
    sampling : Sampling
    rules : tuple of rule
    differences : tuple of Difference
        In the order of `Results.groups`.
    tolerated : tuple of str
        Fields of the identities that differ besides the model, and were allowed to.
    """

    sampling: Sampling
    rules: tuple[Rule, ...]
    differences: tuple[Difference, ...]
    first: RunMetadata | None = None
    second: RunMetadata | None = None
    tolerated: tuple[str, ...] = ()
    about_totals: str = ABOUT_TOTALS
    format: int = FORMAT

    def total(
        self, name: str = HEADLINE, rule: Rule = "missing_as_wrong", by: By = "all", value: str = "all"
    ) -> Difference:
        """Return the difference in one total, by default the headline.

        Raises
        ------
        BenchError
            If there is none of that name.
        """
        for row in self.differences:
            if (row.kind, row.metric, row.rule, row.by, row.value) == ("total", name, rule, by, value):
                return row
        raise BenchError(
            f"The comparison has no difference {name} ({rule}) of {by} {value}. Compare with by= and statistics= that "
            "include it."
        )

    def to_pandas(self) -> pd.DataFrame:
        """Return every difference as a data frame, one a row."""
        return differences_to_pandas(self.differences)

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes; it follows `schema`."""
        return cast("dict[str, Any]", to_plain(self))

    @classmethod
    def from_json(cls, item: object) -> Comparison:
        """Read what `to_json` returned.

        Raises
        ------
        BenchError
            As `Results.from_json` does.
        """
        return cast("Comparison", from_plain(cls, item, "comparison"))


@dataclass(frozen=True, slots=True)
class ErrorDecomposition:
    """One model's lost points, by grading and because of the region: its runs against the run with the true region.

    Attributes
    ----------
    given : RunMetadata
        Of the run with the true region.
    others : tuple of RunMetadata
    sampling : Sampling
    rows : tuple of LostShares
        Run by run; for everything, then for each category.
    """

    given: RunMetadata
    others: tuple[RunMetadata, ...]
    sampling: Sampling
    rows: tuple[LostShares, ...]
    format: int = FORMAT

    def to_pandas(self) -> pd.DataFrame:
        """Return the lost shares as a data frame, two rows a run and group."""
        return lost_shares_to_pandas(self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes; it follows `schema`."""
        return cast("dict[str, Any]", to_plain(self))

    @classmethod
    def from_json(cls, item: object) -> ErrorDecomposition:
        """Read what `to_json` returned.

        Raises
        ------
        BenchError
            As `Results.from_json` does.
        """
        return cast("ErrorDecomposition", from_plain(cls, item, "error decomposition"))
