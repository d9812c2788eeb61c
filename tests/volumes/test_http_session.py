"""Credentials stay with their origin, and no server can hold or fill this process."""

from __future__ import annotations

import base64
import traceback
import warnings
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import ReasonKneeError, RepositoryError, VolumeError
from reasonknee_datasets.manifest import Manifest
from reasonknee_datasets.summary import summarise
from reasonknee_datasets.volumes import open_volume, remote_source, set_credentials
from tests.helpers import file_servers
from tests.helpers.hostile_server import Handler, endless, redirect, serve, slow
from tests.helpers.prepared_repository import write_repository
from tests.helpers.volumes_files import knee, same, save

SECRET = "planted-s3cret-8f14e45fceea167a"
BASIC = base64.b64encode(f"me:{SECRET}".encode()).decode()
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp 4 will not have it
    AUTH = aiohttp.BasicAuth("me", SECRET)
pytestmark = pytest.mark.filterwarnings("ignore:The 'auth' parameter:DeprecationWarning")
WAYS: dict[str, dict[str, Any]] = {
    "bearer": {"headers": {"Authorization": f"Bearer {SECRET}"}},
    "custom header": {"headers": {"X-Api-Key": SECRET, "Range-Key": SECRET}},
    "auth": {"client_kwargs": {"auth": AUTH}},
    "session header": {"client_kwargs": {"headers": {"X-Token": SECRET}}},
    "session cookie": {"client_kwargs": {"cookies": {"session": SECRET}}},
    "cookie": {"cookies": {"session": SECRET}},
}


def told(headers: list[str]) -> list[str]:
    return [text for text in headers if SECRET in text or BASIC in text]


def files(folder: Path) -> Any:
    """Serve files with ranges, whatever the query."""

    def act(handler: Handler) -> None:
        data = (folder / handler.path.partition("?")[0].lstrip("/")).read_bytes()
        first, _, last = (handler.headers.get("Range") or "").removeprefix("bytes=").partition("-")
        start, stop = (int(first), min(int(last) + 1, len(data))) if first else (0, len(data))
        ranged = {"Content_Range": f"bytes {start}-{stop - 1}/{len(data)}"} if first else {}
        length = str(len(data) if handler.command == "HEAD" else stop - start)
        handler.start(206 if first else 200, Content_Length=length, Accept_Ranges="bytes", **ranged)
        handler.send(data[start:stop])

    return act


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "knee.nii.gz", knee())
    return tmp_path


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_source, "_FIRST_WAIT", 0.01)


