"""Download of the official release from a server that speaks the Hub's endpoints."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from reasonknee_datasets.cli.main import main
from reasonknee_datasets.errors import PublishError
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.publish import download, hub_calls
from reasonknee_datasets.publish.download import OFFICIAL
from tests.helpers import hub_server
from tests.helpers.hub_server import TOKEN, HubServer, serve_hub

SPLITS = "data/split_files/train_split.csv"


@pytest.fixture(scope="module")
def official(phantom_release: Path) -> dict[str, bytes]:
    """Annotations and masks of the synthetic release, as the official repository holds them."""
    return {
        path.relative_to(phantom_release).as_posix(): path.read_bytes()
        for path in sorted(phantom_release.rglob("*"))
        if path.is_file() and "images" not in path.parts
    }


@pytest.fixture
def server(official: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(hub_calls, "WAITS", (0, 0))
    with serve_hub() as running:
        running.patch(monkeypatch)
        running.add(OFFICIAL, official)
        yield running


def pinned(server: HubServer) -> str:
    return server.repositories[OFFICIAL].commits[0].oid


def fetch(server: HubServer, out: Path, **options: object) -> object:
    return download(out, **{"revision": pinned(server), "token": TOKEN, "progress": False, **options})  # type: ignore[arg-type]


def held(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".cache" not in path.parts
    }


@pytest.mark.slow
def test_download_verifies_and_prepare_reads(
    server: HubServer, official: dict[str, bytes], phantom_release: Path, tmp_path: Path
) -> None:
    done = fetch(server, tmp_path / "release")
    assert held(tmp_path / "release") == official
    assert str(done).endswith("all verified")
    images = phantom_release / "data/images"
    ready = prepare(tmp_path / "release", tmp_path / "out", images=images, volumes="none", workers=1, progress=False)
    assert ready.manifest.source["revision"] == pinned(server)


def test_download_pinned_revision(server: HubServer, official: dict[str, bytes], tmp_path: Path) -> None:
    server.repositories[OFFICIAL].commit("newer", {**official, SPLITS: b"other"})
    fetch(server, tmp_path)
    assert held(tmp_path)[SPLITS] == official[SPLITS]
    assert not server.count("resolve/main")


def test_masks_can_be_left_out(server: HubServer, tmp_path: Path) -> None:
    fetch(server, tmp_path, masks=False)
    assert held(tmp_path)
    assert not [path for path in held(tmp_path) if path.startswith("data/masks/")]
    assert not server.count("GET .*/masks/")


@pytest.mark.slow
@pytest.mark.parametrize("how", [500, "cut", "lost"])
def test_fault_that_passes_is_survived(
    server: HubServer, official: dict[str, bytes], tmp_path: Path, how: int | str
) -> None:
    server.fault(f"GET .*{SPLITS}", how)
    fetch(server, tmp_path)
    assert server.faults[0].times == 0
    assert held(tmp_path) == official


def test_damaged_file_is_downloaded_again(server: HubServer, official: dict[str, bytes], tmp_path: Path) -> None:
    fetch(server, tmp_path)
    (tmp_path / SPLITS).write_bytes(official[SPLITS][:-1] + b"x")
    fetch(server, tmp_path)
    assert held(tmp_path) == official


def test_second_run_downloads_nothing(server: HubServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    server.requests.clear()
    fetch(server, tmp_path)
    assert not server.count("GET .*/resolve/")


def test_file_that_stays_wrong_is_named(server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    describe = hub_server._describe

    def lie(path: str, files: dict[str, bytes]) -> dict[str, object]:
        told = describe(path, files)
        return {**told, "oid": "0" * 40} if path == SPLITS else told

    monkeypatch.setattr(hub_server, "_describe", lie)
    with pytest.raises(PublishError, match=rf"1 files differ in size or hash .*{SPLITS}"):
        fetch(server, tmp_path)


def test_unknown_revision(server: HubServer, tmp_path: Path) -> None:
    with pytest.raises(PublishError, match=r"failed while reading rajpurkarlab/3DReasonKnee at v9.*Check the name"):
        fetch(server, tmp_path, revision="v9")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9", "http://no-such-host.invalid"])
def test_download_unreachable_hub(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_calls.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(PublishError, match=rf"The Hub at {address} cannot be reached \(.*Check the network connection"):
        download(tmp_path, token=TOKEN, progress=False)


def test_download_offline_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(hub_calls.time, "sleep", lambda seconds: pytest.fail("waited"))
    with pytest.raises(PublishError, match=r"HF_HUB_OFFLINE is set, so that the Hub is not called\. Unset it\."):
        download(tmp_path, token=TOKEN, progress=False)


def test_call_hub_reached_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hub that goes away for a moment is called again; on the first call it is an error."""
    monkeypatch.setattr(hub_calls, "WAITS", (0, 0))
    calls = []

    def answer_third_call() -> str:
        calls.append(None)
        if len(calls) < 3:
            with socket.create_connection(("127.0.0.1", 9)):
                pass
        return "answer"

    assert hub_calls.call_hub(answer_third_call, doing="reading") == "answer"
    calls.clear()
    with pytest.raises(PublishError, match="cannot be reached"):
        hub_calls.call_hub(answer_third_call, doing="reading", first=True)


@pytest.mark.slow
def test_killed_download_is_resumed(official: dict[str, bytes], tmp_path: Path) -> None:
    with serve_hub() as server:
        server.add(OFFICIAL, official)
        process: list[subprocess.Popen[str]] = []

        def start() -> subprocess.Popen[str]:
            program = "import sys; from reasonknee_datasets.cli.main import main; sys.exit(main(sys.argv[1:]))"
            command = ["download", "--out", os.fspath(tmp_path / "release"), "--revision", pinned(server)]
            environment = {**os.environ, **server.environment(os.fspath(tmp_path))}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
            return subprocess.Popen([sys.executable, "-c", program, *command], env=environment, **pipes)

        for _ in range(len(official) // 2):
            server.fault("GET .*/resolve/", lambda: None)
        server.fault("GET .*/resolve/", lambda: process[0].kill())
        process.append(start())
        output, _ = process[0].communicate(timeout=120)
        assert process[0].returncode == -9, output
        some = len(held(tmp_path / "release"))
        assert 0 < some < len(official)
        server.requests.clear()
        again = start()
        output, _ = again.communicate(timeout=120)
        assert again.returncode == 0, output
        assert held(tmp_path / "release") == official
        assert server.count("GET .*/resolve/") <= len(official) - some
        assert TOKEN not in output


def test_command_names_what_it_downloaded(
    server: HubServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["download", "--out", os.fspath(tmp_path), "--revision", pinned(server), "--no-masks"]) == 0
    assert f"of revision {pinned(server)}, all verified" in capsys.readouterr().out


def test_download_checks_folder_first(server: HubServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PublishError, match=r"cannot be downloaded to .*/file/below: Not a directory\. Choose another"):
        fetch(server, tmp_path / "file/below", revision="nowhere")
