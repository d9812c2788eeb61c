"""Rules of every transform: values, new examples, batches of rows, and a separate random stream."""

from __future__ import annotations

import copy
import pickle
import pydoc
import subprocess
import sys
from dataclasses import FrozenInstanceError, dataclass, fields, replace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from datasets import Features, List, Value
from datasets.fingerprint import Hasher

from reasonknee_datasets.boxes import Box  # noqa: F401  # which eval finds
from reasonknee_datasets.errors import BoxError, ReasonKneeError
from reasonknee_datasets.feature import VolumeFeature
from reasonknee_datasets.transforms import (
    FRAME_RECIPES,
    Compose,
    CropToBox,
    RandomFlip,
    RandomIntensity,
    RandomShift,
    Resample,
    Resize,
    Template,
    ToCanonical,
    ToConversation,
    ToFrames,
    Transform,
    TransformError,
    Vision,
    Window,
    read_voxels,
)
from reasonknee_datasets.transforms.regrid import random_stream
from tests.helpers.transform_examples import plain_case

TRANSFORMS = [
    CropToBox(margin_mm=5),
    CropToBox(size=(16, 32, 32), pad_value=-1, jitter_mm=(1.0, 2.0, 3.0), seed=3),
    CropToBox(margin_voxels=(1, 2, 3), size=24, pad_value=None),
    ToCanonical(),
    RandomFlip(p=1.0),
    RandomFlip(seed=8),
    RandomShift(max_mm=(1.0, 9.0, 4.0), pad_value=2),
    Resize(20),
    Resample((2.0, 1.0, 1.5)),
    Window(),
    Window(1, 99, method="percentiles", per="crop", dtype="uint8"),
    Window(method="zscore", dtype="float16"),
    ToFrames(count=5, size=28),
    ToFrames("axial", window=(0, 300), size=(20, 30), span=(0.1, 0.5), fps=2),
    FRAME_RECIPES["official_qwen"],
    FRAME_RECIPES["clean_qwen"],
    FRAME_RECIPES["clean_o1"],
    Compose(
        [ToCanonical(), CropToBox(size=(16, 32, 32)), RandomFlip(0.5), Window(), RandomIntensity(gain=0.2, seed=4)]
    ),
    Compose([]),
]
NAMES = [f"{number}-{type(t).__name__}" for number, t in enumerate(TRANSFORMS)]
each = pytest.mark.parametrize("transform", TRANSFORMS, ids=NAMES)


def examples() -> list[dict[str, Any]]:
    return [plain_case(side, seed, question).example() for side, seed, question in [("left", 0, 4), ("right", 1, 30)]]


