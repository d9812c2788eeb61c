"""Regions over the wire: few bytes, few requests, and never a wrong voxel."""

from __future__ import annotations

import itertools
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import DecodeCache, bytes_read, open_volume, pack, remote_source, set_credentials
from reasonknee_datasets.volumes.remote_source import RemoteSource, coalesce, is_passing
from tests.helpers.volumes_files import knee, same, save
from tests.helpers.volumes_server import Server, serve

CENTRAL = Box((50, 152, 154), (110, 232, 229))  # 60 x 80 x 75 voxels


def dess() -> np.ndarray:
    """Draw a volume of OAI's size that compresses by about half, as OAI's do."""
    rng = np.random.default_rng(0)
    plane = (np.hypot(*np.mgrid[-80:80, -192:192]) * 2).astype(np.int16)
    noise = rng.integers(0, 120, (160, 384, 16), dtype=np.int16)
    return plane[..., None] + np.tile(noise, (1, 1, 24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remote")
    pack(save(folder / "plain.nii", dess()), folder / "knee.nii.gz", level=1)
    pack(save(folder / "plain.nii", knee((40, 40, 40))), folder / "small.nii.gz")
    save(folder / "ordinary.nii.gz", knee((40, 40, 40)))
    return folder


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(remote_source, "_FIRST_WAIT", 0.01)
    with serve(folder) as server:
        yield server


@pytest.mark.slow
def test_central_box_fetches_part_of_file(folder: Path, server: Server) -> None:
    size = (folder / "knee.nii.gz").stat().st_size
    volume = open_volume(f"{server.url}/knee.nii.gz", cache=DecodeCache())
    assert volume.shape == (160, 384, 384)
    assert server.count("GET") == 1
    assert server.sent <= 64 * 1024
    remote_source._latencies[server.url] = 0.03
    same(volume.read_region(CENTRAL), dess()[CENTRAL.slices])
    assert server.sent < 0.12 * size
    assert server.count("GET") == 1 + 75  # a part of each plane
    sent = server.sent
    same(volume.read_region(CENTRAL), dess()[CENTRAL.slices])
    assert server.sent == sent


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZIP", "identity"])
@pytest.mark.parametrize("name", ["small", "ordinary"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.filterwarnings("ignore:the server of:RuntimeWarning")
def test_content_encoding_of_stored_gzip(server: Server, encoding: str, name: str, ranges: bool) -> None:
    server.encoding, server.ranges = encoding, ranges
    volume = open_volume(f"{server.url}/{name}.nii.gz", cache=None)
    same(volume.read_region(Box((1, 2, 3), (30, 20, 9))), knee((40, 40, 40))[1:30, 2:20, 3:9])
    same(np.asarray(volume), knee((40, 40, 40)))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the server of:RuntimeWarning")
def test_a_server_that_encodes_whatever_is_asked(server: Server) -> None:
    server.encodes = True
    for name in ("small", "ordinary"):
        volume = open_volume(f"{server.url}/{name}.nii.gz", cache=None)
        same(volume.read_region(Box((1, 2, 3), (30, 20, 9))), knee((40, 40, 40))[1:30, 2:20, 3:9])
        remote_source._wholes.clear()  # as other volumes push it out
        same(np.asarray(volume), knee((40, 40, 40)))


@pytest.mark.parametrize("encoding", [None, "gzip", "x-gzip"])
@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize(("states_length", "allows_head"), [(False, True), (True, False), (False, False)])
@pytest.mark.filterwarnings("ignore:the server of:RuntimeWarning")
def test_a_server_without_content_length_or_head(
    server: Server, encoding: str | None, ranges: bool, states_length: bool, allows_head: bool
) -> None:
    server.encoding, server.ranges = encoding, ranges
    server.states_length, server.allows_head = states_length, allows_head
    for name in ("small", "ordinary"):
        volume = open_volume(f"{server.url}/{name}.nii.gz", cache=None)
        same(volume.read_region(Box((1, 2, 3), (30, 20, 9))), knee((40, 40, 40))[1:30, 2:20, 3:9])
        remote_source._wholes.clear()  # as other volumes push it out
        same(np.asarray(volume), knee((40, 40, 40)))


@pytest.mark.parametrize("encoding", ["deflate", "br", "zstd"])
def test_another_content_encoding_is_named(server: Server, encoding: str) -> None:
    server.encoding = encoding
    with pytest.raises(VolumeError, match=rf"small\.nii\.gz with Content-Encoding: {encoding}, although it was asked"):
        _ = open_volume(f"{server.url}/small.nii.gz", cache=None).shape


def test_replaced_file_of_unstated_size(folder: Path, server: Server) -> None:
    server.states_length = False
    path = save(folder / "changes.nii.gz", knee(seed=1))
    volume = open_volume(f"{server.url}/changes.nii.gz", cache=None)
    with pytest.warns(RuntimeWarning, match="the whole file was downloaded"):
        assert volume.shape
    remote_source._wholes.clear()
    save(path, knee((12, 14, 11)))
    with (
        pytest.warns(RuntimeWarning, match="the whole file was downloaded"),
        pytest.raises(VolumeError, match=r"changed after it was opened: it was replaced by one with another header"),
    ):
        np.asarray(volume)
    same(np.asarray(open_volume(f"{server.url}/changes.nii.gz", cache=None)), knee((12, 14, 11)))


def put(path: Path, voxels: np.ndarray) -> None:
    """Write a volume as a seekable file, an ordinary one, or an uncompressed one, by its name."""
    if path.name.startswith("packed"):
        pack(save(path.with_name("unpacked.nii"), voxels), path)
    else:
        save(path, voxels)


@pytest.fixture(params=["packed.nii.gz", "ordinary.nii.gz", "plain.nii"])
def replaced(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A served volume, which a function replaces by other voxels."""
    monkeypatch.setattr(remote_source, "_FIRST_WAIT", 0.01)
    put(tmp_path / request.param, knee((40, 40, 40)))
    os.utime(tmp_path / request.param, (0, 0))  # a Last-Modified counts whole seconds
    with serve(tmp_path) as server:
        yield server, f"{server.url}/{request.param}", lambda voxels: put(tmp_path / request.param, voxels)


@pytest.mark.parametrize("sends_etag", [True, False])
@pytest.mark.parametrize("shape", [(44, 40, 40), (20, 20, 20), (40, 20, 80)])  # longer, shorter, and as long
def test_replaced_file_must_be_opened_again(replaced: Any, shape: Any, sends_etag: bool) -> None:
    server, url, replace = replaced
    server.sends_etag = sends_etag
    volume = open_volume(url, cache=None)
    assert volume.shape == (40, 40, 40)
    new = knee(shape, seed=1)
    replace(new)
    message = r"changed after it was opened: it was replaced by one with another header\. Open it again with"
    for read in (lambda: volume.read_region(Box((30, 2, 3), (39, 10, 9))), lambda: np.asarray(volume)):
        with pytest.raises(VolumeError, match=message):
            read()
    again = open_volume(url, cache=None)
    assert again.shape == shape
    same(np.asarray(again), new)


def test_replaced_file_with_same_header(replaced: Any) -> None:
    _, url, replace = replaced
    cache = DecodeCache()
    volume = open_volume(url, cache=cache)
    same(volume.read_region(Box((0, 0, 0), (4, 5, 6))), knee((40, 40, 40))[:4, :5, :6])
    new = knee((40, 40, 40), seed=1)
    replace(new)
    cache.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is the slab index said to be wrong
        same(volume.read_region(Box((30, 2, 3), (39, 10, 9))), new[30:39, 2:10, 3:9])
    same(np.asarray(open_volume(url, cache=cache)), new)


def test_damaged_file_is_not_called_replaced(folder: Path, server: Server) -> None:
    volume = open_volume(f"{server.url}/ordinary.nii.gz", cache=None)
    assert volume.shape
    server.spoil = True
    with pytest.raises(VolumeError, match=r"ordinary\.nii\.gz does not inflate") as caught:
        np.asarray(volume)
    assert "changed" not in str(caught.value)


@pytest.mark.slow
def test_whole_volumes(server: Server) -> None:
    for name in ("small", "ordinary"):
        same(np.asarray(open_volume(f"{server.url}/{name}.nii.gz", cache=None)), knee((40, 40, 40)))


@pytest.mark.slow
def test_server_without_ranges_is_read_once(folder: Path, server: Server) -> None:
    server.ranges = False
    size = (folder / "knee.nii.gz").stat().st_size
    volume = open_volume(f"{server.url}/knee.nii.gz", cache=None)
    with pytest.warns(RuntimeWarning, match=r"does not send ranges: the whole file was downloaded"):
        assert volume.shape == (160, 384, 384)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same(volume.read_region(CENTRAL), dess()[CENTRAL.slices])
    assert server.count("GET") == 1
    assert server.sent == size


@pytest.mark.slow
def test_passing_failures_are_tried_again(server: Server) -> None:
    server.failures = 2
    volume = open_volume(f"{server.url}/small.nii.gz", cache=None)
    assert volume.shape
    server.failures = 3
    same(volume.dataobj[:, 3, 5:30], knee((40, 40, 40))[:, 3, 5:30])


@pytest.mark.slow
def test_lasting_failures_are_one_clear_error(server: Server) -> None:
    volume = open_volume(f"{server.url}/small.nii.gz", cache=None)
    assert volume.shape
    server.failures = 100
    with pytest.raises(VolumeError, match=r"http://127\.0\.0\.1:\d+/small\.nii\.gz cannot be read \(.*503"):
        volume.dataobj[:, 3, 5:30]
    assert server.failures == 100 - 4


@pytest.mark.slow
def test_refusals_are_not_tried_again(server: Server) -> None:
    volume = open_volume(f"{server.url}/small.nii.gz", cache=None)
    assert volume.shape
    before = server.count("GET")
    server.token = "needed from now on"
    with pytest.raises(VolumeError, match=r"cannot be read \(.*403"):
        volume.dataobj[:, 3, 5:30]
    assert server.count("GET") == before + 1


@pytest.mark.slow
def test_spoilt_bytes_are_an_error(server: Server) -> None:
    volume = open_volume(f"{server.url}/small.nii.gz", cache=None)
    assert volume.shape
    server.spoil = True
    with pytest.raises(VolumeError, match=r"small\.nii\.gz does not inflate"):
        volume.dataobj[:, 3, 5:30]


@pytest.mark.slow
def test_a_connection_that_breaks_is_tried_again(folder: Path, server: Server) -> None:
    volume = open_volume(f"{server.url}/small.nii.gz", cache=None)
    assert volume.shape
    server.breaks = 2
    same(volume.dataobj[:, 3, 5:30], knee((40, 40, 40))[:, 3, 5:30])
    assert server.breaks == 0


@pytest.mark.slow
def test_requests_are_on_the_way_together(server: Server) -> None:
    volume = open_volume(f"{server.url}/knee.nii.gz", cache=None)
    assert volume.shape
    before, server.delay, server.most_busy = server.count("GET"), 0.5, 0
    volume.dataobj[:2, :2, ::100]  # four slabs, far apart
    assert server.count("GET") - before == 4
    assert server.most_busy > 1


@pytest.mark.slow
def test_coalesce_for_distant_server(folder: Path, server: Server) -> None:
    volume = open_volume(f"{server.url}/knee.nii.gz", cache=None)
    assert volume.shape
    remote_source._latencies[server.url] = 0.2
    same(volume.read_region(CENTRAL), dess()[CENTRAL.slices])
    assert server.count("GET") <= 1 + 2  # the gaps are read too, and the run is cut so that several are on the way
    assert server.sent < 0.3 * (folder / "knee.nii.gz").stat().st_size


@pytest.mark.slow
def test_requests_in_flight_are_bounded(folder: Path, server: Server) -> None:
    voxels = np.random.default_rng(0).integers(0, 30_000, (160, 200, 40), np.int16)
    save(folder / "noise.nii", voxels)
    pack(folder / "noise.nii", folder / "noise.nii.gz", level=1)  # slabs of 32 kB, two a plane
    volume = open_volume(f"{server.url}/noise.nii.gz", cache=None)
    assert volume.shape
    before, server.delay, server.most_busy = server.count("GET"), 0.1, 0
    part = np.s_[20:30, 20:30]
    same(volume.dataobj[part], voxels[part])
    assert server.count("GET") - before == 40
    assert 1 < server.most_busy <= 16


@pytest.mark.slow
def test_the_gap_between_requests_follows_the_latency(folder: Path, server: Server) -> None:
    source = RemoteSource(f"{server.url}/knee.nii.gz")
    assert source._gap() == 0.03 * 12_500_000 // 16  # before the first answer
    server.delay = 0.2
    source.read_head(1000)
    assert source._gap() >= 0.2 * 12_500_000 / 16
    server.delay = 0
    for latency, gap in ((0.001, 16 * 1024), (0.064, 50_000), (0.128, 100_000), (60.0, 1024 * 1024)):
        remote_source._latencies[server.url] = latency
        assert source._gap() == gap


@given(st.lists(st.integers(0, 20_000_000), min_size=2, max_size=12, unique=True), st.integers(0, 1_000_000))
def test_requests_cover_the_ranges_and_little_else(cuts: list[int], gap: int) -> None:
    ranges = [pair for number, pair in enumerate(itertools.pairwise(sorted(cuts))) if number % 3 < 2]
    requests = coalesce(ranges, gap)
    assert all(0 < stop - start <= 4 * 1024 * 1024 for start, stop in requests)
    assert all(first[1] <= second[0] for first, second in itertools.pairwise(requests))
    for start, stop in ranges:
        inside = [(max(start, first), min(stop, last)) for first, last in requests if first < stop and start < last]
        assert sum(last - first for first, last in inside) == stop - start
    wanted = sum(stop - start for start, stop in ranges)
    assert sum(stop - start for start, stop in requests) <= wanted + gap * len(ranges)


def test_which_errors_may_pass() -> None:
    class AnswerError(Exception):
        def __init__(self, status: int) -> None:
            self.status = status

    for error in (ConnectionResetError(), TimeoutError(), OSError("weather"), AnswerError(503), AnswerError(429)):
        assert is_passing(error)
        wrapped = FileNotFoundError("url")
        wrapped.__cause__ = error
        assert is_passing(wrapped)
    for refusal in (FileNotFoundError(), PermissionError(), ValueError("protocol"), AnswerError(404), AnswerError(403)):
        assert not is_passing(refusal)


@pytest.fixture(scope="module")
def bucket(folder: Path) -> Iterator[dict[str, Any]]:
    """A real S3 API on the loopback with the files in a bucket."""
    pytest.importorskip("s3fs", reason="needs s3fs")
    moto = pytest.importorskip("moto.server", reason="needs moto[server]")
    boto3 = pytest.importorskip("boto3", reason="needs boto3")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        options = {"key": "test", "secret": "planted", "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
        client = boto3.client(
            "s3",
            endpoint_url=f"http://{host}:{port}",
            aws_access_key_id="test",
            aws_secret_access_key="planted",
            region_name="us-east-1",
        )
        client.create_bucket(Bucket="knees")
        for name in ("knee", "small", "ordinary"):
            client.upload_file(str(folder / f"{name}.nii.gz"), "knees", f"{name}.nii.gz")
        yield options
    finally:
        server.stop()


@pytest.mark.slow
def test_s3(folder: Path, bucket: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    ask = RemoteSource._ask

    def counting(self: RemoteSource, *args: Any) -> Any:
        answers = ask(self, *args)
        fetched.extend(len(answer) for answer in answers if isinstance(answer, bytes))
        return answers

    monkeypatch.setattr(RemoteSource, "_ask", counting)
    set_credentials("s3://knees", bucket)
    try:
        volume = open_volume("s3://knees/knee.nii.gz", cache=DecodeCache())
        same(volume.read_region(CENTRAL), dess()[CENTRAL.slices])
        assert sum(fetched) < 0.3 * (folder / "knee.nii.gz").stat().st_size
        for name in ("small", "ordinary"):
            same(np.asarray(open_volume(f"s3://knees/{name}.nii.gz")), knee((40, 40, 40)))
        with pytest.raises(VolumeError, match=r"s3://knees/absent\.nii does not exist"):
            _ = open_volume("s3://knees/absent.nii").shape
        assert "planted" not in repr(volume)
    finally:
        set_credentials("s3://knees", None)


@pytest.mark.slow
def test_bytes_read_is_what_server_sent(server: Server) -> None:
    before = bytes_read()
    volume = open_volume(f"{server.url}/knee.nii.gz", cache=DecodeCache())
    np.testing.assert_array_equal(volume.dataobj[CENTRAL.slices], dess()[CENTRAL.slices])
    assert bytes_read() - before == server.sent > 0
