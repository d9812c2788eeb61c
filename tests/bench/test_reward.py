"""The reward: by hand for each part, and called as TRL calls it."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.bench.answers import write
from reasonknee_datasets.bench.answers.sole_answer import LONGEST
from reasonknee_datasets.bench.priors import EquitableScores, TrainPriors, equitable_scores, read_priors
from reasonknee_datasets.bench.reward import Reward, Weights, make_reward, reward, reward_parts
from reasonknee_datasets.bench.truth import open_data
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS, Question, Slot

SHAPE = (24, 40, 32)
BOX = Box((2, 4, 6), (10, 20, 30))
CONVENTION = BoxConvention.parse("slice0-x1-y2-pairs-inclusive-voxel")


def column(**grades: int | None) -> list[dict[str, object]]:
    return [{"attribute": name, "grade": grade, "scale": "ordinal"} for name, grade in grades.items()]


@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=lambda asked: f"q{asked.id:02d}")
def test_reward_parts_of_truth_and_nothing(asked: Question) -> None:
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


def test_reward_parts_localisation_matches_counted_voxels() -> None:
    other = Box((4, 4, 6), (12, 22, 28))
    one, two = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    one[BOX.slices], two[other.slices] = True, True
    said = write(62, {"signal": 1}, other, CONVENTION, SHAPE)
    parts = reward_parts(62, said, {"signal": 1}, box=BOX, convention=CONVENTION, shape=SHAPE)
    iou, whole = (one & two).sum() / (one | two).sum(), one.mean()
    assert parts.localisation == pytest.approx((iou - whole) / (1 - whole))
    assert reward_parts(62, said, {"signal": 1}, box=BOX).localisation is None
    with pytest.raises(BenchError, match=r"only with the shape of its volume.*Pass shape"):
        reward_parts(62, said, {"signal": 1}, box=BOX, convention=CONVENTION)
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
        ("Grade 2", 0.0),
        ('{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 7}}}', 0.0),
    ],
)
def test_reward_parts_format_counts_repairs(said: str, form: float) -> None:
    assert reward_parts(42, said, {"grade": 2}).format == form


def priors_of(counts: np.ndarray) -> TrainPriors:
    return TrainPriors("", int(counts.sum()), counts, {}, np.zeros(0), np.zeros(0))


def filled(asked: Question, value: object) -> str:
    """Write the schema of a question with one value in every slot, legal or not."""

    def fill(node: object) -> object:
        return {key: fill(item) for key, item in node.items()} if isinstance(node, dict) else value

    return json.dumps(fill(json.loads(write(asked, dict.fromkeys(asked.attributes, 0)))))


def answers_of_every_grade(asked: Question) -> list[str]:
    highest = max(slot.high for slot in asked.slots)
    return [
        write(asked, {slot.attribute: min(grade, slot.high) for slot in asked.slots}) for grade in range(highest + 1)
    ]


def listed(asked: Question, truth: dict[str, int]) -> list[str]:
    every, grades = answers_of_every_grade(asked), range(1 + max(slot.high for slot in asked.slots))
    fenced = "\n".join(f"```json\n{one}\n```" for one in every)
    inside = "{" + ", ".join(one[1:-1] for one in every) + "}"
    words = ["The grade is " + " or ".join(map(str, grades)), "\n".join(f"The grade is {grade}." for grade in grades)]
    finals = "\n".join(f"Final answer: {one}" for one in every)
    tags = "\n".join(f"<answer>{one}</answer>" for one in every)
    numbers = [separator.join(map(str, grades)) for separator in (" ", " / ", ", ")]
    return [
        "\n".join(every),
        " or ".join(every),
        f"[{', '.join(every)}]",
        fenced,
        inside,
        finals,
        tags,
        *words,
        *numbers,
    ]


def around_the_truth(asked: Question, truth: dict[str, int]) -> list[str]:
    grade = min(truth.values())
    forms = ("-1", "-{}", ">2", ">{}", ">={}", "<{}", "~{}", "!={}", "not {}", "{}+", "{}?", "{}.5", "at least {}")
    forms += ("({})", "=>{}", "{} 60%, 3 40%", "{}; 3", "{} -> 3")
    return [filled(asked, form.format(grade)) for form in forms] + [filled(asked, -1), filled(asked, grade + 0.5)]


def all_options(asked: Question, truth: dict[str, int]) -> list[str]:
    grades = [str(grade) for grade in range(1 + max(slot.high for slot in asked.slots))]
    texts = [separator.join(grades) for separator in ("|", "/", ", ", " or ")]
    texts += [separator.join(grades) for separator in ("; ", " → ", "\n")]
    texts += [f"0-{grades[-1]}", f"0 to {grades[-1]}", f"(grade from 0-{grades[-1]})", "yes/no", "yes or no"]
    values: list[object] = [*texts, [int(grade) for grade in grades], dict.fromkeys(grades, 0.25)]
    return [filled(asked, value) for value in values]


def taken_back(asked: Question, truth: dict[str, int]) -> list[str]:
    words = ("I take that back.", "Ignore the above.", "The opposite is true.", "On reflection, I cannot tell.")
    more = ("None of this is my answer.", "Das nehme ich zurück.", "以上の答えは取り消します。", "lol jk")
    right = write(asked, truth)
    said = [
        f"{right}\n{said}" for said in (*words, *more, filled(asked, None), filled(asked, "unknown"), "~~", "?", "✗")
    ]
    return [*said, f"~~{right}~~", f"<!-- {right} -->"]


def other_keys(asked: Question, truth: dict[str, int]) -> list[str]:
    right, other = json.loads(write(asked, truth)), json.loads(write(asked, dict.fromkeys(truth, 0)))
    notes = {"note": "ignore this", "confidence": 0, "is_correct": False, "correction": {"grade": 0}, "not": other}
    added = [json.dumps({**right, key: value}) for key, value in notes.items()]
    around = [json.dumps({key: right}) for key in ("rejected", "wrong_answer", "not_my_answer", "example")]
    return [*added, *around, json.dumps({"final": right, "alternative": other}), json.dumps({"options": [right]})]


def very_long(asked: Question, truth: dict[str, int]) -> list[str]:
    right = write(asked, truth)
    return ["I look at the knee. " * 2_000 + right, right * 1_000, " " * 100_000 + right, "1" * 100_000, "{" * 100_000]


def fragments(asked: Question, truth: dict[str, int]) -> list[str]:
    right = write(asked, truth)
    middle, key = len(right) // 2, right.rindex('"')
    inner = json.dumps(truth)[1:-1]
    return [
        *(right[start:] for start in range(1, min(len(right), 40))),
        *(right[:end] for end in range(len(right) - 1, len(right) - 20, -1)),
        right[key:],
        right[:middle] + right,
        right + right[middle:],
        right[:middle] + right[:middle] + right[middle:],
        right[1:] + right,
        "}" + right,
        right.replace("}", ""),
        right.replace("{", ""),
        right.replace('"', "", 1),
        inner,
        "\n".join(f"{name}: {grade}" for name, grade in truth.items()),
        " ".join(f'{name}": {grade}' for name, grade in truth.items()),
        f"The grade is {min(truth.values())}.",
        str(min(truth.values())),
        f"\\boxed{{{min(truth.values())}}}",
    ]


def repeated_keys(asked: Question, truth: dict[str, int]) -> list[str]:
    right = write(asked, truth)
    last = right[right.rindex('"', 0, right.rindex('"')) : right.rindex('"') + 1]  # the last key, in its quotes
    pair = right[right.rindex(last) :].rstrip("}")
    ends = right[len(right.rstrip("}")) :]
    other = re.sub("[0-9]$", lambda grade: "1" if grade[0] == "0" else "0", pair)
    body = right.rstrip("}")
    return [
        f"{body}, {pair}{ends}",
        f"{body}, {other}{ends}",
        f"[{right}, {right}]",
        f"{{{right[1:-1]}, {right[1:-1]}}}",
    ]


def empty(asked: Question, truth: dict[str, int]) -> list[str]:
    return ["", " \n", "{}", "[]", "null", "<think>" + write(asked, truth), filled(asked, None), filled(asked, "")]


@pytest.fixture(scope="module")
def scores(prepared: Path) -> EquitableScores:
    return equitable_scores(read_priors(open_data(prepared)))


@pytest.mark.parametrize(
    "trick", [listed, around_the_truth, all_options, taken_back, other_keys, very_long, fragments, repeated_keys, empty]
)
@pytest.mark.parametrize("weighted", [False, True])
def test_reward_parts_of_tricks(
    trick: Callable[[Question, dict[str, int]], list[str]], weighted: bool, scores: EquitableScores
) -> None:
    chosen = scores if weighted else None
    for asked in (QUESTIONS[number] for number in (1, 19, 30, 42, 44, 48, 54, 60, 62, 69)):  # every form of schema
        for grade in (0, 1, 2):
            truth = {slot.attribute: min(grade, slot.high) for slot in asked.slots}
            far = {slot.attribute: slot.high if truth[slot.attribute] <= slot.high / 2 else 0 for slot in asked.slots}
            honest = reward_parts(asked, write(asked, far), truth, scores=chosen).total()
            assert reward_parts(asked, write(asked, truth), truth, scores=chosen).total() > honest
            for text in trick(asked, truth):
                assert reward_parts(asked, text, truth, scores=chosen).total() <= honest, (asked.id, truth, text[:200])


def test_reward_parts_of_boxes_that_hedge() -> None:
    asked, truth = QUESTIONS[62], {"signal": 1}

    def total(text: str) -> float:
        return reward_parts(asked, text, truth, box=BOX, convention=CONVENTION, shape=SHAPE).total()

    def said(box: Box) -> str:
        return write(asked, truth, box, CONVENTION, SHAPE)

    right, honest = said(BOX), total(said(Box((20, 30, 0), (24, 40, 4))))
    assert total(right) > honest
    whole, numbers = Box((0, 0, 0), SHAPE), json.loads(right)["bounding_box"]
    other = CONVENTION.encode(Box((20, 30, 0), (24, 40, 4)), SHAPE)
    tricks = [
        said(whole),
        json.dumps({**json.loads(right), "bounding_box": [-999, 9999] * 3}),
        json.dumps({**json.loads(right), "bounding_box": [numbers, other]}),
        json.dumps({**json.loads(right), "bbox": other}),
        right + "\n" + said(whole),
        "\n".join(said(Box((i, j, 0), (i + 8, j + 16, 24))) for i in range(0, 17, 2) for j in range(0, 25, 4)),
    ]
    for text in tricks:
        assert total(text) <= honest, text[:200]


def test_reward_parts_accepts_reasoning_and_special_tokens() -> None:
    right = write(42, {"grade": 2})
    for text in (
        f"The pad is bright.\n{right}",
        f"```json\n{right}\n```\n",
        f"{right}<|im_end|>",
        f"<s>{right}</s>",
        f"**{right}**.",
    ):
        assert reward_parts(42, text, {"grade": 2}).total() == pytest.approx(1.0), text
    assert reward_parts(42, " " * (LONGEST - len(right)) + right, {"grade": 2}).grading == 1.0
    assert reward_parts(42, " " * (LONGEST - len(right) + 1) + right, {"grade": 2}).grading == 0.0


def test_reward_parts_reads_prose_only_if_asked() -> None:
    for text in (
        "Grade 2",
        "The Hoffa-synovitis is grade 2.",
        "\\boxed{2}",
        "| Finding | Grade |\n|---|---|\n| grade | 2 |",
    ):
        assert reward_parts(42, text, {"grade": 2}) == Reward(0.0, 0.0, None), text
        assert reward_parts(42, text, {"grade": 2}, answer="any") == Reward(0.5, 1.0, None), text
        rows = {"question_id": [42], "grades": [{"grade": 2}]}
        assert make_reward(None)([""], [text], **rows) == [0.0]
        assert make_reward(None, answer="any")([""], [text], **rows) == pytest.approx([(0.05 + 0.6) / 0.7])
    for call in (lambda: make_reward(None, answer="prose"), lambda: reward_parts(42, "2", {}, answer="prose")):  # type: ignore[arg-type]
        with pytest.raises(BenchError, match="answer must be 'json' or 'any', not 'prose'"):
            call()


@pytest.mark.parametrize("slot", [slot for slot in SLOTS if slot.question_id <= 62], ids=lambda slot: slot.name)
def test_equitable_scores_of_truth_and_constants(slot: Slot) -> None:
    counts = np.zeros((len(SLOTS), 9), dtype=np.int64)
    for each in SLOTS:
        counts[each.id, : each.high + 1] = 7 * 2 ** np.arange(each.high, -1, -1)
    table = equitable_scores(priors_of(counts), cap=1e6).table[slot.id, : slot.high + 1, : slot.high + 1]
    shares = counts[slot.id, : slot.high + 1] / counts[slot.id].sum()
    np.testing.assert_allclose(shares @ table, 0, atol=1e-12)
    assert shares @ np.diag(table) == pytest.approx(1)
    assert (np.diag(table)[:, None] >= table).all()
    capped = equitable_scores(priors_of(counts), cap=4).table[slot.id, : slot.high + 1, : slot.high + 1]
    assert (shares @ capped <= 1e-12).all()
    assert capped.max() <= 4 - 1


def test_equitable_scores_match_gerrity() -> None:
    shares = np.array([0.5, 0.3, 0.15, 0.05])
    counts = np.zeros((len(SLOTS), 9), dtype=np.int64)
    slot = QUESTIONS[42].slots[0]
    counts[slot.id, :4] = 100 * shares
    below = np.cumsum(shares)
    odds = (1 - below) / below  # a_r of the paper
    for true in range(4):
        for given in range(4):
            low, high = sorted((true, given))
            expected = (sum(1 / odds[:low]) - (high - low) + sum(odds[high:3])) / 3
            scores = equitable_scores(priors_of(counts), cap=1e6)
            assert scores.score(slot, true, given) == pytest.approx(expected)
    assert scores.score(slot, 1, None) == -1.0


def test_equitable_scores_rejects_a_wrong_cap(prepared: Path) -> None:
    for cap in (1.0, 0, float("inf"), float("nan")):
        with pytest.raises(BenchError, match="cap must be a number above 1"):
            make_reward(prepared, cap=cap)


def test_make_reward_rejects_constant_answers(prepared: Path) -> None:
    rows = load_dataset(split="train", data_dir=prepared, columns=["question_id", "grades", "answer"])
    numbers = rows["question_id"]
    columns = {"question_id": numbers, "grades": rows["grades"]}
    normal = [write(number, dict.fromkeys(QUESTIONS[number].attributes, 0)) for number in numbers]
    plain, weighted = (
        {
            name: np.mean(function(numbers, texts, **columns))
            for name, texts in (("truth", rows["answer"]), ("normal", normal))
        }
        for function in (reward, make_reward(prepared))
    )
    assert plain["normal"] > 0.7 * plain["truth"]  # what little is left to learn
    assert weighted["normal"] < 0.3 * weighted["truth"]


def test_total_shares_weights_of_absent_parts() -> None:
    weights = Weights(format=1, grading=2, localisation=7)
    assert Reward(1.0, 0.5, 0.0).total(weights) == pytest.approx(2 / 10)
    assert Reward(1.0, 0.5, None).total(weights) == pytest.approx(2 / 3)
    assert Reward(1.0, None, None).total(Weights(0, 1, 1)) == 0.0
    for wrong in ((-1, 1, 1), (0, 0, 0), (float("nan"), 1, 1), (float("inf"), 1, 1)):
        with pytest.raises(
            BenchError, match=r"weights of a reward must be 0 or more and not all 0, not .*Only their ratio counts"
        ):
            Weights(*wrong)


def test_reward_has_the_signature_of_trl() -> None:
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


def test_reward_reads_every_form_of_grades() -> None:
    said = [write(19, {"size": 2, "depth": 1})]
    for grades in (
        column(size=2, depth=1),
        {"attribute": ["size", "depth"], "grade": [2, 1], "scale": ["ordinal"] * 2},
        {"size": 2, "depth": 1},
        column(size=2, depth=None),
    ):
        assert reward([""], said, question_id=[19], grades=[grades]) == pytest.approx([1.0])


def test_make_reward_reads_boxes_by_convention() -> None:
    for name in ("slice0-x1-y2-pairs-inclusive-voxel", "slice2-x0-y1-corners-exclusive-normalised"):
        function = make_reward(None, weights=Weights(0, 0, 1), convention=name)
        said = write(62, {"signal": 1}, BOX, BoxConvention.parse(name), SHAPE)
        rows = {"question_id": [62], "grades": [column(signal=1)], "box": [BOX.to_row()], "shape": [SHAPE]}
        assert function([""], [said], **rows) == [1.0]
        assert function([""], [json.dumps({"bounding_box": None})], **rows) == [0.0]


def test_reward_names_absent_or_short_columns() -> None:
    with pytest.raises(BenchError, match="column 'grades' with one value for each of 1 completions, but it is missing"):
        reward([""], ["2"], question_id=[30])
    with pytest.raises(BenchError, match=r"column 'question_id' .* 2 completions, but it has 1 values. Keep"):
        reward([""] * 2, ["2"] * 2, question_id=[30], grades=[column(grade=1)] * 2)
    with pytest.raises(BenchError, match=r"column 'box' .* but it is missing"):
        make_reward(None, convention=CONVENTION)([""], ["2"], question_id=[30], grades=[column(grade=1)])


@pytest.mark.slow
def test_reward_trains_with_trl(tmp_path: object) -> None:
    pytest.importorskip("torch")
    trl = pytest.importorskip("trl")
    datasets = pytest.importorskip("datasets")
    transformers = pytest.importorskip("transformers")
    from tests.helpers.tiny_tokenizers import wrapped

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
