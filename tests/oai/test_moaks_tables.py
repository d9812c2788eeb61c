"""MOAKS tables: OAI's own files and the release's, several readings, and comparison with released grades."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import shutil
import sys
from pathlib import Path

import pytest

from reasonknee_datasets.errors import ConvertError, MissingExtraError, ReleaseError
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.oai.moaks_comparison import ReleasedGrades, compare_grades, read_released_grades
from reasonknee_datasets.oai.moaks_tables import (
    READING_RULES,
    Knee,
    MoaksTables,
    ReadingRule,
    read_moaks_tables,
    resolve_readings,
)
from reasonknee_datasets.oai.moaks_variables import ACL_RULES, VARIABLES, AclRule
from reasonknee_datasets.oai.table_cells import read_cells
from reasonknee_datasets.phantom.release_files import table_columns
from tests.helpers.paths import DATA

KNEE = Knee("9000099", "00M", "right")
MISSING = ".: Missing Form/Incomplete Workbook"
HOFFA, FMC_SIZE, FMC_DEPTH = (42, "grade"), (19, "size"), (19, "depth")


def table(path: Path, header: str, *rows: str, encoding: str = "latin-1") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding=encoding)
    return path


def oai(path: Path, variable: str, *cells: str) -> Path:
    """Write one variable in OAI's ASCII form, each cell as the reading of another knee."""
    rows = [f"{9000099 + number}|1: Right|22|{cell}" for number, cell in enumerate(cells)]
    return table(path, f"ID|SIDE|READPRJ|{variable}", *rows)


def column(tables: MoaksTables, question: int, attribute: str) -> list[int | None]:
    return [reading.grades[question, attribute] for reading in tables.readings]


def test_variables_name_every_column_of_the_release() -> None:
    expected = {name: (question, held) for name, (question, held) in table_columns().items()}
    found = {name: (variable.question_id, variable.attributes) for name, variable in VARIABLES.items()}
    assert found.pop("MPOPCYS") == (65, ("presence",))
    assert found == expected
    assert len(found) == 45 + 14 + 12 + 2 + 4 + 6 + 2 + 1


@pytest.mark.parametrize(
    ("name", "subregion", "finding"),
    [
        ("MCMFMA", "femur_medial_anterior", "cartilage_lesion"),
        ("MBMSSS", "tibia_subspinous", "bone_marrow_lesion"),
        ("MBMPPL", "patella_lateral", "bone_marrow_lesion"),
        ("MOSPS", "patella_superior", "osteophyte"),
        ("MOSTL", "tibia_lateral", "osteophyte"),
        ("MMXMA", "medial_meniscus_anterior", "meniscal_extrusion"),
        ("MMXLL", "lateral_meniscus_lateral", "meniscal_extrusion"),
        ("MMTLB", "lateral_meniscus_body", "meniscal_morphology"),
        ("MMRTM", "medial_meniscus_root", "meniscal_root_tear"),
    ],
)
def test_variable_of_a_subregion(name: str, subregion: str, finding: str) -> None:
    question = QUESTIONS[VARIABLES[name].question_id]
    assert (question.subregion, question.finding) == (subregion, finding)


def test_read_ascii_table(tmp_path: Path) -> None:
    header = "id|Side|ReadPrj|v00mcmfmc|V00MSYIC|V00MEFFWK|V00COMMENT"
    row = '9000099|2: Left|63A|2.1: 10-75% area, 1-10% full thickness|3: Severe|.A: Not Expected|5" caf\xe9 \x85 more'
    found = read_moaks_tables(table(tmp_path / "kMRI_SQ_MOAKS_BICL00.txt", header, row))
    (reading,) = found.readings
    assert (reading.knee, reading.project) == (Knee("9000099", "00M", "left"), "63A")
    assert reading.grades == {FMC_SIZE: 2, FMC_DEPTH: 1, HOFFA: 3, (43, "grade"): None}
    assert (reading.codes[FMC_SIZE], reading.codes[43, "grade"]) == ("2.1", ".A")
    assert found.labels["MCMFMC", "2.1"] == "10-75% area, 1-10% full thickness"
    assert found.ignored == ("V00COMMENT",)


