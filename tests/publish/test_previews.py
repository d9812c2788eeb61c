"""Previews: what a picture shows, and that a repository gets all of them or none."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from reasonknee_datasets import load_dataset
from reasonknee_datasets.check.file_hashes import check_files
from reasonknee_datasets.cli.main import main
from reasonknee_datasets.errors import BoxError, PublishError, RepositoryError, VolumeNotFoundError
from reasonknee_datasets.manifest import WITHOUT_PREVIEWS, Manifest
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.publish import add_previews
from reasonknee_datasets.publish.parquet_checks import first_page
from reasonknee_datasets.publish.preview_images import PreviewArtist
from reasonknee_datasets.publish.previews import write_without_previews
from tests.helpers import prepare_content as given

ROW = {"finding": "", "subregion": "", "question": "in the coronal view"}


def hashes(root: Path) -> dict[str, Any]:
    """Size, time and inode of every file, so that a rewritten file is noticed."""
    return {
        path.relative_to(root).as_posix(): (path.stat().st_size, path.stat().st_mtime_ns, path.stat().st_ino)
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A repository of 22 volumes of 6 x 8 x 10 voxels and 66 rows."""
    root = tmp_path / "3dreasonknee"
    given.write(root, given.content(given.volumes(tmp_path / "images")))
    shutil.rmtree(root / ".work")
    return root


