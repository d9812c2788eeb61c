"""The reward: by hand for each part, and called as TRL calls it."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest

from reasonknee_datasets.bench.answers import write
from reasonknee_datasets.bench.reward import Reward, Weights, make_reward, reward, reward_parts
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, Question

SHAPE = (24, 40, 32)
BOX = Box((2, 4, 6), (10, 20, 30))
CONVENTION = BoxConvention.parse("slice0-x1-y2-pairs-inclusive-voxel")


def column(**grades: int | None) -> list[dict[str, object]]:
    return [{"attribute": name, "grade": grade, "scale": "ordinal"} for name, grade in grades.items()]


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=lambda asked: f"q{asked.id:02d}")
def test_the_true_answer_gets_everything_and_none_gets_nothing(asked: Question) -> None:
    truth = {slot.attribute: slot.low for slot in asked.slots}
    said = write(asked, truth, BOX, CONVENTION, SHAPE)
    best = reward_parts(asked, said, truth, box=BOX, convention=CONVENTION, shape=SHAPE)
    assert best == Reward(1.0, 1.0, 1.0)
    assert best.total() == pytest.approx(1.0)
    for nothing in (None, "", "I'm sorry, I can't help with that.", "<think>" + said):
        worst = reward_parts(asked, nothing, truth, box=BOX, convention=CONVENTION, shape=SHAPE)
        assert worst == Reward(0.0, 0.0, 0.0)
        assert worst.total() == 0.0


@pytest.mark.parametrize(
    ("question", "given", "true", "grading"),
    [
        (19, {"size": 2, "depth": 1}, {"size": 3, "depth": 1}, (2 / 3 + 1) / 2),
        (19, {"size": 0, "depth": 3}, {"size": 3, "depth": 0}, 0.0),
        (19, {"size": 2, "depth": None}, {"size": 2, "depth": 1}, 0.5),
        (19, {"size": 2, "depth": 0}, {"size": 2, "depth": None}, 1.0),
        (19, {"size": 2, "depth": 0}, {"size": None, "depth": None}, None),
        (48, {"morphology": 5}, {"morphology": 6}, 0.0),  # nominal: no kind is nearer than another
        (54, {"presence": 1, "tear_location": 3}, {"presence": 1, "tear_location": 2}, 0.5),
        (62, {"signal": 0}, {"signal": 1}, 0.0),
    ],
)
def test_grading_by_scale(
    question: int, given: dict[str, int | None], true: dict[str, int | None], grading: float | None
) -> None:
    assert reward_parts(question, write(question, given), true).grading == (
        None if grading is None else pytest.approx(grading)
    )


def test_localisation_is_the_share_of_counted_voxels() -> None:
    other = Box((4, 4, 6), (12, 22, 28))
    one, two = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[BOX.slices], two[other.slices] = True, True
    said = write(62, {"signal": 1}, other, CONVENTION, SHAPE)
    parts = reward_parts(62, said, {"signal": 1}, box=BOX, convention=CONVENTION, shape=SHAPE)
    assert parts.localisation == pytest.approx((one & two).sum() / (one | two).sum())
    assert reward_parts(62, said, {"signal": 1}, box=BOX).localisation is None
    without = reward_parts(62, write(62, {"signal": 1}), {"signal": 1}, box=BOX, convention=CONVENTION, shape=SHAPE)
    assert without == Reward(0.5, 1.0, 0.0)


@pytest.mark.parametrize(
    ("said", "form"),
    [
        ('{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 2}}}', 1.0),
        ('The pad is bright.\n```json\n{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 2}}}\n```', 1.0),
        ('<think>1?</think><answer>{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 2}}}</answer>', 1.0),
        ("{'MOAKS_scores': {'Hoffa-Synovitis': {'grade': 2}}}", 0.5),
        ('{"Hoffa-Synovitis": {"grade": 2}}', 0.5),
        ("Grade 2", 0.5),
        ('{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 7}}}', 0.0),
    ],
)
def test_form_counts_what_had_to_be_repaired_and_not_where_the_answer_stands(said: str, form: float) -> None:
    assert reward_parts(42, said, {"grade": 2}).format == form


def test_an_answer_that_says_everything_earns_nothing() -> None:
    every = "\n".join(write(42, {"grade": grade}) for grade in range(4))
    assert reward_parts(42, every, {"grade": 2}) == Reward(0.0, 0.0, None)


def test_weights_of_absent_parts_go_to_the_others() -> None:
    weights = Weights(format=1, grading=2, localisation=7)
    assert Reward(1.0, 0.5, 0.0).total(weights) == pytest.approx(2 / 10)
    assert Reward(1.0, 0.5, None).total(weights) == pytest.approx(2 / 3)
    assert Reward(1.0, None, None).total(Weights(0, 1, 1)) == 0.0
    for wrong in ((-1, 1, 1), (0, 0, 0), (float("nan"), 1, 1), (float("inf"), 1, 1)):
        with pytest.raises(BenchError, match="reward weights must be 0 or more, and one above 0"):
            Weights(*wrong)


def test_it_is_called_as_trl_calls_reward_functions() -> None:
    prompts = [[{"role": "user", "content": "?"}]] * 3
    said = [write(19, {"size": 2, "depth": 1}), write(19, {"size": 1, "depth": 1}), "no"]
    completions = [[{"role": "assistant", "content": text}] for text in said]
    columns = {
        "question_id": [19] * 3,
        "grades": [column(size=2, depth=1)] * 3,
        "completion_ids": [[1], [2], [3]],
        "trainer_state": None,
    }
    expected = pytest.approx([1.0, (0.1 + 0.6 * 5 / 6) / 0.7, 0.0])
    assert reward(prompts=prompts, completions=completions, **columns) == expected
    assert reward(prompts, said, **columns) == expected
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in said]
    assert reward(prompts, parts, **columns) == expected
    assert reward([], [], question_id=[], grades=[]) == []
    assert reward.__name__ == "reward"
    assert make_reward(None).__name__ == "reasonknee_reward"
    assert list(inspect.signature(reward).parameters) == ["prompts", "completions", "columns"]


def test_the_grades_column_in_each_form_that_datasets_gives_it() -> None:
    said = [write(19, {"size": 2, "depth": 1})]
    for grades in (
        column(size=2, depth=1),
        {"attribute": ["size", "depth"], "grade": [2, 1], "scale": ["ordinal"] * 2},
        {"size": 2, "depth": 1},
        column(size=2, depth=None),
    ):
        assert reward([""], said, question_id=[19], grades=[grades]) == pytest.approx([1.0])


def test_boxes_as_the_convention_has_them() -> None:
    for name in ("slice0-x1-y2-pairs-inclusive-voxel", "slice2-x0-y1-corners-exclusive-normalised"):
        function = make_reward(None, weights=Weights(0, 0, 1), convention=name)
        said = write(62, {"signal": 1}, BOX, BoxConvention.parse(name), SHAPE)
        rows = {"question_id": [62], "grades": [column(signal=1)], "box": [BOX.to_row()], "shape": [SHAPE]}
        assert function([""], [said], **rows) == [1.0]
        assert function([""], [json.dumps({"bounding_box": None})], **rows) == [0.0]


def test_a_column_that_is_absent_or_short_is_named() -> None:
    with pytest.raises(BenchError, match="column 'grades' must hold one value for each of 1 completions, got none"):
        reward([""], ["2"], question_id=[30])
    with pytest.raises(BenchError, match="column 'question_id' must hold one value for each of 2 completions, got 1"):
        reward([""] * 2, ["2"] * 2, question_id=[30], grades=[column(grade=1)] * 2)
    with pytest.raises(BenchError, match="column 'box' must hold one value for each of 1 completions, got none"):
        make_reward(None, convention=CONVENTION)([""], ["2"], question_id=[30], grades=[column(grade=1)])


@pytest.mark.slow
def test_trl_trains_with_it(tmp_path: object) -> None:
    pytest.importorskip("torch")
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    from tests.tiny_tokenizers import wrapped

    tokenizer = wrapped()
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    seen: list[float] = []

    def watched(prompts: list[str], completions: list[str], **columns: object) -> list[float]:
        seen.extend(reward(prompts, completions, **columns))
        return seen[-len(completions) :]

    rows = {"prompt": ["Grade?"] * 4, "question_id": [30] * 4, "grades": [column(grade=1)] * 4}
    trainer = trl.GRPOTrainer(
        model=transformers.LlamaForCausalLM(config),
        reward_funcs=watched,
        args=trl.GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=2,
            num_generations=2,
            max_completion_length=8,
            max_steps=1,
            report_to=[],
            use_cpu=True,
        ),
        train_dataset=datasets.Dataset.from_dict(rows),
        processing_class=tokenizer,
    )
    trainer.train()
    assert len(seen) >= 2
    assert all(0.0 <= value <= 1.0 for value in seen)
