"""Every file of a repository is compared with its hash: what is damaged, missing or of another kind is named."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from reasonknee_datasets.check import check_files
from reasonknee_datasets.cli.main import main
from reasonknee_datasets.errors import RepositoryNotFoundError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from tests.helpers import prepare_content as given
from tests.helpers.file_servers import serve


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("check")
    given.write(folder / "knees", given.content(given.volumes(folder / "images", {"train": [1], "test": [2]})))
    shutil.rmtree(folder / "knees" / ".work")
    return folder / "knees"


@pytest.fixture
def knees(prepared: Path, tmp_path: Path) -> Path:
    shutil.copytree(prepared, tmp_path / "knees")
    return tmp_path / "knees"


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def swap_for_a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def all_files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_check_files_compares_every_file(knees: Path) -> None:
    report = check_files(knees, progress=False)
    assert report.problems == ()
    assert report.files == len(all_files(knees)) - 1  # all but the manifest, which has a checksum of its own
    assert report.bytes == sum((knees / name).stat().st_size for name in all_files(knees) if name != MANIFEST)
    assert str(report).endswith("all files are as listed")


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (flip, r"has SHA-256 [0-9a-f]{64}, not [0-9a-f]{64}"),
    (lambda path: path.write_bytes(path.read_bytes()[:-1]), r"has [\d,]+ bytes, not [\d,]+"),
    (lambda path: path.write_bytes(path.read_bytes() + b"x"), r"has more than [\d,]+ bytes, not [\d,]+"),
    (lambda path: path.unlink(), "is missing"),
    (swap_for_a_pipe, r"cannot be read \(.*a named pipe"),
]


@pytest.mark.parametrize(("damage", "told"), DAMAGE)
def test_check_files_names_each_damaged_file(knees: Path, damage: Callable[[Path], None], told: str) -> None:
    names = [name for name in all_files(knees) if name != MANIFEST]
    assert {name.partition("/")[0] for name in names} == {
        *("README.md", "balanced", "croissant.json", "data", "index", "priors.json", "volumes")
    }
    for name in names:
        damage(knees / name)
    problems = check_files(knees, progress=False).problems
    assert sorted(problem.path for problem in problems) == names
    for problem in problems:
        assert re.fullmatch(f".*{told}.*", str(problem))


def test_check_files_over_http(knees: Path) -> None:
    flip(knees / "priors.json")
    (knees / "README.md").unlink()
    with serve(knees) as server:
        report = check_files(server.url, progress=False)
    assert {str(problem)[:20] for problem in report.problems} == {"README.md: is missin", "priors.json: has SHA"}


def test_check_files_takes_volumes_from_elsewhere(knees: Path, tmp_path: Path) -> None:
    (knees / "volumes").rename(tmp_path / "volumes")
    assert len(check_files(knees, progress=False).problems) == len(Manifest.load(knees).volumes)
    assert not check_files(knees, volumes_dir=tmp_path, progress=False).problems


def test_check_files_without_images(tmp_path: Path) -> None:
    given.write(tmp_path, given.content(given.volumes(None)), volumes="none")
    report = check_files(tmp_path, progress=False)
    assert not report.problems
    assert f"{report.unlisted} volumes have no hash" in str(report)
    assert report.unlisted == len(Manifest.load(tmp_path).volumes)


def test_check_command(knees: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["check", "--files", str(knees)]) == 0
    assert "all files are as listed" in capsys.readouterr().out
    flip(knees / "priors.json")
    assert main(["check", "--files", str(knees)]) == 1
    assert "priors.json: has SHA-256" in capsys.readouterr().out
    assert main(["check", "--files", str(tmp_path / "nothing")]) == 1
    with pytest.raises(RepositoryNotFoundError, match=r"has no manifest\.json"):
        check_files(tmp_path)
