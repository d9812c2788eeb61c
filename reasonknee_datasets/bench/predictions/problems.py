"""What can be wrong with predictions, by name: counted, shown with first examples, and never passed over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from reasonknee_datasets.errors import BenchError, explain

PROBLEMS: Mapping[str, str] = MappingProxyType(
    {
        "empty": "there is no prediction at all",
        "half_line": "the last line is half-written; it is left out",
        "not_json": "a line is no JSON object; it is left out",
        "malformed": "a prediction lacks its id, or has not one of text and slots; it is left out",
        "unknown_id": "an id is of no record of these data; it is left out",
        "other_split": "an id is of another split; it is left out",
        "not_asked": "an id is of this split, but not of the records that are scored; it is left out",
        "duplicate": "an id stands there again; the first one counts",
        "other_revision": "the run was of another revision of the data",
        "other_records": "the run was of other records than are scored",
        "mixed_conditions": "the predictions are of more than one run or condition",
        "illegal_grade": "a slot has a grade, or a name, that its question does not have; it counts as not answered",
        "nan": "a number is NaN or infinite; it counts as not answered",
        "illegal_box": "a box is not one in the stated convention; it counts as not answered",
        "box_outside": "a box reaches beyond its volume; it is cut, and if nothing is left counts as not answered",
        # Those below are only said, and never stop a run.
        "unscored": "an answer to one of the questions 63 to 69, which no record asks; it is left out",
        "stale": "the script stored the previous question's answer, with its token counts, after a failed request; it "
        "counts as an error of the provider",
        "asked_again": "a record was asked more than once, since an earlier request failed or the run was killed; the "
        "last answer counts",
        "several_models": "the endpoint named more than one model as the one that answered",
        "unanswered": "a record that is scored has no prediction; it counts as not answered",
    }
)
"""What each problem means, and what becomes of it where the run goes on."""

NOTES = frozenset({"unscored", "stale", "asked_again", "several_models", "unanswered"})
"""Those that never stop a run."""

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
        """Whether it stops a strict run."""
        return self.kind not in NOTES

    def __str__(self) -> str:
        more = f" and {self.count - len(self.examples)} more" if self.count > len(self.examples) else ""
        shown = f": {', '.join(self.examples)}{more}" if self.examples else ""
        return f"{self.kind} ({self.count}, {PROBLEMS[self.kind]}){shown}"


class Ledger:
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
            If something stops a strict run: all of it is named. Without any prediction no run goes on.
        """
        found = self.problems()
        stopping = [problem for problem in found if problem.stops]
        if stopping and (strict or any(problem.kind == "empty" for problem in stopping)):
            shown = "\n".join(f"  {problem}" for problem in stopping)
            remedy = "Mend the predictions"
            if not any(problem.kind == "empty" for problem in stopping):
                remedy += ", or go on as is said of each: strict=False (--no-strict)"
            got = f"{len(stopping)} kinds of problems" if len(stopping) > 1 else "a problem"
            message = explain("predictions", "be whole and of the records that are scored", got, remedy, where=where)
            raise BenchError(f"{message}\n{shown}")
        return found