@pytest.mark.parametrize(
    "cell", [MISSING, ".A: Not Expected", ".", ".V", "", "0.5", ".5", "-0.5", "-1", "-1.0: Smaller"]
)
@pytest.mark.parametrize("variable", ["V03MSYIC", "V03MCMFMC", "V03MMTMB", "V03MACLTR"])
def test_missing_codes_are_null(tmp_path: Path, cell: str, variable: str) -> None:
    found = read_moaks_tables(oai(tmp_path / "t.txt", variable, cell))
    assert set(found.readings[0].grades.values()) == {None}
    assert found.readings[0].knee.visit == "24M"
    assert not found.unmapped  # missing is not a code without a grade


@pytest.mark.parametrize(
    ("cell", "size", "depth"), [("0.0", 0, 0), ("1.0", 1, 0), ("2.3", 2, 3), ("3", 3, 0), ("2.5", 2, None)]
)
def test_combined_cartilage_code(tmp_path: Path, cell: str, size: int, depth: int | None) -> None:
    found = read_moaks_tables(oai(tmp_path / "t.txt", "V00MCMTLA", cell, "1.1"))
    assert found.readings[0].grades == {(27, "size"): size, (27, "depth"): depth}
    assert found.unmapped == ({("MCMTLA", "2.5"): 1} if depth is None else {})


def test_read_moaks_tables_repeated_column(tmp_path: Path) -> None:
    header = "ID,SIDE,VERSION,V00MCMPM,V00MCMPM,V00MOSPS"
    path = table(tmp_path / "r.csv", header, "9000099,1,65,3,1,2", "9000099,2,61,2,5,.M")
    found = read_moaks_tables(path)
    assert column(found, 16, "size") == [3, 2]
    assert column(found, 16, "depth") == [1, None]  # code 5 has no grade, and is not 0 or 3
    assert column(found, 30, "grade") == [2, None]
    assert [reading.project for reading in found.readings] == ["65", "61"]
    assert found.unmapped == {("MCMPM", "5"): 1}


def test_columns_renamed_by_pandas_are_one_variable(tmp_path: Path) -> None:
    path = table(tmp_path / "r.csv", "ID,SIDE,VERSION,V00MCMPM,V00MCMPM.1", "9000099,1,65,3.0,2.0")
    assert read_moaks_tables(path).readings[0].grades == {(16, "size"): 3, (16, "depth"): 2}


