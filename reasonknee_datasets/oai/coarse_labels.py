"""Rules from MOAKS grades to coarse labels of a knee, and their CSV files."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from reasonknee_datasets.atomic_files import write_files
from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.oai.moaks_comparison import Disagreement, Stratum, TableComparison
from reasonknee_datasets.oai.moaks_tables import KneeGrades
from reasonknee_datasets.oai.moaks_variables import VARIABLES


class LabelRule(NamedTuple):
    """A label that is 1 if any of a finding's grades is among the given ones."""

    finding: str
    attribute: str
    grades: tuple[int, ...]
    meaning: str


LABEL_RULES: Mapping[str, LabelRule] = {
    "bone_marrow_lesion_any": LabelRule("bone_marrow_lesion", "size", (1, 2, 3), "a lesion in any subregion"),
    "bone_marrow_lesion_severe": LabelRule("bone_marrow_lesion", "size", (3,), "over 66 % of a subregion"),
    "cartilage_lesion_any": LabelRule("cartilage_lesion", "size", (1, 2, 3), "a lesion in any subregion"),
    "cartilage_lesion_severe": LabelRule("cartilage_lesion", "size", (3,), "over 75 % of a subregion's surface"),
    "cartilage_full_thickness_any": LabelRule("cartilage_lesion", "depth", (1, 2, 3), "any full-thickness loss"),
    "osteophyte_any": LabelRule("osteophyte", "grade", (1, 2, 3), "an osteophyte at any place"),
    "osteophyte_severe": LabelRule("osteophyte", "grade", (3,), "a large osteophyte"),
    "hoffa_synovitis_any": LabelRule("hoffa_synovitis", "grade", (1, 2, 3), "mild or more"),
    "hoffa_synovitis_severe": LabelRule("hoffa_synovitis", "grade", (3,), "severe"),
    "effusion_synovitis_any": LabelRule("effusion_synovitis", "grade", (1, 2, 3), "small or more"),
    "effusion_synovitis_severe": LabelRule("effusion_synovitis", "grade", (3,), "large"),
    "meniscal_extrusion_any": LabelRule("meniscal_extrusion", "grade", (1, 2, 3), "2 mm or more"),
    "meniscal_extrusion_severe": LabelRule("meniscal_extrusion", "grade", (3,), "5 mm or more"),
    # Codes of morphology have no order: kinds are named, not compared.
    "meniscal_morphology_any": LabelRule("meniscal_morphology", "morphology", tuple(range(1, 9)), "not normal"),
    "meniscal_morphology_severe": LabelRule("meniscal_morphology", "morphology", (6, 7, 8), "maceration"),
    "meniscal_tear_any": LabelRule("meniscal_morphology", "morphology", (2, 3, 4, 5), "a tear of any kind"),
    "meniscal_root_tear_any": LabelRule("meniscal_root_tear", "presence", (1,), "a root tear"),
    "anterior_cruciate_ligament_any": LabelRule("anterior_cruciate_ligament", "complete_tear", (1,), "complete tear"),
    "popliteal_cyst_any": LabelRule("popliteal_cyst", "presence", (1,), "a popliteal cyst"),
}
"""Rules by the name of their label. Findings without a known variable have none."""


def _rule_slots(rule: LabelRule) -> tuple[tuple[int, str], ...]:
    """List the slots of a rule."""
    return tuple(
        (variable.question_id, attribute)
        for variable in VARIABLES.values()
        for attribute in variable.attributes
        if QUESTIONS[variable.question_id].finding == rule.finding and attribute == rule.attribute
    )


def coarse_labels(grades: Mapping[tuple[int, str], int | None]) -> dict[str, int | None]:
    """Compute the coarse labels of one knee and visit.

    A label is 1 if one grade is among those of its rule; 0 if every grade is present and none is; otherwise None,
    since a missing grade may be the one.

    `grades`: by question and attribute.

    Examples
    --------
    >>> labels = coarse_labels({(42, "grade"): 2, (43, "grade"): None})
    >>> labels["hoffa_synovitis_any"], labels["hoffa_synovitis_severe"], labels["effusion_synovitis_any"]
    (1, 0, None)
    """
    return {name: _apply(rule, grades) for name, rule in LABEL_RULES.items()}


def _apply(rule: LabelRule, grades: Mapping[tuple[int, str], int | None]) -> int | None:
    found = [grades.get(slot) for slot in _rule_slots(rule)]
    if any(grade in rule.grades for grade in found if grade is not None):
        return 1
    return None if None in found else 0


def write_labels(path: Path, knees: Iterable[KneeGrades]) -> int:
    """Write coarse labels as CSV, one row for each knee and visit, and return the number of rows.

    Columns are ``patient``, ``visit``, ``side``, ``projects`` (joined by ``+``) and the names of `LABEL_RULES`. A
    missing label is an empty cell.

    Raises ConvertError if the file cannot be written.
    """
    rows = [[*each.knee, "+".join(each.projects), *coarse_labels(each.grades).values()] for each in knees]
    _write(path, ["patient", "visit", "side", "projects", *LABEL_RULES], rows)
    return len(rows)


def write_table_comparison(folder: Path, comparison: TableComparison) -> tuple[Path, Path]:
    """Write ``agreement.csv`` and ``disagreements.csv``, and return their paths.

    Raises ConvertError if a file cannot be written.
    """
    agreement, disagreements = folder / "agreement.csv", folder / "disagreements.csv"
    header = [*Stratum._fields, "equal", "different", "only_released", "only_tables", "share_equal"]
    _write(agreement, header, _agreement_rows(comparison))
    _write(disagreements, Disagreement._fields, comparison.disagreements)
    return agreement, disagreements


def _agreement_rows(comparison: TableComparison) -> Iterator[list[object]]:
    for stratum, counted in sorted(comparison.agreement.items()):
        share = "" if counted.share is None else f"{counted.share:.4f}"
        yield [*stratum, counted.equal, counted.different, counted.only_released, counted.only_tables, share]


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")  # it writes None as an empty cell
    writer.writerow(header)
    writer.writerows(rows)
    try:
        write_files(path.parent, {path.name: text.getvalue().encode()})
    except OSError as error:
        raise ConvertError(f"{path} cannot be written: {error.strerror or error}. Name another file.") from error
