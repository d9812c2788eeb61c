"""Kinds of problems with predictions, counted with examples, and ids that the truth does not score."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

from reasonknee_datasets.errors import BenchError, RepositoryError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.schema import parse_id
from reasonknee_datasets.sources import Repository, parse_split, read_shard, select

PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "there is no prediction at all",
        "half_line": "the last line is half-written; it is left out",
        "not_json": "a line is no JSON object; it is left out",
        "malformed": "a prediction lacks its id, or has not one of text and slots; it is left out",
        "unknown_id": "no record of these data has this id; it is left out",
        "other_split": "an id is of another split; it is left out",
        "not_asked": "an id is of this split, but not of the records that are scored; it is left out",
        "duplicate": "an id occurs again; the first one counts",
        "other_revision": "the run was of another revision of the data",
        "other_records": "the run was of other records than are scored",
        "mixed_conditions": "the predictions are of more than one run or condition",
        "illegal_grade": "a slot has a grade, or a name, that its question does not have; it counts as not answered",
        "nan": "a number is NaN or infinite; it counts as not answered",
        "illegal_box": "a box is not one in the stated convention; it counts as not answered",
        "box_outside": "a box reaches beyond its volume; it is cut, and if nothing is left counts as not answered",
        # Those below never stop an evaluation.
        "unscored": "an answer to one of the questions 63 to 69, which no record asks; it is left out",
        "stale": "the script stored the previous question's answer, with its token counts, after a failed request; it "
        "counts as an error of the provider",
        "asked_again": "a record was asked more than once, since an earlier request failed or the run was killed; the "
        "last answer counts",
        "several_models": "the endpoint named more than one model as the one that answered",
        "unanswered": "a record that is scored has no prediction; it counts as not answered",
    }
)
"""Meaning of each problem, and its treatment where it does not stop the evaluation."""

NOTES = frozenset({"unscored", "stale", "asked_again", "several_models", "unanswered"})
"""Problems that never stop an evaluation."""

_EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of problem.

    Attributes
    ----------
    kind : str
        One of `PROBLEMS`.
    count : int
        How often it occurs.
    examples : tuple of str
        The first of them, with their places.
    """

    kind: str
    count: int
    examples: tuple[str, ...]

    @property
    def stops(self) -> bool:
        """Whether it stops a strict evaluation."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        more = f" and {self.count - len(self.examples)} more" if self.count > len(self.examples) else ""
        shown = f": {', '.join(self.examples)}{more}" if self.examples else ""
        return f"{self.kind} ({self.count}, {PROBLEMS[self.kind]}){shown}"


class ProblemLog:
    """Counts problems as they are found."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = defaultdict(int)
        self._examples: dict[str, list[str]] = defaultdict(list)

    def note(self, kind: str, example: str) -> None:
        """Count one, and keep it if it is among the first."""
        if kind not in PROBLEMS:
            raise KeyError(kind)
        self._counts[kind] += 1
        if len(self._examples[kind]) < _EXAMPLES:
            self._examples[kind].append(example if len(example) <= 200 else f"{example[:200]}...")

    def problems(self) -> tuple[Problem, ...]:
        """Return what was found, in the order of `PROBLEMS`."""
        return tuple(
            Problem(kind, self._counts[kind], tuple(self._examples[kind])) for kind in PROBLEMS if self._counts[kind]
        )

    def close(self, where: str, *, strict: bool) -> tuple[Problem, ...]:
        """Return what was found, or raise.

        Raises
        ------
        BenchError
            If a problem stops a strict evaluation; all are named. Without any prediction every evaluation stops.
        """
        found = self.problems()
        stopping = [problem for problem in found if problem.stops]
        if stopping and (strict or any(problem.kind == "empty" for problem in stopping)):
            shown = "\n".join(f"  {problem}" for problem in stopping)
            many = f"There are {len(stopping)} kinds of problems" if len(stopping) > 1 else "There is a problem"
            remedy = "Correct the predictions"
            if not any(problem.kind == "empty" for problem in stopping):
                remedy += ", or continue as stated for each problem: strict=False (--no-strict)"
            raise BenchError(f"{many} with the predictions {where}. {remedy}.\n{shown}")
        return found


@dataclass(frozen=True, slots=True)
class _Scan:
    """Split of a volume, and its study and series."""

    split: str
    study: str
    series: str


class UnscoredIds:
    """Classify ids that are not scored: of other splits, of records that were not asked, or unknown.

    Parameters
    ----------
    data : Repository or None
        Where the scored records are from; without it, all are unknown.
    split : str
        Of the scored records.
    problems : ProblemLog
        Gets each of them.
    """

    def __init__(self, data: Repository | None, split: str, problems: ProblemLog) -> None:
        self._data, self._problems = data, problems
        self._split = split if data is None else parse_split(split, data.manifest.splits())[0].name

    @cached_property
    def scans(self) -> dict[str, _Scan]:
        """Every volume of the repository by its id; read when it is first needed."""
        if self._data is None:
            return {}
        manifest, selection = self._data.manifest, select("volumes", ["id", "study", "series"])
        found: dict[str, _Scan] = {}
        for split in manifest.splits("volumes"):
            for shard in manifest.shards("volumes", split):
                for table in read_shard(self._data.url(shard.path), shard, selection):
                    for row in table.to_pylist():
                        found[row["id"]] = _Scan(split, row["study"], row["series"])
        return found

    def note(self, name: str, place: str) -> None:
        """Add one id to the problems.

        Parameters
        ----------
        name : str
            The id.
        place : str
            Its place in the predictions.
        """
        try:
            question = parse_id(name).question_id
        except RepositoryError:
            question = None
        known = question is not None and question in QUESTIONS
        if question is not None and known and not QUESTIONS[question].in_records:
            self._problems.note("unscored", name)
            return
        scan = self.scans.get(name.rpartition("/q")[0]) if known else None
        if scan is None:
            self._problems.note("unknown_id", f"{name[:80]} ({place})")
        elif scan.split == self._split:
            self._problems.note("not_asked", f"{name} ({place})")
        else:
            self._problems.note("other_split", f"{name} is of {scan.split} ({place})")