def plain(value: Any) -> Any:
    """Read volumes and arrays into what compares."""
    if hasattr(value, "dataobj"):
        return [plain(np.asarray(value.dataobj)), value.affine.tolist()]
    return (str(value.dtype), value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def compared(example: dict[str, Any]) -> dict[str, Any]:
    return {key: plain(value) for key, value in example.items()}


class TestValues:
    @each
    def test_its_repr_rebuilds_it(self, transform: Transform) -> None:
        again = eval(repr(transform))
        assert again == transform
        assert repr(again) == repr(transform)
        assert hash(again) == hash(transform)

    @each
    def test_it_is_frozen(self, transform: Transform) -> None:
        with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
            transform.seed = 5  # type: ignore[attr-defined]
        assert not hasattr(transform, "__dict__")

    @each
    def test_it_pickles_small(self, transform: Transform) -> None:
        data = pickle.dumps(transform)
        assert pickle.loads(data) == transform == copy.deepcopy(transform)
        assert len(data) < 1_000

    @each
    def test_equal_values_have_one_fingerprint(self, transform: Transform) -> None:
        hashes = {Hasher.hash(t) for t in (transform, pickle.loads(pickle.dumps(transform)), eval(repr(transform)))}
        assert len(hashes) == 1

    @pytest.mark.slow
    def test_fingerprints_are_equal_across_processes(self) -> None:
        code = "\n".join(
            [
                "from datasets.fingerprint import Hasher",
                "from reasonknee_datasets.transforms import *",
                "from reasonknee_datasets.transforms.regrid import random_stream",
                *(f"print(Hasher.hash({transform!r}))" for transform in TRANSFORMS),
                "print(random_stream('RandomFlip', 3, {'id': '9016403/00M/right/q19', 'epoch': 2}).random())",
            ]
        )
        out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
        here = [Hasher.hash(transform) for transform in TRANSFORMS]
        assert len(set(here)) == len(TRANSFORMS)
        assert out.split() == [
            *here,
            str(random_stream("RandomFlip", 3, {"id": "9016403/00M/right/q19", "epoch": 2}).random()),
        ]

    def test_numpy_numbers_are_the_same_value(self) -> None:
        given = CropToBox(margin_mm=np.float64(5), size=np.array([16, 32, 32]), seed=np.int64(0), pad_value=np.uint8(0))
        assert given == CropToBox(margin_mm=5.0, size=(16, 32, 32))
        assert repr(given) == repr(CropToBox(margin_mm=5.0, size=(16, 32, 32)))
        assert Hasher.hash(given) == Hasher.hash(CropToBox(margin_mm=5.0, size=(16, 32, 32)))

    @pytest.mark.parametrize("two", [2.0, np.int64(2)])
    def test_parameters_accept_any_integer_type(self, two: Any) -> None:
        assert repr(ToConversation("ms_swift", turns=two)) == repr(ToConversation("ms_swift", turns=2))
        assert repr(Vision("<image>", two)) == repr(Vision("<image>", 2))
        assert Vision("<image>", two).count_for({}) * ["x"] == ["x", "x"]


class TestExamples:
    @each
    def test_the_old_example_stays(self, transform: Transform) -> None:
        for example in examples():
            kept, before = dict(example), compared(example)
            box = example["box"]
            new = transform(example)
            assert new is not example or transform == Compose([])
            assert list(example) == list(kept)
            assert all(example[key] is kept[key] for key in kept)
            assert example["box"] is box
            assert compared(example) == before

    @each
    def test_a_batch_is_its_rows(self, transform: Transform) -> None:
        rows = examples()
        batch = transform({key: [row[key] for row in rows] for key in rows[0]})
        for index, row in enumerate(rows):
            expected = transform(row)
            assert compared({key: values[index] for key, values in batch.items()}) == compared(expected)

    @each
    def test_order_and_company_do_not_matter(self, transform: Transform) -> None:
        first, second = examples()
        alone = compared(transform(first))
        transform(second)
        assert compared(transform(examples()[0])) == alone

    @each
    def test_the_features_are_those_of_the_example(self, transform: Transform) -> None:
        example = examples()[0]
        features = Features(
            {
                **{key: Value("string") for key in ("id", "side", "question", "answer")},
                "volume": VolumeFeature(),
                "box": List(Value("int32"), length=6),
                "reasoning": List(Value("string")),
            }
        )
        new = transform.output_features(features)
        assert isinstance(new, Features)
        assert set(new) == set(transform(example))
        changed = {key: value for key, value in transform(example).items() if key != "volume"}
        Features({key: new[key] for key in changed}).encode_example(changed)

    @each
    def test_a_volume_without_a_box(self, transform: Transform) -> None:
        example = {key: value for key, value in examples()[0].items() if key != "box"}
        if "CropToBox" in repr(transform):
            with pytest.raises(TransformError, match=r"The example has no box, which is needed for CropToBox"):
                transform(example)
        else:
            assert "box" not in transform(example)
            assert "frame_box" not in transform(example)


class TestChance:
    def test_draws_depend_on_seed_epoch_id(self) -> None:
        example = examples()[0]
        shift = RandomShift(max_mm=20.0)
        assert shift(example)["box"] == shift({**example, "epoch": 0})["box"] == shift(dict(example))["box"]
        others = [
            RandomShift(max_mm=20.0, seed=1)(example)["box"],
            shift({**example, "epoch": 1})["box"],
            shift({**example, "id": example["id"] + "0"})["box"],
        ]
        assert all(box != shift(example)["box"] for box in others)

    def test_two_transforms_do_not_draw_alike(self) -> None:
        example = {"id": "9016403/00M/right/q19"}
        assert random_stream("RandomFlip", 0, example).random() != random_stream("RandomShift", 0, example).random()

    def test_draws_are_even(self) -> None:
        draws = np.array(
            [random_stream("RandomFlip", 0, {"id": f"{n:07d}/00M/left/q01"}).random() for n in range(2000)]
        )
        assert np.histogram(draws, bins=4, range=(0, 1))[0].min() > 430  # 500 in each, at three deviations

    def test_an_example_without_an_id_is_refused(self) -> None:
        example = {key: value for key, value in examples()[0].items() if key != "id"}
        with pytest.raises(
            TransformError, match=r"The example has no id, which is needed for the draws of RandomShift"
        ):
            RandomShift()(example)


class TestCompose:
    def test_it_is_its_steps_in_order(self) -> None:
        example = examples()[0]
        steps = [ToCanonical(), CropToBox(size=(16, 32, 32)), Window()]
        by_hand = example
        for step in steps:
            by_hand = step(by_hand)
        assert compared(Compose(steps)(example)) == compared(by_hand)

    def test_compose_accepts_functions(self) -> None:
        composed = Compose([ToCanonical(), lambda example: {**example, "tall": example["volume"].shape[2]}])
        example = examples()[0]
        assert composed(example)["tall"] == ToCanonical()(example)["volume"].shape[2]
        with pytest.raises(TransformError, match=r"A step of Compose \(<lambda>\) has no output_features"):
            composed.output_features(Features({}))

    @pytest.mark.parametrize("own_step", [0, 1, 2])
    def test_compose_calls_functions_by_example(self, own_step: int) -> None:
        def add_tall(example: dict[str, Any]) -> dict[str, Any]:
            assert isinstance(example["id"], str)
            return {**example, "tall": example["volume"].shape[2]}

        steps: list[Any] = [CropToBox(margin_voxels=1), Window()]
        steps.insert(own_step, add_tall)
        rows = examples()[:3]
        batch = {name: [row[name] for row in rows] for name in rows[0]}
        made = Compose(steps)(batch)
        for index, row in enumerate(rows):
            alone = Compose(steps)(row)
            assert compared({name: column[index] for name, column in made.items()}) == compared(alone)

    def test_compose_refuses_none_within_a_batch(self) -> None:
        rows = examples()[:2]
        batch = {name: [row[name] for row in rows] for name in rows[0]}
        with pytest.raises(TransformError, match=r"Step 1 of Compose \(<lambda>\) returned None"):
            Compose([ToCanonical(), lambda example: None])(batch)

    def test_compose_refuses_keys_of_some_examples(self) -> None:
        rows = examples()[:2]
        batch = {name: [row[name] for row in rows] for name in rows[0]}
        with pytest.raises(TransformError, match="Only some examples of a batch have the key 'first'"):
            Compose([lambda row: {**row, "first": 1} if row["id"] == rows[0]["id"] else row])(batch)

    def test_a_step_that_is_none_is_refused(self) -> None:
        with pytest.raises(
            TransformError, match=r"Step 0 of Compose must be a transform or a function, not 'CropToBox'"
        ):
            Compose(["CropToBox"])


class TestBadInput:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: CropToBox(seed=1.5),
            lambda: CropToBox(pad_value="black"),
            lambda: RandomFlip(seed="a"),
            lambda: RandomShift(pad_value=float("nan")),
            lambda: RandomIntensity(seed=None),
            lambda: Window("0", 400),
            lambda: ToFrames(fps=-1),
        ],
    )
    def test_numbers_that_are_none(self, make: Any) -> None:
        with pytest.raises(
            TransformError,
            match=r"(seed|pad_value|low|fps) must be a (whole )?number.*, not .* \((float|str|NoneType|int)\)",
        ):
            make()

    def test_an_array_in_place_of_a_volume(self) -> None:
        example = {**examples()[0], "volume": np.zeros((4, 4, 4))}
        with pytest.raises(
            TransformError, match=r"must be a nibabel image, not a value of type ndarray\. .*with_format"
        ):
            ToCanonical()(example)

    def test_no_volume(self) -> None:
        with pytest.raises(TransformError, match=r"The example has no volume, which is needed for its voxels"):
            Window()({"id": "a"})

    def test_a_series(self) -> None:
        example = {"id": "a", "volume": nib.Nifti1Image(np.zeros((2, 2, 2, 3), np.int16), np.eye(4))}
        with pytest.raises(TransformError, match=r"has the shape \(2, 2, 2, 3\), but must have three axes"):
            ToCanonical()(example)

    @pytest.mark.parametrize("key", ["frames", "input_ids", "messages"])
    def test_grid_change_after_derived_key_is_refused(self, key: str) -> None:
        with pytest.raises(
            TransformError,
            match=rf"already has {key}, made from its present grid, .* Put transforms of the grid before",
        ):
            ToCanonical()({**examples()[0], key: [1]})

    def test_the_error_says_which_example(self) -> None:
        example = {**examples()[0], "box": [0, 0, 0, 400, 10, 10]}
        with pytest.raises(ReasonKneeError, match=r"is outside the volume") as caught:
            CropToBox()(example)
        assert caught.value.__notes__ == [f"while CropToBox transformed {example['id']}"]

    def test_a_transform_that_says_nothing(self) -> None:
        @dataclass(frozen=True)
        class Idle(Transform):
            pass

        assert fields(Idle) == ()
        with pytest.raises(NotImplementedError, match=r"Idle has no apply method"):
            Idle()({"id": "a"})


