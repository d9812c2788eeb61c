"""The doctor: a prepared repository passes, and each planted defect fails its own check."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from reasonknee_datasets import card
from reasonknee_datasets.check import check_data
from reasonknee_datasets.cli.main import main
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.prepare.side_files import write_side_files
from reasonknee_datasets.publish import add_previews, content_checks, examine, parquet_checks
from reasonknee_datasets.publish.doctor import CHECKS, DoctorReport
from tests.helpers import prepare_content as given
from tests.helpers.file_servers import serve
from tests.helpers.planted_defects import DEFECTS as DATA_DEFECTS
from tests.helpers.prepared_repository import list_again

FIRST = "data/train-00000-of-00012.parquet"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("doctor")
    given.write(folder / "3dreasonknee", given.content(given.volumes(folder / "images")))
    shutil.rmtree(folder / "3dreasonknee/.work")
    return folder / "3dreasonknee"


@pytest.fixture
def root(clean: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(clean, tmp_path / "3dreasonknee"))


def look(root: Path | str, **options: Any) -> DoctorReport:
    return examine(root, progress=False, **options)


def failed(root: Path | str, severity: str = "error", **options: Any) -> set[str]:
    """Names of the checks that fail with a severity."""
    return {finding.check for finding in look(root, **options).findings if finding.severity == severity}


def rewrite(root: Path, change: Callable[[pa.Table], pa.Table], path: str = FIRST, **options: Any) -> None:
    """Write one shard again, with the right hashes in the manifest."""
    table = change(pq.read_table(root / path))
    pq.write_table(table, root / path, **{"write_page_index": True, **options})
    list_again(root)


def edit_card(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the YAML of the card, with the right hash in the manifest."""
    text = (root / card.CARD).read_text(encoding="utf-8")
    made = DatasetCard(text)
    data = made.data.to_dict()
    change(data)
    from yaml import safe_dump

    (root / card.CARD).write_text(f"---\n{safe_dump(data, sort_keys=False)}---\n{made.text}", encoding="utf-8")
    list_again(root)


def make_real(root: Path, **changes: Any) -> None:
    """Mark the repository as real data."""
    manifest = replace(Manifest.load(root), synthetic=False, digest="", **changes)
    (root / MANIFEST).write_bytes(write_side_files(root, manifest, {}).to_bytes())


class TestExamine:
    def test_clean_repository_passes_every_check(self, clean: Path) -> None:
        report = look(clean)
        assert not report.findings
        assert report.checks == tuple(CHECKS)

    @pytest.mark.slow
    def test_prepared_phantom_with_previews_passes(self, prepared: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(prepared, tmp_path / "3dreasonknee"))
        assert not look(root).findings
        add_previews(root, workers=1, progress=False)
        assert not look(root).findings

    @pytest.mark.slow
    def test_without_images(self, tmp_path: Path) -> None:
        given.write(tmp_path, given.content(given.volumes(None)), volumes="none")
        shutil.rmtree(tmp_path / ".work")
        assert not look(tmp_path).findings

    @pytest.mark.slow
    def test_over_http(self, clean: Path) -> None:
        with serve(clean.parent) as served:
            assert not look(f"{served.url}/3dreasonknee").findings

    @pytest.mark.parametrize("damaged", ["", "---\n[not: yaml\n---\n", "---\n- 1\n---\n"])
    def test_card_that_cannot_be_read_is_reported(self, root: Path, damaged: str) -> None:
        (root / card.CARD).write_text(damaged, encoding="utf-8")
        list_again(root)
        assert "card-configs" in failed(root)


