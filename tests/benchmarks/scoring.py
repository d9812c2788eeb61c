"""Scoring the whole test split: seconds and memory, on annotations simulated in its size."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reasonknee_datasets.bench.arrays import NONE, WIDTH, Answers, Truth
from reasonknee_datasets.bench.comparison import paired_difference
from reasonknee_datasets.bench.scoring import score
from reasonknee_datasets.moaks import QUESTIONS, SLOTS
from tests.benchmarks.tables import Table
from tests.helpers.paths import ROOT
from tests.helpers.peak import peak_bytes

# The test split: 399 patients, 1,232 volumes with records, 62 questions each.
PATIENTS, VOLUMES = 399, 1232
SHAPE = (160, 384, 384)
SPACING = (0.7, 0.36458, 0.36458)

ASKED = tuple(question for question in QUESTIONS.values() if question.in_records)
HIGH = np.array([slot.high for slot in SLOTS])
NORMAL = np.array([3 if slot.attribute == "tear_location" else 0 for slot in SLOTS])


def simulate_truth(patients: int = PATIENTS, volumes: int = VOLUMES, *, seed: int = 0, missing: float = 0.002) -> Truth:
    """Make true answers of so many volumes: grades that a patient's records share a tendency to, boxes by question."""
    draw = np.random.default_rng(seed)
    asked = len(ASKED)
    owner = np.sort(np.concatenate([np.arange(patients), draw.integers(0, patients, volumes - patients)]))
    turn = np.arange(volumes) - np.searchsorted(owner, owner)
    side, visit = turn % 2, (turn // 2) % 4
    volume = np.repeat(np.arange(volumes), asked)
    question = np.tile(np.arange(1, asked + 1), volumes)
    slots = np.full((1 + asked, WIDTH), NONE)
    for each in ASKED:
        slots[each.id, : len(each.slots)] = [slot.id for slot in each.slots]
    own = slots[question]
    ill = np.repeat(draw.beta(1.2, 4.0, patients)[owner], asked)[:, None]
    worse = 1 + draw.integers(0, np.maximum(HIGH[own], 1))
    worse = np.where(NORMAL[own] == 3, worse - 1, worse)
    grades = np.where(draw.random(own.shape) < ill, worse, NORMAL[own])
    grades[(own < 0) | (draw.random(own.shape) < missing)] = NONE
    # Three questions in four ask about a region that another asks about too.
    place = np.arange(1 + asked) // 4
    start = draw.integers(20, 100, (volumes, place.max() + 1, 3))
    size = draw.integers(6, 60, (volumes, place.max() + 1, 3))
    boxes = np.concatenate([start, start + size], axis=2)[volume, place[question]]
    names = [
        f"{9000000 + code}/{('00M', '12M', '24M', '48M')[v]}/{('right', 'left')[s]}/{t}"
        for code, v, s, t in zip(owner, visit, side, turn, strict=True)
    ]
    affine = np.diag([*SPACING, 1.0])
    return Truth(
        ids=tuple(f"{names[v]}/q{q:02d}" for v, q in zip(volume.tolist(), question.tolist(), strict=True)),
        question=question.astype(np.int16),
        patient=owner[volume].astype(np.int32),
        volume=volume.astype(np.int32),
        region=(volume * (place.max() + 1) + place[question]).astype(np.int32),
        side=side[volume].astype(np.int8),
        visit=visit[volume].astype(np.int8),
        slots=own.astype(np.int16),
        grades=grades.astype(np.int8),
        boxes=boxes.astype(np.int32),
        patients=tuple(str(9000000 + code) for code in range(patients)),
        volumes=tuple(f"volumes/{name}.nii.gz" for name in names),
        shapes=np.tile(np.array(SHAPE, np.int32), (volumes, 1)),
        affines=np.tile(affine, (volumes, 1, 1)),
    )


def simulate_answers(
    truth: Truth, *, right: float = 0.7, failed: float = 0.05, off: int = 12, seed: int = 1
) -> Answers:
    """Make answers to them: a share right, a share without a grade or box, boxes off by up to so many voxels."""
    draw = np.random.default_rng(seed)
    shape = truth.grades.shape
    real = truth.slots >= 0
    guess = draw.integers(0, 1 + np.where(real, HIGH[truth.slots], 0))
    known = (draw.random(shape) < right) & (truth.grades >= 0)
    lost = (draw.random(shape) < failed) & real
    grades = np.where(real, np.where(known, truth.grades, guess), NONE)
    grades[lost] = NONE
    reasons = np.where(lost, draw.integers(0, 9, shape), NONE)
    boxes = np.maximum(truth.boxes + draw.integers(-off, off + 1, truth.boxes.shape), 0)
    boxes[:, 3:] = np.maximum(boxes[:, 3:], boxes[:, :3] + 1)
    has_box = draw.random(len(truth)) >= failed
    boxes[~has_box] = 0
    return Answers(
        given=np.ones(len(truth), np.bool_),
        grades=grades.astype(np.int8),
        reasons=reasons.astype(np.int8),
        strict=draw.random(len(truth)) < 0.9,
        boxes=boxes.astype(np.int32),
        has_box=has_box,
        box_reasons=np.where(has_box, NONE, 0).astype(np.int8),
    )


def make_priors() -> np.ndarray:
    return NORMAL.astype(np.int8)


def measure(folder: Path, *, patients: int = PATIENTS, volumes: int = VOLUMES, resamples: int = 2000) -> Table:
    """Score and compare in fresh processes, and tell how long each took and how large it became."""
    records = volumes * len(ASKED)
    table = Table(
        "Scoring",
        ("work", "seconds", "CPU seconds", "peak memory, MB"),
        f"{records:,} records of {patients} patients, {resamples:,} resamples of patients, every metric of every group "
        "under three failure rules, boxes included. A fresh process each; seconds (the CPU's: all threads together) "
        "without imports and simulation, the peak (VmHWM) with all of it.",
    )
    for name in WORKS:
        command = (sys.executable, "-m", "tests.benchmarks.scoring", name, str(patients), str(volumes), str(resamples))
        root = ROOT
        said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.split()
        table.add(WORKS[name], f"{float(said[0]):.1f}", f"{float(said[1]):.1f}", f"{int(said[2]) / 1e6:.0f}")
    return table


WORKS = {
    "score": "`score`",
    "dumps": "`score`, and writing `results.json`",
    "headline": "`paired_difference` of totals and boxes, in all and by category",
    "difference": "`paired_difference` of everything",
}


def run(name: str, patients: int, volumes: int, resamples: int) -> tuple[float, float, int]:
    """Do one piece of work; give its seconds, the CPU's, and this process's peak in bytes."""
    truth = simulate_truth(patients, volumes)
    first, second = simulate_answers(truth), simulate_answers(truth, right=0.6, seed=2)
    priors = make_priors()
    start, cpu = time.perf_counter(), time.process_time()
    if name in ("score", "dumps"):
        results = score(truth, first, priors=priors, resamples=resamples)
        if name == "dumps":
            results.dumps()
    elif name == "headline":
        by, statistics = ("all", "category"), ("total", "localisation")
        paired_difference(truth, first, second, priors=priors, resamples=resamples, by=by, statistics=statistics)
    else:
        paired_difference(truth, first, second, priors=priors, resamples=resamples)
    return time.perf_counter() - start, time.process_time() - cpu, peak_bytes()


def main(arguments: Sequence[str]) -> None:
    print(*run(arguments[0], *(int(number) for number in arguments[1:4])))


if __name__ == "__main__":
    main(sys.argv[1:])
