"""A folder appears whole or not at all: after errors, kills, full disks and refused permissions."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from reasonknee_datasets.errors import PrepareError, VolumeError
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.prepare.staging import WORK, check_target, staged
from tests.helpers import disks
from tests.helpers import prepare_content as given


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def stage(out: Path, *files: str, error: BaseException | None = None) -> None:
    """Stage a folder with some files, and fail at the end where an error is given."""
    with staged(out) as folder:
        for name in files:
            (folder / name).write_text("new")
        if error is not None:
            raise error


def test_the_folder_appears_at_the_end(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    with staged(out) as folder:
        (folder / MANIFEST).write_text("{}")
        (folder / WORK / "help").write_text("x")
        assert not out.exists()
        assert folder.name.startswith(".")
    assert names(tmp_path / "deep") == {"out"}
    assert names(out) == {MANIFEST}


def test_an_old_folder_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for number in (1, 2):
        with staged(out) as folder:
            (folder / f"{number}").write_text("x")
            if number == 2:
                assert names(out) == {"1"}
    assert names(out) == {"2"}
    assert names(tmp_path) == {"out"}


@pytest.mark.parametrize("error", [VolumeError("damaged"), ValueError("a fault of ours"), KeyError("x")])
def test_an_error_leaves_nothing(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)):
        stage(tmp_path / "out", "half", error=error)
    assert not names(tmp_path)


def test_an_error_leaves_the_old_folder_alone(tmp_path: Path) -> None:
    stage(tmp_path / "out", "old")
    with pytest.raises(VolumeError, match="damaged"):
        stage(tmp_path / "out", "new", error=VolumeError("damaged"))
    assert names(tmp_path) == {"out"}
    assert names(tmp_path / "out") == {"old"}


VOLUME = "volumes/1/00M_left.nii.gz"


def test_staged_keeps_interrupted_volumes(tmp_path: Path) -> None:
    (tmp_path / ".out.partial/volumes/1").mkdir(parents=True)
    (tmp_path / ".out.partial").chmod(0o700)
    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "out", VOLUME, "README.md", "volumes/1/00M_left.nii.gz.partial", error=KeyboardInterrupt())
    assert names(tmp_path) == {".out.partial"}
    (tmp_path / ".out.partial/data").mkdir()
    stage(tmp_path / "out")
    assert files(tmp_path) == {f"out/{VOLUME}"}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}


def test_staged_folder_mode(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "out").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_staged_refuses_open_folder(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis"
    (thesis / "volumes").mkdir(parents=True)
    (thesis / "volumes" / "mine.nii.gz").write_text("mine")
    thesis.chmod(0o700)
    planted = tmp_path / ".out.partial"

    def refused(found: str) -> None:
        with pytest.raises(
            PrepareError, match=rf"\.out\.partial \(staging\).* {found}\. A run of prepare did not"
        ) as error:
            stage(tmp_path / "out")
        assert str(thesis) not in str(error.value)
        assert files(thesis) == {"volumes/mine.nii.gz"}

    planted.symlink_to(thesis)
    refused("it is a link")
    planted.unlink()
    planted.write_text("x")
    refused(r"it is a file of user \d+ with mode \d+")
    planted.unlink()
    for mode in (0o777, 0o750, 0o701):
        planted.mkdir()
        planted.chmod(mode)
        refused(rf"it is a folder of user \d+ with mode 0{mode:o}")
        planted.rmdir()
    if os.getuid() == 0:  # only root can make another user's folder
        planted.mkdir(0o700)
        os.chown(planted, 4242, 4242)
        refused("it is a folder of user 4242 with mode 0700")


@pytest.mark.parametrize("name", [".work", ".work/lock", "volumes", "volumes/1", VOLUME, "data", "README.md"])
@pytest.mark.parametrize("kind", ["link to a folder", "link to a file", "hard link", "pipe"])
def test_staged_removes_planted_files(tmp_path: Path, name: str, kind: str) -> None:
    thesis = tmp_path / "thesis"
    (thesis / "1").mkdir(parents=True)
    (thesis / "chapter.tex").write_text("mine")
    (thesis / "1" / "00M_left.nii.gz").write_text("mine")
    planted = tmp_path / ".out.partial" / name
    planted.parent.mkdir(parents=True)
    (tmp_path / ".out.partial").chmod(0o700)
    if kind == "pipe":
        os.mkfifo(planted)
    elif kind == "hard link":
        os.link(thesis / "chapter.tex", planted)
    else:
        planted.symlink_to(thesis if kind == "link to a folder" else thesis / "chapter.tex")
    before = {path: path.stat().st_mode for path in thesis.rglob("*")}
    with staged(tmp_path / "out") as folder:
        for each in ("README.md", VOLUME, "data/train.parquet", f"{WORK}/rows/a"):
            assert not (folder / each).exists()
            (folder / each).parent.mkdir(parents=True, exist_ok=True)
            (folder / each).write_text("new")
    assert {path: path.stat().st_mode for path in thesis.rglob("*")} == before
    assert {path.read_text() for path in thesis.rglob("*") if path.is_file()} == {"mine"}
    assert files(tmp_path / "out") == {"README.md", VOLUME, "data/train.parquet"}


def test_staged_keeps_folder_that_resembles_old_repository(tmp_path: Path) -> None:
    (tmp_path / ".out.old").mkdir()
    (tmp_path / ".out.old" / "thesis.tex").write_text("mine")
    stage(tmp_path / "out", MANIFEST)
    stage(tmp_path / "out", MANIFEST, "README.md")
    assert files(tmp_path) == {".out.old/thesis.tex", f"out/{MANIFEST}", "out/README.md"}


def test_staged_refuses_second_run(tmp_path: Path) -> None:
    with staged(tmp_path / "out") as folder:
        with pytest.raises(PrepareError, match=r"Another run is writing .*/out\. Wait for it"):
            stage(tmp_path / "out")
        assert folder.exists()
    assert names(tmp_path) == {"out"}


@pytest.mark.slow
def test_staged_lock_of_killed_run(tmp_path: Path) -> None:
    code = (
        "import os, sys, pathlib\n"
        "from reasonknee_datasets.prepare.staging import staged\n"
        "with staged(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'done').write_text('x')\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    process = subprocess.run([sys.executable, "-c", code, tmp_path / "out"], check=False)
    assert process.returncode == -9
    assert names(tmp_path) == {".out.partial"}
    with staged(tmp_path / "out") as folder:
        assert names(folder) == {WORK}
    assert names(tmp_path) == {"out"}


@pytest.mark.slow
def test_staged_restores_old_repository_after_kill(tmp_path: Path) -> None:
    stage(tmp_path / "out", MANIFEST)
    code = (
        "import os, pathlib, sys\n"
        "from reasonknee_datasets.prepare import staging\n"
        "pathlib.Path.chmod = pathlib.Path.rename = lambda self, to, rename=pathlib.Path.rename: (\n"
        "    rename(self, to), os.kill(os.getpid(), 9))\n"
        "with staging.staged(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'README.md').write_text('new')\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "out"], check=False).returncode == -9
    assert names(tmp_path) == {".out.partial"}
    with pytest.raises(VolumeError, match="damaged"):
        stage(tmp_path / "out", error=VolumeError("damaged"))
    assert files(tmp_path) == {f"out/{MANIFEST}"}


def test_staged_restores_old_repository_if_rename_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage(tmp_path / "out", MANIFEST)
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if self.name == ".out.partial":
            raise OSError(28, "No space left on device", str(self))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PrepareError, match=r"cannot be written: No space left on device. Make room"):
        stage(tmp_path / "out", "README.md")
    assert files(tmp_path) == {f"out/{MANIFEST}"}


def test_other_folders_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    check_target(tmp_path / "thesis")
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(PrepareError, match=r"is a folder with files but without manifest.json.* Choose a new or empty"):
        check_target(tmp_path / "thesis")
    with pytest.raises(PrepareError, match=r"chapter.tex is a file, and a folder is needed"):
        check_target(tmp_path / "thesis" / "chapter.tex")
    (tmp_path / "thesis" / MANIFEST).write_text("{}")
    check_target(tmp_path / "thesis")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 300 kB."""
    with disks.small_disk(tmp_path / "disk", "300k") as disk:
        yield disk


