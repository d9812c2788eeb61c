"""The converter's versions: written into the report, read by prepare, stamped into the manifest."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import pytest

from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.oai.conversion_report import FOLDER, ConversionReport, read_converter, write_reports
from reasonknee_datasets.prepare import prepare


def test_read_converter_reads_what_write_reports_wrote(tmp_path: Path) -> None:
    write_reports(ConversionReport((), {}, tmp_path / FOLDER))
    found = read_converter(tmp_path / "images")
    assert found is not None
    assert found["nibabel"] == version("nibabel")
    assert "reasonknee_datasets" in found


@pytest.mark.parametrize("content", [None, "", "[]", '{"converter": 1}', '{"converter": {"pydicom": 3}}'])
def test_read_converter_without_a_sound_report(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / FOLDER).mkdir()
        (tmp_path / FOLDER / "report.json").write_text(content, encoding="utf-8")
    assert read_converter(tmp_path / "images") is None


@pytest.mark.slow
def test_manifest_states_the_converter(phantom_release: Path, tmp_path: Path) -> None:
    (tmp_path / "images").symlink_to(phantom_release / "data" / "images")
    write_reports(ConversionReport((), {}, tmp_path / FOLDER))
    out = tmp_path / "3dreasonknee"
    prepare(phantom_release, out, images=tmp_path / "images", volumes="none", workers=1, progress=False)
    assert Manifest.load(out).source["converter"] == read_converter(tmp_path / "images")