class TestOrigins:
    @pytest.mark.slow
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("way", WAYS)
    def test_credentials_do_not_follow_a_redirect(self, folder: Path, way: str, status: int) -> None:
        with serve(files(folder), "127.0.0.2") as there, serve(redirect(there.url, status)) as here:
            volume = open_volume(f"{here.url}/knee.nii.gz", cache=None, storage_options=WAYS[way])
            same(np.asarray(volume), knee())
            assert len(told(here.headers)) == len(here.headers) > 1
            assert len(there.headers) == len(here.headers)
            assert told(there.headers) == []

    @pytest.mark.slow
    @pytest.mark.parametrize("way", WAYS)
    def test_credentials_stay_within_the_origin(self, folder: Path, way: str) -> None:
        """The control: a redirect to another path of the same server is followed with them."""

        def act(handler: Handler) -> None:
            moved = handler.path.startswith("/moved")
            handler.path = handler.path.removeprefix("/moved")
            (files(folder) if moved else redirect("/moved"))(handler)

        with serve(act) as here:
            same(np.asarray(open_volume(f"{here.url}/knee.nii.gz", cache=None, storage_options=WAYS[way])), knee())
            assert any("/moved" in text for text in here.headers)
            assert len(told(here.headers)) == len(here.headers)

    def test_credentials_stay_with_their_origin(self, folder: Path) -> None:
        with serve(files(folder)) as there:
            for target in (there.url, there.url.replace("127.0.0.1", "localhost")):
                with serve(redirect(target)) as here:
                    options = WAYS["custom header"]
                    same(
                        np.asarray(open_volume(f"{here.url}/knee.nii.gz", cache=None, storage_options=options)), knee()
                    )
            assert told(there.headers) == []

    def test_credentials_after_redirect_back(self, folder: Path) -> None:
        """First origin, second, first: the second may not make the first do something with them."""
        with serve(lambda handler: back[0](handler), "127.0.0.2") as there:

            def act(handler: Handler) -> None:
                (files(folder) if "again" in handler.path else redirect(there.url))(handler)

            (folder / "again").mkdir()
            (folder / "knee.nii.gz").rename(folder / "again" / "knee.nii.gz")
            with serve(act) as here:
                back = [redirect(f"{here.url}/again")]
                options = WAYS["custom header"]
                same(np.asarray(open_volume(f"{here.url}/knee.nii.gz", cache=None, storage_options=options)), knee())
                assert [SECRET in text for text in here.headers if "/again" in text] == [False] * len(there.headers)

    @pytest.mark.slow
    def test_manifest_shards_and_priors(self, tmp_path: Path) -> None:
        repository = write_repository(tmp_path / "3dreasonknee")
        options = WAYS["custom header"]
        with file_servers.serve(tmp_path) as files_there, serve(redirect(files_there.url)) as here:
            with serve(redirect(here.url.replace("127.0.0.1", "localhost"))) as first:
                root = f"{first.url}/3dreasonknee"
                try:
                    assert summarise(root, storage_options=options).digest == Manifest.load(repository).digest
                    assert Manifest.load(root, storage_options=options).digest == Manifest.load(repository).digest
                    kwargs = {"split": "train", "streaming": True, "cache_dir": str(tmp_path / "cache")}
                    assert len(list(load_dataset(data_dir=root, storage_options=options, **kwargs))) == 24
                finally:
                    set_credentials(root, None)
                assert len(told(first.headers)) == len(first.headers) > 3
            assert len(here.headers) > 3
            assert told(here.headers) == []

    @pytest.mark.slow
    @pytest.mark.parametrize("target", ["file:///etc/hostname?x=", "ftp://127.0.0.1/", "data:,x"])
    def test_a_redirect_to_no_http_address(self, target: str) -> None:
        with (
            serve(redirect(target)) as here,
            pytest.raises(VolumeError, match=r"volume file http://.*which is not an HTTP address"),
        ):
            _ = open_volume(f"{here.url}/knee.nii.gz", cache=None).shape

    @pytest.mark.slow
    def test_a_redirect_without_end(self) -> None:
        with (
            serve(lambda handler: redirect(here.url)(handler)) as here,
            pytest.raises(VolumeError, match=r"redirects more than 10 times"),
        ):
            _ = open_volume(f"{here.url}/knee.nii.gz", cache=None).shape

    @pytest.mark.slow
    def test_a_signed_address_is_not_shown(self) -> None:
        """Stores redirect to presigned URLs; an error there must not show the signature, nor its traceback."""
        with serve(lambda handler: handler.start(403, Content_Length="0"), "127.0.0.2") as there:

            def act(handler: Handler) -> None:
                location = f"{there.url}{handler.path}?X-Amz-Signature={SECRET}"
                handler.start(302, Location=location, Content_Length="0")

            with serve(act) as here:
                for read in (
                    lambda: open_volume(f"{here.url}/knee.nii.gz", cache=None).shape,
                    lambda: Manifest.load(here.url),
                    lambda: summarise(here.url),
                ):
                    with pytest.raises(ReasonKneeError, match="403") as caught:
                        read()
                    assert SECRET not in "".join(traceback.format_exception(caught.value))
            assert SECRET in "".join(there.headers)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REASONKNEE_TIMEOUT", "0.4")
    monkeypatch.setenv("REASONKNEE_MAX_FILE_BYTES", "20000000")


# Bytes that the kernel accepts although the client has hung up or reads no more.
BUFFERS = 30_000_000


