"""The viewer's rules, checked against responses written out whole."""

from __future__ import annotations

import json
from typing import Any

import datasets
import pytest

from reasonknee_datasets.publish.parquet_checks import FIRST_ROWS_BYTES, FirstPage, first_page

TEXT = datasets.Features({"text": datasets.Value("string")})


def page(length: int, count: int, features: datasets.Features = TEXT, **more: Any) -> FirstPage:
    return first_page(features, [{"text": "x" * length, **more} for _ in range(count)], "default", "train")


def response(length: int, count: int) -> int:
    """Size of the response of `count` rows, built as the viewer builds it."""
    rows = [{"row_idx": i, "row": {"text": "x" * length}, "truncated_cells": []} for i in range(count)]
    kind = {"dtype": "string", "_type": "Value"}
    features = [{"feature_idx": 0, "name": "text", "type": kind}]
    whole = {"dataset": "owner/3dreasonknee", "config": "default", "split": "train", "features": features}
    return len(json.dumps({**whole, "rows": rows, "truncated": False}, separators=(",", ":")))


def test_first_page_shows_all_of_few_rows() -> None:
    assert page(10, 3) == FirstPage(3, pytest.approx(response(10, 3), abs=1), cut=False, fails=False)


def test_first_page_shows_at_most_100_rows() -> None:
    assert page(10, 300).rows == 100


@pytest.mark.parametrize("length", [2_000, 5_000, 15_000])
def test_first_page_end(length: int) -> None:
    shown = page(length, 100)
    assert response(length, shown.rows) < FIRST_ROWS_BYTES <= response(length, shown.rows + 1)
    assert not shown.cut


def test_first_page_of_long_texts_is_cut() -> None:
    shown = page(30_000, 20)
    assert (shown.rows, shown.cut, shown.fails) == (10, True, False)


def test_first_page_too_large() -> None:
    many = {f"column_{i:03}": "x" * 200 for i in range(300)}
    features = datasets.Features({name: datasets.Value("string") for name in many})
    assert first_page(features, [many] * 10, "default", "train").fails


def test_first_page_fails_with_too_many_columns() -> None:
    features = datasets.Features({f"{i}": datasets.Value("int8") for i in range(1001)})
    assert first_page(features, [], "default", "train").fails


def test_first_page_counts_image_as_url() -> None:
    features = datasets.Features({"text": datasets.Value("string"), "picture": datasets.Image()})
    small, large = (page(10, 50, features, picture={"bytes": b"x" * size, "path": None}) for size in (1, 100_000))
    assert small == large
    assert 190 < (small.bytes - page(10, 50).bytes) / 50 < 300
