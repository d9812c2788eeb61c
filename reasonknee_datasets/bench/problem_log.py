"""`ProblemLog`: kinds of problems with predictions, counted, with examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reasonknee_datasets.errors import BenchError

PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "there are no predictions",
        "half_line": "the file ends within a line; that line is left out",
        "not_json": "a line is not a JSON object; it is left out",
        "malformed": "a prediction has no id, or does not have exactly one of text and slots; it is left out",
        "unknown_id": "no record of these data has this id; it is left out",
        "other_split": "an id belongs to another split; it is left out",
        "not_asked": "an id belongs to this split, but not to the records that are scored; it is left out",
        "duplicate": "an id occurs again; the first one counts",
        "other_revision": "the run used another revision of the data",
        "other_records": "the run used other records than are scored",
        "mixed_conditions": "the predictions come from more than one run or condition",
        "illegal_grade": "a slot has a grade, or a name, that its question does not have; it counts as not answered",
        "nan": "a number is NaN or infinite; it counts as not answered",
        "illegal_box": "a box does not follow the stated convention; it counts as not answered",
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
        self._counts = dict.fromkeys(PROBLEMS, 0)
        self._examples: dict[str, list[str]] = {kind: [] for kind in PROBLEMS}

    def note(self, kind: str, example: str) -> None:
        """Count one of `PROBLEMS`; the first examples are kept."""
        self._counts[kind] += 1
        if len(self._examples[kind]) < _EXAMPLES:
            self._examples[kind].append(example if len(example) <= 200 else f"{example[:200]}...")

    def close(self, where: str, *, strict: bool) -> tuple[Problem, ...]:
        """Return the problems in the order of `PROBLEMS`, or raise.

        Raises
        ------
        BenchError
            If a problem stops a strict evaluation; all are named. Without any prediction every evaluation stops.
        """
        found = [Problem(kind, n, tuple(self._examples[kind])) for kind, n in self._counts.items() if n]
        stopping = [problem for problem in found if problem.stops]
        empty = any(problem.kind == "empty" for problem in stopping)
        if empty or (strict and stopping):
            shown = "\n".join(f"  {problem}" for problem in stopping)
            many = f"There are {len(stopping)} kinds of problems" if len(stopping) > 1 else "There is a problem"
            remedy = "Correct the predictions, or continue as stated for each problem: strict=False (--no-strict)"
            if empty:
                remedy = "Name a file with predictions"
            raise BenchError(f"{many} with the predictions {where}. {remedy}.\n{shown}")
        return tuple(found)