def test_table_halved_by_dictreader_is_refused(tmp_path: Path) -> None:
    path = table(tmp_path / "r.csv", "ID,SIDE,VERSION,V00MCMPM,V00MCMPM", "9000099,1,65,3,1", "9000100,1,65,0,0")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (tmp_path / "halved.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(ConvertError, match=r"no decimal for the depth.*keeps only the second of two columns"):
        read_moaks_tables(tmp_path / "halved.csv")


_TEAR = {"0: Normal": 0, "1: Partial tear": 0, "2: Complete tear": 1}


@pytest.mark.parametrize(
    ("rule", "cells", "grades"),
    [
        ("label", list(_TEAR), list(_TEAR.values())),
        ("label", ["0", "1", "2"], [0, None, None]),
        ("label", ["1: Complete tear", "2: Partial or complete", "1: Incomplete"], [1, None, 0]),
        ("any", ["0", "1", "2"], [0, 1, 1]),
        ("highest", ["0", "1", "2"], [0, 0, 1]),
        ("any", ["0", "3", "."], [0, None, None]),
    ],
)
def test_ligament_code_is_not_the_grade(tmp_path: Path, rule: AclRule, cells: list[str], grades: list[int]) -> None:
    found = read_moaks_tables(oai(tmp_path / "t.txt", "V00MACLTR", *cells), acl=rule)
    assert column(found, 60, "complete_tear") == grades
    without = sum(grade is None and "." not in cell for cell, grade in zip(cells, grades, strict=True))
    assert sum(found.unmapped.values()) == without


def test_unknown_ligament_rule_names_the_nearest() -> None:
    with pytest.raises(ConvertError, match=r"'labels' for MACLTR. Did you mean 'label'"):
        read_moaks_tables("t.txt", acl="labels")  # type: ignore[arg-type]
    assert list(ACL_RULES) == ["label", "any", "highest"]


def test_read_moaks_tables_duplicates(tmp_path: Path) -> None:
    rows = [f"9000099|1: Right|{project}|{code}" for project, code in (("22", 1), ("22", 1), ("30", 1), ("22", 2))]
    path = table(tmp_path / "t.txt", "ID|SIDE|READPRJ|V00MSYIC", *rows)
    found = read_moaks_tables([path, path])
    assert [(each.project, each.grades[HOFFA]) for each in found.readings] == [("22", 1), ("30", 1), ("22", 2)]
    assert found.duplicates == 5


def readings(tmp_path: Path, *rows: str) -> MoaksTables:
    header = "ID|SIDE|READPRJ|V00MCMFMC|V00MSYIC"
    return read_moaks_tables(table(tmp_path / "t.txt", header, *(f"9000099|1|{row}" for row in rows)))


@pytest.mark.parametrize(
    ("rule", "size", "depth", "hoffa"), [("first", 1, 0, 2), ("latest", 2, 3, 2), ("agree", None, None, 2)]
)
def test_rules_for_several_readings(
    tmp_path: Path, rule: ReadingRule, size: int | None, depth: int | None, hoffa: int
) -> None:
    found = readings(tmp_path, "65|2.3|.", "22|.|2", "30|1.0|2")
    (knee,) = resolve_readings(found, rule)
    assert knee.projects == ("22", "30", "65")
    assert knee.grades == {FMC_SIZE: size, FMC_DEPTH: depth, HOFFA: hoffa}


def test_rule_all_keeps_every_reading(tmp_path: Path) -> None:
    found = readings(tmp_path, "63F|2.3|.", "7|1.0|1", "63A|1.0|2")
    assert [knee.projects for knee in resolve_readings(found, "all")] == [("7",), ("63A",), ("63F",)]
    assert list(READING_RULES) == ["first", "latest", "agree", "all"]


def test_resolve_readings_first_keeps_pairs(tmp_path: Path) -> None:
    found = readings(tmp_path, "22|2.5|.", "30|1.3|.")
    (knee,) = resolve_readings(found, "first")
    assert (knee.grades[FMC_SIZE], knee.grades[FMC_DEPTH]) == (2, None)


def test_order_of_projects_is_given_by_name(tmp_path: Path) -> None:
    found = readings(tmp_path, "22|1.0|1", "65|2.0|2")
    (knee,) = resolve_readings(found, "first", projects=["65", "22"])
    assert knee.grades[HOFFA] == 2
    with pytest.raises(ConvertError, match=r"readings of project 65, and the order names 22"):
        resolve_readings(found, "first", projects=["22"])
    with pytest.raises(ConvertError, match=r"Unknown rule 'last' for several readings. Did you mean 'latest'"):
        resolve_readings(found, "last")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "row", "message"),
    [
        ("ID|SIDE|V00MSYIC", "9000099|1|2", "needs the columns ID, SIDE and READPRJ"),
        ("ID|SIDE|READPRJ|V00XRKL", "9000099|1|22|2", "no column of a MOAKS variable"),
        ("ID|SIDE|READPRJ|V00MSYIC", "9000099|3|22|2", "SIDE '3' at .* line 2 name no knee"),
        ("ID|SIDE|READPRJ|V00MSYIC", "P01|1|22|2", "ID 'P01' and"),
        ("ID|SIDE|READPRJ|V00MSYIC", "9000099|1|22|severe", "Code 'severe' of MSYIC at .* line 2 is neither"),
        ("ID|SIDE|READPRJ|V00MSYIC", "9000099|1|22|NaN", "Code 'NaN' of MSYIC"),
        ("ID|SIDE|READPRJ|V00MSYIC", "9000099|1|22", "has 3 cells, but the header names 4"),
        ("ID|SIDE|READPRJ|V00MSYIC|V00MSYIC", "9000099|1|22|2|2", "2 columns named V00MSYIC, not 1"),
        ("ID|SIDE|READPRJ|V00MCMPM|V00MCMPM|V00MCMPM", "9000099|1|22|2|2|2", "3 columns named V00MCMPM, not 2"),
    ],
)
def test_table_that_is_not_understood_is_refused(tmp_path: Path, header: str, row: str, message: str) -> None:
    with pytest.raises(ConvertError, match=message):
        read_moaks_tables(table(tmp_path / "t.txt", header, row))


