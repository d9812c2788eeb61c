"""Downloads with named pipes, archive bombs and tables that state a wrong size: refused by name, nothing hangs."""

from __future__ import annotations

import os
import re
import zipfile
from pathlib import Path

import pytest

from reasonknee_datasets.errors import ConvertError
from reasonknee_datasets.oai.download_index import index_download
from reasonknee_datasets.oai.image_index import index_images

openpyxl = pytest.importorskip("openpyxl")
pytestmark = [pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here"), pytest.mark.timeout(60)]


@pytest.mark.parametrize("name", ["00m.zip", "10000001.tar.gz", "10000001.tar"])
def test_index_download_named_pipe_archive(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    assert "named pipe" in next(iter(index_download(tmp_path).unknown.values()))


@pytest.mark.parametrize("name", ["image03.txt", "contents.csv"])
def test_index_download_named_pipe_index(name: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(ConvertError, match=rf"{re.escape(name)} cannot be read: Not a regular file but a named pipe"):
        index_download(tmp_path)


def test_index_download_named_pipe_slice(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "001.dcm")
    assert not index_download(tmp_path).unknown


def test_index_images_reads_no_named_pipe(tmp_path: Path) -> None:
    for name in ("knee.nii.gz", "knee.json"):
        os.mkfifo(tmp_path / name)
    assert list(index_images(tmp_path, {}).unknown) == [str(tmp_path / "knee.nii.gz")]


def table(path: Path, *, pad: int = 0, replace: tuple[tuple[bytes, bytes], ...] = ()) -> Path:
    """Save a small table, then change the XML of its sheet."""
    book = openpyxl.Workbook()
    book.active.append(["SubjectID", "Path", "case"])
    book.active.append([1, "9000001/20040101/10000001", "knee"])
    book.save(path.with_name("plain"))
    with zipfile.ZipFile(path.with_name("plain")) as plain, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        for info in plain.infolist():
            data = plain.read(info)
            if "sheet1" in info.filename:
                for old, new in replace:
                    data, count = re.subn(old, new, data)
                    assert count
                data += b" " * pad
            made.writestr(info.filename, data)
    return path


def test_index_images_table_bomb(tmp_path: Path) -> None:
    table(tmp_path / "subInfo_train.xlsx", pad=40 << 20)
    with pytest.raises(ConvertError, match=r"subInfo_train.xlsx is not a readable .xlsx table: it has 41,9.* bytes"):
        index_images(tmp_path, {})


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04"])
def test_index_images_refuses_a_damaged_table(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "subInfo_train.xlsx").write_bytes(content)
    with pytest.raises(ConvertError, match=r"subInfo_train.xlsx is not a readable .xlsx table: File is not a zip file"):
        index_images(tmp_path, {})


def test_index_images_damaged_table(tmp_path: Path) -> None:
    table(tmp_path / "subInfo_train.xlsx", replace=((b"</row>", b""),))
    with pytest.raises(ConvertError, match=r"subInfo_train.xlsx is not a readable .xlsx table"):
        index_images(tmp_path, {})


def test_index_images_named_pipe_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "subInfo_train.xlsx")
    with pytest.raises(ConvertError, match=r"subInfo_train.xlsx cannot be read: Not a regular file but a named pipe"):
        index_images(tmp_path, {})


def test_index_images_false_table_dimensions(tmp_path: Path) -> None:
    lie = ((b'<dimension ref="[^"]*"', b'<dimension ref="A1:XFD1048576"'), (b'<row r="2"', b'<row r="1048576"'))
    table(tmp_path / "subInfo_train.xlsx", replace=lie)
    assert not index_images(tmp_path, {}).places
