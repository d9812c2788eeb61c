"""Metadata of a run, and which two results may be compared."""

from __future__ import annotations

import json
import pickle
from dataclasses import fields, replace
from typing import Any

import pytest

from reasonknee_datasets.bench.run_metadata import FIELDS, MODEL, RunMetadata, check_comparable, differences
from reasonknee_datasets.errors import BenchError

FULL = RunMetadata(
    dataset_revision="ab" * 32,
    split="test",
    records=76384,
    patients=700,
    records_sha256="cd" * 32,
    voxels_sha256="ef" * 32,
    condition="zero_shot",
    attributes="size",
    prompts={"2": "x", "10": "y"},
    system_prompt="You are a radiologist.",
    frames="ToFrames(count=16)",
    model="a/b",
    model_revision="main",
    generation={"temperature": 0.0, "stop": ["\n"]},
    codec_version=1,
    box_convention="slice0-x1-y2-corners-exclusive-voxel",
    package_version="0.1.0",
    seed=0,
    synthetic=True,
)
OTHER: dict[str, Any] = {
    "dataset_revision": "00" * 32,
    "split": "validation",
    "records": 1,
    "patients": 2,
    "records_sha256": "0",
    "voxels_sha256": None,
    "condition": "guided",
    "attributes": None,
    "prompts": {"2": "x", "10": "z"},
    "system_prompt": "",
    "frames": "ToFrames(count=8)",
    "model": "c",
    "model_revision": None,
    "generation": {"temperature": 1.0, "stop": ["\n"]},
    "codec_version": 2,
    "box_convention": "slice0-x1-y2-pairs-exclusive-voxel",
    "package_version": "0.2.0",
    "seed": 1,
    "synthetic": False,
}


def test_the_issue_names_these_fields() -> None:
    """One name for each thing that the specification lists."""
    assert set(OTHER) == set(FIELDS) == {each.name for each in fields(RunMetadata)}


def test_json_both_ways() -> None:
    again = RunMetadata.from_json(json.loads(json.dumps(FULL.to_json())))
    assert again == FULL
    assert hash(again) == hash(FULL)
    assert RunMetadata.from_json({}) == RunMetadata()
    assert pickle.loads(pickle.dumps(FULL)) == FULL


def test_mappings_are_those_that_json_gives_back() -> None:
    settings = {"stop": ("a",), "top_p": 1}
    one = RunMetadata(prompts={19: "x", 2: "y"}, generation=settings)  # type: ignore[dict-item]
    assert dict(one.prompts) == {"2": "y", "19": "x"}
    assert list(one.prompts) == ["2", "19"]
    settings["stop"] = ("b",)
    assert one.generation["stop"] == ["a"]  # the caller's dict is not ours


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ([], r"metadata must be a JSON object .*, got \[\]"),
        ({"modell": "x"}, r"no field 'modell'\. Did you mean 'model'\?"),
        ({"records": "7"}, r"records in a run's metadata must be a whole number, got '7'"),
        ({"records": True}, r"records in a run's metadata must be a whole number, got True"),
        ({"synthetic": 1}, r"synthetic in a run's metadata must be true or false, got 1"),
        ({"model": 3}, r"model in a run's metadata must be text, got 3"),
        ({"generation": "greedy"}, r"generation in a run's metadata must be a mapping"),
        (
            {"generation": {"temperature": float("nan")}},
            r"generation in a run's metadata must be a mapping of values that JSON can hold",
        ),
        ({"prompts": {"1": 5}}, r"prompts in a run's metadata must be a mapping of texts, got \{'1': 5\}"),
        ({"prompts": {"1": object()}}, r"prompts in a run's metadata must be a mapping of values that JSON can hold"),
    ],
)
def test_what_is_refused(item: Any, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        RunMetadata.from_json(item)


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_counts(name: str) -> None:
    other = replace(FULL, **{name: OTHER[name]})
    (found,) = differences(FULL, other)
    assert found.field.partition(".")[0] == name
    if name in MODEL:
        assert check_comparable(FULL, other) == (found,)
        return
    with pytest.raises(BenchError, match=rf"differ in more than the model: {name}.*--allow {name}") as caught:
        check_comparable(FULL, other)
    assert str(found) in str(caught.value)
    assert check_comparable(FULL, other, allow=(name,)) == (found,)


def test_equal_ones_are_comparable() -> None:
    assert check_comparable(FULL, FULL) == ()


def test_not_stated_is_no_wildcard() -> None:
    with pytest.raises(BenchError, match="seed: 0 and not stated"):
        check_comparable(FULL, replace(FULL, seed=None))


def test_check_comparable_without_boxes() -> None:
    """A run without boxes has no convention that could differ; two conventions do differ."""
    none = replace(FULL, box_convention=None)
    assert check_comparable(FULL, none) == check_comparable(none, FULL) == ()
    with pytest.raises(BenchError, match="box_convention"):
        check_comparable(FULL, replace(FULL, box_convention=OTHER["box_convention"]))


def test_true_is_not_one() -> None:
    first, second = RunMetadata(generation={"sample": True}), RunMetadata(generation={"sample": 1})
    assert [each.field for each in differences(first, second)] == ["generation.sample"]
    assert [each.field for each in differences(second, first)] == ["generation.sample"]


def test_check_comparable_allows_one_key() -> None:
    other = replace(FULL, generation={**FULL.generation, "temperature": 1.0})
    assert check_comparable(FULL, other, allow=("generation.temperature",))
    with pytest.raises(BenchError, match=r"more than the model: generation\.temperature: 0\.0 and 1\.0\."):
        check_comparable(FULL, other, allow=("generation.stop",))


def test_allow_is_checked() -> None:
    with pytest.raises(BenchError, match=r"no field 'sed' that could be allowed to differ\. Did you mean 'seed'"):
        check_comparable(FULL, FULL, allow=("sed",))
    with pytest.raises(BenchError, match=r"allow must be a list of fields, got 'seed'\. Write allow=\('seed',\)"):
        check_comparable(FULL, FULL, allow="seed")


def test_many_differences_stay_readable() -> None:
    other = replace(FULL, prompts={str(number): "other" for number in range(62)}, system_prompt="long " * 1000)
    with pytest.raises(BenchError, match="; and 53 more") as caught:
        check_comparable(FULL, other)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("at", [0, 30, 100, 5000])
def test_field_difference_shows_the_changed_part(at: int) -> None:
    text = "a" * at
    first, second = replace(FULL, frames=f"{text}left{'b' * 200}"), replace(FULL, frames=f"{text}right{'b' * 200}")
    with pytest.raises(BenchError, match=r"frames: .*left.* and .*right") as caught:
        check_comparable(first, second)
    assert len(str(caught.value)) < 450