def test_reading_voxels() -> None:
    example = CropToBox(margin_voxels=1)(examples()[0])
    np.testing.assert_array_equal(read_voxels(example), np.asarray(example["volume"].dataobj))
    windowed = Window()(example)
    assert read_voxels(windowed) is windowed["voxels"]


RANDOM = [
    CropToBox(size=(16, 32, 32), jitter_mm=6.0, seed=3),
    RandomFlip(0.5, seed=8),
    RandomShift(max_mm=9.0),
    RandomIntensity(gain=0.4, offset=0.3),
]


class TestParams:
    """Parameters are drawn apart from being applied."""

    @each
    def test_calling_is_drawing_and_applying(self, transform: Transform) -> None:
        if isinstance(transform, Compose):
            pytest.skip("its steps draw")
        for example in examples():
            changes = transform.apply(example, transform.make_params(example))
            called = transform(example)
            assert compared({name: called[name] for name in changes}) == compared(changes)
            assert set(called) == {*example, *changes}

    @pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: type(transform).__name__)
    def test_make_params_uses_id_epoch_seed(self, transform: Transform) -> None:
        example = Window(0, 9)(plain_case().example())
        drawn = [transform.make_params(example | {"epoch": epoch}) for epoch in range(12)]
        assert len(set(drawn)) > 1
        assert [transform.make_params(example | {"epoch": epoch}) for epoch in range(12)] == drawn
        assert [eval(repr(params)) for params in drawn] == pickle.loads(pickle.dumps(drawn)) == drawn
        assert [replace(transform, seed=77).make_params(example | {"epoch": epoch}) for epoch in range(12)] != drawn

    @pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: type(transform).__name__)
    def test_parameters_of_one_example_apply_to_another(self, transform: Transform) -> None:
        example = Window(0, 9)(plain_case().example())
        params = transform.make_params(example)
        other = example | {"id": "0000009/96M/right/q19", "epoch": 5}
        assert transform.make_params(other) != params or isinstance(transform, RandomFlip)
        expected = transform(example)
        for name, value in transform.apply(other, params).items():
            assert compared({name: value}) == compared({name: expected[name]})

    @pytest.mark.parametrize("transform", RANDOM, ids=lambda transform: type(transform).__name__)
    def test_drawing_reads_no_voxels(self, transform: Transform) -> None:
        class Unread:
            ndim, dtype, shape = 3, np.dtype(np.int16), (64, 80, 80)

            def __getitem__(self, key: Any) -> Any:
                raise AssertionError("voxels were read")

            def __array__(self, *args: Any, **kwargs: Any) -> Any:
                raise AssertionError("voxels were read")

        volume = nib.Nifti1Image(Unread(), np.eye(4))
        transform.make_params({"id": "a", "volume": volume, "box": [20, 20, 20, 30, 30, 30], "side": "right"})

    def test_a_flip_may_be_chosen(self) -> None:
        example = plain_case().example()
        flip = RandomFlip(p=0.0)
        assert flip(example)["mirrored"] is False
        assert compared(flip.apply(example, True)) == compared(RandomFlip(p=1.0).apply(example, True))
        assert flip.apply(example, True)["side"] == "left"

    def test_a_shift_may_be_chosen(self) -> None:
        example = plain_case().example()
        moved = RandomShift(max_mm=0).apply(example, (3, 0, -2))
        assert moved["box"] == (np.add(example["box"], [3, 0, -2] * 2)).tolist()


