"""Push, against a server that speaks the Hub's endpoints: what is sent, what is not, and what faults do."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from reasonknee_datasets import card
from reasonknee_datasets.errors import PublishError
from reasonknee_datasets.manifest import MANIFEST, Manifest
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.prepare.side_files import write_side_files
from reasonknee_datasets.publish import add_previews, hub_calls, push
from reasonknee_datasets.publish.push import PushPlan
from tests.helpers import prepare_content as given
from tests.helpers.hub_server import TOKEN, HubServer, serve_hub

NAME = "me/3dreasonknee"
VOLUME_UPLOAD = "PUT /storage/"


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    given.write(folder / "3dreasonknee", given.content(given.volumes(folder / "images")))
    shutil.rmtree(folder / "3dreasonknee/.work")
    add_previews(folder / "3dreasonknee", workers=1, progress=False)
    return folder / "3dreasonknee"


@pytest.fixture(scope="module")
def real(clean: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same rows and volumes as if they were of patients."""
    root = Path(shutil.copytree(clean, tmp_path_factory.mktemp("real") / "3dreasonknee"))
    manifest = replace(Manifest.load(root), synthetic=False, digest="")
    (root / MANIFEST).write_bytes(write_side_files(root, manifest, {}).to_bytes())
    return root


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setattr(hub_calls, "WAITS", (0, 0))
    with serve_hub() as running:
        running.patch(monkeypatch)
        yield running


def send(root: Path, **options: Any) -> PushPlan:
    return push(root, NAME, **{"token": TOKEN, "progress": False, **options})


