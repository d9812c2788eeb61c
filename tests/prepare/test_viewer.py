"""A prepared repository under the rules of the Hub's dataset viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq
import pytest
from huggingface_hub import DatasetCard

from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.publish.parquet_checks import FIRST_ROWS, first_page
from reasonknee_datasets.schema import CONFIGS

PREPARED = [config for config in CONFIGS if config != "preview"]


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


@pytest.mark.parametrize("config", PREPARED)
@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_first_rows_fit(prepared: Path, manifest: Manifest, config: str, split: str) -> None:
    if split not in manifest.splits(config):
        pytest.skip(f"there is no {split} in {config}, as officially")
    rows = datasets.load_dataset(str(prepared), config, split=split, streaming=True)
    page = first_page(rows.features, rows, config, split)
    assert not page.cut
    assert not page.fails
    # 100 rows of quintuples with texts of official length take about 270,000 bytes, of which the flat grade
    # columns take 27,000: the viewer's first page then ends at about the 73rd row. Everything else is shown whole.
    assert page.rows == min(FIRST_ROWS, manifest.rows(config, split)) or (config == "quintuples" and page.rows >= 70)


def test_the_texts_have_official_length(prepared: Path) -> None:
    # Official prompts with guidance take 610 to 1,078 characters and a whole record about 2.1 kB.
    rows = list(datasets.load_dataset(str(prepared), split="train", streaming=True).take(FIRST_ROWS))
    lengths = [len(row["question"]) for row in rows]
    assert min(lengths) >= 610
    assert max(lengths) <= 1078
    said = [len(row["question"]) + len(" ".join(row["reasoning"])) + 2 * len(row["answer"]) for row in rows]
    assert 1700 < sum(said) / len(said) < 2300


@pytest.mark.parametrize("config", PREPARED)
def test_features_are_stock(prepared: Path, config: str) -> None:
    # The viewer cannot "determine the type of the data cell" of anything else.
    features = datasets.load_dataset(str(prepared), config, split="train", streaming=True).features
    for name, feature in features.items():
        assert all(type(leaf) is datasets.Value for leaf in leaves(feature)), name


def test_parquet_page_index_and_row_groups(prepared: Path, manifest: Manifest) -> None:
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
