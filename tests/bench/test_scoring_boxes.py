"""Localisation by record and by region, and the check of the box convention."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.bench.arrays import Answers, Truth
from reasonknee_datasets.bench.group_results import BOX_METRICS
from reasonknee_datasets.bench.localisation import write_numbers
from reasonknee_datasets.bench.metrics import score_boxes
from reasonknee_datasets.bench.results import Results
from reasonknee_datasets.bench.scoring import score
from reasonknee_datasets.boxes import CONVENTIONS, Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import QUESTIONS
from tests.benchmarks.scoring import simulate_answers, simulate_truth


@pytest.fixture(scope="module")
def truth() -> Truth:
    found = simulate_truth(15, 30, missing=0)
    found.affines[3] = np.nan
    return found


@pytest.fixture(scope="module")
def answers(truth: Truth) -> Answers:
    found = simulate_answers(truth, failed=0.1, off=8)
    found.box_reasons[~found.has_box] = np.arange((~found.has_box).sum()) % 3
    return found


@pytest.fixture(scope="module")
def results(truth: Truth, answers: Answers) -> Results:
    return score(truth, answers, resamples=100)


@pytest.mark.parametrize("by", ["all", "category", "question", "side"])
def test_localisation_is_what_a_loop_gives(truth: Truth, answers: Answers, results: Results, by: str) -> None:
    found = score_boxes(answers.boxes, truth.boxes, answers.has_box, truth.affines[truth.volume])
    rows: dict[str, list[int]] = defaultdict(list)
    for n in range(len(truth)):
        question = QUESTIONS[int(truth.question[n])]
        value = {
            "all": "all",
            "category": question.category,
            "question": f"q{question.id:02d}",
            "side": ("right", "left")[truth.side[n]],
        }[by]
        rows[value].append(n)
    for value, own in rows.items():
        group = results.group(by, value)  # type: ignore[arg-type]
        assert group.localisation is not None
        counts, units = group.localisation.counts, group.localisation.units
        assert counts.records == len(own)
        assert counts.regions == len({truth.region[n] for n in own})
        assert counts.missing == (~answers.has_box[own]).sum() == sum(group.localisation.reasons.values())
        assert counts.without_mm == (answers.has_box[own] & (truth.volume[own] == 3)).sum()
        assert sum(group.localisation.histogram) == counts.records - counts.missing
        regions: dict[int, list[int]] = defaultdict(list)
        for n in own:
            regions[int(truth.region[n])].append(n)
        columns = {"iou": found.iou, "giou": found.giou, "coverage": found.coverage, "centre_mm": found.centre_mm}
        columns |= {f"acc@{at:g}": found.iou >= at for at in (0.1, 0.25, 0.5, 0.75)}
        columns["volume_ratio"] = np.log(found.volume_ratio)
        for name, column in columns.items():
            expected = {
                "record": known_mean(column[own]),
                "region": known_mean(np.array([known_mean(column[members]) for members in regions.values()])),
            }
            for unit, mean in expected.items():
                mean = np.exp(mean) if name == "volume_ratio" else mean
                assert units[unit][name].value == pytest.approx(mean), (value, name, unit)
        assert units["record"].keys() == BOX_METRICS.keys()


def known_mean(values: Any) -> float:
    known = np.asarray(values, float)
    known = known[~np.isnan(known)]
    return float(known.mean()) if len(known) else float("nan")


def test_records_and_regions_differ(results: Results) -> None:
    localisation = results.group().localisation
    assert localisation is not None
    assert localisation.counts.regions < localisation.counts.records
    assert localisation.units["record"]["iou"].value != localisation.units["region"]["iou"].value


def test_the_histogram_counts_by_twentieths() -> None:
    truth = simulate_truth(2, 2, missing=0)
    answers = simulate_answers(truth, failed=0)
    truth.boxes[:] = 0, 0, 0, 20, 1, 1
    answers.boxes[:] = 0, 0, 0, 3, 1, 1  # an IoU of 0.15 exactly
    answers.boxes[0] = truth.boxes[0]
    localisation = score(truth, answers, resamples=0).group().localisation
    assert localisation is not None
    assert localisation.histogram == (0, 0, 0, len(truth) - 1, *[0] * 15, 1)


def no_boxes(answers: Answers) -> Answers:
    rows = len(answers)
    return replace(
        answers,
        boxes=np.zeros((rows, 6), np.int32),
        has_box=np.zeros(rows, bool),
        box_reasons=np.full(rows, -1, np.int8),
    )


def test_localisation_absent_without_boxes(truth: Truth, answers: Answers) -> None:
    results = score(truth, no_boxes(answers), resamples=0)
    assert results.group().localisation is results.conventions is None
    asked = score(truth, no_boxes(answers), resamples=0, boxes_asked=True)
    localisation = asked.group().localisation
    assert localisation is not None
    assert localisation.counts.missing == len(truth)
    assert localisation.reasons == {"missing": len(truth)}
    record = localisation.units["record"]
    assert [record[name].value for name in ("iou", "acc@0.1", "coverage", "giou")] == [0, 0, 0, -1]
    assert record["centre_mm"].value is record["volume_ratio"].value is None
    assert asked.conventions is None


def shifted(boxes: Any, by: int) -> Any:
    """Boxes that are off by so many voxels, as a good model's are."""
    return boxes + np.random.default_rng(0).integers(-by, by + 1, boxes.shape)


def with_boxes(answers: Answers, boxes: Any) -> Answers:
    return replace(
        answers,
        boxes=np.asarray(boxes, np.int32),
        has_box=np.ones(len(boxes), bool),
        box_reasons=np.full(len(boxes), -1, np.int8),
    )


