"""Classes of results: the contents of ``results.json``, ``comparison.json`` and ``error_decomposition.json``.

- `Results.groups` has one `Group` for ``("all", "all")`` and one for each category, question, slot, attribute,
  subregion, side and visit. A group has ``coverage``, ``totals`` (`TOTALS` by the rule for missing answers, `RULES`),
  ``pools`` (confusion and metrics by scale, range and condition) and ``localisation`` (`BOX_METRICS`).
- Every number is an `Estimate`: value (null where undefined) and confidence interval, or the reason for having none.
  `Counts` or `BoxCounts` give the patients, records and positives that it is computed from.
- ``Results.total()`` is the headline: ``record_exact`` of all records; missing answers count as wrong.
- `Comparison.differences` has one `Difference` for each statistic; `ErrorDecomposition.rows` one `LostShares` for each
  run and group.

``Results.from_json(results.to_json()) == results``, except for ``outcomes``, which are kept in memory only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, cast

from reasonknee_datasets.bench.arrays import Outcomes
from reasonknee_datasets.bench.group_results import (
    ABOUT_TOTALS,
    GROUP_COLUMNS,
    HEADLINE,
    By,
    ConventionCheck,
    Estimate,
    Group,
    Rule,
    StatisticKind,
    Unit,
)
from reasonknee_datasets.bench.metrics.reasoning_scores import ReasoningScores
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.serial import from_plain, make_schema, to_plain
from reasonknee_datasets.errors import BenchError

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]  # no stubs among the test dependencies
    from typing_extensions import Self


@dataclass(frozen=True, slots=True)
class Case:
    """Truth, answer and loss of one record.

    Attributes
    ----------
    id : str
    truth, answer : mapping of attribute to (int or None)
        Grades; None where missing.
    reasons : mapping of attribute to str
        Reason for each missing answer.
    loss : float
        From 0 to 1, the mean over slots. An ordinal slot counts its distance to the truth over the greatest possible
        distance; other slots count 0 if right and 1 if wrong. A missing grade counts 1.
    iou : float or None
        None if no box was asked for; 0 if none was given.
    box, true_box : tuple of 6 ints or None
        Half-open voxels; ``box`` is None if none was given.
    """

    id: str
    truth: Mapping[str, int | None]
    answer: Mapping[str, int | None]
    reasons: Mapping[str, str]
    loss: float
    iou: float | None
    box: tuple[int, ...] | None
    true_box: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """Paired difference of one statistic: first less second, with the same resamples.

    Attributes
    ----------
    by, value : str
        Group, as in `Group`.
    kind : {"total", "pool", "slot_mean", "localisation"}
    rule : str or None
        None for localisation.
    pool : str or None
        ``ordinal 0-3 (all)`` for pools and slot means: scale, range and condition.
    unit : {"record", "region"} or None
        For localisation.
    metric : str
    first, second : float or None
        The statistic of each.
    difference : Estimate
    patients, records, positives : int
        Numbers that the first statistic is computed from; under ``answered_only`` those of the second can differ.
        For localisation ``positives`` is 0.
    """

    by: By
    value: str
    kind: StatisticKind
    rule: Rule | None
    pool: str | None
    unit: Unit | None
    metric: str
    first: float | None
    second: float | None
    difference: Estimate
    patients: int
    records: int
    positives: int


@dataclass(frozen=True, slots=True)
class LostShares:
    """Shares of records that one run lost by grading and because of the region, in one group.

    Attributes
    ----------
    condition : str
        Condition of the run, such as ``own_region``.
    by, value : str
        Group, as in `Group`.
    grading, region : Estimate
        Share of records lost with the true region given, and share lost beyond that in this run.
    records, patients, positives : int
        Numbers that the shares are computed from.
    """

    condition: str
    by: By
    value: str
    grading: Estimate
    region: Estimate
    records: int
    patients: int
    positives: int


FORMAT = 2
"""Format of the JSON files; files of another one are refused."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Parameters of the bootstrap.

    Attributes
    ----------
    resamples, seed : int
        Number of resamples of patients, each with all records, and their seed.
    level : float
        Confidence level of the intervals: 0.95.
    patients : int
        Number of patients in the sample.
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
        Name such as ``question_majority``, and a description.
    totals : mapping of rule to (mapping of str to Estimate)
        Totals of all records.
    localisation : mapping of unit to (mapping of str to Estimate), or None
    differences : tuple of Difference
        Model less baseline, with the same resamples; empty for an expected score, which has no answers.
    warnings : tuple of str
        One for each paired interval of a headline metric that includes 0 or less.
    """

    name: str
    about: str
    totals: Mapping[Rule, Mapping[str, Estimate]]
    localisation: Mapping[Unit, Mapping[str, Estimate]] | None
    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]


class _Document:
    """JSON form of `Results`, `Comparison` and `ErrorDecomposition`."""

    __slots__ = ()
    name: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return a dict for ``json.dumps``, described by `schema`."""
        return cast("dict[str, Any]", to_plain(self))

    @classmethod
    def from_json(cls, item: object) -> Self:
        """Build from a dict that `to_json` returned.

        Raises
        ------
        BenchError
            If the format is another one, or a field is missing, unknown or of the wrong type; the message names it.
        """
        return cast("Self", from_plain(cls, item, cls.name))


