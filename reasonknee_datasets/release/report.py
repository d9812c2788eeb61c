"""Report of a release's problems, grouped by kind, with counts and the first examples of each.

The reader never stops at the first fault. It collects, reads to the end, and then either fails with all that it found
or goes on, where the caller has named each kind that was found. The kinds are a fixed list, `KINDS`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from reasonknee_datasets.errors import ReleaseError, nearest
from reasonknee_datasets.release.convention import BoxCheck

EXAMPLES = 5  # how many examples of a kind are kept; the count is always exact
NULLED = 10_000  # how many nulled grades are kept with their raw values; the count is always exact


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem.

    Parameters
    ----------
    name : str
        Name for ``--allow``.
    meaning : str
        Description of the problem, in one line.
    allowed : str or None
        Effect of allowing it; None where it cannot be allowed.
    """

    name: str
    meaning: str
    allowed: str | None


_ALL_KINDS = (
    # Files and splits
    Kind("missing-file", "an official file is absent or cannot be read", "its split is left out"),
    Kind("split-columns", "a split file lacks an official column or has an unknown one", None),
    Kind("split-row", "a split row's values are illegal or contradict each other", "the row is dropped"),
    Kind("unsafe-path", "a path leaves the release", None),
    Kind("duplicate-volume", "two split rows share an image or a mask", "the first row is kept"),
    Kind("patient-in-two-splits", "a patient is in more than one split", None),
    Kind("mixed-patients", "synthetic patients (0000001 ...) are mixed with real ones", None),
    Kind("question-file", "a question file is not numbered prompts", "prompts are not compared with it"),
    # Records
    Kind("invalid-json", "a file is not the JSON that it should be", None),
    Kind("record-shape", "a record has missing or unknown keys, or values of the wrong type", "the record is dropped"),
    Kind("unknown-volume", "a record's image is in no split file", "the record is dropped"),
    Kind("wrong-split", "a record's image is in another split", "the record is dropped"),
    Kind("unknown-question", "a record's finding does not belong to any of questions 1 to 62", "the record is dropped"),
    Kind("prompt-mismatch", "a record's prompt is the official text of another question", "the record is dropped"),
    Kind("duplicate-record", "a volume answers one question twice", "the first record is kept"),
    Kind("incomplete-volume", "a volume answers some questions but not all 62", "the volume is kept as it is"),
    Kind("bad-grade", "a grade is not one of its slot's legal values", "the grade becomes null"),
    Kind("unreadable-answer", "an answer does not end in a readable final diagnosis", "the record is dropped"),
    Kind("truth-mismatch", "final_diagnosis and the answer's text disagree", "the record is dropped"),
    Kind("unknown-balanced", "a balanced file repeats a record that its split does not have", "it is left out there"),
    Kind("changed-balanced", "a balanced file's record differs from its split's", "the split's record counts"),
    # Voxels
    Kind("missing-image", "a row's image is absent", "the volume's rows are dropped"),
    Kind("bad-image", "an image's header cannot be read", "the volume's rows are dropped"),
    Kind("missing-mask", "a row's mask is absent", "boxes are taken in the image's array, unverified"),
    Kind("bad-mask", "a mask cannot be read", "the volume's rows are dropped"),
    Kind("unknown-label", "a mask has a label that labels.json does not name", "the label is ignored"),
    Kind("geometry", "image and mask differ by more than a permutation and flips", "the volume's rows are dropped"),
    Kind(
        "side-mismatch", "knee_side contradicts the mask's medial and lateral labels", "the volume's rows are dropped"
    ),
    # Boxes
    Kind("bad-box", "a bounding box is not six numbers that make a box", "the record is dropped"),
    Kind("box-outside", "a bounding box reaches outside its volume", "the record is dropped"),
    Kind("box-convention", "no box convention explains the boxes, or another explains them better", None),
    Kind("box-mask", "a box and the region of its mask overlap by less than half", "they are kept and reported"),
    Kind("box-question", "too few boxes of one question agree with their mask", "they are kept and reported"),
)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL_KINDS}
"""Every kind of problem, by the name that ``--allow`` takes."""


def check_allowed(allow: Iterable[str]) -> frozenset[str]:
    """Check the kinds that a caller allows.

    Raises ReleaseError if a kind does not exist, or can never be allowed.

    Examples
    --------
    >>> sorted(check_allowed(["missing-image", "bad-grade"]))
    ['bad-grade', 'missing-image']
    """
    allowed = frozenset(allow)
    can = sorted(name for name, kind in KINDS.items() if kind.allowed)
    for name in sorted(allowed):
        if name not in KINDS:
            raise ReleaseError(f"Unknown kind of problem {name!r} to allow. {nearest(name, can)}.")
        if KINDS[name].allowed is None:
            meaning = KINDS[name].meaning.capitalize()
            raise ReleaseError(
                f"{name} cannot be allowed. {meaning}, and no dataset can be made from that. These can be: "
                f"{', '.join(can)}."
            )
    return allowed


@dataclass(frozen=True, slots=True)
class NulledGrade:
    """An illegal grade that was allowed, and became null; ``raw`` is what the release says."""

    id: str
    attribute: str
    raw: Any