@pytest.mark.slow
def test_swapped_axes_are_named_with_loss(truth: Truth, answers: Answers) -> None:
    swapped = shifted(truth.boxes, 2)[:, [0, 2, 1, 3, 5, 4]]
    results = score(truth, with_boxes(answers, swapped), resamples=100)
    check = results.conventions
    assert check is not None
    assert check.verdict is not None
    means = f"from {check.mean_iou:.2f} to {check.alternatives[0].mean_iou:.2f}"
    assert check.verdict == f"x and y swapped would raise the mean IoU {means}"
    assert results.warnings == (check.verdict,)
    straight = score(truth, with_boxes(answers, shifted(truth.boxes, 2)), resamples=100)
    localisation = straight.group().localisation
    assert localisation is not None
    assert check.alternatives[0].mean_iou == pytest.approx(localisation.units["record"]["iou"].value)
    assert check.alternatives[0].gain.low is not None
    assert check.alternatives[0].gain.low > 0.1
    assert straight.conventions is not None
    assert straight.conventions.verdict is None


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        (lambda box, shape: box[:, [2, 1, 0, 5, 4, 3]], "slice and y swapped"),
        (lambda box, shape: box[:, [1, 2, 0, 4, 5, 3]], "slice, x, y read as x, y, slice"),
        (lambda box, shape: box - [0, 0, 0, 1, 1, 1], "ends read as the last voxel"),
        (
            lambda box, shape: np.stack(
                [shape[0] - box[:, 3], *box[:, 1:3].T, shape[0] - box[:, 0], *box[:, 4:].T], axis=1
            ),
            "slice counted from the other end",
        ),
    ],
)
def test_what_is_wrong_with_boxes_is_named(truth: Truth, answers: Answers, wrong: Any, verdict: str) -> None:
    boxes = wrong(truth.boxes.astype(int), (160, 384, 384))
    check = score(truth, with_boxes(answers, boxes), resamples=50).conventions
    assert check is not None
    assert check.verdict is not None
    assert check.verdict.startswith(f"{verdict} would raise the mean IoU from ")
    assert check.alternatives[0].mean_iou == pytest.approx(1.0)


def test_one_voxel_more_names_exclusive_ends(truth: Truth, answers: Answers) -> None:
    inclusive = BoxConvention(inclusive=True)
    boxes = truth.boxes + np.array([0, 0, 0, 1, 1, 1])
    check = score(truth, with_boxes(answers, boxes), resamples=50, convention=inclusive).conventions
    assert check is not None
    assert check.convention == "slice0-x1-y2-pairs-inclusive-voxel"
    assert check.verdict is not None
    assert check.verdict.startswith("ends read as one past the last voxel would raise the mean IoU from 0.")


@pytest.mark.parametrize(
    ("numbers", "verdict"),
    [
        (lambda box: box.astype(float), "all starts before all ends"),
        (
            lambda box: np.stack([box[:, 0], box[:, 3] - box[:, 0], box[:, 1], box[:, 4] - box[:, 1], box[:, 2],
                                  box[:, 5] - box[:, 2]], axis=1),
            "ends read as sizes",
        ),
        (
            lambda box: box[:, [0, 3, 1, 4, 2, 5]] / np.repeat((160, 384, 384), 2),
            "the numbers read as shares of the volume",
        ),
        (
            lambda box: np.rint(box[:, [0, 3, 1, 4, 2, 5]] / np.repeat((160, 384, 384), 2) * 1000),
            "the numbers read as thousandths of the volume",
        ),
    ],
)  # fmt: skip
def test_numbers_without_a_box_are_diagnosed(truth: Truth, answers: Answers, numbers: Any, verdict: str) -> None:
    written = np.asarray(numbers(truth.boxes), float)
    rows, valid = BoxConvention().decode_rows(written, truth.shapes[truth.volume])
    read = replace(
        answers,
        boxes=np.where(valid[:, None], rows, 0).astype(np.int32),
        has_box=valid,
        box_reasons=np.where(valid, -1, 1).astype(np.int8),
    )
    check = score(truth, read, resamples=50, convention=BoxConvention(), numbers=written).conventions
    assert check is not None
    assert check.records == len(truth)
    assert check.verdict is not None
    assert check.verdict.startswith(f"{verdict} would raise")
    assert check.alternatives[0].mean_iou > 0.9


@pytest.mark.slow
def test_conventions_tried_without_images(truth: Truth, answers: Answers) -> None:
    bare = replace(truth, shapes=np.zeros_like(truth.shapes), affines=np.full_like(truth.affines, np.nan))
    swapped = with_boxes(answers, truth.boxes[:, [0, 2, 1, 3, 5, 4]])
    results = score(bare, swapped, resamples=0)
    assert results.conventions is not None
    assert results.conventions.verdict is not None
    assert "x and y swapped" in results.conventions.verdict
    localisation = results.group().localisation
    assert localisation is not None
    assert localisation.counts.without_mm == len(truth)
    assert localisation.units["record"]["centre_mm"].value is None
    shares = BoxConvention(normalised=True)
    assert score(bare, swapped, resamples=0, convention=shares).conventions is None


@pytest.mark.parametrize("convention", CONVENTIONS, ids=str)
def test_box_numbers_follow_the_convention(convention: BoxConvention) -> None:
    shape = (160, 384, 352)
    box = Box((40, 100, 60), (50, 200, 80))
    found = write_numbers([box.to_row()], convention, np.array([shape], np.int32))
    np.testing.assert_allclose(found[0], convention.encode(box, shape))


def test_numbers_of_another_shape_are_refused(truth: Truth, answers: Answers) -> None:
    with pytest.raises(BenchError, match=r"numbers must have shape \(\d+, 6\), .* got \(3, 6\)"):
        score(truth, answers, resamples=0, numbers=np.zeros((3, 6)))
