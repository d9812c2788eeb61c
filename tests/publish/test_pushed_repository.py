"""A pushed repository, read back from a server that speaks the Hub's endpoints: private, with a token."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reasonknee_datasets.publish import add_previews, hub_calls, push
from tests.helpers import prepare_content as given
from tests.helpers.hub_server import TOKEN, HubServer, serve_hub

pytestmark = pytest.mark.slow

NAME = "me/3dreasonknee"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A Hub with two tagged uploads: v1 with volumes and previews, v2 with more rows and none of them."""
    folder = tmp_path_factory.mktemp("pushed")
    made = given.volumes(folder / "images")
    options: dict[str, Any] = {"token": TOKEN, "progress": False}
    with serve_hub() as running, pytest.MonkeyPatch.context() as patch:
        patch.setattr(hub_calls, "WAITS", (0,))
        running.patch(patch)
        for tag, questions in (("v1", (1, 19, 40)), ("v2", (1, 19, 40, 41))):
            root = folder / tag
            given.write(root, given.content(made, rows=given.rows(made, questions), expected_rows=22 * len(questions)))
            shutil.rmtree(root / ".work")
            if tag == "v1":
                add_previews(root, workers=1, progress=False)
            push(root, NAME, include_volumes=tag == "v1", tag=tag, **options)
        yield running


def run(server: HubServer, home: Path, program: str, *, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, since `datasets` reads HF_ENDPOINT at import."""
    environment = {**os.environ, **server.environment(os.fspath(home)), "HF_TOKEN": token}
    command = [sys.executable, "-c", f"from reasonknee_datasets import load_dataset\n{program}"]
    return subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)


def load(server: HubServer, home: Path, arguments: str, show: str, *, path: str = "3dreasonknee") -> Any:
    """Load from the Hub, and return what an expression makes of the dataset ``d``."""
    program = f"import json\nd = load_dataset({path!r}, {arguments})\nprint(json.dumps({show}))"
    done = run(server, home, program)
    assert done.returncode == 0, done.stderr[-3000:]
    assert TOKEN not in done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("streaming", [True, False])
def test_rows_and_voxels(server: HubServer, tmp_path: Path, streaming: bool) -> None:
    arguments = f"split='test', data_dir='hf://datasets/{NAME}@v1', streaming={streaming}"
    show = "[sum(1 for _ in d), list(next(iter(d))['volume'].shape), float(next(iter(d))['volume'].get_fdata().max())]"
    rows, shape, brightest = load(server, tmp_path, arguments, show)
    assert rows == 6 * 3
    assert shape == list(given.SHAPE)
    assert 0 < brightest < 400


def test_previews(server: HubServer, tmp_path: Path) -> None:
    arguments = f"split='test', data_dir='hf://datasets/{NAME}@v1', streaming=True, columns=['id', 'preview']"
    assert load(server, tmp_path, arguments, "list(next(iter(d))['preview'].size)")[0] == 320


def test_newest_revision_is_the_default(server: HubServer, tmp_path: Path) -> None:
    arguments = f"split='test', data_dir='hf://datasets/{NAME}', streaming=True"
    assert load(server, tmp_path, arguments, "sum(1 for _ in d)") == 6 * 4


@pytest.mark.parametrize(
    ("arguments", "rows"),
    [("revision='v1'", 6 * 3), ("", 6 * 4), ("filters={'question_id': 19}, revision='v1'", 6)],
)
def test_load_dataset_by_hub_name(server: HubServer, tmp_path: Path, arguments: str, rows: int) -> None:
    show = "[len(d), list(d.features), str(d.features['volume'])]"
    count, columns, kind = load(server, tmp_path, f"split='test', {arguments}", show, path=NAME)
    assert count == rows
    assert "preview" not in columns
    assert "VolumeFeature" in kind


@pytest.mark.parametrize("manifest", [b'{"name": "another program"}', None])
def test_load_dataset_forwards_other_hub_datasets(server: HubServer, tmp_path: Path, manifest: bytes | None) -> None:
    files = {"train.csv": b"a,b\n1,2\n", "manifest.json": manifest}
    server.add("me/table", {name: data for name, data in files.items() if data is not None})
    assert load(server, tmp_path, "split='train', data_files='train.csv'", "list(d)", path="me/table") == [
        {"a": 1, "b": 2}
    ]


def test_stock_datasets_reads_it(server: HubServer, tmp_path: Path) -> None:
    loaded = f"import datasets\nd = datasets.load_dataset({NAME!r}, revision='v1', split='test')\n"
    program = f"{loaded}print(len(d), d.features['preview'], 'volume' in d.features)"
    done = run(server, tmp_path, program)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[0] == "18"
    assert "Image(" in done.stdout
    assert done.stdout.split()[-1] == "False"  # which the card states before its first section


def test_wrong_token_is_refused(server: HubServer, tmp_path: Path) -> None:
    program = f"load_dataset('3dreasonknee', split='test', data_dir='hf://datasets/{NAME}', streaming=True)"
    done = run(server, tmp_path, program, token="hf_wr0ng")
    assert done.returncode != 0
    assert "RepositoryNotFoundError" in done.stderr.splitlines()[-1]
    assert "hf_wr0ng" not in done.stderr


def test_doctor_examines_it(server: HubServer, tmp_path: Path) -> None:
    program = (
        "from reasonknee_datasets.publish import examine\n"
        f"print(examine('hf://datasets/{NAME}@v1', progress=False).to_json())\n"
    )
    done = run(server, tmp_path, program)
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["ok"], report
    assert not report["findings"]
