"""Column chunks of remote shards are verified: bit flips in page headers, which page checksums do not cover."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from reasonknee_datasets.errors import ReasonKneeError, RepositoryError
from reasonknee_datasets.manifest import Manifest, Shard, chunk_ranges
from reasonknee_datasets.sources import read_shard, select, shard_reader
from tests.helpers import prepare_content as given
from tests.helpers.file_servers import serve

HEADER = 48  # bytes; page headers of these shards are shorter, and the bytes behind them are page data


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, Path, Manifest]]:
    """Serve a repository whose shards all count as too large to be read whole."""
    monkeypatch.setattr(shard_reader, "_WHOLE", 0)
    given.write(tmp_path / "3dreasonknee", given.content(given.volumes(None)), volumes="none")
    with serve(tmp_path / "3dreasonknee") as served:
        yield served, tmp_path / "3dreasonknee", Manifest.load(tmp_path / "3dreasonknee")


def rows(served: Any, shard: Shard, config: str, columns: list[str] | None = None, where: Any = None) -> list[Any]:
    tables = read_shard(f"{served.url}/{shard.path}", shard, select(config, columns, where))
    return [row for table in tables for row in table.to_pylist()]


def header_bits(path: Path, length: int = HEADER) -> list[tuple[int, int]]:
    """List the byte and bit of every bit in or shortly after a page header."""
    metadata = pq.read_metadata(path)
    ranges = chunk_ranges(metadata)
    starts = {start for start, _ in ranges}
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        starts |= {group.column(place).data_page_offset for place in range(group.num_columns)}
    places = {start + byte for start in starts for byte in range(length)}
    inside = sorted(place for place in places if any(start <= place < stop for start, stop in ranges))
    return [(place, bit) for place in inside for bit in range(8)]


def flip(served: Any, path: Path, shard: Shard, config: str, bits: list[tuple[int, int]]) -> Counter[str]:
    """Count what comes of each flip."""
    expected, sound, outcomes = rows(served, shard, config), path.read_bytes(), Counter[str]()
    for byte, bit in bits:
        data = bytearray(sound)
        data[byte] ^= 1 << bit
        path.write_bytes(bytes(data))
        try:
            found = rows(served, shard, config)
        except ReasonKneeError as error:
            outcomes["error" if shard.path in str(error) else "error without the path"] += 1
        except UnicodeDecodeError:  # from values that Arrow read wrongly
            outcomes["silent"] += 1
        else:
            outcomes["right" if found == expected else "silent"] += 1
    path.write_bytes(sound)
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("config", ["quintuples", "volumes", "balanced"])
def test_flips_in_page_headers_over_http(config: str, shards: Any) -> None:
    served, root, manifest = shards
    shard = manifest.shards(config, "train")[0]
    bits = header_bits(root / shard.path)
    chosen = np.random.default_rng(9).permutation(len(bits))[:100]
    outcomes = flip(served, root / shard.path, shard, config, [bits[place] for place in chosen])
    assert outcomes == {"error": 100}


@pytest.mark.slow
def test_page_checksums_miss_flips_in_headers(shards: Any) -> None:
    served, root, manifest = shards
    shard = manifest.shards("balanced", "train")[0]
    unchecked = replace(shard, chunk_sha256=None)
    bits = header_bits(root / shard.path, 4)  # all 48 bytes: 14 silent changes of 1,536 without hashes, none with
    outcomes = flip(served, root / shard.path, unchecked, "balanced", bits)
    assert outcomes["silent"] > 0
    assert flip(served, root / shard.path, shard, "balanced", bits) == {"error": len(bits)}


def test_a_manifest_without_chunk_hashes_is_read(shards: Any) -> None:
    served, _, manifest = shards
    shard = manifest.shards("quintuples", "train")[0]
    assert rows(served, replace(shard, chunk_sha256=None), "quintuples") == rows(served, shard, "quintuples")


def test_only_requested_chunks_are_fetched(shards: Any) -> None:
    served, root, manifest = shards
    shard = manifest.shards("quintuples", "train")[0]
    before = served.bytes_sent
    assert rows(served, shard, "quintuples", ["id"], [("patient", "!=", "x")])
    metadata = pq.read_metadata(root / shard.path)
    names = [metadata.row_group(0).column(place).path_in_schema for place in range(metadata.num_columns)]
    ranges = dict(zip(itertools.product(range(metadata.num_row_groups), names), chunk_ranges(metadata), strict=True))
    chosen = sum(stop - start for (_, name), (start, stop) in ranges.items() if name in ("id", "patient"))
    footer = metadata.serialized_size + 8
    # Arrow also fetches the bytes between two chunks, up to 8 kB.
    assert served.bytes_sent - before <= chosen + footer + 8 + 8192 * metadata.num_row_groups


@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("change", ["one less", "one more", "another"])
def test_hashes_that_are_not_the_shards(change: str, shards: Any) -> None:
    served, _, manifest = shards
    shard = manifest.shards("quintuples", "train")[0]
    hashes = {
        "one less": shard.chunk_sha256[:-1],
        "one more": (*shard.chunk_sha256, "0" * 64),
        "another": ("0" * 64, *shard.chunk_sha256[1:]),
    }[change]
    message = r"bytes 4 to [\d,]+ is [0-9a-f]{64}, not 0{64}" if change == "another" else r"it has \d+ column chunks"
    with pytest.raises(RepositoryError, match=message):
        rows(served, replace(shard, chunk_sha256=hashes), "quintuples")


@pytest.mark.parametrize("damaged", [False, True])
def test_a_server_that_states_no_size(damaged: bool, shards: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    served, root, manifest = shards
    shard = manifest.shards("quintuples", "train")[0]
    expected = rows(served, shard, "quintuples")
    if damaged:
        byte, bit = header_bits(root / shard.path)[11]
        data = bytearray((root / shard.path).read_bytes())
        data[byte] ^= 1 << bit
        (root / shard.path).write_bytes(bytes(data))
    with serve(root, ranges=False, length=False) as other:
        if damaged:
            with (
                pytest.warns(RuntimeWarning, match="does not send ranges"),
                pytest.raises(RepositoryError, match="its SHA-256 is"),
            ):
                rows(other, shard, "quintuples")
        else:
            with pytest.warns(RuntimeWarning, match="does not send ranges"):
                found = rows(other, shard, "quintuples")
            assert found == expected