@pytest.mark.slow
@pytest.mark.usefixtures("limits")
class TestLimits:
    @pytest.mark.parametrize("status", [200, 206, 404, 500])
    @pytest.mark.parametrize("encoded", [False, True])
    def test_an_endless_volume(self, status: int, encoded: bool) -> None:
        with serve(endless(status, encoded=encoded)) as here:
            with pytest.raises(VolumeError, match=rf"volume file {here.url}/knee\.nii\.gz") as caught:
                _ = open_volume(f"{here.url}/knee.nii.gz", cache=None).shape
            assert here.sent < BUFFERS
            if status < 400:
                assert "sends more than the 1000 bytes that it should have" in str(caught.value)

    @pytest.mark.parametrize("read", [summarise, Manifest.load], ids=["summarise", "Manifest.load"])
    @pytest.mark.parametrize("encoded", [False, True])
    def test_an_endless_manifest(self, read: Any, encoded: bool) -> None:
        with serve(endless(encoded=encoded)) as here:
            with pytest.raises(RepositoryError, match=rf"{here.url}/manifest\.json sends more than the 1000000 bytes"):
                read(here.url)
            assert here.sent < BUFFERS

    def test_an_endless_shard(self, tmp_path: Path) -> None:
        repository = write_repository(tmp_path / "3dreasonknee")

        def act(handler: Handler) -> None:
            (files(repository) if handler.path.endswith(".json") else endless())(handler)

        with serve(act) as here:
            with pytest.raises(RepositoryError, match=rf"{here.url}/data/train-.*sends more than the \d+ bytes"):
                load_dataset(data_dir=here.url, split="train", cache_dir=str(tmp_path / "cache"))
            assert here.sent < BUFFERS

    @pytest.mark.parametrize("size", [20_000_001, 10**12, 2**63])
    def test_a_claimed_length(self, size: int) -> None:
        with serve(endless(206, size=size)) as here:
            with pytest.raises(
                VolumeError, match=rf"server of {here.url}/knee.* states a file of {size} bytes, more than the 20000000"
            ):
                _ = open_volume(f"{here.url}/knee.nii.gz", cache=None).shape
            assert len(here.headers) <= 2

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_file_longer_than_its_header_states(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
    ) -> None:
        monkeypatch.delenv("REASONKNEE_MAX_FILE_BYTES")
        path, size = save(tmp_path / f"knee{suffix}", knee()), 1_000_000_000
        data = path.read_bytes()

        def act(handler: Handler) -> None:
            first, _, last = (handler.headers.get("Range") or "bytes=0-0").removeprefix("bytes=").partition("-")
            length = int(last) - int(first) + 1
            ranged = {"Content_Range": f"bytes {first}-{last}/{size}"}
            if handler.command == "HEAD":
                return handler.start(200, Content_Length=str(size), Accept_Ranges="bytes")
            handler.start(206, Content_Length=str(length), **ranged)
            return handler.send(data[int(first) :][:length].ljust(length, b"\0"))

        with serve(act) as here:
            with pytest.raises(
                VolumeError, match=rf"knee{suffix} has {size} bytes, but its NIfTI header accounts for \d+"
            ):
                _ = open_volume(f"{here.url}/knee{suffix}", cache=None).shape
            assert len(here.headers) <= 3

    @pytest.mark.parametrize("place", ["silent", "drip-headers", "silent-body", "drip"])
    @pytest.mark.parametrize("read", ["volume", "summarise", "Manifest.load"])
    def test_a_slow_server(self, place: str, read: str) -> None:
        with serve(slow(place)) as here:
            calls = {
                "volume": lambda: open_volume(f"{here.url}/knee.nii.gz", cache=None).shape,
                "summarise": lambda: summarise(here.url),
                "Manifest.load": lambda: Manifest.load(here.url),
            }
            rule = rf"{here.url}/\S+ sent less than 65536 bytes in 0\.4 seconds.*REASONKNEE_TIMEOUT"
            with pytest.raises(ReasonKneeError, match=rule):
                calls[read]()
            assert len(here.headers) <= 8

    def test_a_slow_server_that_makes_progress(self, tmp_path: Path) -> None:
        """Longer than the timeout in all, and never without progress."""
        path = save(tmp_path / "knee.nii", knee((64, 64, 60)))
        data = path.read_bytes()

        def act(handler: Handler) -> None:
            if handler.command == "HEAD":
                return handler.start(200, Content_Length=str(len(data)))
            handler.start(200, Content_Length=str(len(data)))
            for start in range(0, len(data), 70_000):
                handler.send(data[start : start + 70_000])
                handler.wait(0.1)
            return None

        with serve(act) as here, pytest.warns(RuntimeWarning, match="does not send ranges"):
            same(np.asarray(open_volume(f"{here.url}/knee.nii", cache=None)), knee((64, 64, 60)))

    @pytest.mark.parametrize(("name", "text"), [("REASONKNEE_TIMEOUT", "0"), ("REASONKNEE_TIMEOUT", "long")])
    def test_settings(self, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
        monkeypatch.setenv(name, text)
        with serve(endless()) as here, pytest.raises(VolumeError, match=rf"{name} must be a number .* it is '{text}'"):
            _ = open_volume(f"{here.url}/knee.nii.gz", cache=None).shape
