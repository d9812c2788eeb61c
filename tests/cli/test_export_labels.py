"""``reasonknee export-labels``: coarse labels of every knee and visit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from reasonknee_datasets.cli import main
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.oai.moaks_comparison import LABEL_RULES, coarse_labels
from reasonknee_datasets.oai.moaks_variables import VARIABLES
from tests.helpers.paths import ROOT

SLOTS = [(variable.question_id, each) for variable in VARIABLES.values() for each in variable.attributes]
HEALTHY: dict[tuple[int, str], int | None] = dict.fromkeys(SLOTS, 0)


def written(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def positive(change: dict[tuple[int, str], int | None]) -> set[str]:
    labels = coarse_labels({**HEALTHY, **change})
    assert None not in labels.values()
    return {name for name, label in labels.items() if label}


@pytest.mark.parametrize(
    ("slot", "grade", "labels"),
    [
        ((15, "size"), 1, {"bone_marrow_lesion_any"}),
        ((15, "size"), 3, {"bone_marrow_lesion_any", "bone_marrow_lesion_severe"}),
        ((15, "number"), 3, set()),
        ((29, "size"), 2, {"cartilage_lesion_any"}),
        ((29, "size"), 3, {"cartilage_lesion_any", "cartilage_lesion_severe"}),
        ((16, "depth"), 1, {"cartilage_full_thickness_any"}),
        ((41, "grade"), 2, {"osteophyte_any"}),
        ((30, "grade"), 3, {"osteophyte_any", "osteophyte_severe"}),
        ((42, "grade"), 1, {"hoffa_synovitis_any"}),
        ((42, "grade"), 3, {"hoffa_synovitis_any", "hoffa_synovitis_severe"}),
        ((43, "grade"), 2, {"effusion_synovitis_any"}),
        ((43, "grade"), 3, {"effusion_synovitis_any", "effusion_synovitis_severe"}),
        ((44, "grade"), 1, {"meniscal_extrusion_any"}),
        ((47, "grade"), 3, {"meniscal_extrusion_any", "meniscal_extrusion_severe"}),
        ((48, "morphology"), 1, {"meniscal_morphology_any"}),
        ((50, "morphology"), 2, {"meniscal_morphology_any", "meniscal_tear_any"}),
        ((53, "morphology"), 5, {"meniscal_morphology_any", "meniscal_tear_any"}),
        ((53, "morphology"), 6, {"meniscal_morphology_any", "meniscal_morphology_severe"}),
        ((51, "morphology"), 8, {"meniscal_morphology_any", "meniscal_morphology_severe"}),
        ((59, "presence"), 1, {"meniscal_root_tear_any"}),
        ((60, "complete_tear"), 1, {"anterior_cruciate_ligament_any"}),
        ((65, "presence"), 1, {"popliteal_cyst_any"}),
    ],
)
def test_coarse_labels_of_one_grade(slot: tuple[int, str], grade: int, labels: set[str]) -> None:
    assert positive({slot: grade}) == labels


def test_coarse_labels_of_healthy_knee() -> None:
    assert positive({}) == set()


def test_missing_grade_is_no_zero() -> None:
    missing = coarse_labels({**HEALTHY, (17, "size"): None})
    assert (missing["cartilage_lesion_any"], missing["cartilage_lesion_severe"]) == (None, None)
    # One lesion decides "any" whatever the missing grade is; "severe" stays undecided.
    found = coarse_labels({**HEALTHY, (17, "size"): None, (18, "size"): 1})
    assert (found["cartilage_lesion_any"], found["cartilage_lesion_severe"]) == (1, None)
    assert set(coarse_labels({}).values()) == {None}


def test_rules_use_legal_grades() -> None:
    for name, rule in LABEL_RULES.items():
        slots = [slot for q in QUESTIONS.values() for slot in q.slots if q.finding == rule.finding]
        legal = [slot.legal for slot in slots if slot.attribute == rule.attribute]
        assert legal, name
        assert all(set(rule.grades) <= set(each) for each in legal), name


def test_export_labels_of_several_readings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = ["ID|SIDE|READPRJ|V01MSYIC|V01MACLTR", "9000099|1: Right|65|3: Severe|2", "9000099|1: Right|22|1: Mild|0"]
    (tmp_path / "moaks.txt").write_text("\n".join(rows))
    command = ["export-labels", str(tmp_path / "moaks.txt"), "--out", str(tmp_path / "out" / "labels.csv")]
    assert main(command) == 0
    assert "MACLTR code 2 has no grade: 1 cells left empty" in capsys.readouterr().out
    (row,) = written(tmp_path / "out" / "labels.csv")
    assert [row[name] for name in ("patient", "visit", "side", "projects")] == ["9000099", "12M", "right", "22+65"]
    assert (row["hoffa_synovitis_any"], row["hoffa_synovitis_severe"], row["osteophyte_any"]) == ("", "", "")
    assert main([*command, "--readings", "first", "--projects", "65,22", "--acl", "highest"]) == 0
    (row,) = written(tmp_path / "out" / "labels.csv")
    assert (row["hoffa_synovitis_severe"], row["anterior_cruciate_ligament_any"]) == ("1", "1")
    assert main([*command, "--readings", "all"]) == 0
    found = written(tmp_path / "out" / "labels.csv")
    assert [(row["projects"], row["hoffa_synovitis_severe"]) for row in found] == [("22", "0"), ("65", "1")]
    assert not list((tmp_path / "out").glob("*.part"))


def test_export_labels_compares_with_a_release(
    phantom_release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = phantom_release / "data" / "labels"
    out = tmp_path / "labels.csv"
    assert main(["export-labels", str(labels), "--out", str(out), "--compare", str(phantom_release)]) == 0
    printed = capsys.readouterr().out
    assert "of grades equal" in printed
    files = [phantom_release / "data" / "generate_data" / f"{split}.json" for split in ("train", "val", "test")]
    # A few records of a release name no image.
    count = sum(bool(record["image"]) for file in files for record in json.loads(file.read_text()))
    assert f"{count:,} released records, {count:,} of them of knees" in printed
    agreement = written(tmp_path / "agreement.csv")
    assert {row["share_equal"] for row in agreement if row["project"] == "22"} <= {"1.0000", ""}
    assert {row["visit"] for row in agreement} >= {"00M", "12M"}
    counted = sum(int(row[name]) for row in agreement for name in ("different", "only_released", "only_tables"))
    assert len(written(tmp_path / "disagreements.csv")) == counted
    assert len({(row["patient"], row["visit"], row["side"]) for row in written(out)}) == len(written(out))


def test_export_labels_file_without_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1,2\n")
    assert main(["export-labels", str(tmp_path / "x.csv"), "--out", str(tmp_path / "labels.csv")]) == 1
    assert "needs the columns ID, SIDE and READPRJ (or VERSION) and has a, b" in capsys.readouterr().err
    assert not (tmp_path / "labels.csv").exists()


def test_documented_rules_are_the_rules() -> None:
    page = (ROOT / "docs" / "howto" / "labels.md").read_text(encoding="utf-8")
    rows = [
        f"| `{name}` | {rule.attribute} {', '.join(map(str, rule.grades))} | {rule.meaning} |"
        for name, rule in LABEL_RULES.items()
    ]
    assert "\n".join(rows) in page


def test_export_labels_without_release_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "moaks.txt"
    table.write_text("ID|SIDE|READPRJ|V00MSYIC\n9000099|1: Right|22|2: Moderate\n", encoding="latin-1")
    out = tmp_path / "labels.csv"
    assert main(["export-labels", str(table), "--out", str(out), "--compare", str(tmp_path / "absent")]) == 1
    assert "is not an official release" in capsys.readouterr().err
    assert not out.exists()