def lengthen(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("question")
    return table.set_column(place, "question", pa.array(["x" * 30_000] * table.num_rows))


def swell(table: pa.Table) -> pa.Table:
    place = table.schema.get_field_index("record")
    return pa.concat_tables([table] * 10).set_column(place, "record", pa.array(["x" * 10_500_000] * 30))


def first_rows(root: Path) -> None:
    for path in sorted(root.glob("data/train-*.parquet")):
        rewrite(root, lambda table: pa.concat_tables([lengthen(table)] * 4), path.relative_to(root).as_posix())


def scan_size(root: Path) -> None:
    rewrite(root, swell, use_dictionary=False, write_page_index=False, compression="zstd")
    assert pq.read_metadata(root / FIRST).row_group(0).total_byte_size > 300_000_000


def row_groups(root: Path) -> None:
    rewrite(root, lambda table: table, write_page_index=False)


def column_types(root: Path) -> None:
    stated = {"info": {"features": {"answer": {"_type": "Nifti"}}}}
    rewrite(root, lambda table: table.replace_schema_metadata({"huggingface": json.dumps(stated)}))


def missing_column(root: Path) -> None:
    rewrite(root, lambda table: table.drop_columns("record"), "data/train-00001-of-00012.parquet")


def damaged_shard(root: Path) -> None:
    (root / FIRST).write_bytes(b"PAR1" + bytes(100))
    list_again(root)


def files_per_folder(root: Path) -> None:
    (root / "volumes/many").mkdir()
    for number in range(10_001):
        (root / f"volumes/many/{number}").touch()


def card_configs(root: Path) -> None:
    edit_card(root, lambda data: data["configs"][0]["data_files"].pop())


def stale_shard(root: Path) -> None:
    shutil.copy(root / FIRST, root / "data/train-00000-of-00001.parquet")


def card_counts(root: Path) -> None:
    edit_card(root, lambda data: data["dataset_info"][1]["splits"][0].update(num_examples=7))


def parquet_counts(root: Path) -> None:
    rewrite(root, lambda table: table.slice(1))


def card_features(root: Path) -> None:
    edit_card(root, lambda data: data["dataset_info"][1]["features"].pop())


def missing_volume(root: Path) -> None:
    next(iter(root.glob("volumes/*/*.nii.gz"))).unlink()


def checksums(root: Path) -> None:
    path = next(iter(root.glob("volumes/*/*.nii.gz")))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def patients(root: Path) -> None:
    table = pq.read_table(root / FIRST)
    place, other = table.schema.get_field_index("patient"), pa.array(["0000007"] * table.num_rows)
    rewrite(root, lambda table: table.set_column(place, "patient", other))


def boxes(root: Path) -> None:
    table = pq.read_table(root / FIRST)
    place = table.schema.get_field_index("box")
    wrong = pa.array([[1, 2, 3, 4, 6, 11]] * table.num_rows, table.schema.field("box").type)
    rewrite(root, lambda table: table.set_column(place, table.schema.field("box"), wrong))


def empty_boxes(root: Path) -> None:
    table = pq.read_table(root / FIRST)
    place = table.schema.get_field_index("box")
    wrong = pa.array([[1, 2, 3, 1, 6, 8]] * table.num_rows, table.schema.field("box").type)
    rewrite(root, lambda table: table.set_column(place, table.schema.field("box"), wrong))


def gating(root: Path) -> None:
    make_real(root)
    edit_card(root, lambda data: data["extra_gated_fields"].clear())


def synthetic_label(root: Path) -> None:
    text = (root / card.CARD).read_text(encoding="utf-8").replace("SYNTHETIC", "")
    (root / card.CARD).write_text(text, encoding="utf-8")
    list_again(root)


# The planted fault, the one check that it fails, and words of the finding.
DEFECTS: list[tuple[Callable[[Path], None], set[str], str]] = [
    (first_rows, {"first-rows", "card-counts"}, "cuts the cells of rows"),
    (scan_size, {"scan-size", "card-counts", "first-rows"}, "without a page index"),
    (column_types, {"column-types"}, r"answer \(Nifti\)"),
    (missing_column, {"column-types"}, "another schema than the first shard of quintuples: record"),
    (damaged_shard, {"column-types"}, "cannot be read as Parquet"),
    (files_per_folder, {"files-per-folder"}, "10,001 files"),
    (card_configs, {"card-configs"}, "does not list quintuples/test"),
    (stale_shard, {"card-configs"}, "train-00000-of-00001.parquet is read as part of quintuples/train"),
    (card_counts, {"card-counts"}, "has 7 rows; it has"),
    (parquet_counts, {"card-counts"}, "has 2 rows, but the manifest says 3"),
    (card_features, {"card-features"}, "other features of quintuples than the files have: record"),
    (missing_volume, {"missing-volumes", "checksums"}, "1 of 22 volumes are missing"),
    (checksums, {"checksums"}, "1 files differ from the manifest"),
    (patients, {"patients"}, "0000007 in train and validation"),
    (boxes, {"boxes"}, "3 boxes are empty or reach out of their volumes"),
    (empty_boxes, {"boxes"}, "3 boxes are empty"),
    (gating, {"gating"}, "does not ask for agreement"),
    (synthetic_label, {"gating"}, "does not say so"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("plant", "checks", "words"), DEFECTS, ids=lambda value: getattr(value, "__name__", ""))
def test_planted_defect_fails_its_check(
    root: Path, plant: Callable[[Path], None], checks: set[str], words: str
) -> None:
    plant(root)
    report = look(root)
    assert {finding.check for finding in report.errors} == checks
    text = "\n".join(map(str, report.errors))
    assert re.search(words, text), text


@pytest.mark.slow
def test_row_groups_without_page_index_warn(root: Path) -> None:
    row_groups(root)
    assert failed(root, "warning") == {"row-groups"}
    assert not failed(root)


@pytest.mark.slow
def test_large_row_groups_are_a_warning(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_checks, "ROW_GROUP_BYTES", 1000)
    assert failed(root, "warning") == {"row-groups"}


@pytest.mark.slow
def test_conversion_stops_after_5_gb(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_checks, "CONVERSION_BYTES", 20_000)
    assert not failed(root)  # the files are used as they are
    monkeypatch.setattr(parquet_checks, "SCAN_BYTES", 1_000)
    assert "conversion" in failed(root)


@pytest.mark.slow
def test_files_per_repository(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_checks, "REPOSITORY_FILES", 50)
    assert failed(root) == {"files-per-repository"}


@pytest.mark.slow
def test_volumes_elsewhere_are_read_there(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (root / "volumes").rename(tmp_path / "elsewhere/volumes")
    assert failed(root, "warning") == {"missing-volumes"}
    assert not failed(root)
    assert not look(root, volumes_dir=tmp_path / "elsewhere").findings
    checksums(tmp_path / "elsewhere")
    assert failed(root, volumes_dir=tmp_path / "elsewhere") == {"checksums"}


@pytest.mark.slow
def test_examine_real_voxels_local_warning_remote_error(root: Path) -> None:
    make_real(root)
    assert failed(root, "warning") == {"redistribution"}
    assert not failed(root)
    with serve(root.parent) as served:
        assert failed(f"{served.url}/3dreasonknee") == {"redistribution"}


@pytest.mark.slow
def test_real_previews_are_not_published(root: Path) -> None:
    add_previews(root, workers=1, progress=False)
    make_real(root)
    shutil.rmtree(root / "volumes")
    assert {f.check for f in look(root).findings} == {"redistribution", "missing-volumes"}
    with serve(root.parent) as served:
        (error,) = look(f"{served.url}/3dreasonknee").errors
    assert "contains previews of OAI participants" in error.found


@pytest.mark.slow
def test_real_annotations_alone_may_be_published(root: Path) -> None:
    make_real(root)
    shutil.rmtree(root / "volumes")
    with serve(root.parent) as served:
        assert failed(f"{served.url}/3dreasonknee", "warning") == {"missing-volumes"}
        assert not failed(f"{served.url}/3dreasonknee")


@pytest.mark.slow
def test_skipping_hashes_reads_no_volume(root: Path) -> None:
    checksums(root)
    report = look(root, hashes=False)
    assert not report.findings
    assert "checksums" not in report.checks


class TestCommand:
    @pytest.mark.slow
    def test_exit_code_and_report(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", os.fspath(root)]) == 0
        assert "0 errors, 0 warnings" in capsys.readouterr().out
        missing_volume(root)
        assert main(["doctor", os.fspath(root), "--no-hashes"]) == 1
        shown = capsys.readouterr().out
        assert "error    missing-volumes" in shown
        assert "Copy the repository again" in shown

    @pytest.mark.slow
    def test_json(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        patients(root)
        assert main(["doctor", os.fspath(root), "--json"]) == 1
        tree = json.loads(capsys.readouterr().out)
        assert tree["ok"] is False
        assert tree["checks"] == list(CHECKS)
        (finding,) = tree["findings"]
        assert finding.keys() == {"check", "severity", "found", "remedy"}
        assert (finding["check"], finding["severity"]) == ("patients", "error")

    def test_folder_without_manifest(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", os.fspath(tmp_path)]) == 1
        assert "manifest.json" in capsys.readouterr().err


def test_every_check_fails_in_a_test() -> None:
    planted = set().union(*(checks for _, checks, _ in DEFECTS))
    others = {"row-groups", "conversion", "files-per-repository", "redistribution"}
    assert planted | others == set(CHECKS) - {"croissant"}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "check"),
    [("patient-in-two-splits", "patients"), ("box-empty", "boxes"), ("box-outside", "boxes")],
)
def test_doctor_and_data_checks_agree(prepared: Path, tmp_path: Path, name: str, check: str) -> None:
    root = Path(shutil.copytree(prepared, tmp_path / "3dreasonknee"))
    next(defect for defect in DATA_DEFECTS if defect.check == name).plant(root)
    report = check_data(root, workers=1, progress=False)
    group = next(group for group in report.groups if group.check.name == name)
    (found,) = [each for each in look(root, hashes=False).errors if each.check == check]
    assert group.examples[0].id in found.found