def test_folder_is_searched_for_moaks_tables(tmp_path: Path) -> None:
    folder = tmp_path / "MR Image Assessment_ASCII" / "Semi-Quant Scoring_ASCII"
    folder.mkdir(parents=True)
    with pytest.raises(ConvertError, match="no file with MOAKS in its name"):
        read_moaks_tables(tmp_path)
    oai(folder / "kMRI_SQ_MOAKS_BICL00.txt", "V00MSYIC", "2")
    oai(folder / "kMRI_QCart_Eckstein00.txt", "V00WMTMTH", "2")
    assert len(read_moaks_tables(tmp_path).readings) == 1
    with pytest.raises(ConvertError, match="cannot be read: No such file"):
        read_moaks_tables(tmp_path / "absent.txt")


def test_read_cells_sas(tmp_path: Path) -> None:
    pytest.importorskip("pyreadstat")
    lines = (DATA / "iris.sas7bdat.gz.base64").read_text(encoding="utf-8").splitlines()
    path = tmp_path / "iris.sas7bdat"
    path.write_bytes(gzip.decompress(base64.b64decode("".join(line for line in lines if line[0] != "#"))))
    columns, rows = read_cells(path)
    assert columns == ["Sepal_Length", "Sepal_Width", "Petal_Length", "Petal_Width", "Species"]
    assert rows[:2] == [(2, ["5.1", "3.5", "1.4", "0.2", "setosa"]), (3, ["4.9", "3", "1.4", "0.2", "setosa"])]
    assert rows[-1] == (151, ["5.9", "3", "5.1", "1.8", "virgin"])  # SAS wrote six letters
    with pytest.raises(ConvertError, match=r"iris\.sas7bdat needs the columns ID, SIDE and READPRJ"):
        read_moaks_tables(path)
    path.write_bytes(path.read_bytes()[:70_000])
    with pytest.raises(ConvertError, match="cannot be read as a SAS table"):
        read_cells(path)


def test_read_moaks_tables_sas_equals_ascii(tmp_path: Path) -> None:
    # No writer of .sas7bdat exists outside SAS: the transport form goes through the same reader.
    pyreadstat, pandas = pytest.importorskip("pyreadstat"), pytest.importorskip("pandas")
    nan = float("nan")
    values = {
        "ID": ["9000099", "9000100"],
        "SIDE": [1.0, 2.0],
        "READPRJ": ["63A", "22"],
        "V00MCMFMC": [2.1, 0.0],
        "V00MSYIC": [3.0, nan],
    }
    path = tmp_path / "moaks.xpt"
    pyreadstat.write_xport(pandas.DataFrame(values), str(path), file_format_version=8)
    rows = ["9000099|1: Right|63A|2.1: label|3: Severe", f"9000100|2: Left|22|0.0|{MISSING}"]
    ascii_table = table(tmp_path / "moaks.txt", "ID|SIDE|READPRJ|V00MCMFMC|V00MSYIC", *rows)
    found, expected = read_moaks_tables(path), read_moaks_tables(ascii_table)
    assert [(each.knee, each.project, each.grades) for each in found.readings] == [
        (each.knee, each.project, each.grades) for each in expected.readings
    ]
    damaged = tmp_path / "damaged.sas7bdat"
    damaged.write_bytes(b"no SAS table")
    with pytest.raises(ConvertError, match=r"damaged.sas7bdat cannot be read as a SAS table"):
        read_moaks_tables(damaged)