@pytest.fixture(scope="module")
def with_previews(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("previews") / "3dreasonknee"
    shutil.copytree(prepared, root)
    add_previews(root, workers=1, progress=False)
    return root


def picture(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


class TestPreviewArtist:
    # RAS+ with voxels of 1 mm: a coronal slice shows the patient's right at the left, superior up.
    voxels = np.zeros((80, 40, 80), np.int16)
    voxels[60:, :, 60:] = 400  # right and superior

    def draw(self, box: list[int], synthetic: bool = False) -> np.ndarray:
        return picture(PreviewArtist(self.voxels, np.eye(4), synthetic=synthetic).draw_row({**ROW, "box": box}))

    def test_slice_is_in_radiological_display(self) -> None:
        drawn = self.draw([10, 10, 10, 20, 20, 20])
        assert drawn.shape == (320, 320, 3)
        assert drawn[20:60, 20:60].min() > 230
        assert drawn[20:60, 120:].max() < 30

    def test_box_is_drawn_around_its_voxels(self) -> None:
        drawn = self.draw([10, 10, 10, 30, 20, 40])  # x 10 to 30 from the left: screen 200 to 280; z 10 to 40
        yellow = (drawn[..., 0] > 150) & (drawn[..., 2] < 90)
        rows, columns = np.nonzero(yellow)
        assert (columns.min(), columns.max()) == pytest.approx((198, 281), abs=1)
        assert (rows.min(), rows.max()) == pytest.approx((158, 281), abs=1)
        assert not yellow[165:275, 205:275].any()

    def test_spacing_gives_square_pixels(self) -> None:
        data = PreviewArtist(self.voxels, np.diag([2.0, 1, 1, 1]), synthetic=False).draw_row(
            {**ROW, "box": [10, 10, 10, 20, 20, 20]}
        )
        assert picture(data).shape == (160, 320, 3)

    def test_synthetic_is_written_on_the_picture(self) -> None:
        plain, labelled = (self.draw([10, 10, 10, 20, 20, 20], synthetic) for synthetic in (False, True))
        assert np.abs(plain - labelled)[:16, :64].max() > 100
        assert np.abs(plain - labelled)[32:].max() < 40  # lossy

    def test_same_input_gives_the_same_bytes(self) -> None:
        first, second = (PreviewArtist(self.voxels, np.eye(4), synthetic=True) for _ in range(2))
        row = {**ROW, "box": [10, 10, 10, 20, 20, 20]}
        assert first.draw_row(row) == second.draw_row(row)
        assert first.draw_montage() == second.draw_montage()

    @pytest.mark.slow
    def test_noise_of_an_oai_slice_takes_kilobytes(self) -> None:
        rng = np.random.default_rng(0)
        voxels = rng.normal(200, 40, (160, 384, 384)).astype(np.int16)  # worse to compress than a knee
        data = PreviewArtist(voxels, np.diag([0.7, 0.365, 0.365, 1]), synthetic=False).draw_row(
            {**ROW, "question": "", "box": [70, 100, 100, 90, 200, 200]}
        )
        assert len(data) < 60_000

    def test_box_outside_the_volume_is_an_error(self) -> None:
        with pytest.raises(BoxError, match="is outside"):
            self.draw([10, 10, 10, 20, 20, 200])

    @pytest.mark.parametrize("flip", [1, -1])
    def test_montage_runs_from_right_to_left(self, flip: int) -> None:
        voxels = np.zeros((24, 20, 20), np.int16)
        voxels[20:] = 400 if flip == 1 else 0
        voxels[:4] = 0 if flip == 1 else 400
        tiles = picture(PreviewArtist(voxels, np.diag([flip, 1.0, 1, 1]), synthetic=False).draw_montage())
        assert tiles.shape == (480, 640, 3)
        assert tiles[20:140, 20:140].min() > 200  # the rightmost slices are the bright ones
        assert tiles[180:].max() < 50

    def test_volume_of_one_slice(self) -> None:
        voxels = np.ones((1, 20, 20), np.uint8)
        assert picture(PreviewArtist(voxels, np.eye(4), synthetic=False).draw_montage()).shape == (480, 640, 3)


@pytest.mark.slow
class TestAddPreviews:
    def test_stock_datasets_shows_images(self, with_previews: Path) -> None:
        rows = datasets.load_dataset(str(with_previews), split="train", streaming=True)
        assert rows.features["preview"] == datasets.Image()
        row = next(iter(rows))
        assert row["preview"].format == "WEBP"
        sheets = datasets.load_dataset(str(with_previews), "preview", split="test", streaming=True)
        assert sheets.features["montage"] == datasets.Image()
        assert all(sheet["montage"].size == (640, 480) for sheet in sheets)

    def test_first_page_shows_50_rows(self, with_previews: Path) -> None:
        rows = datasets.load_dataset(str(with_previews), split="train", streaming=True)
        page = first_page(rows.features, rows.decode(False), "quintuples", "train")
        assert page.rows >= 50
        assert not page.cut

    def test_metadata_in_parquet_names_the_image(self, with_previews: Path) -> None:
        shard = Manifest.load(with_previews).shards("quintuples", "test")[0]
        assert datasets.Features.from_arrow_schema(pq.read_schema(with_previews / shard.path))[
            "preview"
        ] == datasets.Image(decode=True)

    def test_every_row_and_volume_has_one(self, with_previews: Path, prepared: Path) -> None:
        manifest, before = Manifest.load(with_previews), Manifest.load(prepared)
        for split in before.splits():
            assert manifest.rows("quintuples", split) == before.rows("quintuples", split)
            assert manifest.rows("preview", split) == before.rows("volumes", split)
            for shard in manifest.shards("quintuples", split):
                new, old = pq.read_table(with_previews / shard.path), pq.read_table(prepared / shard.path)
                assert new["preview"].null_count == 0
                assert new.drop_columns("preview").equals(old)

    def test_manifest_lists_every_file(self, with_previews: Path) -> None:
        report = check_files(with_previews, progress=False)
        assert not report.problems
        listed = {shard.path for shard in Manifest.load(with_previews).all_shards()}
        assert listed == {path.relative_to(with_previews).as_posix() for path in with_previews.rglob("*.parquet")}

    def test_this_package_reads_them_on_request(self, with_previews: Path, prepared: Path) -> None:
        options: dict[str, Any] = {"split": "test", "streaming": True}
        assert "preview" not in next(iter(load_dataset(data_dir=with_previews, **options)))
        row = next(iter(load_dataset(data_dir=with_previews, columns=["id", "preview"], **options)))
        assert row["preview"].size == (320, 320)
        sheet = next(iter(load_dataset(name="preview", data_dir=with_previews, **options)))
        assert sheet["montage"].size == (640, 480)
        assert sheet["volume"].shape
        for wanted in ({"name": "preview"}, {"columns": ["id", "preview"]}):
            with pytest.raises(RepositoryError, match=r"has no previews. Add them: reasonknee previews"):
                load_dataset(data_dir=prepared, **wanted, **options)

    def test_second_run_has_nothing_to_do(self, with_previews: Path) -> None:
        before = hashes(with_previews)
        add_previews(with_previews, progress=False)
        assert hashes(with_previews) == before

    def test_two_runs_write_the_same_bytes(self, small: Path, tmp_path: Path) -> None:
        shutil.copytree(small, tmp_path / "again")
        first = add_previews(small, workers=1, progress=False)
        shutil.copytree(tmp_path / "again", tmp_path / "elsewhere")
        second = add_previews(tmp_path / "again", workers=2, progress=False)
        with ThreadPoolExecutor(2) as executor:
            third = add_previews(tmp_path / "elsewhere", progress=False, executor=executor)
        assert first.digest == second.digest == third.digest

    def test_volumes_are_not_copied(self, small: Path) -> None:
        before = hashes(small)
        add_previews(small, workers=1, progress=False)
        after = hashes(small)
        kept = [path for path in before if path.startswith(("volumes/", "index/", "priors"))]
        assert kept
        assert all(before[path] == after[path] for path in kept)
        assert {path.name for path in small.parent.iterdir()} == {"3dreasonknee", "images"}

    def test_links_and_other_files_stay(self, small: Path, tmp_path: Path) -> None:
        volume = next(iter(Manifest.load(small).volumes))
        (small / volume).rename(tmp_path / "moved.nii.gz")
        (small / volume).symlink_to(tmp_path / "moved.nii.gz")
        (small / "notes").mkdir()
        (small / "notes/mine.txt").write_text("keep", encoding="utf-8")
        add_previews(small, workers=1, progress=False)
        assert (small / volume).readlink() == tmp_path / "moved.nii.gz"
        assert (small / "notes/mine.txt").read_text(encoding="utf-8") == "keep"

    @pytest.mark.parametrize("defect", ["volume", "shard"])
    def test_error_leaves_the_repository_as_it_was(self, small: Path, defect: str) -> None:
        manifest = Manifest.load(small)
        last = list(manifest.configs["quintuples"]["test"])[-1].path
        kind: type[Exception]
        if defect == "volume":
            (small / pq.read_table(small / last)["volume_path"][0].as_py()).unlink()
            kind, match = VolumeNotFoundError, "00M"
        else:
            (small / last).write_bytes((small / last).read_bytes()[:-1] + b"x")
            kind, match = PublishError, "is not the one in the manifest"
        before = hashes(small)
        with pytest.raises(kind, match=match) as caught:
            add_previews(small, workers=1, progress=False)
        assert hashes(small) == before
        assert ("--volumes-dir" in str(getattr(caught.value, "__notes__", ""))) == (defect == "volume")
        assert not (small.parent / ".3dreasonknee.partial").exists()

    @pytest.mark.parametrize("moment", ["drawing", "swapping"])
    def test_add_previews_killed_leaves_whole_repository(self, small: Path, moment: str) -> None:
        before = Manifest.load(small)
        kill = {
            "drawing": "from reasonknee_datasets.publish import previews as m\ndone, draw = [], m._draw\n"
            "def slow(*a):\n    done.append(1)\n    len(done) > 5 and os.kill(os.getpid(), 9)\n    return draw(*a)\n"
            "m._draw = slow\n",
            "swapping": "rename = Path.rename\n"
            "Path.rename = lambda self, to: (rename(self, to), os.kill(os.getpid(), 9))\n",
        }[moment]
        code = (
            f"import os, sys\nfrom pathlib import Path\n{kill}"
            "from reasonknee_datasets.publish import add_previews\n"
            "add_previews(sys.argv[1], workers=1, progress=False)"
        )
        done = subprocess.run([sys.executable, "-c", code, os.fspath(small)], check=False, capture_output=True)
        assert done.returncode == -signal.SIGKILL
        if moment == "drawing":
            assert Manifest.load(small) == before
            assert not check_files(small, progress=False).problems
        assert add_previews(small, workers=1, progress=False).has_previews
        assert not check_files(small, progress=False).problems

    def test_prepare_again_keeps_previews(self, phantom_release: Path, with_previews: Path) -> None:
        before = hashes(with_previews)
        assert not prepare(phantom_release, with_previews, workers=1, progress=False).written
        assert hashes(with_previews) == before

    def test_command_of_prepare_adds_them_once(self, phantom_release: Path, tmp_path: Path) -> None:
        release = Path(shutil.copytree(phantom_release, tmp_path / "release"))
        command = ["prepare", "--release", f"{release}", "--out", f"{tmp_path / 'out'}", "--previews", "--workers", "1"]
        assert main(command) == 0
        first = Manifest.load(tmp_path / "out")
        assert first.has_previews
        for image in release.glob("data/images/*/*/*.nii.gz"):
            image.touch()  # whether the images changed is found by preparing again
        assert main(command) == 0
        assert Manifest.load(tmp_path / "out").digest == first.digest

    def test_url_is_refused(self) -> None:
        with pytest.raises(PublishError, match="local folder only, not to hf://datasets/a/b"):
            add_previews("hf://datasets/a/b")


@pytest.mark.slow
def test_write_without_previews_restores_the_rows(prepared: Path, with_previews: Path, tmp_path: Path) -> None:
    manifest = write_without_previews(with_previews, tmp_path, progress=False)
    assert not manifest.has_previews
    assert WITHOUT_PREVIEWS not in manifest.source
    assert not (tmp_path / "volumes").exists()
    assert not list(tmp_path.rglob("preview*"))
    before = Manifest.load(prepared)
    assert manifest.configs == before.configs  # byte for byte: the hashes are equal
    # The card differs in the size of rows in memory, by the bitmaps of null values that Arrow left out.
    assert replace(manifest, files={}, digest="") == replace(before, files={}, digest="")
