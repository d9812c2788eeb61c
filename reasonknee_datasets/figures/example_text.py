"""The text of an example: headings, paragraphs and grades of a row, without any drawing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.moaks import QUESTIONS, Slot, meanings


@dataclass(frozen=True, slots=True)
class GradeLine:
    """One grade: its attribute, the number (None where it is missing), the highest of an ordinal scale, the words."""

    attribute: str
    grade: int | None
    highest: int | None
    words: str


@dataclass(frozen=True, slots=True)
class ExampleText:
    """The text of a figure; every part may be empty."""

    title: str
    subtitle: str
    identity: str
    question: str
    steps: tuple[str, ...]
    grades: tuple[GradeLine, ...]
    synthetic: bool
    side: str | None

    @property
    def brief(self) -> bool:
        """Whether the text is too short for a separate column, as for a bare volume."""
        return not (self.question or self.steps or self.grades)


def example_text(example: Mapping[str, Any]) -> ExampleText:
    """Collect an example's text; columns that it lacks are left out."""
    finding, side = _text(example, "finding"), _text(example, "side")
    patient, visit = _text(example, "patient"), _text(example, "visit")
    known = QUESTIONS.get(example.get("question_id", 0))
    slots = {slot.attribute: slot for slot in known.slots} if known else {}
    identity = [_text(example, "id"), "" if not patient or "id" in example else f"patient {patient}"]
    identity += ["" if "id" in example else visit, f"{side} knee" if side else ""]
    return ExampleText(
        title=_spell(finding).capitalize(),
        subtitle=_spell(_text(example, "subregion")),
        identity=" · ".join(part for part in identity if part),
        question=_text(example, "question"),
        steps=tuple(str(step) for step in _listed(example.get("reasoning")) if str(step).strip()),
        grades=tuple(_write_grade(slots, grade) for grade in _grade_rows(example.get("grades"))),
        synthetic=bool(example.get("synthetic")),
        side=side if side in ("left", "right") else None,
    )


def take_volume(example: Mapping[str, Any]) -> Any:
    """Return an example's image.

    Raises RepositoryError if this is not a row, or a row without an image (rows loaded without this package have none).
    """
    if not isinstance(example, Mapping):
        raise RepositoryError(
            f"A {type(example).__name__} cannot be drawn as an example. Pass one row, such as dataset[0], or a bare "
            "image as {'volume': image}."
        )
    volume = example.get("volume")
    if volume is None or not hasattr(volume, "dataobj"):
        found = f"columns {sorted(example)}" if volume is None else f"a {type(volume).__name__} as 'volume'"
        raise RepositoryError(
            f"The example has no image to draw, but {found}. Take it from reasonknee_datasets.load_dataset without a "
            "format, or add one: {**example, 'volume': reasonknee_datasets.open_volume(path)}."
        )
    return volume


def _text(example: Mapping[str, Any], column: str) -> str:
    value = example.get(column)
    return "" if value is None else str(value)


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, str) else list(value)


def _grade_rows(grades: Any) -> Iterable[Mapping[str, Any]]:
    if isinstance(grades, Mapping):  # numpy and pandas formats turn a list of structs into a struct of lists
        return [dict(zip(grades, values, strict=True)) for values in zip(*grades.values(), strict=True)]
    return _listed(grades)


def _write_grade(slots: Mapping[str, Slot], row: Mapping[str, Any]) -> GradeLine:
    attribute, value = str(row["attribute"]), row["grade"]
    slot = slots.get(attribute)
    words = meanings(slot) if slot else ()
    # A formatter may have made a null a NaN, which is the only value unlike itself.
    grade = None if value is None or value != value else int(value)
    told = words[grade] if grade is not None and 0 <= grade < len(words) else ""
    highest = slot.high if slot and slot.scale == "ordinal" else None
    return GradeLine(_spell(attribute), grade, highest, "not graded" if grade is None else told)


def _spell(name: str) -> str:
    return name.replace("_", " ")