def test_sas_table_without_pyreadstat_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyreadstat", None)
    with pytest.raises(MissingExtraError, match=r"reasonknee_datasets\[sas\]"):
        read_moaks_tables(tmp_path / "kmri_sq_moaks_bicl00.sas7bdat")


def test_compare_grades_by_stratum(tmp_path: Path) -> None:
    found = readings(tmp_path, "22|2.1|0", "65|1.1|.")
    other = Knee("9000099", "12M", "right")
    released = [
        ReleasedGrades(KNEE, 19, {"size": 2, "depth": 1}),
        ReleasedGrades(KNEE, 42, {"grade": 0}),
        ReleasedGrades(KNEE, 54, {"presence": 1, "tear_location": 3}),  # no variable
        ReleasedGrades(other, 42, {"grade": 0}),
    ]
    done = compare_grades(found, released)
    size = {
        project: done.total(finding="cartilage_lesion", attribute="size", project=project) for project in ("22", "65")
    }
    assert (size["22"].equal, size["22"].different, size["65"].equal, size["65"].different) == (1, 0, 0, 1)
    assert size["65"].share == 0.0
    hoffa = done.total(finding="hoffa_synovitis", project="65")
    assert (hoffa.equal, hoffa.different, hoffa.only_released, hoffa.share) == (0, 0, 1, None)
    rows = [(row.attribute, row.project, row.code, row.table_grade, row.released_grade) for row in done.disagreements]
    assert rows == [("size", "65", "1.1", 1, 2), ("grade", "65", ".", None, 0)]
    assert (done.records, done.unmatched) == (4, 1)
    assert done.total().equal == 4


def test_phantom_tables_agree_with_records(phantom_release: Path) -> None:
    tables = read_moaks_tables(phantom_release / "data" / "labels", acl="any")
    done = compare_grades(tables, read_released_grades(phantom_release))
    own = done.total(project="22")
    assert (own.different, done.unmatched) == (0, 0)
    train = json.loads((phantom_release / "data" / "generate_data" / "train.json").read_text())
    assert own.equal > len(train)
    again = done.total(project="65")
    assert again.equal + again.different > 0  # another project read some knees
    assert len(done.disagreements) == sum(
        each.different + each.only_released + each.only_tables for each in done.agreement.values()
    )


@pytest.mark.parametrize("folder", ["generate_data", "split_files"])
def test_release_without_records_is_refused(phantom_release: Path, tmp_path: Path, folder: str) -> None:
    for name in ("generate_data", "split_files"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for file in (phantom_release / "data" / name).iterdir() if name != folder else ():
            shutil.copy(file, tmp_path / "data" / name)
    with pytest.raises(ReleaseError, match="no record in generate_data that names a volume"):
        list(read_released_grades(tmp_path))


def test_planted_difference_is_found(phantom_release: Path, tmp_path: Path) -> None:
    source = phantom_release / "data" / "labels" / "taxonomymatch_kMRI_SQ_MOAKS_BICL00.csv"
    with source.open(newline="") as file:
        header, *rows = csv.reader(file)
    at = header.index("V00MMTMB")
    row = next(row for row in rows if not row[at].startswith("."))
    row[at] = str((int(row[at]) + 1) % 9)
    with (tmp_path / "moaks.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    done = compare_grades(read_moaks_tables(tmp_path, acl="any"), read_released_grades(phantom_release))
    different = [each for each in done.disagreements if None not in (each.table_grade, each.released_grade)]
    assert {(each.patient, each.subregion, each.attribute) for each in different} == {
        (row[0], "medial_meniscus_body", "morphology")
    }


@pytest.mark.parametrize("header", ["ID|SIDE|READPRJ|V00MCMFMC", "ID,SIDE,VERSION,V00MOSPS"])
def test_read_moaks_tables_without_rows(header: str, tmp_path: Path) -> None:
    path = tmp_path / "moaks.csv"
    path.write_text(f"{header}\n", encoding="utf-8")
    with pytest.raises(ConvertError, match=r"have column names but no rows: .*moaks\.csv\. Download them again"):
        read_moaks_tables(path)