@dataclass(slots=True)
class Problems:
    """Collects problems while a release is read."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, message: str, *, where: str | None = None) -> None:
        """Count one problem, and keep it as an example while there is room."""
        self.counts[KINDS[kind].name] += 1
        kept = self.examples.setdefault(kind, [])
        if len(kept) < EXAMPLES:
            kept.append(f"{where}: {message}" if where else message)


@dataclass(frozen=True, slots=True)
class ProblemGroup:
    """All problems of one kind."""

    kind: Kind
    count: int
    examples: tuple[str, ...]
    allowed: bool


@dataclass(frozen=True, slots=True)
class ReleaseReport:
    """Result of `Release.check`.

    Parameters
    ----------
    groups : tuple of ProblemGroup
        The problems, in the order of `KINDS`.
    notes : tuple of str
        Facts that are not problems: how the label map was established, volumes without records ...
    rows, volumes : mapping of str to int
        Rows and volumes that are left, by split.
    rows_dropped, volumes_dropped : int
        Rows lost to allowed problems.
    nulled : tuple of NulledGrade
        The allowed illegal grades, at most `NULLED` of them; ``nulled_count`` is exact.
    violations : mapping of str to int
        Cross-slot rules of MOAKS that records break: reported, never corrected.
    boxes : BoxCheck or None
        How well the box convention agrees with the masks; None where nothing could be checked.
    """

    groups: tuple[ProblemGroup, ...]
    notes: tuple[str, ...]
    rows: Mapping[str, int]
    volumes: Mapping[str, int]
    rows_dropped: int
    volumes_dropped: int
    nulled: tuple[NulledGrade, ...]
    nulled_count: int
    violations: Mapping[str, int]
    boxes: BoxCheck | None

    @property
    def refused(self) -> tuple[ProblemGroup, ...]:
        """The problems that were not allowed."""
        return tuple(group for group in self.groups if not group.allowed)

    @property
    def ok(self) -> bool:
        """Whether everything that was found is allowed."""
        return not self.refused

    @property
    def counts(self) -> dict[str, int]:
        """How many problems of each kind were found."""
        return {group.kind.name: group.count for group in self.groups}

    def to_manifest(self) -> dict[str, Any]:
        """Return the value of ``report`` in the manifest."""
        return {
            "allowed": {group.kind.name: group.count for group in self.groups if group.allowed},
            "rows_dropped": self.rows_dropped,
            "volumes_dropped": self.volumes_dropped,
            "grades_nulled_count": self.nulled_count,
            "grades_nulled": [{"id": each.id, "attribute": each.attribute, "raw": each.raw} for each in self.nulled],
            "violations": dict(self.violations),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"{_plural(sum(self.rows.values()), 'row')} of {_plural(sum(self.volumes.values()), 'volume')}:"]
        lines += [
            f"  {split}: {_plural(rows, 'row')}, {_plural(self.volumes[split], 'volume')}"
            for split, rows in self.rows.items()
        ]
        if self.boxes is not None:
            lines.append(f"boxes: {self.boxes}")
        for group in self.groups:
            lines += _group_lines(group)
        if self.rows_dropped or self.volumes_dropped:
            lines.append(f"dropped: {_plural(self.rows_dropped, 'row')}, {_plural(self.volumes_dropped, 'volume')}")
        for nulled in self.nulled[:EXAMPLES]:
            lines.append(f"nulled: {nulled.id} {nulled.attribute}, was {nulled.raw!r}")
        if self.nulled_count > EXAMPLES:
            lines.append(f"nulled: {self.nulled_count:,} grades in all")
        lines += [f"MOAKS rule broken {_plural(count, 'time')}: {rule}" for rule, count in self.violations.items()]
        lines += [f"note: {note}" for note in self.notes]
        return "\n".join(lines)

    def raise_if_refused(self) -> None:
        """Raise unless every problem is allowed.

        Raises
        ------
        ReleaseError
            With every problem that was not allowed, by kind, with counts and examples.
        """
        if self.ok:
            return
        refused = self.refused
        can = [group.kind.name for group in refused if group.kind.allowed]
        never = ", ".join(group.kind.name for group in refused if not group.kind.allowed)
        if never:
            remedy = f"Correct {never} and run again"
            remedy += "; the other problems may follow from it" if can else ""
        else:
            remedy = f"Correct the release, or leave out what is wrong: {' '.join(f'--allow {name}' for name in can)}"
        found = f"{_plural(sum(group.count for group in refused), 'problem')} of {_plural(len(refused), 'kind')}"
        head = f"The release has {found}. {remedy}."
        raise ReleaseError("\n".join([head, *(line for group in refused for line in _group_lines(group))]))


def group_problems(problems: Problems, allow: frozenset[str]) -> tuple[ProblemGroup, ...]:
    """Group what was collected, in the order of `KINDS`."""
    return tuple(
        ProblemGroup(kind, problems.counts[name], tuple(problems.examples[name]), name in allow)
        for name, kind in KINDS.items()
        if problems.counts[name]
    )


def _group_lines(group: ProblemGroup) -> list[str]:
    """Write one group: its count and meaning, then its examples."""
    tag = f" (allowed: {group.kind.allowed})" if group.allowed else ""
    more = group.count - len(group.examples)
    lines = [
        f"{group.kind.name}: {group.count:,}, {group.kind.meaning}{tag}",
        *(f"  {each}" for each in group.examples),
    ]
    return [*lines, f"  ... and {more:,} more"] if more else lines


def _plural(count: int, noun: str) -> str:
    """Write a count with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
