"""Conditions are values with names, and jittered boxes move by what they say."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.bench.conditions import (
    CONDITIONS,
    GUIDED,
    JITTERED_REGION,
    OFFICIAL,
    OWN_REGION,
    REGION_GIVEN,
    SCRIPTS,
    ZERO_SHOT,
    Condition,
    get_condition,
    jitter,
)
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.transforms import FRAME_RECIPES

_NAMES = (
    *("zero_shot", "guided", "region_given", "box_first", "own_region", "jittered_region"),
    *("text_only", "shuffled_image", "official", "official_o1"),
)


def test_the_conditions_are_those_of_the_bench() -> None:
    assert tuple(CONDITIONS) == _NAMES
    assert all(condition.name == name for name, condition in CONDITIONS.items())


def _jittered(shift: float, scale: float = 1.0) -> Condition:
    return replace(JITTERED_REGION, shift=shift, scale=scale)


@pytest.mark.parametrize("name", _NAMES)
def test_condition_is_a_value(name: str) -> None:
    condition = get_condition(name)
    assert get_condition(str(condition)) == condition
    assert pickle.loads(pickle.dumps(condition)) == condition
    assert hash(replace(condition)) == hash(condition)
    with pytest.raises((FrozenInstanceError, AttributeError)):
        condition.wording = "zeroshot"  # type: ignore[misc]


def test_condition_str_names_the_changes() -> None:
    assert str(replace(GUIDED, wording="zeroshot")) == "guided(wording=zeroshot)"
    assert str(replace(REGION_GIVEN, margin_mm=5)) == "region_given(margin_mm=5.0)"
    assert get_condition("region_given(margin_mm=5)") == replace(REGION_GIVEN, margin_mm=5)
    ladder = [_jittered(shift, scale) for shift in (0.1, 0.25) for scale in (0.5, 2)]
    assert len({str(each) for each in ladder}) == 4
    assert [get_condition(str(each)) for each in ladder] == ladder


def test_conditions_by_region_and_wording() -> None:
    assert {name for name, each in CONDITIONS.items() if each.sees_true_box} == {"region_given", "jittered_region"}
    assert {name for name, each in CONDITIONS.items() if each.asks_box} == {"box_first", "own_region"}
    assert ZERO_SHOT.wording == "zeroshot"
    assert {each.wording for each in CONDITIONS.values() if each != ZERO_SHOT} == {"guided"}
    assert repr(OWN_REGION.frames) in OWN_REGION.recipes
    assert repr(OWN_REGION.region_frames) in OWN_REGION.recipes
    assert REGION_GIVEN.recipes == repr(REGION_GIVEN.region_frames)


def test_scripts_of_the_official_conditions() -> None:
    assert OFFICIAL.frames == FRAME_RECIPES["official_qwen"]
    assert get_condition("official_o1").frames == FRAME_RECIPES["official_o1"]
    qwen, o1 = SCRIPTS["qwen"], SCRIPTS["o1"]
    assert (qwen.text_first, qwen.max_tokens, qwen.response_format) == (False, 1024, None)
    assert (o1.text_first, o1.max_tokens, o1.response_format) == (True, None, "json_object")
    assert qwen.system.endswith("presented as a video. Please provide your answer in JSON format.")


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("zeroshot", "Unknown condition 'zeroshot'. Did you mean 'zero_shot'"),
        ("guided(", "Unknown condition 'guided('"),
        ("guided(frames=3)", "A condition has no value 'frames' to set, got 'frames=3'"),
        ("jittered_region(shift=far)", "'shift=far' does not set a number"),
        ("jittered_region(shift=-1)", "condition's shift must be 0 to 1000, got -1.0"),
        ("jittered_region(scale=0)", "condition's scale must be 0.01 to 1000"),
        ("guided(wording=short)", "Unknown wording 'short' of a condition"),
        ("official(wording=zeroshot)", "The authors' scripts show whole volumes"),
        ("jittered_region(shift=nan)", "condition's shift must be 0 to 1000, got nan"),
    ],
)
def test_get_condition_names_what_is_wrong(text: str, match: str) -> None:
    with pytest.raises(BenchError, match=match.replace("(", r"\(")):
        get_condition(text)


def test_condition_with_own_region_asks_box() -> None:
    with pytest.raises(BenchError, match="crops to the model's own box must ask for it"):
        Condition("mine", region="own")


@given(
    st.tuples(*[st.tuples(st.integers(0, 60), st.integers(1, 30))] * 3),
    st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]),
    st.sampled_from([0.5, 1.0, 1.5]),
    st.integers(0, 5),
)
def test_jitter_moves_by_shift_and_scale(
    sides: tuple[tuple[int, int], ...], shift: float, scale: float, seed: int
) -> None:
    box = Box(tuple(low + 40 for low, _ in sides), tuple(low + 40 + length for low, length in sides))  # type: ignore[arg-type]
    roomy = (200, 200, 200)
    moved = jitter(box, roomy, _jittered(shift, scale), seed=seed, key="a")
    for axis, (_, length) in enumerate(sides):
        assert moved.shape[axis] == max(1, round(length * scale))
        # Half a voxel from rounding the length, half from rounding the place.
        assert abs(abs(moved.center[axis] - box.center[axis]) - shift * length) <= 1.0
    tight = jitter(box, box.stop, _jittered(shift, scale), seed=seed, key="a")
    tight.check_inside(box.stop)


def test_jitter_by_nothing_is_the_box() -> None:
    box = Box((3, 4, 5), (10, 12, 15))
    assert jitter(box, (20, 20, 20), _jittered(0), seed=3, key="a") == box


def test_jitter_draws_directions_by_seed() -> None:
    box = Box((50, 50, 50), (70, 70, 70))
    moves = {
        tuple(np.sign(np.subtract(jitter(box, (160, 160, 160), JITTERED_REGION, seed=0, key=key).start, box.start)))
        for key in map(str, range(64))
    }
    assert len(moves) == 8
    one = jitter(box, (160, 160, 160), JITTERED_REGION, seed=0, key="a")
    assert one == jitter(box, (160, 160, 160), JITTERED_REGION, seed=0, key="a")
    assert len({jitter(box, (160, 160, 160), JITTERED_REGION, seed=seed, key="a") for seed in range(32)}) > 1


def test_jitter_moves_inward_at_the_faces() -> None:
    box = Box((0, 0, 0), (20, 20, 20))
    for key in map(str, range(16)):
        moved = jitter(box, (100, 100, 100), _jittered(0.5), seed=0, key=key)
        assert moved == Box((10, 10, 10), (30, 30, 30))
