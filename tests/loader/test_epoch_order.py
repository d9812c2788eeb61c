"""The order of an epoch is a pure function, keeps few volumes open, mixes batches, and can be balanced."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("torch")  # the folder that the order lives in is imported as a whole

from reasonknee_datasets.loader.epoch_order import EpochPlan, _mix, enumerate_labels

volume_lists = st.lists(st.integers(1, 9), min_size=1, max_size=30).map(
    lambda sizes: np.repeat(np.arange(len(sizes)), sizes)
)
seeds = st.integers(0, 2**63 - 1)


def most_open(volumes: np.ndarray) -> int:
    """Count, place by place, the volumes that have been looked at and will be looked at again."""
    last = {volume: place for place, volume in enumerate(volumes.tolist())}
    open_now: set[int] = set()
    most = 0
    for place, volume in enumerate(volumes.tolist()):
        open_now.add(volume)
        most = max(most, len(open_now))
        if last[volume] == place:
            open_now.discard(volume)
    return most


@given(volumes=volume_lists, seed=seeds, epoch=st.integers(0, 10**6), group=st.integers(1, 40))
def test_epoch_plan_is_permutation_of_rows(volumes: np.ndarray, seed: int, epoch: int, group: int) -> None:
    rows = EpochPlan(volumes, seed, group).rows(epoch)
    assert sorted(rows.tolist()) == list(range(len(volumes)))
    if group < volumes.max() + 1:
        assert most_open(volumes[rows]) <= group


@given(volumes=volume_lists, seed=seeds, group=st.integers(1, 40))
def test_the_same_questions_give_the_same_answer(volumes: np.ndarray, seed: int, group: int) -> None:
    plan = EpochPlan(volumes, seed, group)
    assert plan.rows(3).tolist() == EpochPlan(volumes.copy(), seed, group).rows(3).tolist()


def test_epoch_plan_never_changes() -> None:
    # Written down on 22 November 2026 with NumPy 2.4: these numbers must never change.
    plan = EpochPlan(np.repeat(np.arange(6), 3), seed=20261122, volumes_in_flight=3)
    assert plan.rows(0).tolist() == [11, 10, 8, 9, 6, 3, 4, 5, 7, 15, 12, 16, 17, 0, 14, 2, 13, 1]
    assert plan.rows(1).tolist() == [15, 1, 17, 16, 2, 0, 7, 14, 6, 8, 13, 4, 3, 12, 9, 5, 11, 10]
    balanced = EpochPlan(plan.volumes, 7, 3, classes=np.array([0] * 16 + [1, 2]))
    assert balanced.rows(0).tolist() == [14, 14, 10, 11, 4, 16, 17, 17, 16, 9, 16, 17, 16, 17, 7, 8, 16, 16]


def test_draws_are_splitmix64() -> None:
    # The first outputs for seed 1234567, as published with the algorithm (prng.di.unimi.it) and in other libraries.
    published = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    states = [(1234567 + step * 0x9E3779B97F4A7C15) % 2**64 for step in (1, 2, 3)]
    assert _mix(np.array(states, np.uint64)).tolist() == published


@pytest.mark.slow
def test_another_process_agrees() -> None:
    code = (
        "import numpy as np; from reasonknee_datasets.loader.epoch_order import EpochPlan;"
        "print(EpochPlan(np.repeat(np.arange(50), 7), 11, 5).rows(4).tolist())"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert said.strip() == str(EpochPlan(np.repeat(np.arange(50), 7), 11, 5).rows(4).tolist())


def test_seed_epoch_and_group_size_each_matter() -> None:
    volumes = np.repeat(np.arange(40), 5)
    orders = {
        tuple(EpochPlan(volumes, seed, group).rows(epoch).tolist())
        for seed in (0, 1)
        for group in (4, 5)
        for epoch in (0, 1)
    }
    assert len(orders) == 8


def test_without_shuffling_rows_stand_as_they_are() -> None:
    assert EpochPlan(np.repeat(np.arange(4), 2), shuffle=False).rows(9).tolist() == list(range(8))


def test_order_batches_mix_open_volumes() -> None:
    volumes = np.repeat(np.arange(200), 62)
    looked_at = volumes[EpochPlan(volumes, seed=5, volumes_in_flight=16).rows(0)]
    batches = looked_at[: len(looked_at) // 8 * 8].reshape(-1, 8)
    mixed = np.array([len(set(batch)) for batch in batches.tolist()])
    assert mixed.mean() > 6  # eight draws out of sixteen hit 6.5 different ones
    assert mixed[:20].mean() > 4.5
    assert mixed[-20:].mean() > 4.5


def test_every_volume_may_come_at_any_time() -> None:
    volumes = np.repeat(np.arange(20), 4)
    first = Counter(int(volumes[EpochPlan(volumes, seed, 4).rows(0)[0]]) for seed in range(400))
    assert len(first) == 20
    assert max(first.values()) < 60  # twenty expected


@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    labels=st.data(),
    seed=seeds,
    group=st.integers(1, 14),
)
def test_epoch_plan_of_balanced_draws(sizes: list[int], labels: st.DataObject, seed: int, group: int) -> None:
    volumes = np.repeat(np.arange(len(sizes)), sizes)
    classes = enumerate_labels(
        np.array(labels.draw(st.lists(st.integers(0, 3), min_size=len(volumes), max_size=len(volumes))))
    )
    rows = EpochPlan(volumes, seed, group, classes=classes).rows(2)
    assert len(rows) == len(volumes)
    assert set(rows.tolist()) <= set(range(len(volumes)))
    if group < len(set(volumes[rows].tolist())):
        assert most_open(volumes[rows]) <= group


def test_balanced_draws_give_every_class_its_share() -> None:
    volumes = np.repeat(np.arange(1000), 10)
    classes = np.zeros(10_000, np.int64)
    classes[:300], classes[300:310] = 1, 2
    rows = EpochPlan(volumes, 3, 16, classes=classes).rows(0)
    share = np.bincount(classes[rows]) / len(rows)
    assert share == pytest.approx([1 / 3] * 3, abs=0.02)  # four standard deviations
    per_row = np.bincount(rows[classes[rows] == 1], minlength=300)[:300]
    assert per_row.std() == pytest.approx(np.sqrt(per_row.mean()), rel=0.3)  # as draws with replacement have it


def test_numbers_follow_first_appearance() -> None:
    assert enumerate_labels(np.array([7, 7, 2, 9, 2])).tolist() == [0, 0, 1, 2, 1]
