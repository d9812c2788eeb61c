"""The structure of results: the contents of ``results.json``, as values and as a JSON Schema.

- `Results.groups` holds everything that was counted: one `Group` for ``("all", "all")``, and one for each category,
  question, slot, attribute, subregion, side and visit. A group holds, in reading order,

  - ``coverage``: how much was answered, with the reason for each slot that was not;
  - ``totals``: by the rule for missing answers (`RULES`), the named totals (`TOTALS`) with what they rest on;
  - ``pools``: by scale, range and condition (`CONDITIONS`), the confusion and the metrics of that scale, pooled and as
    means over slots, again by rule;
  - ``localisation``: the metrics of boxes (`BOX_METRICS`) over records and over distinct regions.

- Every number is an `Estimate`: value (null where undefined), interval, why there is no interval, undefined resamples,
  parts left out. `Counts` or `BoxCounts` hold what it rests on (patients, records, positives).
- ``Results.total()`` is the headline: ``record_exact`` of everything; missing answers count as wrong.
- ``conventions`` and ``worst`` show where points were lost; ``baselines`` the scores of answers that do not depend on
  the image, and the paired differences from them.
- ``outcomes`` holds every record's outcome as numpy columns. It stays in memory (`Outcomes.to_table` for a file).
- `Comparison.differences` is a flat list: one `Difference` a statistic; `ErrorDecomposition.rows` one `LostShares` a
  run and group.

``Results.from_json(results.to_json()) == results``, outcomes apart.
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
    """One record with its truth, answer and loss.

    Attributes
    ----------
    id : str
    truth, answer : mapping of attribute to (int or None)
        None where missing.
    reasons : mapping of attribute to str
        Why an attribute has no answer.
    loss : float
        0 to 1: the mean over its slots of the distance to the truth over the greatest possible one (ordinal), or of
        right and wrong; no grade counts 1.
    iou : float or None
        None where no box was asked for; 0 where none was given.
    box, true_box : tuple of 6 ints or None
        Half-open voxels; ``box`` is None where none was given.
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
    """One statistic of two answer sets over the same records, first less second, with the same draws.

    Attributes
    ----------
    by, value : str
        The group, as in `Group`.
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
        What it rests on; under the rule ``answered_only`` the first's, since the two may have answered different slots.
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
    """Shares of records that one run lost by grading, and because of the region.

    Attributes
    ----------
    condition : str
        The run's: ``own_region``, say.
    by, value : str
        The group, as in `Group`.
    grading, region : Estimate
        Shares of records: lost even with the true region, and lost beyond that in this run.
    records, patients, positives : int
        What they rest on.
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


class _Document:
    """JSON form of `Results`, `Comparison` and `ErrorDecomposition`."""

    __slots__ = ()
    name: ClassVar[str]

    def to_json(self) -> dict[str, Any]:
        """Return what ``json.dumps`` writes; it follows `schema`."""
        return cast("dict[str, Any]", to_plain(self))

    @classmethod
    def from_json(cls, item: object) -> Self:
        """Read what `to_json` returned.

        Raises
        ------
        BenchError
            If it is of another format, or something in it is of the wrong type, missing or unknown; the message names
            the place.
        """
        return cast("Self", from_plain(cls, item, cls.name))


@dataclass(frozen=True, slots=True)
class Results(_Document):
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
        import pandas as pd

        rows = [row for group in self.groups for row in group.to_rows()]
        return pd.DataFrame(rows, columns=list(GROUP_COLUMNS))

    def dumps(self) -> str:
        """Write it as JSON text, one group a line."""
        item = self.to_json()
        groups = ",\n".join(json.dumps(group, allow_nan=False) for group in item.pop("groups"))
        rest = ",\n".join(f'"{name}": {json.dumps(value, allow_nan=False)}' for name, value in item.items())
        return f'{{\n{rest},\n"groups": [\n{groups}\n]\n}}\n'


@dataclass(frozen=True, slots=True)
class Comparison(_Document):
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
