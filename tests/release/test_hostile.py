"""Release files of a stranger: named pipes, links, bombs, numbers and nesting that exhaust memory or time."""

from __future__ import annotations

import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import ReasonKneeError, ReleaseError, VolumeError
from reasonknee_datasets.release import masks, open_release, read_mapping, read_names
from reasonknee_datasets.release.masks import find_extents, scan_mask
from reasonknee_datasets.release.region_labels import read_questions
from reasonknee_datasets.volumes import open_volume
from tests.helpers.release_builder import Built, build_release
from tests.helpers.volumes_files import save

FILES = [
    "split_files/train_split.csv",
    "generate_data/train.json",
    "question_files/labels.json",
    "question_files/question_subregion_mapping.json",
    "question_files/questions.json",
]


_FEW = st.integers(0, 3)


@pytest.fixture
def built(tmp_path: Path) -> Built:
    return build_release(tmp_path / "release")


def read_all(built: Built) -> str:
    """Read a release and return everything that is said of it."""
    try:
        report = open_release(built.root).check()
    except ReasonKneeError as error:
        return str(error)
    return repr(report)


@pytest.mark.parametrize("name", FILES)
def test_a_named_pipe(built: Built, name: str) -> None:
    """It is an error or a note that names the file, and does not hang."""
    path = built.data / name
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    assert Path(name).name in read_all(built)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_a_named_pipe_for_a_volume(tmp_path: Path, suffix: str) -> None:
    os.mkfifo(tmp_path / f"knee{suffix}")
    for read in (lambda path: open_volume(path).shape, scan_mask):
        with pytest.raises(VolumeError, match=rf"Not a regular file but a named pipe.*knee{re.escape(suffix)}"):
            read(tmp_path / f"knee{suffix}")


@pytest.mark.parametrize("name", [*FILES, "split_files", "generate_data"])
def test_open_release_link_outside(built: Built, tmp_path: Path, name: str) -> None:
    path = built.data / name
    if not path.exists():
        path.write_text("{}")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ReleaseError, match=rf"The link {name} -> .*elsewhere leaves the release"):
        open_release(built.root)


def test_open_release_link_inside(built: Built) -> None:
    path = built.data / "generate_data" / "train.json"
    path.rename(built.data / "kept.json")
    path.symlink_to("../kept.json")
    assert open_release(built.root).studies


HOSTILE_JSON: dict[str, bytes] = {
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a long number": b'{"femur": ' + b"9" * 5000 + b"}",
    "a large number": b'{"femur": ' + b"9" * 4000 + b"}",
    "infinity": b'{"femur": 1e999, "tibia": -1e999}',
    "not a number": b'{"femur": NaN}',
    "not UTF-8": b'{"femur": "\xff\xfe"}',
    "a lone surrogate": b'{"femur \\ud800": 1}',
    "too long": b'{"femur": 1' + b" " * 11_000_000 + b"}",
    "no JSON": b"\x00\x01\x02",
    "empty": b"",
    "a number": b"7",
    "mixed": b'[1, "a", null, {"a": []}, [[]]]',
    "401 columns": json.dumps([{"id": n, **{f"c{i}": "x" for i in range(400)}} for n in range(60)]).encode(),
    "401 columns of names": json.dumps([{f"name {i}": f"n{i}" for i in range(401)} for _ in range(60)]).encode(),
    "100,000 entries": json.dumps({f"femur {n}": n for n in range(100_000)}).encode(),
}


@pytest.mark.parametrize("kind", HOSTILE_JSON)
@pytest.mark.parametrize("read", [read_names, lambda path: read_mapping(path, {}), read_questions])
def test_hostile_json(tmp_path: Path, kind: str, read: Callable[[Path], Any]) -> None:
    path = tmp_path / "labels.json"
    path.write_bytes(HOSTILE_JSON[kind])
    said = ""
    try:
        read(path)  # an odd one may be legal
    except ReleaseError as error:
        said = str(error)
    assert ("labels.json" in said and len(said) < 1000) or not said


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.int16, np.float32]),
        st.tuples(*[st.integers(1, 9)] * 3),
        elements=st.integers(0, 3),
    ),
    st.permutations(range(3)),
    st.lists(st.booleans(), min_size=3, max_size=3),
    st.integers(1, 40),
)
def test_extents_do_not_depend_on_the_blocks(mask: Any, order: list[int], flips: list[bool], room: int) -> None:
    turned = mask.transpose(order)[tuple(slice(None, None, -1 if flip else 1) for flip in flips)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(masks, "_BLOCK_VOXELS", room)
        found = find_extents(turned)
    assert list(found) == [int(label) for label in np.unique(turned) if label]
    for label, extent in found.items():
        voxels = np.argwhere(turned == label)
        assert extent.box == Box.from_mask(turned.astype(np.int64), label)
        assert extent.voxels == len(voxels)
        assert extent.center == pytest.approx(voxels.mean(axis=0))


@pytest.mark.slow
def test_scan_mask_memory_of_runs() -> None:
    mask = np.empty((256, 256, 256), np.uint8)
    mask[...] = np.arange(256, dtype=np.uint8) % 2 + 1
    tracemalloc.start()
    found = find_extents(mask)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [extent.voxels for extent in found.values()] == [2**23, 2**23]
    assert peak < 400_000_000  # 1,000 MB when it was done in one piece


def test_a_mask_that_is_too_large(tmp_path: Path) -> None:
    path = save(tmp_path / "mask.nii.gz", np.zeros((500, 500, 500), np.uint8))
    assert path.stat().st_size < 600_000
    with pytest.raises(VolumeError, match=r"it must have at most 100,000,000 voxels, not shape \(500, 500, 500\)"):
        scan_mask(path)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float64])
def test_a_mask_of_too_many_labels(tmp_path: Path, dtype: Any) -> None:
    path = save(tmp_path / "mask.nii.gz", np.arange(20**3).reshape(20, 20, 20).astype(dtype))
    with pytest.raises(VolumeError, match=r"it must be a label map, not more than 5,000 labels"):
        scan_mask(path)


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, 1e300, -1.0])
def test_a_mask_of_no_whole_numbers(tmp_path: Path, value: float) -> None:
    array = np.zeros((4, 5, 6))
    array[1, 2, 3] = value
    with pytest.raises(VolumeError, match=r"it must be a label map, not"):
        scan_mask(save(tmp_path / "mask.nii.gz", array))
