"""From a synthetic official release to a repository, and everything that can happen on the way."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.errors import PrepareError, ReleaseError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import Prepared, prepare
from reasonknee_datasets.release import open_release
from reasonknee_datasets.schema import CONFIGS, volume_path
from reasonknee_datasets.volumes import fingerprint
from tests.helpers.disks import locked, open_folder
from tests.helpers.release_builder import Knee, build_release

pytestmark = pytest.mark.slow


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def run(release: Path, out: Path, **options: object) -> Prepared:
    return prepare(release, out, progress=False, **{"workers": 1, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def official(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small hand-made release: most of what can happen needs no anatomy."""
    knees = [
        Knee(split, f"{patient:07d}", "00M", side, f"{10_000_000 + 2 * patient + side}")
        for split, patients in {"train": (1, 2, 3), "validation": (4,), "test": (5, 6)}.items()
        for patient in patients
        for side in (1, 2)
    ]
    return build_release(tmp_path_factory.mktemp("official") / "release", knees=tuple(knees)).root


@pytest.fixture(scope="module")
def ready(official: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Result without an interruption."""
    return run(official, tmp_path_factory.mktemp("ready") / "3dreasonknee").path


@pytest.fixture
def release(official: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage; files are linked until they are replaced."""
    return Path(shutil.copytree(official, tmp_path / "release", copy_function=os.link))


def replace(path: Path, data: bytes) -> None:
    """Replace a file, without writing through its hard links."""
    path.unlink()
    path.write_bytes(data)


def test_every_row_of_the_release_is_there(phantom_release: Path, prepared: Path) -> None:
    official = open_release(phantom_release)
    official.check()
    manifest = Manifest.load(prepared)
    for split in manifest.splits():
        expected = {row["id"]: row for s, row in official.quintuples() if s == split}
        rows = [
            row
            for shard in manifest.shards("quintuples", split)
            for row in pq.read_table(prepared / shard.path).to_pylist()
        ]
        assert len(rows) == len(expected)
        assert {row["id"]: row for row in rows} == expected
    assert set(manifest.volumes) == {volume.volume_path for volume in official.volumes}
    for volume in official.volumes:
        assert manifest.volume(volume.volume_path).shape == volume.shape
        found = fingerprint(prepared / volume.volume_path)
        assert manifest.volume(volume.volume_path).voxels_sha256 == found.voxels_sha256
        assert found.voxels_sha256 == fingerprint(volume.image).voxels_sha256
        ours, theirs = nib.load(prepared / volume.volume_path), nib.load(volume.image)
        assert ours.header == theirs.header
        np.testing.assert_array_equal(ours.dataobj, theirs.dataobj)
    for split, ids in official.balanced().items():
        rows = [
            row
            for shard in manifest.shards("balanced", split)
            for row in pq.read_table(prepared / shard.path).to_pylist()
        ]
        assert Counter({row["id"]: row["multiplicity"] for row in rows}) == ids


def test_manifest_tells_where_it_comes_from(phantom_release: Path, prepared: Path) -> None:
    manifest = Manifest.load(prepared)
    official = open_release(phantom_release)
    report = official.check()
    assert manifest.synthetic
    assert set(manifest.configs) == set(CONFIGS)
    assert manifest.box_convention == json.loads(json.dumps(official.agreement.to_manifest()))
    assert manifest.box_convention["agreement"] >= 0.95
    thick = {"warnings": {"slice-thickness": 1}}  # the phantom's volume of 8 slices
    assert manifest.report == json.loads(json.dumps(report.to_manifest())) | thick
    assert manifest.source["files"]["generate_data/train.json"]["bytes"] > 0
    assert {"split_files/train_split.csv", "generate_data/test_balanced.json"} <= set(manifest.source["files"])
    assert set(manifest.versions) == {"reasonknee_datasets", "datasets", "pyarrow", "nibabel", "zlib"}
    sizes = [study.image.stat().st_size for study in official.studies if study.image.exists()]
    assert len(sizes) >= len(manifest.volumes)
    assert manifest.source["images"] == {"files": len(sizes), "bytes": sum(sizes)}


def test_no_patient_is_in_two_splits(prepared: Path) -> None:
    manifest = Manifest.load(prepared)
    splits = defaultdict(set)
    for split in manifest.splits():
        for shard in manifest.shards("volumes", split):
            for patient in pq.read_table(prepared / shard.path)["patient"].to_pylist():
                splits[patient].add(split)
    assert all(len(found) == 1 for found in splits.values())


def test_priors_are_trains(phantom_release: Path, prepared: Path) -> None:
    official = open_release(phantom_release)
    official.check()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    rows = 0
    for split, row in official.quintuples():
        if split == "train":
            rows += 1
            for grade in row["grades"]:
                counts[f"q{row['question_id']:02d}.{grade['attribute']}"][str(grade["grade"])] += 1
    priors = json.loads((prepared / "priors.json").read_text())
    assert priors["rows"] == rows
    assert len(priors["slots"]) == 111
    for name, slot in priors["slots"].items():
        found = Counter(slot["counts"]) + Counter({"None": slot["missing"]})
        assert found == counts[name], name
    assert all(0 <= low < high <= 1 for box in priors["boxes"].values() for low, high in _pairs(box["fraction"]))


def _pairs(box: list[float]) -> list[tuple[float, float]]:
    return list(zip(box[:3], box[3:], strict=True))


def test_prepare_priors_swap_with_side(prepared: Path) -> None:
    # Questions 3 and 4 of 1 to 62 ask for the femur's medial and lateral parts; on a right knee medial is to the left.
    boxes = json.loads((prepared / "priors.json").read_text())["boxes"]
    medial, lateral = "q03", "q06"
    middle = {
        (name, side): (boxes[f"{name}.{side}"]["mm"][0] + boxes[f"{name}.{side}"]["mm"][3]) / 2
        for name in (medial, lateral)
        for side in ("left", "right")
    }
    assert middle[medial, "right"] < middle[lateral, "right"]
    assert middle[medial, "left"] > middle[lateral, "left"]


def test_a_second_run_has_nothing_to_do(official: Path, tmp_path: Path) -> None:
    first = run(official, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    second = run(official, tmp_path / "out")
    assert (first.written, second.written) == (True, False)
    assert second.manifest == first.manifest
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


def test_same_input_gives_the_same_bytes(official: Path, ready: Path, tmp_path: Path) -> None:
    run(official, tmp_path / "out", workers=2)
    assert contents(tmp_path / "out") == contents(ready)
    assert names(tmp_path) == {"out"}


def test_other_input_is_refused_unless_asked(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(release, out)
    splits = release / "data" / "split_files" / "train_split.csv"
    replace(splits, splits.read_bytes() + b"\n")
    with pytest.raises(PrepareError, match=r"made from other input: it differs in split_files/train_split\.csv"):
        run(release, out)
    assert Manifest.load(out) == first.manifest
    second = run(release, out, overwrite=True)
    assert second.written
    assert second.manifest.source != first.manifest.source
    assert names(tmp_path) == {"out", "release"}


def test_other_options_are_refused_unless_asked(official: Path, ready: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(official, out, volumes="copy")
    for mode in ("pack", "link", "none"):
        with pytest.raises(PrepareError, match=rf"differs in options \(.*'copy'.*, now .*'{mode}'"):
            run(official, out, volumes=mode)
    assert run(official, out, volumes="pack", overwrite=True).written
    assert contents(out) == contents(ready)


def test_prepare_copy_keeps_files(official: Path, ready: Path, tmp_path: Path) -> None:
    made = run(official, tmp_path / "out", volumes="copy")
    for volume in open_release(official).studies:
        record = made.manifest.volume(volume_path(volume.volume_id))
        data = (tmp_path / "out" / volume_path(volume.volume_id)).read_bytes()
        assert data == volume.image.read_bytes()
        assert (record.bytes, record.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    packed = Manifest.load(ready).volumes
    assert {path: record.voxels_sha256 for path, record in made.manifest.volumes.items()} == {
        path: record.voxels_sha256 for path, record in packed.items()
    }
    assert "zlib" not in made.manifest.versions
    assert not run(official, tmp_path / "out", volumes="copy").written


@pytest.mark.parametrize("mode", ["pack", "copy"])
def test_other_images_are_noticed_by_their_size(official: Path, tmp_path: Path, mode: str) -> None:
    # They are older than the repository, so that no time of change tells of them.
    scans = Path(shutil.copytree(official / "data" / "images", tmp_path / "scans"))
    image = min(scans.rglob("*.nii.gz"))
    image.write_bytes(gzip.compress(gzip.decompress(image.read_bytes()), 0))
    run(official, tmp_path / "out", volumes=mode)
    with pytest.raises(PrepareError, match=r"differs in images \(\{'files': 12, 'bytes': \d+\}, now \{'files': 12"):
        run(official, tmp_path / "out", volumes=mode, images=scans)


def test_a_changed_image_is_noticed(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(release, out)
    image = min((release / "data" / "images").rglob("*.nii.gz"))
    old = nib.load(image)
    voxels = np.asarray(old.dataobj).copy()
    voxels[0, 0, 0] += 1
    image.unlink()
    nib.save(nib.Nifti1Image(voxels, old.affine, old.header), image)
    with pytest.raises(PrepareError, match=r"differs in (its )?images.*overwrite"):
        run(release, out)
    assert run(release, out, overwrite=True).written


def test_an_image_only_touched_makes_no_difference(release: Path, tmp_path: Path) -> None:
    first = run(release, tmp_path / "out")
    image = min((release / "data" / "images").rglob("*.nii.gz"))
    replace(image, image.read_bytes())
    assert run(release, tmp_path / "out").manifest == first.manifest


def test_a_damaged_repository_is_written_again(official: Path, ready: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(official, out)
    shard = Manifest.load(out).shards("quintuples", "train")[0]
    (out / shard.path).unlink()
    assert run(official, out).written
    assert contents(out) == contents(ready)


def test_prepare_damaged_manifest(official: Path, ready: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / MANIFEST).write_text("{")
    with pytest.raises(PrepareError, match=r"out has a damaged repository .*overwrite"):
        run(official, out)
    run(official, out, overwrite=True)
    assert contents(out) == contents(ready)


def test_other_folders_are_left_alone(official: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(PrepareError, match=r"is a folder with files but without manifest.json"):
        run(official, tmp_path, overwrite=True)
    assert names(tmp_path) == {"thesis.tex"}


def test_a_killed_run_is_gone_on_from(official: Path, ready: Path, tmp_path: Path) -> None:
    out, hidden = tmp_path / "out", tmp_path / ".out.partial"
    code = (
        "import sys, time\n"
        "from reasonknee_datasets.prepare import prepare, volume_files\n"
        "place = volume_files.place_volume\n"
        "volume_files.place_volume = lambda task: (time.sleep(0.1), place(task))[1]\n"  # room for the kill
        "prepare(sys.argv[1], sys.argv[2], workers=1, progress=False)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, official, out])
    deadline = time.monotonic() + 120
    while len(list(hidden.glob("volumes/*/*.nii.gz"))) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    assert names(tmp_path) == {".out.partial"}
    assert not (hidden / MANIFEST).exists()
    done = [path.relative_to(hidden).as_posix() for path in hidden.glob("volumes/*/*.nii.gz")]
    assert 2 <= len(done) < 12
    packed = {path: (hidden / path).stat().st_mtime_ns for path in done}
    run(official, out)
    assert {path: (out / path).stat().st_mtime_ns for path in done} == packed
    assert contents(out) == contents(ready)
    assert names(tmp_path) == {"out"}


def test_links_and_none(official: Path, tmp_path: Path) -> None:
    linked = run(official, tmp_path / "linked", volumes="link")
    left = run(official, tmp_path / "left", volumes="none")
    assert linked.manifest.volumes == left.manifest.volumes
    assert not (tmp_path / "left" / "volumes").exists()
    found = open_release(official)
    found.check()
    for volume in found.volumes:
        assert (tmp_path / "linked" / volume.volume_path).samefile(volume.image)
    assert not run(official, tmp_path / "linked", volumes="link").written
    assert not run(official, tmp_path / "left", volumes="none").written


def test_images_elsewhere(release: Path, ready: Path, tmp_path: Path) -> None:
    (release / "data" / "images").rename(tmp_path / "scans")
    run(release, tmp_path / "out", images=tmp_path / "scans")
    assert Manifest.load(tmp_path / "out").volumes == Manifest.load(ready).volumes


def test_annotations_alone(tmp_path: Path) -> None:
    write_release(tmp_path / "release", patients=6, annotations_only=True, workers=1)
    convention = "slice0-x1-y2-pairs-inclusive-voxel"
    options = {"volumes": "none", "allow": ["missing-mask"], "box_convention": convention}
    made = run(tmp_path / "release", tmp_path / "out", **options)
    assert all(record.shape is None for record in made.manifest.volumes.values())
    assert made.manifest.rows("quintuples", "train") > 0
    assert not run(tmp_path / "release", tmp_path / "out", **options).written


@pytest.mark.parametrize("what", ["phantom", "official", "images", "plain"])
def test_prepare_without_images(release: Path, tmp_path: Path, what: str) -> None:
    """At once, and not after every record has been read."""
    images, hint = release / "data/images", ""
    options: dict[str, object] = {}
    if what == "phantom":
        release = tmp_path / "phantom"
        write_release(release, patients=6, annotations_only=True, workers=1)
    elif what == "official":
        shutil.rmtree(images)
    elif what == "images":
        options["images"] = tmp_path / "elsewhere"
        options["images"].mkdir()
    else:
        hint = r", but .*\.nii: compress a \.nii with gzip"
        for path in images.rglob("*.nii.gz"):
            path.rename(path.with_suffix(""))
    with pytest.raises(PrepareError, match=rf"None of the \d+ images .*no file at .*gz{hint}\. .*--volumes none"):
        run(release, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_missing_image_is_refused_or_counted(release: Path, tmp_path: Path) -> None:
    image = min((release / "data" / "images").rglob("*.nii.gz"))
    image.unlink()
    with pytest.raises(ReleaseError, match=r"missing-image: 1"):
        run(release, tmp_path / "out")
    made = run(release, tmp_path / "out", allow=["missing-image"])
    assert made.manifest.report["allowed"]["missing-image"] == 1
    assert made.manifest.report["rows_dropped"] == 62
    assert "missing-image (1)" in (tmp_path / "out" / "README.md").read_text()


def test_prepare_damaged_voxels(release: Path, tmp_path: Path) -> None:
    images = sorted((release / "data" / "images").rglob("*.nii.gz"))[:2]
    whole = gzip.decompress(images[0].read_bytes())
    replace(images[0], gzip.compress(whole[: len(whole) // 2]))  # a header that promises more than the file holds
    replace(images[1], images[1].read_bytes()[:-5000])
    with pytest.raises(PrepareError, match=r"2 of \d+ images cannot be read"):
        run(release, tmp_path / "out")
    assert names(tmp_path) == {"release"}


@pytest.fixture
def reachable(official: Path) -> Iterator[Path]:
    """A folder that any user may reach, with a release and its repository."""
    if not anybody_can_import():
        pytest.skip("this environment's packages are root's alone")
    with open_folder() as folder:
        shutil.copytree(official, folder / "release")
        run(folder / "release", folder / "out")
        yield folder


def anybody_can_import() -> bool:
    """Check whether a user without rights, whom these tests play, could run this Python at all."""
    if os.geteuid() != 0:
        return True
    os.seteuid(65534)
    try:
        os.listdir(Path(pytest.__file__).parent)  # noqa: PTH208 (importlib's own finders would remember the refusal)
    except OSError:
        return False
    finally:
        os.seteuid(0)
    return True


@pytest.mark.parametrize(
    ("inside", "match"),
    [
        ("data/generate_data/val.json", r"missing-file: 1.*\n.*val\.json: Check the permissions .*\(Permission"),
        ("data/split_files/val_split.csv", r"missing-file: 1.*\n.*val_split\.csv: Check the permissions"),
        ("data/question_files/questions.json", r"question-file: 1.*\n.*questions\.json: .*Permission denied"),
        ("data/images", r"bad-image: .*\n.*PermissionError"),
        ("data/masks", r"bad-mask: .*\n.*PermissionError"),
        ("", r"is not an official release: .*Permission denied"),
    ],
)
def test_a_release_that_may_not_be_read(reachable: Path, inside: str, match: str) -> None:
    with locked(reachable / "release" / inside), pytest.raises(ReleaseError, match=match):
        run(reachable / "release", reachable / "new")
    if not inside.startswith("data/images"):  # what is known of images is how many there are, and how large
        with locked(reachable / "release" / inside), pytest.raises(ReleaseError, match=match):
            run(reachable / "release", reachable / "out")
    assert names(reachable) == {"release", "out"}


@pytest.mark.parametrize("inside", ["", MANIFEST])
def test_a_repository_that_may_not_be_read(reachable: Path, inside: str) -> None:
    with locked(reachable / "out" / inside), pytest.raises(PrepareError, match=r"Permission denied"):
        run(reachable / "release", reachable / "out")


def test_a_patient_in_two_splits_is_refused(release: Path, tmp_path: Path) -> None:
    folder = release / "data" / "split_files"
    # The same patient again, at another visit.
    row = (folder / "train_split.csv").read_text().splitlines()[1].replace("00M", "12M").replace("knee_000", "knee_999")
    replace(folder / "test_split.csv", ((folder / "test_split.csv").read_text().rstrip("\n") + f"\n{row}\n").encode())
    with pytest.raises(ReleaseError, match="patient-in-two-splits"):
        run(release, tmp_path / "out")
    assert names(tmp_path) == {"release"}


def test_unknown_modes_are_refused(official: Path, tmp_path: Path) -> None:
    with pytest.raises(PrepareError, match=r"Unknown volumes='move'. Available: pack, copy, link, none"):
        run(official, tmp_path / "out", volumes="move")


def test_progress_is_shown_on_a_terminal(official: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))  # a fresh one is 0 columns wide
    command = [sys.executable, "-m", "reasonknee_datasets", "prepare", "--release", str(official), "--workers", "1"]
    command += ["--out", str(tmp_path / "shown")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        shown = b"".join(iter(lambda: read_terminal(ours), b""))
    os.close(ours)
    assert process.returncode == 0, shown
    assert all(name in shown for name in (b"checking volumes", b"packing volumes (3 s a full one)", b"rows", b"shards"))


def read_terminal(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # what Linux says where the other end is closed
        return b""


def test_no_progress_elsewhere(official: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(official, tmp_path / "piped", workers=1)
    run(official, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
