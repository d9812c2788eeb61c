"""The loader's order as a sampler of a stock DataLoader."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("torch")

from torch.utils.data import DataLoader

from reasonknee_datasets.errors import LoaderError
from reasonknee_datasets.loader import VolumeGroupedSampler, make_dataloader
from tests.loader.test_loader import examples

ROWS = examples([4, 3, 5, 2, 4, 3])  # 21 rows


def same(rows: list[Any]) -> list[Any]:
    return rows


def test_sampler_has_the_order_of_the_loader() -> None:
    options: dict[str, Any] = {"seed": 3, "volumes_in_flight": 2}
    loader = make_dataloader(ROWS, batch_size=4, shuffle=True, **options)
    sampler = VolumeGroupedSampler(ROWS, **options)
    stock = DataLoader(ROWS, sampler=sampler, batch_size=4, collate_fn=same)  # type: ignore[arg-type]
    for epoch in range(2):
        sampler.set_epoch(epoch)
        assert [[row["id"] for row in batch] for batch in stock] == [batch["id"] for batch in loader]
    assert len(sampler) == 21
    assert len(stock) == len(loader) == 6


def test_sampler_keeps_few_volumes_open() -> None:
    rows = examples([6] * 30)
    volumes = [row // 6 for row in VolumeGroupedSampler(rows, volumes_in_flight=3)]
    spans = [(volumes.index(volume), 179 - volumes[::-1].index(volume)) for volume in range(30)]
    assert max(sum(first <= place <= last for first, last in spans) for place in range(180)) == 3


@pytest.mark.parametrize(("drop_last", "counts"), [(False, [11, 11]), (True, [10, 10])])
def test_ranks_share_out_the_rows(drop_last: bool, counts: list[int]) -> None:
    whole = list(VolumeGroupedSampler(ROWS))
    ranks = [VolumeGroupedSampler(ROWS, rank=rank, world_size=2, drop_last=drop_last) for rank in range(2)]
    parts = [list(rank) for rank in ranks]
    assert [len(part) for part in parts] == [len(rank) for rank in ranks] == counts
    dealt = [row for pair in zip(*parts, strict=True) for row in pair]
    assert dealt == (whole[:20] if drop_last else [*whole, whole[20]])


def test_sampler_resumes_on_other_ranks() -> None:
    whole = list(VolumeGroupedSampler(ROWS, seed=2))
    sampler = VolumeGroupedSampler(ROWS, seed=2, rank=1, world_size=2)
    state = sampler.state_dict(seen=4)
    assert state["position"] == 8
    resumed = VolumeGroupedSampler(ROWS, seed=2)
    resumed.load_state_dict(state)
    resumed.set_epoch(0)
    assert list(resumed) == whole[8:]
    assert list(resumed) == whole
    three = [VolumeGroupedSampler(ROWS, seed=2, rank=rank, world_size=3) for rank in range(3)]
    for rank in three:
        rank.load_state_dict(state)
    dealt = [row for step in zip(*three, strict=True) for row in step]
    assert dealt[:13] == whole[8:]
    loader = make_dataloader(ROWS, batch_size=5, shuffle=True, seed=2)  # whose state is the same
    loader.load_state_dict(state)
    assert [name for batch in loader for name in batch["id"]] == [ROWS[row]["id"] for row in whole[8:]]


def test_state_dict_counts_the_rows_drawn() -> None:
    sampler = VolumeGroupedSampler(ROWS, seed=2, rank=1, world_size=2)
    drawn = iter(sampler)
    assert sampler.state_dict()["position"] == 0
    assert [next(drawn) for _ in range(3)]
    assert sampler.state_dict() == sampler.state_dict(seen=3)
    resumed = VolumeGroupedSampler(ROWS, seed=2, rank=1, world_size=2)
    resumed.load_state_dict(sampler.state_dict())
    assert resumed.state_dict() == sampler.state_dict()
    assert list(resumed) == list(drawn)
    assert resumed.state_dict()["position"] == 21


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_stateful_dataloader_resumes_the_sampler(workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def make() -> tuple[VolumeGroupedSampler, Any]:
        sampler = VolumeGroupedSampler(ROWS, seed=3, volumes_in_flight=2)
        return sampler, stateful(ROWS, sampler=sampler, batch_size=4, collate_fn=same, num_workers=workers)

    def ids(batches: Any) -> list[str]:
        return [row["id"] for batch in batches for row in batch]

    sampler, whole = make()
    expected = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        expected.append(ids(whole))
    sampler, first = make()
    sampler.set_epoch(1)
    batches = iter(first)
    seen = ids(next(batches) for _ in range(3))
    state = first.state_dict()
    sampler, second = make()
    second.load_state_dict(state)
    assert seen + ids(second) == expected[1]
    sampler.set_epoch(2)
    assert ids(second) == expected[2]


@pytest.mark.parametrize("column", [False, True])
def test_sampler_balances_by_one_attribute(column: bool) -> None:
    """The grade of one attribute is read from grades, or from a column of its own."""
    rows = []
    for number in range(300):
        grade = 2 if number % 30 == 0 else 0
        grades = [{"attribute": "size", "grade": grade}, {"attribute": "number", "grade": 3}]
        rows.append({"id": f"{number}", "volume_path": f"{number // 10}", "grades": grades, "expected": grade})
    if column:
        rows = [{**row, "grade_size": row["expected"], "grades": None} for row in rows]
    drawn = [rows[row]["expected"] for row in VolumeGroupedSampler(rows, balance="grade_size")]
    assert abs(drawn.count(0) - drawn.count(2)) < 80
    assert len(drawn) == 300


def test_sampler_balances_by_absent_attribute() -> None:
    rows = [{"id": "a", "volume_path": "1", "grades": [{"attribute": "size", "grade": 1}]}]
    with pytest.raises(LoaderError, match=r"No row .* grade to balance by 'grade_depth'. Its attributes are size\."):
        VolumeGroupedSampler(rows, balance="grade_depth")


def test_sampler_balances() -> None:
    rows = examples([1] * 300 + [2] * 15)
    drawn = [rows[row]["category"] for row in VolumeGroupedSampler(rows, balance="category")]
    assert len(drawn) == 330
    assert abs(drawn.count("c1") - drawn.count("c2")) < 80


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: VolumeGroupedSampler(ROWS, volumes_in_flight=0),
            "volumes_in_flight must be a whole number of at least 1",
        ),
        (lambda: VolumeGroupedSampler(ROWS, seed="1"), "seed must be a whole number of at least 0, not '1'"),  # type: ignore[arg-type]
        (lambda: VolumeGroupedSampler([]), "The dataset has no examples"),
        (lambda: VolumeGroupedSampler(ROWS).state_dict(seen=22), "has 21 rows, so that 22 cannot have been seen"),
        (lambda: VolumeGroupedSampler(ROWS).set_epoch(-1), "epoch must be a whole number of at least 0"),
    ],
)
def test_sampler_refuses(call: Any, message: str) -> None:
    with pytest.raises(LoaderError, match=message):
        call()


def test_a_state_of_another_order() -> None:
    with pytest.raises(LoaderError, match=r"The state has seed=0, and this loader 1. Resume with the seed of its run"):
        VolumeGroupedSampler(ROWS, seed=1).load_state_dict(VolumeGroupedSampler(ROWS).state_dict())
