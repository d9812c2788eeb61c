"""Predictions into answers, and everything that can be wrong with them, by name and count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reasonknee_datasets.bench.answers import CODEC_VERSION, REASONS, write
from reasonknee_datasets.bench.arrays import NONE, Truth, sample_patients, take
from reasonknee_datasets.bench.predictions import ARRAY_ORDER, Predictions, read_predictions
from reasonknee_datasets.bench.problem_log import NOTES, PROBLEMS
from reasonknee_datasets.bench.run_metadata import RunMetadata
from reasonknee_datasets.bench.scoring import score
from reasonknee_datasets.bench.truth import identify, open_data, read_truth
from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS, SLOTS
from reasonknee_datasets.sources import Repository

# Whatever JSON, or Python, can put where something else should be.
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=6)
    | st.sampled_from(["size", "grade", "refusal", 10**400, -1])
)
_KEYS = st.sampled_from(["id", "text", "slots", "box", "size", "depth", "number", "error", "condition", "x"])


@pytest.fixture(scope="module")
def data(prepared: Path) -> Repository:
    return open_data(prepared)


@pytest.fixture(scope="module")
def truth(data: Repository) -> Truth:
    return read_truth(data, "test")


def grades_of(truth: Truth, row: int) -> dict[str, int | None]:
    pairs = zip(truth.slots[row].tolist(), truth.grades[row].tolist(), strict=True)
    return {SLOTS[slot].attribute: None if grade == NONE else grade for slot, grade in pairs if slot != NONE}


def oracle(truth: Truth, rows: Any = None) -> list[dict[str, Any]]:
    """Lines that say what is true, as a model would write it."""
    rows = range(len(truth)) if rows is None else rows
    return [{"id": truth.ids[row], "text": write(int(truth.question[row]), grades_of(truth, row))} for row in rows]


def save(path: Path, lines: list[Any]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def named(predictions: Predictions) -> dict[str, int]:
    return {problem.kind: problem.count for problem in predictions.problems}


class TestWhatIsRead:
    def test_an_oracle_is_read_back(self, truth: Truth, data: Repository, tmp_path: Path) -> None:
        predictions = read_predictions(save(tmp_path / "p.jsonl", oracle(truth)), truth, data=data)
        answers = predictions.answers
        np.testing.assert_array_equal(answers.grades, truth.grades)
        assert answers.given.all()
        assert answers.strict.all()
        missing = (truth.grades == NONE) & (truth.slots != NONE)
        assert (answers.reasons[missing] == REASONS.index("missing")).all()
        assert (answers.reasons[~missing] == NONE).all()
        assert predictions.problems == ()
        assert predictions.rules == {"strict": int((truth.grades != NONE).sum())}
        assert not answers.has_box.any()
        assert (answers.box_reasons == NONE).all()

    def test_from_python_in_any_order(self, truth: Truth) -> None:
        lines = oracle(truth)
        np.random.default_rng(0).shuffle(lines)
        np.testing.assert_array_equal(read_predictions(iter(lines), truth).answers.grades, truth.grades)

    def test_slots_are_grades(self, truth: Truth) -> None:
        lines = [{"id": truth.ids[row], "slots": grades_of(truth, row)} for row in range(len(truth))]
        answers = read_predictions(lines, truth).answers
        np.testing.assert_array_equal(answers.grades, truth.grades)
        assert not answers.strict.any()  # it counts texts only

    def test_slots_in_official_spelling(self, truth: Truth) -> None:
        row = int(np.flatnonzero(truth.question == 19)[0])
        line = {"id": truth.ids[row], "slots": {"Size of lesion": np.int64(2), "depth": "1"}}
        assert read_predictions([line], truth).answers.grades[row].tolist() == [2, 1, NONE]

    def test_reasons_are_the_codecs(self, truth: Truth) -> None:
        row = int(np.flatnonzero(truth.question == 42)[0])
        for text, more, reason in (
            ('{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 7}}}', {}, "out_of_range"),
            ("", {}, "empty"),
            (None, {"error": "429 Too Many Requests"}, "provider_error"),
            ("I'm sorry, but I can't help with medical images.", {}, "refusal"),
        ):
            predictions = read_predictions([{"id": truth.ids[row], "text": text, **more}], truth)
            assert predictions.answers.reasons[row].tolist() == [REASONS.index(reason), NONE, NONE]
            assert predictions.answers.given[row]
            assert set(named(predictions)) == {"unanswered"}

    def test_a_repaired_answer_names_its_rule(self, truth: Truth) -> None:
        row = int(np.flatnonzero(truth.question == 42)[0])
        text = '```json\n{"MOAKS_scores": {"Hoffa-Synovitis": {"grade": 2}}}\n```'
        predictions = read_predictions([{"id": truth.ids[row], "text": text}], truth)
        assert predictions.answers.grades[row, 0] == 2
        assert not predictions.answers.strict[row]
        assert predictions.rules == {"fenced": 1}

    def test_records_without_a_prediction_are_said(self, truth: Truth) -> None:
        predictions = read_predictions(oracle(truth, range(10)), truth)
        assert named(predictions) == {"unanswered": len(truth) - 10}
        assert predictions.problems[0].examples == truth.ids[10:15]
        assert predictions.answers.given.tolist() == [True] * 10 + [False] * (len(truth) - 10)
        assert (predictions.answers.reasons[10:][truth.slots[10:] != NONE] == REASONS.index("missing")).all()

    def test_usage_is_summed(self, truth: Truth) -> None:
        lines = [line | {"usage": {"prompt_tokens": 10, "cached": True}} for line in oracle(truth)]
        assert read_predictions(lines, truth).usage == {"prompt_tokens": 10 * len(truth)}

    def test_official_texts_are_read_by_json(self, truth: Truth) -> None:
        lines = oracle(truth)
        lines[0]["text"] = f"```json\n{lines[0]['text']}\n```"
        lines[1]["text"] = f"The answer is {lines[1]['text']}"
        for official in (
            read_predictions(lines, truth, official=True),
            read_predictions([{"run": {"condition": "official_o1"}}, *lines], truth),
        ):
            np.testing.assert_array_equal(official.answers.grades[[0, 2]], truth.grades[[0, 2]])
            width = len(QUESTIONS[int(truth.question[1])].slots)
            assert official.answers.reasons[1].tolist()[:width] == [REASONS.index("not_json")] * width
        clean = read_predictions(lines, truth)
        np.testing.assert_array_equal(clean.answers.grades, truth.grades)

    def test_a_last_line_need_not_end(self, truth: Truth, tmp_path: Path) -> None:
        path = save(tmp_path / "p.jsonl", oracle(truth))
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().rstrip(b"\n") + b"")
        assert read_predictions(path, truth).problems == ()


class TestIdentity:
    def test_a_first_line_states_the_run(self, truth: Truth, data: Repository, tmp_path: Path) -> None:
        run = identify(data, "test", truth, model="m", condition="guided", seed=4, codec_version=99)
        path = save(tmp_path / "p.jsonl", [{"run": run.to_json()}, *oracle(truth)])
        found = read_predictions(path, truth, data=data).identity
        assert (found.model, found.condition, found.seed) == ("m", "guided", 4)
        assert found.records_sha256 == run.records_sha256
        assert found.codec_version == CODEC_VERSION != 99  # the one that read them, not the run's

    def test_identity_names_the_scored_records(self, truth: Truth, data: Repository) -> None:
        found = read_predictions(oracle(truth), truth, data=data).identity
        assert (found.split, found.records, found.model) == ("test", len(truth), None)
        assert found.dataset_revision == data.manifest.digest
        assert found.synthetic is True

    def test_without_data_only_the_file_speaks(self, truth: Truth) -> None:
        found = read_predictions([{"run": {"split": "train"}}, *oracle(truth)], truth).identity
        assert found.split == "train"

    @pytest.mark.parametrize(
        ("stated", "kind", "shown"),
        [
            ({"dataset_revision": "ab" * 32}, "other_revision", "dataset_revision abababab"),
            ({"split": "validation"}, "other_split", "split validation, where test is scored"),
            ({"records_sha256": "cd" * 32}, "other_records", "records_sha256 cdcdcdcd"),
            ({"synthetic": False}, "other_revision", "synthetic False, where True is scored"),
        ],
    )
    def test_another_run(self, truth: Truth, data: Repository, stated: Any, kind: str, shown: str) -> None:
        lines = [{"run": stated}, *oracle(truth)]
        with pytest.raises(BenchError, match=shown):
            read_predictions(lines, truth, data=data)
        predictions = read_predictions(lines, truth, data=data, strict=False)
        assert named(predictions) == {kind: 1}
        assert predictions.identity.dataset_revision == data.manifest.digest
        assert predictions.identity.split == "test"

    def test_two_runs_in_one_file(self, truth: Truth) -> None:
        one, other = ({"run": RunMetadata(model="m", condition=name).to_json()} for name in ("guided", "zero_shot"))
        lines = oracle(truth)
        with pytest.raises(BenchError, match=r"mixed_conditions .*condition: 'guided' and 'zero_shot'"):
            read_predictions([one, *lines[:9], other, *lines[9:]], truth)
        assert read_predictions([one, *lines[:9], one, *lines[9:]], truth).problems == ()

    def test_mixed_conditions_line_by_line(self, truth: Truth) -> None:
        lines = [line | {"condition": "guided"} for line in oracle(truth)]
        assert read_predictions(lines, truth).identity.condition == "guided"
        lines[3]["condition"] = lines[5]["condition"] = "zero_shot"
        with pytest.raises(BenchError, match=r"mixed_conditions \(2, .*condition 'zero_shot' and 'guided'"):
            read_predictions(lines, truth)
        run = {"run": {"condition": "box_first"}}
        assert named(read_predictions([run, *lines], truth, strict=False))["mixed_conditions"] == len(lines)

    def test_a_run_that_is_none(self, truth: Truth) -> None:
        with pytest.raises(BenchError, match="metadata has no field 'modell'"):
            read_predictions([{"run": {"modell": "x"}}, *oracle(truth)], truth)


class TestBoxes:
    CONVENTION = BoxConvention.parse("slice2-x1-y0-pairs-inclusive-voxel")

    def test_boxes_in_the_stated_convention(self, truth: Truth) -> None:
        lines = oracle(truth)
        for row, line in enumerate(lines):
            shape = truth.shapes[truth.volume[row]].tolist()
            line["box"] = self.CONVENTION.encode(Box.from_row(truth.boxes[row].tolist()), shape)
        for predictions in (
            read_predictions(lines, truth, convention=self.CONVENTION),
            read_predictions(lines, truth, convention=str(self.CONVENTION)),
            read_predictions([{"run": {"box_convention": str(self.CONVENTION)}}, *lines], truth),
        ):
            np.testing.assert_array_equal(predictions.answers.boxes, truth.boxes)
            assert predictions.answers.has_box.all()
            assert (predictions.answers.box_reasons == NONE).all()
            assert predictions.identity.box_convention == str(self.CONVENTION)

    def test_box_rows_need_no_convention(self, truth: Truth) -> None:
        lines = [line | {"box": truth.boxes[row].tolist()} for row, line in enumerate(oracle(truth))]
        predictions = read_predictions(lines, truth)
        np.testing.assert_array_equal(predictions.answers.boxes, truth.boxes)
        assert predictions.identity.box_convention == "slice0-x1-y2-corners-exclusive-voxel"

    def test_boxes_inside_texts(self, truth: Truth) -> None:
        lines = oracle(truth)
        numbers = truth.boxes[0].tolist()
        lines[0]["text"] = json.dumps({"bounding_box": numbers, **json.loads(lines[0]["text"])})
        answers = read_predictions(lines, truth, convention=ARRAY_ORDER).answers
        assert answers.boxes[0].tolist() == numbers
        np.testing.assert_array_equal(answers.grades, truth.grades)
        assert answers.has_box.tolist() == [True] + [False] * (len(truth) - 1)
        assert (answers.box_reasons[1:] == REASONS.index("missing")).all()
        assert not read_predictions(lines, truth).answers.has_box.any()

    def test_a_box_in_the_models_own_words(self, truth: Truth) -> None:
        lines = oracle(truth)
        lines[0]["box"] = f"The bounding box is {truth.boxes[0].tolist()}"
        lines[1]["box"] = "There is none."
        predictions = read_predictions(lines, truth)
        assert predictions.answers.boxes[0].tolist() == truth.boxes[0].tolist()
        assert not predictions.answers.has_box[1]
        assert predictions.problems == ()

    def test_box_reason_of_a_line(self, truth: Truth) -> None:
        lines = [line | {"box": None, "box_reason": "refusal"} for line in oracle(truth)]
        lines[1]["box_reason"] = "whatever"
        lines[2] = {"id": truth.ids[2], "text": None, "error": "timeout"}
        lines[3]["box"] = truth.boxes[3].tolist()
        convention = "slice0-x1-y2-corners-exclusive-voxel"
        answers = read_predictions([{"run": {"box_convention": convention}}, *lines], truth).answers
        reasons = ["refusal", "missing", "provider_error"]
        assert answers.box_reasons[:5].tolist() == [*map(REASONS.index, reasons), NONE, REASONS.index("refusal")]
        assert answers.has_box.tolist()[:4] == [False, False, False, True]

    def test_boxes_outside_and_illegal_ones(self, truth: Truth) -> None:
        shape = truth.shapes[truth.volume[0]].tolist()
        boxes = [
            [0, 0, 0, shape[0] + 5, 4, 4],
            [-3, 0, 0, 4, 4, 4],
            [900, 0, 0, 910, 4, 4],
            [5, 5, 5, 5, 6, 6],
            [1, 2, 3],
            [0.5, 0, 0, 4, 4, 4],
            [0, 0, float("nan"), 4, 4, 4],
            [0, 0, 0, 4, 4, float("inf")],
            "no box",
        ]
        lines = [line | {"box": box} for line, box in zip(oracle(truth), boxes, strict=False)]
        with pytest.raises(BenchError, match="There are 3 kinds of problems") as caught:
            read_predictions(lines, truth)
        assert "nan (2, " in str(caught.value)
        assert "illegal_box (3, " in str(caught.value)
        assert f"box_outside (3, {PROBLEMS['box_outside']}): {truth.ids[0]} [0, 0, 0, " in str(caught.value)
        answers = read_predictions(lines, truth, strict=False).answers
        assert answers.boxes[:2].tolist() == [[0, 0, 0, shape[0], 4, 4], [0, 0, 0, 4, 4, 4]]
        assert answers.has_box.tolist()[:9] == [True, True] + [False] * 7
        assert answers.box_reasons[2:8].tolist() == [REASONS.index("out_of_range")] * 6
        np.testing.assert_array_equal(answers.grades[:9], truth.grades[:9])

    def test_numbers_are_kept_as_they_were_answered(self, truth: Truth) -> None:
        """Six numbers that are not a box as read are kept, for other readings."""
        lines = oracle(truth)
        lines[0]["box"] = [30, 4, 5, 20, 40, 50]
        lines[1]["box"] = "no box here"
        lines[2]["box"] = f"The bounding box is {truth.boxes[2].tolist()}"
        lines[3]["box"] = [1, 2]
        predictions = read_predictions(lines, truth, strict=False)
        assert predictions.numbers is not None
        assert predictions.numbers[0].tolist() == [30, 4, 5, 20, 40, 50]
        assert not predictions.answers.has_box[0]
        assert predictions.numbers[2].tolist() == truth.boxes[2].tolist()
        assert np.isnan(predictions.numbers[[1, 3, 4]]).all()
        assert str(predictions.convention) == "slice0-x1-y2-corners-exclusive-voxel"
        without = read_predictions(oracle(truth), truth)
        assert (without.numbers, without.convention) == (None, None)

    def test_a_swapped_convention_is_diagnosed(self, truth: Truth) -> None:
        swapped = BoxConvention.parse("slice0-x2-y1-corners-exclusive-voxel")
        lines = oracle(truth)
        for row, line in enumerate(lines):
            line["box"] = swapped.encode(Box.from_row(truth.boxes[row].tolist()), ())
        read = read_predictions(lines, truth, strict=False)
        results = score(
            truth, read.answers, resamples=0, convention=read.convention, numbers=read.numbers, identity=read.identity
        )
        assert results.conventions is not None
        assert "1.00" in str(results.conventions.verdict)

    def test_normalised_boxes_need_a_shape(self, truth: Truth) -> None:
        flat = take(truth, np.arange(len(truth)))
        flat.shapes[:] = 0
        lines = [line | {"box": [0, 0.5, 0, 0.5, 0, 0.5]} for line in oracle(truth)]
        convention = BoxConvention(normalised=True)
        assert read_predictions(lines, truth, convention=convention).answers.has_box.all()
        with pytest.raises(BenchError, match="need the shape of the volume"):
            read_predictions(lines, flat, convention=convention)


class TestBadInput:
    def test_an_empty_file(self, truth: Truth, tmp_path: Path) -> None:
        for lines in ([], [{"run": {"model": "m"}}]):
            path = save(tmp_path / "p.jsonl", lines)
            for strict in (True, False):
                with pytest.raises(BenchError, match=r"empty \(1, there are no predictions\): in .*p\.jsonl"):
                    read_predictions(path, truth, strict=strict)
        with pytest.raises(BenchError, match=r"empty .*: from Python"):
            read_predictions([], truth)

    def test_no_file(self, truth: Truth, tmp_path: Path) -> None:
        with pytest.raises(BenchError, match=r"There is no file .*p\.jsonl\. Predictions are an \.eval log"):
            read_predictions(tmp_path / "p.jsonl", truth)
        save(tmp_path / "pred.jsonl", oracle(truth))
        with pytest.raises(BenchError, match=r"There is no file .*prde\.jsonl\. Did you mean '.*pred\.jsonl'\?"):
            read_predictions(tmp_path / "prde.jsonl", truth)
        with pytest.raises(BenchError, match="is a folder"):
            read_predictions(tmp_path, truth)

    def test_a_half_written_last_line(self, truth: Truth, tmp_path: Path) -> None:
        whole = save(tmp_path / "p.jsonl", oracle(truth)).read_bytes()
        last = whole.rstrip(b"\n").rfind(b"\n") + 1
        for cut in (last + 1, last + 30, len(whole) - 2):
            path = tmp_path / "cut.jsonl"
            path.write_bytes(whole[:cut])
            with pytest.raises(BenchError, match=rf"half_line \(1, .*line {len(truth)} "):
                read_predictions(path, truth)
            predictions = read_predictions(path, truth, strict=False)
            assert named(predictions) == {"half_line": 1, "unanswered": 1}
            np.testing.assert_array_equal(predictions.answers.grades[:-1], truth.grades[:-1])

    def test_lines_that_are_no_objects(self, truth: Truth, tmp_path: Path) -> None:
        path = save(tmp_path / "p.jsonl", oracle(truth))
        path.write_bytes(b'{"id": \n[1]\n"x"\n\xff\xfe\n' + b"[" * 100_000 + b"\n\n" + path.read_bytes())
        with pytest.raises(
            BenchError, match=r"not_json \(5, .*line 1 .*line 2 \(list\), line 3 \(str\), line 4 .*line 5"
        ):
            read_predictions(path, truth)
        np.testing.assert_array_equal(read_predictions(path, truth, strict=False).answers.grades, truth.grades)

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ({"text": "x"}, "no id"),
            ({"id": 19, "text": "x"}, "id '19' is not a text"),
            ({"id": "a"}, "neither text nor slots, but only an id"),
            ({"id": "a", "output": "x", "answer": "x"}, "neither text nor slots, but 'answer', 'output'"),
            ({"id": "a", "text": "x", "slots": {}}, "both text and slots"),
            ({"id": "a", "text": {"size": 1}}, "text is dict"),
            ({"id": "a", "slots": [1]}, "slots is list"),
            ("x", "str"),
        ],
    )
    def test_malformed_lines(self, truth: Truth, line: Any, why: str) -> None:
        lines = [line, *oracle(truth)]
        with pytest.raises(BenchError, match=rf"malformed \(1, .*{why}"):
            read_predictions(lines, truth)
        assert named(read_predictions(lines, truth, strict=False)) == {"malformed": 1}

    def test_duplicates_and_the_first_counts(self, truth: Truth) -> None:
        row = int(np.flatnonzero(truth.question == 42)[0])
        again = [{"id": truth.ids[row], "slots": {"grade": grade}} for grade in (3, 1)]
        lines = [again[0], *oracle(truth, range(row)), again[1]]
        with pytest.raises(BenchError, match=rf"duplicate \(1, .*the first one counts\): {truth.ids[row]}"):
            read_predictions(lines, truth)
        predictions = read_predictions(lines, truth, strict=False)
        assert predictions.answers.grades[row, 0] == 3
        assert named(predictions)["duplicate"] == 1

    def test_unknown_ids_and_ids_of_other_splits(self, truth: Truth, data: Repository) -> None:
        train = read_truth(data, "train")
        lines = [*oracle(truth), *oracle(train, [0, 1]), *oracle(read_truth(data, "val"), [0])]
        lines += [{"id": name, "text": "x"} for name in ("9999999/00M/left/q01", "nonsense", f"{truth.ids[0]}9")]
        with pytest.raises(BenchError, match="There are 2 kinds of problems") as caught:
            read_predictions(lines, truth, data=data)
        assert f"other_split (3, {PROBLEMS['other_split']}): {train.ids[0]} is of train" in str(caught.value)
        assert "unknown_id (3, " in str(caught.value)
        assert "9999999/00M/left/q01 (prediction " in str(caught.value)
        predictions = read_predictions(lines, truth, data=data, strict=False)
        assert named(predictions) == {"other_split": 3, "unknown_id": 3}
        np.testing.assert_array_equal(predictions.answers.grades, truth.grades)
        assert named(read_predictions(lines, truth, strict=False)) == {"unknown_id": 6}

    def test_records_that_were_not_asked_for(self, data: Repository) -> None:
        train = read_truth(data, "train")
        some = sample_patients(train, 1)
        predictions = read_predictions(oracle(train), some, data=data, split="train", strict=False)
        assert named(predictions) == {"not_asked": len(train) - len(some)}
        assert predictions.problems[0].stops
        np.testing.assert_array_equal(predictions.answers.grades, some.grades)

    def test_questions_without_records_are_only_counted(self, truth: Truth, data: Repository) -> None:
        volume = truth.ids[0].rpartition("/")[0]
        lines = [*oracle(truth), *({"id": f"{volume}/q{n}", "text": "{}"} for n in range(63, 70))]
        predictions = read_predictions(lines, truth, data=data)
        assert named(predictions) == {"unscored": 7}
        assert not predictions.problems[0].stops

    def test_grades_that_a_slot_does_not_have(self, truth: Truth) -> None:
        row = int(np.flatnonzero(truth.question == 19)[0])
        for slots, kind, grades, reasons in (
            ({"size": 4, "depth": 1}, "illegal_grade", [NONE, 1], ["out_of_range", None]),
            ({"size": "2.0", "depth": 1}, "illegal_grade", [NONE, 1], ["out_of_range", None]),
            ({"colour": 1, "depth": 1}, "illegal_grade", [NONE, 1], ["missing", None]),
            ({"size": float("nan"), "depth": 1}, "nan", [NONE, 1], ["missing", None]),
        ):
            lines = [{"id": truth.ids[row], "slots": slots}]
            with pytest.raises(BenchError, match=rf"{kind} \(1, .*{truth.ids[row]} "):
                read_predictions(lines, truth)
            answers = read_predictions(lines, truth, strict=False).answers
            assert answers.grades[row].tolist() == [*grades, NONE]
            assert answers.reasons[row].tolist() == [NONE if r is None else REASONS.index(r) for r in reasons] + [NONE]
        assert read_predictions([{"id": truth.ids[row], "slots": {"size": None}}], truth).answers.given[row]

    def test_nan_as_json_writers_write_it(self, truth: Truth, tmp_path: Path) -> None:
        path = tmp_path / "p.jsonl"
        path.write_text(f'{{"id": "{truth.ids[0]}", "slots": {{"size": NaN}}, "logprob": -Infinity}}\n')
        with pytest.raises(BenchError, match=rf"nan \(1, .*: {truth.ids[0]} size"):
            read_predictions(path, truth)

    def test_a_bad_answer_is_no_bad_input(self, truth: Truth) -> None:
        lines = [{"id": name, "text": "NaN " * row} for row, name in enumerate(truth.ids)]
        predictions = read_predictions(lines, truth)
        assert predictions.problems == ()
        assert (predictions.answers.grades == NONE).all()

    def test_examples_of_problems_are_cut(self, truth: Truth) -> None:
        lines = [{"id": "x" * 10_000, "text": ""} for _ in range(1000)]
        with pytest.raises(BenchError, match=r"unknown_id \(1000, .* and 995 more") as caught:
            read_predictions(lines, truth)
        assert len(str(caught.value)) < 2000

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(cut=st.integers(0, 10_000))
    def test_a_cut_file_keeps_whole_lines(self, truth: Truth, tmp_path: Path, cut: int) -> None:
        some = take(truth, np.arange(12))
        whole = save(tmp_path / "p.jsonl", [{"run": {"model": "m"}}, *oracle(some)]).read_bytes()
        part = whole[: cut % (len(whole) + 1)]
        (tmp_path / "p.jsonl").write_bytes(part)
        lines = part.count(b"\n") - 1
        if part.count(b"\n") < len(whole.splitlines()) and whole[len(part) : len(part) + 1] == b"\n":
            lines += 1  # all but the end of line
        if lines < 1:
            with pytest.raises(BenchError, match="empty"):
                read_predictions(tmp_path / "p.jsonl", some, strict=False)
            return
        predictions = read_predictions(tmp_path / "p.jsonl", some, strict=False)
        assert predictions.answers.given.sum() == lines
        np.testing.assert_array_equal(predictions.answers.grades[:lines], some.grades[:lines])
        assert predictions.identity.model == "m"

    @settings(
        max_examples=3 * settings.default.max_examples,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        deadline=None,
    )
    @given(item=st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=7) | st.dictionaries(_KEYS, inner)))
    def test_whatever_stands_there_no_line_raises(self, truth: Truth, item: Any) -> None:
        some = take(truth, np.arange(3))
        lines = [item, {"id": some.ids[0], "text": "x", "box": item, "box_reason": item, "usage": item}]
        lines += [
            {"id": some.ids[1], "slots": item, "box": [item] * 6},
            {"id": some.ids[2], "text": item, "error": item},
        ]
        predictions = read_predictions(lines, some, strict=False)
        assert len(predictions.answers) == 3
        assert (predictions.answers.grades < 9).all()

    def test_each_problem_has_a_sentence(self) -> None:
        assert set(PROBLEMS) >= NOTES
        assert all(text[0].islower() and not text.endswith(".") for text in PROBLEMS.values())