@pytest.fixture
def read_only_disk(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "disk", "1m", read_only=True) as disk:
        yield disk


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", ["pack", "copy"])
def test_a_full_disk_is_one_clear_error(small_disk: Path, tmp_path: Path, workers: int, mode: str) -> None:
    made = given.volumes(tmp_path / "images", {"train": range(1, 60)})  # 118 volumes of 1.5 kB and as many shards
    with (
        pytest.raises(
            PrepareError,
            match=rf"{small_disk}.* cannot be written: No space left on device. Make room",
        ),
        staged(small_disk / "out") as folder,
    ):
        given.write(folder, given.content(made), volumes=mode, workers=workers)
    assert not names(small_disk)


def test_a_full_disk_leaves_the_old_repository(small_disk: Path, tmp_path: Path) -> None:
    (small_disk / "out").mkdir()
    (small_disk / "out" / MANIFEST).write_text("old")
    with pytest.raises(PrepareError, match="No space left"), staged(small_disk / "out") as folder:
        (folder / "big").write_bytes(bytes(1_000_000))
    assert names(small_disk) == {"out"}
    assert (small_disk / "out" / MANIFEST).read_text() == "old"


def test_staged_read_only_disk(read_only_disk: Path) -> None:
    with pytest.raises(PrepareError, match=r"cannot be written: Read-only file system. That file system is read-only"):
        stage(read_only_disk / "out")
    assert not names(read_only_disk)


def test_no_permission_is_one_clear_error(tmp_path: Path) -> None:
    if os.name != "posix" or os.geteuid() == 0:
        pytest.skip("root may write everywhere; a read-only disk tests this case")
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(PrepareError, match=r"cannot be written: Permission denied. Check the permissions"):
        stage(tmp_path / "closed" / "out")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
@pytest.mark.parametrize("limit", [3_000, 30_000])
def test_staged_file_size_limit(tmp_path: Path, limit: int) -> None:
    # Needs no root: a quota of the kernel's that bites in the middle of a Parquet file, or of a bucket.
    code = (
        "import pathlib, resource, sys\n"
        "from reasonknee_datasets.errors import PrepareError\n"
        "from reasonknee_datasets.prepare.staging import staged\n"
        "from tests.helpers import prepare_content as given\n"
        "import datasets\n"
        "out = pathlib.Path(sys.argv[1])\n"
        "made = given.volumes(None, {'train': range(1, 400)})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try:\n"
        "    with staged(out) as folder:\n"
        "        given.write(folder, given.content(made), volumes='none')\n"
        "except PrepareError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, "-c", code, tmp_path / "out", str(limit)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "cannot be written: File too large" in done.stdout
    assert not names(tmp_path)
