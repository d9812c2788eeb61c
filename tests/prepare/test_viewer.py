"""What the Hub's dataset viewer will make of a prepared repository.

The viewer answers ``first-rows`` with the features and the first rows as JSON. Its rules, read in its source: up to 100
rows; as many of them as fit into 200,000 bytes; if not even 10 do, their cells are cut to 100 bytes each; and if that
does not help, there is no viewer but an error (TooBigContentError).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.schema import CONFIGS

MOST_BYTES, MOST_ROWS, LEAST_ROWS = 200_000, 100, 10


def dump(value: Any) -> bytes:
    """As orjson writes it: no spaces, no escapes but JSON's own."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def first_rows(root: Path, config: str, split: str) -> dict[str, Any]:
    """Compute the response by the viewer's rules, without cutting cells: where it would have to, this fails."""
    rows = datasets.load_dataset(str(root), config, split=split, streaming=True)
    features = [
        {"feature_idx": number, "name": name, "type": kind}
        for number, (name, kind) in enumerate(rows.features.to_dict().items())
    ]
    response = {"dataset": "me/3dreasonknee", "config": config, "split": split, "features": features, "rows": []}
    response["truncated"] = False
    room = MOST_BYTES - len(dump(response))
    for number, row in enumerate(rows.take(MOST_ROWS)):
        item = {"row_idx": number, "row": row, "truncated_cells": []}
        room -= len(dump(item)) + 1
        if room <= 0:
            assert number >= LEAST_ROWS, "the viewer would cut cells"
            response["truncated"] = True
            break
        response["rows"].append(item)
    return response


def leaves(feature: Any) -> Iterator[Any]:
    """Take a feature apart."""
    if isinstance(feature, dict):
        for inner in feature.values():
            yield from leaves(inner)
    elif isinstance(feature, datasets.List):
        yield from leaves(feature.feature)
    else:
        yield feature


@pytest.fixture(scope="module")
def manifest(prepared: Path) -> Manifest:
    return Manifest.load(prepared)


@pytest.mark.parametrize("config", list(CONFIGS))
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_first_rows_fit(prepared: Path, manifest: Manifest, config: str, split: str) -> None:
    if split not in manifest.splits(config):
        pytest.skip(f"there is no {split} in {config}, as officially")
    response = first_rows(prepared, config, split)
    assert len(dump(response)) < MOST_BYTES
    assert not any(row["truncated_cells"] for row in response["rows"])
    shown, held = len(response["rows"]), min(MOST_ROWS, manifest.rows(config, split))
    # 100 rows of quintuples with texts of official length take about 270,000 bytes, of which the flat grade columns
    # take 27,000: the viewer's first page then ends at about the 73rd row. Everything else is shown entirely.
    assert shown == held or (config == "quintuples" and shown >= 70)


def test_the_texts_have_official_length(prepared: Path) -> None:
    # Official prompts with guidance take 610 to 1,078 characters and a whole record about 2.1 kB.
    rows = list(datasets.load_dataset(str(prepared), split="train", streaming=True).take(MOST_ROWS))
    lengths = [len(row["question"]) for row in rows]
    assert min(lengths) >= 610
    assert max(lengths) <= 1078
    said = [len(row["question"]) + len(" ".join(row["reasoning"])) + 2 * len(row["answer"]) for row in rows]
    assert 1700 < sum(said) / len(said) < 2300


def test_longer_texts_would_be_noticed(tmp_path: Path) -> None:
    rows = [{"text": "x" * 30_000} for _ in range(20)]
    datasets.Dataset.from_list(rows).to_parquet(tmp_path / "train-0.parquet")
    with pytest.raises(AssertionError, match="the viewer would cut cells"):
        first_rows(tmp_path, "default", "train")


@pytest.mark.parametrize("config", list(CONFIGS))
def test_features_are_stock(prepared: Path, config: str) -> None:
    # The viewer cannot "determine the type of the data cell" of anything else.
    features = datasets.load_dataset(str(prepared), config, split="train", streaming=True).features
    for name, feature in features.items():
        assert all(type(leaf) is datasets.Value for leaf in leaves(feature)), name


def test_every_file_has_a_page_index_and_small_row_groups(prepared: Path, manifest: Manifest) -> None:
    for shard in manifest.all_shards():
        metadata = pq.read_metadata(prepared / shard.path)
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            assert group.total_byte_size < 100_000_000
            assert all(group.column(column).has_offset_index for column in range(group.num_columns)), shard.path


def test_card_configs_name_every_file(prepared: Path, manifest: Manifest) -> None:
    card = DatasetCard((prepared / "README.md").read_text(encoding="utf-8")).data.to_dict()
    named = [
        path.relative_to(prepared).as_posix()
        for config in card["configs"]
        for files in config["data_files"]
        for path in sorted(prepared.glob(files["path"]))
    ]
    assert sorted(named) == sorted(shard.path for shard in manifest.all_shards())
