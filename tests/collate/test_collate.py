"""The collator against example by example: voxels, boxes, grades, tokens, and what it refuses."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")

import torch

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.collate import Batch, QuintupleCollator
from reasonknee_datasets.errors import BoxError, GradeError, LoaderError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS, read_diagnosis
from reasonknee_datasets.transforms import Compose, CropToBox, RandomFlip, ToCanonical, ToFrames, Window
from reasonknee_datasets.volumes import DecodeCache, open_volume, use_cache

AFFINE = np.array([[0.7, 0.0, 0.1, -50], [0, -0.375, 0, 70], [-0.1, 0, 0.375, -60], [0, 0, 0, 1]])


def knee(shape: tuple[int, ...] = (12, 16, 20), seed: int = 0, dtype: str = "int16") -> nib.Nifti1Image:
    voxels = np.random.default_rng(seed).integers(1, 200, shape).astype(dtype)
    return nib.Nifti1Image(np.asfortranarray(voxels), AFFINE)


def example(number: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"{number:07d}/00M/right/q19",
        "patient": f"{number:07d}",
        "side": "right",
        "question_id": 19,
        "volume": knee(seed=number),
        "box": [2, 3, 4, 6, 8, 10],
        "grades": [
            {"attribute": "size", "grade": 2, "scale": "ordinal"},
            {"attribute": "depth", "grade": None, "scale": "ordinal"},
        ],
        **changes,
    }


# Voxels.


def test_crops_of_one_shape() -> None:
    crop = CropToBox(size=(4, 6, 8))
    rows = [example(number) for number in range(3)]
    batch = QuintupleCollator()([crop(row) for row in rows])
    assert batch["volume"].shape == (3, 1, 4, 6, 8)
    assert batch["volume"].dtype == torch.int16
    for at, row in enumerate(rows):
        i, j, k = crop(row)["region"][:3]
        expected = np.asarray(row["volume"].dataobj)[i : i + 4, j : j + 6, k : k + 8]
        assert (batch["volume"][at, 0].numpy() == expected).all()
    assert batch["voxel_mask"].all()


@given(
    shapes=st.lists(st.tuples(*[st.integers(1, 7)] * 3), min_size=1, max_size=4),
    fortran=st.booleans(),
    contiguous=st.booleans(),
    dtype=st.sampled_from([None, "uint8", "int16", "float16", "bfloat16", "float32"]),
)
def test_stack_pads_at_the_ends(
    shapes: list[tuple[int, int, int]], fortran: bool, contiguous: bool, dtype: str | None
) -> None:
    rng = np.random.default_rng(len(shapes))
    arrays = [rng.integers(1, 200, shape).astype(np.int16) for shape in shapes]
    rows = [{"id": str(n), "voxels": np.asfortranarray(a) if fortran else a} for n, a in enumerate(arrays)]
    batch = QuintupleCollator(dtype=dtype, pad_value=9, contiguous=contiguous)(rows)
    volume, mask = batch["volume"], batch["voxel_mask"]
    assert volume.dtype == (torch.int16 if dtype is None else getattr(torch, dtype))
    assert tuple(volume.shape[2:]) == tuple(np.max(shapes, axis=0))
    if contiguous:
        assert volume.is_contiguous()
    for at, array in enumerate(arrays):
        inside = tuple(slice(0, size) for size in array.shape)
        expected = torch.full(volume.shape[2:], 9.0)
        expected[inside] = torch.from_numpy(array).to(volume.dtype).float()
        assert torch.equal(volume[at, 0].float(), expected)
        real = torch.zeros(volume.shape[2:], dtype=torch.bool)
        real[inside] = True
        assert torch.equal(mask[at, 0], real)


@pytest.mark.parametrize("transform", [ToCanonical(), RandomFlip(p=1.0)])
def test_voxel_mask_marks_stored_voxels(transform: Any) -> None:
    """Padding of a crop beyond the volume is not a real voxel, for any order of the axes."""
    row = example(box=[0, 0, 0, 3, 3, 3])
    made = Compose([CropToBox(size=(10, 12, 30), pad_value=0), transform])(row)
    batch = QuintupleCollator()([made])
    assert torch.equal(batch["voxel_mask"][0, 0], batch["volume"][0, 0] > 0)  # no voxel of the volume is 0
    assert not batch["voxel_mask"].all()
    assert batch["voxel_mask"].any()


def test_crops_of_a_file_are_read_together(tmp_path: Path) -> None:
    """The decode cache is asked once for each file of a batch, and the examples keep their order."""
    random = np.random.default_rng(0)
    volumes = []
    for number in range(2):
        array = random.integers(0, 400, (12, 10, 9)).astype(np.int16)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{number}.nii.gz")
        volumes.append((open_volume(tmp_path / f"{number}.nii.gz"), array))
    rows, expected = [], []
    for number in range(8):
        volume, array = volumes[number % 2]
        start = random.integers(0, 5, 3).tolist()
        box = Box.from_row([*start, *(low + 4 for low in start)])
        rows.append(CropToBox(size=4)({"id": f"{number}", "volume": volume, "box": box.to_row()}))
        expected.append(array[box.slices])
    cache = DecodeCache(10**6)
    with use_cache(cache):
        batch = QuintupleCollator()(rows)
    np.testing.assert_array_equal(batch["volume"][:, 0], expected)
    assert batch["voxel_mask"].all()
    info = cache.info()
    assert (info.hits + info.misses, info.decodes) == (2, 2)


def test_channels_come_first() -> None:
    rows = [{"id": "a", "voxels": np.ones((2, 3, 4, 5), np.float32)}]
    assert QuintupleCollator()(rows)["volume"].shape == (1, 2, 3, 4, 5)
    with pytest.raises(LoaderError, match=r"must have the same number of channels, but have 1, 2\."):
        QuintupleCollator()([*rows, {"id": "b", "voxels": np.ones((3, 4, 5), np.float32)}])


def test_nothing_is_turned_over_in_memory() -> None:
    """A stored volume runs fastest along its first axis, and so does its batch; torch moves it all the same."""
    batch = QuintupleCollator()([CropToBox(size=(4, 6, 8))(example())])
    assert batch["volume"].stride()[2:] == (1, 4, 24)
    again = pickle.loads(pickle.dumps(batch))
    assert torch.equal(again["volume"], batch["volume"])
    assert again.cast(torch.float32)["volume"].is_contiguous()


def test_examples_are_left_as_they_are() -> None:
    row = CropToBox()(example())
    before = pickle.dumps({key: value for key, value in row.items() if key != "volume"})
    QuintupleCollator()([row])
    assert pickle.dumps({key: value for key, value in row.items() if key != "volume"}) == before


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([0, 300], "uint8", r"Voxels from 0 to 300 do not fit into uint8. Put Window before it"),
        ([-1, 3], "uint8", "Voxels from -1 to 3 do not fit into uint8"),
        ([0.0, 0.5], "uint8", "Voxels from 0.0 to 0.5, not all whole, do not fit into uint8"),
        ([0.0, 1e6], "float16", "do not fit into float16"),
        ([0, 40_000], "int16", "do not fit into int16"),
    ],
)
def test_dtype_refuses_values_it_would_change(values: list[float], dtype: str, message: str) -> None:
    array = np.array(values).reshape(1, 1, 2)
    with pytest.raises(LoaderError, match=message):
        QuintupleCollator(dtype=dtype)([{"id": "a", "voxels": array}])


@pytest.mark.parametrize(
    ("stored", "expected"), [(">i2", torch.int16), ("<u2", torch.int32), ("<f8", torch.float64), ("|u1", torch.uint8)]
)
def test_dtype_of_unsupported_types(stored: str, expected: torch.dtype) -> None:
    array = np.arange(24).reshape(2, 3, 4).astype(stored)
    volume = QuintupleCollator()([{"id": "a", "voxels": array}])["volume"]
    assert volume.dtype == expected
    assert (volume[0, 0].numpy() == array).all()


def test_types_that_nothing_can_stand_for() -> None:
    with pytest.raises(LoaderError, match=r"torch has no type for voxels of complex64. Choose dtype=, one of bool"):
        QuintupleCollator()([{"id": "a", "voxels": np.zeros((1, 1, 1), np.complex64)}])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"voxels": np.zeros((3, 4))}, r"have the shape \(3, 4\). A batch takes arrays \(D, H, W\)"),
        ({"volume": "volumes/0000001/00M_right.nii.gz"}, r"are of type str. A batch takes arrays \(D, H, W\)"),
    ],
)
def test_voxels_that_are_none(row: dict[str, Any], message: str) -> None:
    with pytest.raises(LoaderError, match=message) as caught:
        QuintupleCollator()([{"id": "9016403/00M/right/q19", **row}])
    assert "while collating 9016403/00M/right/q19" in caught.value.__notes__


def test_pictures_stand_for_the_volume() -> None:
    rows = [ToFrames(count=4, size=(6, 5))(example(number)) for number in range(2)]
    batch = QuintupleCollator()(rows)
    assert "volume" not in batch
    assert batch["frames"].shape == (2, 4, 6, 5)
    assert batch["frames"].dtype == torch.uint8
    other = ToFrames(count=3, size=(6, 5))(example(2))
    assert [len(frames) for frames in QuintupleCollator()([*rows, other])["frames"]] == [4, 4, 3]


# Boxes.


def test_boxes_in_crop_and_volume() -> None:
    rows = [CropToBox(margin_voxels=2)(example(number, box=[2 + number, 3, 4, 6, 8, 10])) for number in range(3)]
    batch = QuintupleCollator()(rows)
    assert batch["boxes_volume"].tolist() == [[2, 3, 4, 6, 8, 10], [3, 3, 4, 6, 8, 10], [4, 3, 4, 6, 8, 10]]
    for at, row in enumerate(rows):
        inside = Box.from_row(batch["boxes"][at].tolist()).slices
        whole = Box.from_row(batch["boxes_volume"][at].tolist()).slices
        stored = np.asarray(row["volume"].dataobj.source)
        assert (batch["volume"][at, 0].numpy()[inside] == stored[whole]).all()


def test_boxes_without_a_crop_are_equal() -> None:
    batch = QuintupleCollator()([example()])
    assert batch["boxes"].tolist() == batch["boxes_volume"].tolist() == [[2, 3, 4, 6, 8, 10]]


# Grades.


@given(st.sampled_from([question for question in QUESTIONS.values() if question.in_records]), st.data())
def test_grades_follow_slot_order(question: Any, data: st.DataObject) -> None:
    grades = {slot.attribute: data.draw(st.none() | st.sampled_from(list(slot.legal))) for slot in question.slots}
    rows = [{"attribute": name, "grade": grade, "scale": "ordinal"} for name, grade in grades.items()]
    given_in = data.draw(st.permutations(rows))
    batch = QuintupleCollator()([{"id": "a", "question_id": question.id, "grades": given_in}])
    assert batch["grades"].shape == batch["slots"].shape == (1, 3)
    for at, (grade, slot) in enumerate(zip(batch["grades"][0].tolist(), batch["slots"][0].tolist(), strict=True)):
        if slot < 0:
            assert (at >= len(question.slots), grade) == (True, -1)
            continue
        assert SLOTS[slot].question_id == question.id
        expected = grades[SLOTS[slot].attribute]
        assert grade == (-1 if expected is None else expected)


def test_grades_are_those_of_the_answer() -> None:
    answer = json.dumps(
        {"MOAKS_scores": {"femur medial central cartilage lesion": {"Size of lesion": 2, "Depth of lesion": 1}}}
    )
    grades = [{"attribute": name, "grade": grade} for name, grade in read_diagnosis(19, json.loads(answer)).items()]
    batch = QuintupleCollator()([example(grades=grades, answer=answer)])
    assert batch["grades"].tolist() == [[2, 1, -1]]
    assert batch["answer"] == [answer]


def test_grades_of_another_question() -> None:
    with pytest.raises(GradeError, match="Question 1 has no attribute depth, only size, number, percent"):
        QuintupleCollator()([example(question_id=1)])
    with pytest.raises(GradeError, match="has grades but no question_id"):
        QuintupleCollator()([example(question_id=None)])
    with pytest.raises(GradeError, match=r"Slot q19.size .* takes the grades 0, 1, 2, 3, not 4"):
        QuintupleCollator()([example(grades=[{"attribute": "size", "grade": 4}])])


# Tokens.


def tokens(*lengths: int, **changes: Any) -> list[dict[str, Any]]:
    return [
        {"id": str(at), "input_ids": list(range(1, length + 1)), "labels": [-100] + [5] * (length - 1), **changes}
        for at, length in enumerate(lengths)
    ]


def test_tokens_are_padded_to_the_longest() -> None:
    batch = QuintupleCollator(pad_token_id=0)(tokens(2, 4))
    assert batch["input_ids"].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]
    assert batch["labels"].tolist() == [[-100, 5, -100, -100], [-100, 5, 5, 5]]


def test_pad_tokens_left_for_generation() -> None:
    batch = QuintupleCollator(pad_token_id=0, padding_side="left")(tokens(2, 4))
    assert batch["input_ids"].tolist() == [[0, 0, 1, 2], [1, 2, 3, 4]]
    assert batch["attention_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]


def test_pad_tokens_left_without_labels() -> None:
    prompts = [{key: row[key] for key in ("id", "input_ids")} for row in tokens(2, 4)]
    assert QuintupleCollator(pad_token_id=0)(prompts)["input_ids"].tolist() == [[0, 0, 1, 2], [1, 2, 3, 4]]
    right = QuintupleCollator(pad_token_id=0, padding_side="right")(prompts)
    assert right["input_ids"].tolist() == [[1, 2, 0, 0], [1, 2, 3, 4]]


def test_padding_side_of_the_examples() -> None:
    rows = tokens(2, 4, padding_side="left", pad_token_id=9)
    batch = QuintupleCollator()(rows)
    assert batch["input_ids"].tolist() == [[9, 9, 1, 2], [1, 2, 3, 4]]
    assert "padding_side" not in batch
    with pytest.raises(LoaderError, match=r"'right' or 'left' in all examples of a batch, not \['left', 'right'\]"):
        QuintupleCollator()([rows[0], rows[1] | {"padding_side": "right"}])


def test_tokens_are_padded_to_a_multiple() -> None:
    collate = QuintupleCollator(pad_token_id=0, pad_to_multiple_of=8)
    assert [collate(tokens(*n))["input_ids"].shape[1] for n in [(2, 3), (8,), (9, 1)]] == [8, 8, 16]
    left = QuintupleCollator(pad_token_id=0, pad_to_multiple_of=4, padding_side="left")(tokens(3, grade_spans=[[0, 2]]))
    assert left["input_ids"].tolist() == [[0, 1, 2, 3]]
    assert left["grade_spans"] == [[[1, 3]]]


def test_spans_move_with_their_tokens() -> None:
    spans = {"reasoning_spans": [[0, 1], [1, 2]], "box_span": [-1, -1], "grade_spans": [[1, 2], [-1, -1]]}
    rows = tokens(2, 4, **spans)
    left = QuintupleCollator(pad_token_id=0, padding_side="left")(rows)
    assert left["reasoning_spans"] == [[[2, 3], [3, 4]], [[0, 1], [1, 2]]]
    assert left["grade_spans"] == [[[3, 4], [-1, -1]], [[1, 2], [-1, -1]]]
    assert left["box_span"] == [[-1, -1], [-1, -1]]
    assert QuintupleCollator(pad_token_id=0)(rows)["reasoning_spans"] == [spans["reasoning_spans"]] * 2


def test_tokens_are_padded_to_a_bucket() -> None:
    collate = QuintupleCollator(pad_token_id=0, buckets=(16, 4, 8))
    assert [collate(tokens(*lengths))["input_ids"].shape[1] for lengths in [(2, 3), (4,), (5,), (9, 16)]] == [
        4,
        4,
        8,
        16,
    ]
    with pytest.raises(LoaderError, match=r"of 17 tokens is longer than every bucket, \(16, 4, 8\)"):
        collate(tokens(17))


def test_the_tokenizers_own_pad_token() -> None:
    assert QuintupleCollator()(tokens(1, 2, pad_token_id=7))["input_ids"].tolist() == [[1, 7], [1, 2]]
    assert QuintupleCollator()(tokens(2, 2))["input_ids"].tolist() == [[1, 2], [1, 2]]
    with pytest.raises(
        LoaderError, match=r"need a pad token, but none is known\. .*, padding_side=tokenize\.padding_side, "
    ):
        QuintupleCollator()(tokens(1, 2))


def test_labels_of_another_length() -> None:
    with pytest.raises(LoaderError, match=r"labels must be as long as input_ids in 0.*, but there are 1 for 2 tokens"):
        QuintupleCollator()(tokens(2, labels=[1]))


# The batch.


def test_provenance_is_kept() -> None:
    batch = QuintupleCollator()([CropToBox()(example(number)) for number in range(2)])
    assert batch["id"] == ["0000000/00M/right/q19", "0000001/00M/right/q19"]
    assert batch["patient"] == ["0000000", "0000001"]
    assert batch["region"] == [[2, 3, 4, 6, 8, 10]] * 2
    assert batch["valid"].tolist() == [True, True]
    assert set(QuintupleCollator(keep=("side",))([example()])) >= {"id", "side"}
    assert "patient" not in QuintupleCollator(keep=("side",))([example()])


def test_repeats_are_marked() -> None:
    assert QuintupleCollator()([example(valid=True), example(valid=False)])["valid"].tolist() == [True, False]


def test_examples_that_do_not_match() -> None:
    with pytest.raises(LoaderError, match="must have the same keys, but box_volume, region are only in some"):
        QuintupleCollator()([example(), CropToBox()(example())])
    with pytest.raises(LoaderError, match="A batch needs at least one example"):
        QuintupleCollator()([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int64"}, "dtype must be one of uint8, int16, float16, bfloat16, float32, not 'int64'"),
        (
            {"padding_side": "both"},
            "padding_side must be .right. .* or .left. .for generation., not .both.",
        ),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        QuintupleCollator(**options)


def test_the_collator_is_a_value() -> None:
    one, other = QuintupleCollator(dtype=torch.float16, buckets=[4, 8]), QuintupleCollator("float16", buckets=(4, 8))
    assert one == other == pickle.loads(pickle.dumps(one)) == eval(repr(one), {**globals(), "torch": torch})
    assert hash(one) == hash(other)


def test_a_batch_is_a_mapping() -> None:
    batch = QuintupleCollator()([CropToBox(size=(4, 4, 4))(example())])
    assert len(batch) == len(list(batch)) == len(dict(batch))
    assert "voxel_mask" in batch
    assert "frames" not in batch
    with pytest.raises(KeyError, match="frames"):
        batch["frames"]
    assert repr(batch).startswith("Batch(id=['0000000/00M/right/q19'], patient=")
    assert "volume=int16 (1, 1, 4, 4, 4)" in repr(batch)
    rebuilt = Batch(dict(batch))  # as torch's own functions rebuild mappings
    assert torch.equal(rebuilt["voxel_mask"], batch["voxel_mask"])
    assert "voxel_mask" not in Batch({"id": ["a"]})


def test_it_moves_and_casts() -> None:
    batch = QuintupleCollator()([CropToBox(size=(4, 6, 30))(example())])
    moved = batch.to("cpu", non_blocking=True)
    assert torch.equal(moved["volume"], batch["volume"])
    assert moved["id"] == batch["id"]
    cast = batch.cast(torch.float16, window=(0, 100))
    volume = batch["volume"].float()
    expected = (volume / 100).clamp(0, 1) * batch["voxel_mask"]
    assert torch.equal(cast["volume"], expected.half())
    assert batch["volume"].dtype == torch.int16
    with pytest.raises(LoaderError, match=r"cast takes a floating type, not torch.uint8"):
        batch.cast(torch.uint8)
    with pytest.raises(LoaderError, match=r"window must be \(low, high\) with low below high, not 4 and 4"):
        batch.cast(torch.float32, window=(4, 4))


def test_padding_stays_nothing_after_a_window() -> None:
    batch = QuintupleCollator()([CropToBox(size=(4, 6, 30), pad_value=0)(example())])
    assert not batch.cast(torch.float32, window=(-100, 100))["volume"][~batch["voxel_mask"]].any()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_batch_to_gpu_from_pinned_memory() -> None:
    batch = QuintupleCollator()([CropToBox(size=(4, 6, 30))(example())])
    pinned = batch.pin_memory()
    assert pinned["volume"].is_pinned()
    there = pinned.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert there["volume"].stride() == batch["volume"].stride()
    assert there["voxel_mask"].is_cuda
    for name in ("volume", "voxel_mask", "boxes", "grades"):
        if name in batch:
            assert torch.equal(there[name].cpu(), batch[name])
    assert torch.equal(
        there.cast(torch.float16, (0, 400))["volume"].cpu(), batch.cast(torch.float16, (0, 400))["volume"]
    )


def test_windowed_values_are_taken_before_the_volume() -> None:
    made = Compose([CropToBox(size=(4, 6, 8)), Window(0, 100)])(example())
    batch = QuintupleCollator()([made])
    assert batch["volume"].dtype == torch.float32
    assert torch.equal(batch["volume"][0, 0], torch.from_numpy(made["voxels"]))


def test_grades_that_are_none_are_missing() -> None:
    batch = QuintupleCollator()([example(), example(1, grades=None)])
    assert batch["grades"].tolist() == [[2, -1, -1], [-1, -1, -1]]
    assert batch["slots"][0].tolist() == batch["slots"][1].tolist() == [51, 52, -1]


@pytest.mark.parametrize("name", ["box", "input_ids"])
def test_what_only_some_examples_lack(name: str) -> None:
    rows = [example(0, input_ids=[1, 2]), example(1, input_ids=[3, 4]) | {name: None}]
    with pytest.raises(LoaderError, match=rf"0000001/00M/right.* has no {name}, but other examples"):
        QuintupleCollator()(rows)


@pytest.mark.parametrize("dtype", ["int16", "float16", "bfloat16", "float32"])
def test_bytes_in_the_other_order(dtype: str) -> None:
    voxels = np.arange(24).reshape(2, 3, 4)
    batch = QuintupleCollator(dtype=dtype)([example(voxels=voxels.astype(">i2"), volume=None)])
    assert batch["volume"].to(torch.int64)[0, 0].tolist() == voxels.tolist()


def test_arrays_of_words_are_kept() -> None:
    words = np.array(["Look.", "No tear."])
    batch = QuintupleCollator()([example(reasoning=words), example(1, reasoning=words.astype(object))])
    assert [row.tolist() for row in batch["reasoning"]] == [words.tolist()] * 2


def test_batch_larger_than_memory() -> None:
    """Shapes that differ are padded to the largest of each axis: rows that fit may make a batch that does not."""
    shapes = np.eye(3, dtype=int) * 2_999_999 + 1
    rows = [example(number, voxels=np.zeros(shape, np.int16)) for number, shape in enumerate(shapes)]
    with pytest.raises(BoxError, match="A batch of 3x1x3000000x3000000x3000000 voxels of 2"):
        QuintupleCollator()(rows)


def test_a_transform_that_forgets_to_return() -> None:
    with pytest.raises(LoaderError, match="examples of a batch must be mappings, not NoneType"):
        QuintupleCollator()([example(), None])  # type: ignore[list-item]