@dataclass(frozen=True, slots=True)
class Results(_Document):
    """Results of one set of answers.

    Attributes
    ----------
    identity : RunMetadata or None
        Metadata of the run.
    sampling : Sampling
    rules : tuple of rule
        Rules for missing answers that were applied; ``missing_as_prior`` needs priors.
    about_totals : str
        Note that it is unknown which total the paper used.
    groups : tuple of Group
        ``("all", "all")`` first, then by category, question, slot, attribute, subregion, side and visit.
    conventions : ConventionCheck or None
        None without boxes.
    worst : tuple of Case
        Records with the highest loss, worst first, equally many of each category; ties are ordered by IoU.
    baselines : tuple of Baseline
        Scores of answers that do not depend on the image; `evaluate` adds them.
    warnings : tuple of str
    reasoning : ReasoningScores or None
        Metrics of the reasoning, not part of any total; None if no text has reasoning or it was not scored.
    outcomes : Outcomes or None
        Outcome of every record as columns; not written to JSON, and None when read from it.
    """

    name: ClassVar[str] = "results"

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
            If the group does not exist.
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
        import pandas as pd

        rows = [row for group in self.groups for row in group.to_rows()]
        return pd.DataFrame(rows, columns=list(GROUP_COLUMNS))

    def dumps(self) -> str:
        """Return the results as JSON text, one group a line."""
        item = self.to_json()
        groups = ",\n".join(json.dumps(group, allow_nan=False) for group in item.pop("groups"))
        rest = ",\n".join(f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in item.items())
        return f'{{\n{rest},\n"groups": [\n{groups}\n]\n}}\n'


@dataclass(frozen=True, slots=True)
class Comparison(_Document):
    """Paired differences of two sets of answers to the same records: first less second, with the same resamples.

    Attributes
    ----------
    first, second : RunMetadata or None
    sampling : Sampling
    rules : tuple of rule
    differences : tuple of Difference
        In the order of `Results.groups`.
    tolerated : tuple of str
        Fields of the metadata that differ and were allowed to, apart from the model.
    """

    name: ClassVar[str] = "comparison"

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
            If the difference does not exist.
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
        import pandas as pd

        names = ("kind", "pool", "rule", "unit", "metric", "first", "second", "patients", "records", "positives")
        rows = [
            {"by": row.by, "group": row.value}
            | {name: getattr(row, name) for name in names}
            | row.difference.to_columns("difference")
            for row in self.differences
        ]
        return pd.DataFrame(rows)


@dataclass(frozen=True, slots=True)
class ErrorDecomposition(_Document):
    """Shares of records that a model lost by grading and because of the region.

    Attributes
    ----------
    given : RunMetadata
        Metadata of the run with the true region.
    others : tuple of RunMetadata
        Metadata of the other runs.
    sampling : Sampling
    rows : tuple of LostShares
        For each run: all records, then each category.
    """

    name: ClassVar[str] = "error decomposition"

    given: RunMetadata
    others: tuple[RunMetadata, ...]
    sampling: Sampling
    rows: tuple[LostShares, ...]
    format: int = FORMAT

    def to_pandas(self) -> pd.DataFrame:
        """Return the lost shares as a data frame, two rows a run and group."""
        import pandas as pd

        rows = [
            {"run": row.condition, "by": row.by, "group": row.value, "lost": name}
            | part.to_columns("value")
            | {each: getattr(row, each) for each in ("patients", "records", "positives")}
            for row in self.rows
            for name, part in (("grading", row.grading), ("region", row.region))
        ]
        return pd.DataFrame(rows)


def schema(kind: type[Results] | type[Comparison] | type[ErrorDecomposition] = Results) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``results.json``, or of a comparison, or of an error decomposition.

    Examples
    --------
    >>> schema()["title"], sorted(schema()["$defs"])[:3]
    ('ReasonKnee-Bench results', ['Baseline', 'BoxAlternative', 'BoxCounts'])
    """
    return make_schema(kind, f"ReasonKnee-Bench {kind.name}")