def local(root: Path) -> dict[str, bytes]:
    """Every file of a repository."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def held(server: HubServer) -> dict[str, bytes]:
    """Every file on the Hub, without what the Hub itself adds."""
    return {path: data for path, data in server.repositories[NAME].files.items() if path != ".gitattributes"}


class TestPush:
    @pytest.mark.slow
    def test_push_gates_new_repository_before_upload(self, server: HubServer, real: Path) -> None:
        send(real)
        repository = server.repositories[NAME]
        assert (repository.private, repository.gated) == (True, "manual")
        gated = next(i for i, request in enumerate(server.requests) if "/settings" in request)
        first = next(i for i, request in enumerate(server.requests) if "/preupload/" in request)
        assert gated < first

    @pytest.mark.slow
    def test_real_voxels_stay_here(self, server: HubServer, real: Path) -> None:
        plan = send(real)
        sent = held(server)
        assert not [path for path in sent if path.startswith(("volumes/", "preview/"))]
        pictures = [data for data in sent.values() if b"WEBPVP8" in data]
        assert not pictures
        assert any(b"WEBPVP8" in data for data in local(real).values())
        assert plan.left_out == "22 volumes and previews (--include-volumes)"
        manifest = Manifest.from_bytes(sent[MANIFEST])
        assert not manifest.has_previews
        listed = {MANIFEST, *manifest.files, *(shard.path for shard in manifest.all_shards())}
        assert set(sent) == listed

    @pytest.mark.slow
    @pytest.mark.parametrize("options", [{"include_volumes": True}, {"include_volumes": True, "dry_run": True}])
    def test_real_volumes_need_a_statement(self, server: HubServer, real: Path, options: dict[str, Any]) -> None:
        with pytest.raises(PublishError, match=r"forbid passing them on.*--i-may-redistribute"):
            send(real, **options)
        assert not server.requests

    @pytest.mark.slow
    def test_real_volumes_with_the_statement(self, server: HubServer, real: Path) -> None:
        send(real, include_volumes=True, i_may_redistribute=True)
        assert held(server) == local(real)

    @pytest.mark.slow
    def test_push_refuses_real_volumes_in_open_repository(
        self, server: HubServer, real: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        server.add(NAME, {})
        # A Hub on which the setting has no effect.
        monkeypatch.setattr(huggingface_hub.HfApi, "update_repo_settings", lambda self, **options: None)
        with pytest.raises(PublishError, match="is public and not gated"):
            send(real, include_volumes=True, i_may_redistribute=True)
        assert not held(server)

    @pytest.mark.slow
    def test_push_synthetic_volumes_needs_no_statement(self, server: HubServer, clean: Path) -> None:
        plan = send(clean, include_volumes=True)
        assert held(server) == local(clean)
        assert str(plan).startswith("SYNTHETIC data to")
        assert "SYNTHETIC" in held(server)[card.CARD].decode()

    @pytest.mark.slow
    def test_visibility_of_an_existing_repository_stays(self, server: HubServer, real: Path) -> None:
        server.add(NAME, {"notes.md": b"mine"})
        send(real)
        assert not server.repositories[NAME].private
        assert server.repositories[NAME].gated == "manual"
        assert held(server)["notes.md"] == b"mine"

    @pytest.mark.slow
    def test_public_and_automatic_gate_on_request(self, server: HubServer, real: Path) -> None:
        send(real, private=False, gate="auto")
        assert (server.repositories[NAME].private, server.repositories[NAME].gated) == (False, "auto")

    @pytest.mark.slow
    def test_dry_run_sends_nothing(self, server: HubServer, real: Path) -> None:
        plan = send(real, dry_run=True)
        assert not server.requests
        kept = ("data/", "index/", "balanced/")
        expected = {path for path in local(real) if path.startswith(kept) or "/" not in path}
        assert {name for name, _ in plan.annotations} == expected
        assert not plan.volumes

    @pytest.mark.slow
    def test_tag_names_the_last_commit(self, server: HubServer, clean: Path) -> None:
        send(clean, include_volumes=True, tag="v7")
        repository = server.repositories[NAME]
        assert repository.tags == {"v7": repository.commits[-1].oid}
        assert [commit.title for commit in repository.commits[1:]] == [
            "Upload 22 volumes",
            "Upload the annotations (v7)",
        ]

    @pytest.mark.slow
    def test_tag_of_another_upload_is_not_moved(self, server: HubServer, clean: Path) -> None:
        send(clean, tag="v7")
        with pytest.raises(PublishError, match=r"has the tag v7 already.*another --tag"):
            send(clean, include_volumes=True, tag="v7")
        send(clean, include_volumes=True, tag="v8")
        assert set(server.repositories[NAME].tags) == {"v7", "v8"}

    @pytest.mark.slow
    def test_masks_go_with_the_annotations(self, server: HubServer, phantom_release: Path, tmp_path: Path) -> None:
        root = tmp_path / "masked"
        manifest = prepare(phantom_release, root, masks=True, workers=1, progress=False).manifest
        plan = send(root)
        assert {path for path, _ in plan.masks} == set(manifest.masks) != set()
        assert "masks" in str(plan)
        sent = held(server)
        assert {path: sent.get(path) for path in manifest.masks} == {
            path: (root / path).read_bytes() for path in manifest.masks
        }
        assert not [path for path in sent if path.startswith("volumes/")]

    @pytest.mark.slow
    def test_second_run_sends_nothing_again(self, server: HubServer, clean: Path) -> None:
        send(clean, include_volumes=True)
        before, commits = server.uploaded, len(server.repositories[NAME].commits)
        send(clean, include_volumes=True)
        assert (server.uploaded, len(server.repositories[NAME].commits)) == (before, commits)

    @pytest.mark.slow
    def test_files_of_another_version_are_deleted(self, server: HubServer, clean: Path) -> None:
        stale = {"data/train-00000-of-00001.parquet": b"x", "volumes/9/00M_left.nii.gz": b"x", "LICENSE": b"x"}
        server.add(NAME, stale)
        send(clean)
        assert set(stale) & set(held(server)) == {"LICENSE"}

    @pytest.mark.slow
    def test_doctor_stops_the_upload(self, server: HubServer, clean: Path, tmp_path: Path) -> None:
        root = Path(shutil.copytree(clean, tmp_path / "3dreasonknee"))
        next(iter(root.glob("volumes/*/*.nii.gz"))).unlink()
        with pytest.raises(
            PublishError, match=r"found 1 errors, and nothing was uploaded:\n  missing-volumes: 1 of 22"
        ):
            send(root)
        assert not server.requests

    @pytest.mark.slow
    @pytest.mark.parametrize("include", [True, False])
    def test_damaged_shard_stops_the_upload(
        self, server: HubServer, clean: Path, tmp_path: Path, include: bool
    ) -> None:
        root = Path(shutil.copytree(clean, tmp_path / "3dreasonknee"))
        path = next(iter(root.glob("index/*.parquet")))
        data = path.read_bytes()
        path.write_bytes(data[:20] + bytes([data[20] ^ 1]) + data[21:])
        with pytest.raises(PublishError, match=rf"(?s)checksums: .*{path.name}"):
            send(root, include_volumes=include)
        assert not server.requests

    @pytest.mark.slow
    @pytest.mark.parametrize("name", ["knees", "datasets/me/knees", "me/knees..x"])
    def test_name_without_owner_is_refused(self, server: HubServer, clean: Path, name: str) -> None:
        with pytest.raises(PublishError, match=rf"{name}"):
            push(clean, name, token=TOKEN, progress=False)
        assert not server.repositories

    def test_url_is_refused(self) -> None:
        with pytest.raises(PublishError, match="uploads a local folder, not hf://datasets/a/b"):
            push("hf://datasets/a/b", NAME)


@pytest.mark.slow
class TestFaults:
    @pytest.mark.parametrize(
        ("pattern", "how"),
        [
            ("POST /api/repos/create", 500),
            ("PUT .*/settings", "cut"),
            ("POST .*/preupload/", 503),
            ("POST .*/objects/batch", 500),
            (VOLUME_UPLOAD, 500),
            (VOLUME_UPLOAD, "cut"),
            (VOLUME_UPLOAD, "lost"),
            ("POST .*/commit/main", 500),
            ("POST .*/commit/main", "cut"),
            ("POST .*/commit/main", "lost"),
            ("POST .*/paths-info/", 502),
            ("POST .*/tag/", "cut"),
            ("POST .*/tag/", "lost"),
        ],
    )
    def test_fault_that_passes_is_survived(self, server: HubServer, clean: Path, pattern: str, how: Any) -> None:
        server.fault(pattern, how)
        send(clean, include_volumes=True, tag="v1")
        assert server.faults[0].times == 0, "the fault was not met"
        assert held(server) == local(clean)
        assert server.repositories[NAME].tags == {"v1": server.repositories[NAME].commits[-1].oid}

    def test_push_error_shows_no_token(self, server: HubServer, clean: Path) -> None:
        server.fault("POST .*/commit/main", 500, times=100)
        with pytest.raises(
            PublishError, match=r"The Hub failed while uploading to me/3dreasonknee.*already is skipped"
        ) as e:
            send(clean)
        assert TOKEN not in f"{e.value!r} {e.value.__cause__!r} {e.value.__context__!r}"

    def test_wrong_token(self, server: HubServer, clean: Path) -> None:
        with pytest.raises(PublishError, match=r"hf auth login.*HF_TOKEN") as caught:
            send(clean, token="hf_wrong_t0ken")
        assert "hf_wrong_t0ken" not in str(caught.value)

    def test_killed_run_is_resumed(self, clean: Path, tmp_path: Path) -> None:
        with serve_hub() as server:
            process: list[subprocess.Popen[str]] = []

            def start() -> subprocess.Popen[str]:
                command = ["push", os.fspath(clean), "--repo", NAME, "--include-volumes", "--tag", "v1"]
                environment = {**os.environ, **server.environment(os.fspath(tmp_path)), "PYTHONUNBUFFERED": "1"}
                program = "import sys; from reasonknee_datasets.cli.main import main; sys.exit(main(sys.argv[1:]))"
                pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "encoding": "utf-8"}
                return subprocess.Popen([sys.executable, "-c", program, *command], env=environment, **pipes)

            # The first uploads pass; then the process is killed while the shards are sent.
            for _ in range(22):
                server.fault(VOLUME_UPLOAD, lambda: None)
            server.fault(VOLUME_UPLOAD, lambda: process[0].kill())
            process.append(start())
            output, _ = process[0].communicate(timeout=120)
            assert process[0].returncode == -9, output
            repository = server.repositories[NAME]
            assert MANIFEST not in repository.files
            assert len([path for path in repository.files if path.startswith("volumes/")]) == 22
            again = start()
            output, _ = again.communicate(timeout=120)
            assert again.returncode == 0, output
            assert held(server) == local(clean)
            large = sum(len(data) for path, data in local(clean).items() if path.endswith((".parquet", ".gz")))
            assert server.uploaded == large  # nothing was sent twice
            assert TOKEN not in output
            assert "SYNTHETIC data" in output
