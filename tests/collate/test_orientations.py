"""A batch has arrays of one orientation and names it, and sends no text that has become tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, io_orientation, ornt_transform

pytest.importorskip("torch")

import torch

from reasonknee_datasets import ToCanonical
from reasonknee_datasets.collate import Batch, QuintupleCollator
from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import make_dataloader
from reasonknee_datasets.transforms import CropToBox, Window
from reasonknee_datasets.volumes import open_volume

SHAPE = (5, 6, 7)


def image(codes: str) -> Any:
    """Make an image whose axes run in these directions, by nibabel's own arithmetic."""
    turn = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    affine = np.diag([0.7, 0.4, 0.4, 1.0]) @ inv_ornt_aff(turn, SHAPE)
    assert "".join(nib.orientations.ornt2axcodes(io_orientation(affine))) == codes
    return nib.Nifti1Image(np.arange(210, dtype=np.int16).reshape(SHAPE), affine)


def row(codes: str, number: int, folder: Path | None = None) -> dict[str, Any]:
    volume = image(codes)
    if folder is not None:
        path = folder / f"{codes}{number}.nii.gz"
        nib.save(volume, path)
        volume = open_volume(path)
    return {"id": f"knee-{number}", "volume": volume, "box": [1, 1, 1, 4, 4, 4]}


@pytest.mark.parametrize("lazy", [False, True])
@pytest.mark.parametrize("others", [("PIR",), ("RAS", "RAS", "LAS"), ("PIL", "RAS")])
def test_check_orientations_refuses_mixed_batch(tmp_path: Path, lazy: bool, others: tuple[str, ...]) -> None:
    folder = tmp_path if lazy else None
    rows = [row(codes, number, folder) for number, codes in enumerate(("RAS", *others))]
    odd = next(number for number, codes in enumerate(("RAS", *others)) if codes != "RAS")
    message = (
        rf"mixes arrays of different orientation: knee-{odd} is {('RAS', *others)[odd]} while knee-0 is RAS.*ToCan"
    )
    with pytest.raises(LoaderError, match=message):
        QuintupleCollator()([{**one, "voxels": np.zeros((3, 3, 3))} for one in rows])
    with pytest.raises(LoaderError, match=message):
        list(make_dataloader(rows, batch_size=len(rows), transform=CropToBox(size=(3, 3, 3))))


@pytest.mark.parametrize("then", [[], [CropToBox(size=(3, 3, 3))], [CropToBox(size=(3, 3, 3)), Window(0, 400)]])
def test_canonical_volumes_are_one_orientation(tmp_path: Path, then: list[Any]) -> None:
    def transform(example: dict[str, Any]) -> dict[str, Any]:
        for one in (ToCanonical(), *then):
            example = one(example)
        return example

    rows = [row(codes, number, tmp_path) for number, codes in enumerate(("PIR", "RAS", "LAS", "PIL"))]
    (batch,) = make_dataloader(rows, batch_size=4, transform=transform)
    assert batch["orientation"] == ["RAS"] * 4


def test_any_orientation_may_be_asked_for() -> None:
    rows = [row(codes, number) for number, codes in enumerate(("PIR", "RAS"))]
    batch = QuintupleCollator(orientation="any")(rows)
    assert batch["orientation"] == ["PIR", "RAS"]


def test_one_orientation_may_be_asked_for() -> None:
    rows = [row("PIR", number) for number in range(2)]
    assert QuintupleCollator(orientation="PIR")(rows)["orientation"] == ["PIR", "PIR"]
    with pytest.raises(LoaderError, match=r"A batch must be RAS \(orientation=\): knee-0 is PIR"):
        QuintupleCollator(orientation="RAS")(rows)


@pytest.mark.parametrize("orientation", ["ras", "RAR", "RA", "", "equal"])
def test_an_orientation_that_is_none(orientation: str) -> None:
    with pytest.raises(LoaderError, match="orientation must be 'same', 'any' or three letters such as 'RAS', not "):
        QuintupleCollator(orientation=orientation)


def test_arrays_without_an_affine_are_left_alone() -> None:
    batch = QuintupleCollator()([{"id": str(n), "voxels": np.zeros(SHAPE, np.float32)} for n in range(2)])
    assert "orientation" not in batch


def test_canonical_batch_axes() -> None:
    """D runs from left to right, H from posterior to anterior, W from inferior to superior."""
    for codes in ("PIR", "LAS", "ASL"):
        affine = image(codes).affine
        places = np.einsum("wa,aijk->wijk", affine[:3, :3], np.indices(SHAPE)) + affine[:3, 3, None, None, None]
        for axis in range(3):  # voxels that hold where they lie: x to the right, y to the front, z upwards
            volume = nib.Nifti1Image(places[axis].astype(np.float32), affine)
            found = QuintupleCollator()([ToCanonical()({"id": "a", "volume": volume, "box": [0, 0, 0, 2, 2, 2]})])
            assert (found["volume"][0, 0].diff(dim=axis) > 0).all()


def test_collator_dtype() -> None:
    rows = [row("RAS", 0)]
    assert QuintupleCollator()(rows)["volume"].dtype == torch.int16
    assert QuintupleCollator(dtype="float32")(rows)["volume"].dtype == torch.float32
    assert "int16" in (QuintupleCollator.__doc__ or "")
    assert "-1" in (QuintupleCollator.__doc__ or "")


def test_texts_that_are_tokens_do_not_travel() -> None:
    texts = {"question": "q" * 99, "reasoning": ["r" * 99], "answer": "{}", "category": "meniscus"}
    tokens = {"input_ids": [1, 2], "attention_mask": [1, 1], "labels": [1, 2]}
    plain = QuintupleCollator()([{"id": "a", **texts}])
    assert set(texts) < set(plain)
    tokenized = QuintupleCollator(pad_token_id=0)([{"id": "a", **texts, **tokens}])
    assert set(tokenized) & set(texts) == {"category"}
    kept = QuintupleCollator(pad_token_id=0, keep=("reasoning",))([{"id": "a", **texts, **tokens}])
    assert kept["reasoning"] == [texts["reasoning"]]


def test_keys_of_a_batch_print_names_alone() -> None:
    batch = Batch(
        {"id": ["9016403/00M/right/q19"], "volume": torch.zeros(1, 1, 2, 2, 2), "unpadded_box": torch.zeros(1, 6)}
    )
    assert repr(batch.keys()) == "dict_keys(['id', 'volume', 'unpadded_box', 'voxel_mask'])"
    assert batch.keys() == {"id", "volume", "unpadded_box", "voxel_mask"}
    assert list(batch.keys()) == list(batch)
    assert {**batch}.keys() == batch.keys()