class TestWrongArguments:
    """Arguments that would mean something else are refused, and messages show types but never a whole row."""

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (
                lambda: CropToBox(64),
                r"CropToBox takes these by keyword: margin_mm=, .*size=.*, not 64 \(int\) by position",
            ),
            (lambda: CropToBox((64, 96, 96)), r"CropToBox takes these by keyword"),
            (lambda: RandomShift(5), r"RandomShift takes these by keyword: max_mm="),
            (lambda: RandomIntensity(0.2), r"RandomIntensity takes these by keyword: gain="),
            (lambda: RandomFlip(0.5, 3), r"RandomFlip takes these by keyword: plane="),
            (lambda: ToFrames("sagittal", 16), r"ToFrames takes these by keyword: count="),
            (lambda: Window(0, 400, "clip"), r"Window takes these by keyword: method="),
            (lambda: ToConversation("trl", 2), r"ToConversation takes these by keyword: turns="),
            (lambda: ToCanonical(1), r"ToCanonical takes these by keyword: nothing"),
        ],
    )
    def test_positions_that_say_nothing(self, make: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            make()

    @pytest.mark.parametrize("kind", [CropToBox, ToCanonical, Window, ToFrames, RandomFlip, Resize, Compose])
    def test_transform_class_called_with_example(self, kind: Any) -> None:
        example = plain_case().example()
        for given in (example, {key: [value] for key, value in example.items()}):
            with pytest.raises(
                TransformError, match=rf"{kind.__name__} is a class and was called with an example"
            ) as error:
                kind(given)
            assert len(str(error.value)) < 250

    def test_a_class_in_compose(self) -> None:
        with pytest.raises(TransformError, match=r"Step 1 of Compose is the class Window, not a transform. Create it"):
            Compose([ToCanonical(), Window])

    @pytest.mark.parametrize("given", ["ToCanonical", 3, None, {"a": 1}, ToCanonical()])
    def test_compose_of_something_else(self, given: Any) -> None:
        with pytest.raises(TransformError, match="Compose takes a list of transforms, not"):
            Compose(given)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: CropToBox(size="64"), r"size must be .*, not '64' \(str\)"),
            (lambda: CropToBox(size=True), r"size must be .*, not True \(bool\)"),
            (lambda: CropToBox(size=64.5), r"size must be .*, not 64.5 \(float\)"),
            (lambda: CropToBox(margin_mm="10"), r"margin_mm must be .*, not '10' \(str\)"),
            (lambda: RandomFlip("0.5"), r"p must be .*, not '0.5' \(str\)"),
            (lambda: RandomFlip(2), r"p must be a probability from 0 to 1, not 2.0"),
            (lambda: Resize("64"), r"size must be .*, not '64' \(str\)"),
            (lambda: Resample(None), r"spacing must be .*, not None \(NoneType\)"),
            (lambda: Window("0", 400), r"low must be .*, not '0' \(str\)"),
            (lambda: Window(method=3), r"method must be one of .*, not 3 \(int\)"),
            (lambda: ToConversation(turns="2"), r"turns must be .*, not '2' \(str\)"),
            (lambda: ToFrames(16), r"plane must be one of .*, not 16 \(int\)"),
            (lambda: ToFrames(window=400), r"window must be a Window or \(low, high\), not 400 \(int\)"),
            (lambda: ToFrames(count=True), r"count must be .*, not True \(bool\)"),
            (lambda: Template("{question}", "{answer}", separator=3), r"separator must be a text, not 3 \(int\)"),
            (lambda: Vision("<image>", 2.5), r"count must be .*, not 2.5 \(float\)"),
        ],
    )
    def test_types_are_shown(self, make: Any, message: str) -> None:
        with pytest.raises(TransformError, match=message):
            make()

    @pytest.mark.parametrize(
        "make",
        [
            lambda row: CropToBox(size=row),
            lambda row: RandomFlip(seed=row),
            lambda row: Window(low=row),
            lambda row: Window(method=row),
            lambda row: ToFrames(window=row),
            lambda row: Compose([ToCanonical(), row]),
            lambda row: ToConversation(frames=row),
            lambda row: CropToBox()(row | {"box": row}),
        ],
    )
    def test_whole_rows_are_not_shown(self, make: Any) -> None:
        row = plain_case().example() | {"reasoning": ["a step that nobody wants to see in a message"] * 9}
        with pytest.raises((TransformError, BoxError)) as error:
            make(row)
        assert "a step that nobody" not in str(error.value)
        assert len(str(error.value)) < 300


@pytest.mark.parametrize("kind", [CropToBox, Window, Compose, ToFrames])
def test_help_of_transform_hides_generated_methods(kind: type) -> None:
    page = pydoc.plain(pydoc.render_doc(kind))
    assert "__call__(self, example" in page
    assert "added_features(self, features" in page or kind is Compose
    assert "Parameters" in page
    generated = ("__init__", "__eq__", "__getstate__", "__setattr__", "__dataclass", "__match_args__", "__post_init__")
    assert not [name for name in generated if name in page]
