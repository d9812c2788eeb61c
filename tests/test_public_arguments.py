"""Wrong arguments of every public name: refused when the object is made, by argument, value and type."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import reasonknee_datasets as public
from tests.helpers.tiny_tokenizers import wrapped

ROWS = [{"id": f"{number:07d}/00M/left/q01", "box": [0, 0, 0, 1, 1, 1]} for number in range(4)]
ARRAY = np.array([1, 2, 3])


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("CropToBox", {"margin_mm": b"x"}, "margin_mm must be a number, or three .* not a value of type bytes"),
        ("CropToBox", {"sise": 64}, r"CropToBox has no argument 'sise'\. Did you mean 'size'\?"),
        ("ToCanonical", {"axes": "RAS"}, r"ToCanonical has no argument 'axes'\."),
        ("ToConversation", {"box": ARRAY}, "box must be 'box' .* not a value of type ndarray"),
        ("ToConversation", {"box_convention": None}, "Unknown box convention None"),
        ("ToConversation", {"folder": 7}, r"folder must be the path of a folder .* not 7 \(int\)"),
        ("ToConversation", {"for_generation": "no"}, r"for_generation must be True or False, not 'no' \(str\)"),
        ("ToFrames", {"count": float("inf")}, r"count must be a whole number, at least 1, not inf \(float\)"),
        ("ToFrames", {"size": 10**30}, "size must be a whole number of pixels, or two, not 1000"),
        ("TokenizeReasoning", {"for_generation": 1}, r"for_generation must be True or False, not 1 \(int\)"),
        ("TokenizeReasoning", {"vision": "<|video_pad|>"}, "vision must be a Vision, .* not '<|video_pad|>'"),
        ("VolumeFeature", {"decode": "no"}, r"decode must be True or False, not 'no' \(str\)"),
        ("Window", {"hihg": 400}, r"Window has no argument 'hihg'\. Did you mean 'high'\?"),
        ("QuintupleCollator", {"padding_side": ARRAY}, "padding_side must be .* not a value of type ndarray"),
        ("QuintupleCollator", {"orientation": ARRAY}, "orientation must be .* not a value of type ndarray"),
        ("load_dataset", {"path": None}, r"path must be '3dreasonknee', or the folder .* not None"),
        (
            "load_dataset",
            {"path": ["3dreasonknee"]},
            r"path must be '3dreasonknee', .* not \['3dreasonknee'\] \(list\)",
        ),
        ("load_dataset", {"path": ""}, r"The first argument is empty\."),
        ("load_dataset", {"path": "3D-ReasonKnee"}, r"Unknown dataset '3D-ReasonKnee'\. Did you mean '3dreasonknee'\?"),
        ("load_dataset", {"path": "3dreasonkne"}, r"Unknown dataset '3dreasonkne'\. Did you mean '3dreasonknee'\?"),
        ("load_dataset", {"path": "reasonknee"}, r"Unknown dataset 'reasonknee'\. Did you mean '3dreasonknee'\?"),
        ("load_dataset", {"path": "3DREASONKNEE "}, r"Unknown dataset '3DREASONKNEE '\. Did you mean '3dreasonknee'\?"),
        ("load_dataset", {"name": 0}, r"Unknown config 0 in name=\."),
        ("load_dataset", {"name": ["volumes"]}, r"Unknown config \['volumes'\] in name=\."),
        ("load_dataset", {"streaming": "false"}, r"streaming must be True or False, not 'false' \(str\)"),
        ("load_dataset", {"masks": "no"}, r"masks must be True or False, not 'no' \(str\)"),
        ("load_dataset", {"token": 123456}, r"token must be a token, True, False or None, not a int\."),
        ("load_dataset", {"revision": 7}, r"revision must be a commit, .* not 7 \(int\)"),
        ("load_dataset", {"data_dir": 7}, r"data_dir must be a folder, a URL or None, not 7 \(int\)"),
        ("load_dataset", {"volumes_dir": ["v"]}, r"volumes_dir must be a folder, .* not \['v'\] \(list\)"),
        (
            "load_dataset",
            {"columns": ARRAY},
            "columns must be a list of different names, .* not a value of type ndarray",
        ),
        ("load_dataset", {"columns": 7}, r"columns must be a list of different names, .* not 7 \(int\)"),
        (
            "make_dataloader",
            {"dataset": [1, 2]},
            r"The dataset must contain examples, .* not 1 \(int\)",
        ),
        (
            "make_dataloader",
            {"timeout": float("inf")},
            r"timeout must be a number of at least 0 and at most .* not inf",
        ),
        ("make_dataloader", {"share_volumes": ""}, "share_volumes must be True, False or the path of a folder, not ''"),
        ("open_volume", {"path_or_url": None}, "path_or_url must be the path or URL of a NIfTI file, not None"),
        ("open_volume", {"cache": True}, r"cache must be a DecodeCache or None, not True \(bool\)"),
        ("open_volume", {"cache_dir": 7}, r"cache_dir must be a folder or None, not 7 \(int\)"),
        ("open_volume", {"geometry": (4, 4, 4)}, r"geometry must be a Geometry or None, not \(4, 4, 4\) \(tuple\)"),
        ("open_volume", {"storage_options": "secret"}, r"storage_options must be a mapping or None, not a str\."),
        ("open_volume", {"expected": 7}, r"expected must be an ExpectedFile or None, not 7 \(int\)"),
        ("prefetch_to_device", {"loader": "train"}, "The loader must be an iterable of batches, not 'train'"),
        ("prefetch_to_device", {"loader": {"id": 1}}, "The loader must be an iterable of batches, not a dict"),
    ],
)
def test_public_names_refuse_wrong_arguments(name: str, arguments: dict[str, Any], message: str) -> None:
    usual: dict[str, dict[str, Any]] = {
        "TokenizeReasoning": {"tokenizer": wrapped(), "template": "plain"},
        "make_dataloader": {"dataset": ROWS, "batch_size": 2},
        "open_volume": {"path_or_url": "knee.nii.gz"},
        "prefetch_to_device": {"loader": [], "device": "cpu"},
    }
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        getattr(public, name)(**usual.get(name, {}) | arguments)


def test_make_dataloader_numpy_numbers() -> None:
    given = {"batch_size": np.int64(2), "seed": np.int64(3), "volumes_in_flight": np.int32(4)}
    numbers = {"rank": np.int64(0), "world_size": np.int64(1)}
    with public.make_dataloader(ROWS, shuffle=True, **given, **numbers) as loader:
        next(iter(loader))
        state = loader.state_dict()
    assert b"numpy" not in pickle.dumps(state)
    assert (state["seed"], state["volumes_in_flight"], state["position"]) == (3, 4, 2)


def test_load_dataset_takes_a_path_object(prepared: Path) -> None:
    rows = public.load_dataset(prepared, split="test", streaming=True, columns=["id"])
    assert next(iter(rows)) == next(
        iter(public.load_dataset(str(prepared), split="test", streaming=True, columns=["id"]))
    )


def test_load_dataset_reads_folder_named_3dreasonknee(tmp_path: Path) -> None:
    folder = tmp_path / "3dreasonknee"
    folder.mkdir()
    (folder / "manifest.json").write_text('{"format": "3dre', encoding="utf-8")
    with pytest.raises(ValueError, match=r"The manifest in .* is not readable JSON"):
        public.load_dataset(str(folder))
