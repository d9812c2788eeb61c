"""Loading over plain HTTP, from S3 and from the Hub, each from a real server on this machine."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import reasonknee_datasets.builder
from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import RepositoryError, RepositoryNotFoundError, VolumeNotFoundError
from reasonknee_datasets.volumes import set_credentials
from tests.helpers.file_servers import COMMIT, Served, serve
from tests.helpers.prepared_repository import SHAPE, voxels_of, write_official, write_repository

SECRET = "planted-s3cret-8f14e45fceea167a"
FIRST = "0000001/00M/left"
Load = Callable[..., Any]


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Texts long enough that reading a column more than asked for shows in the bytes.
    return write_repository(tmp_path_factory.mktemp("prepared") / "3dreasonknee", text=2000)


@pytest.fixture
def load(tmp_path: Path) -> Load:
    return lambda **kwargs: load_dataset(**{"cache_dir": str(tmp_path / "cache"), "split": "train", **kwargs})


@pytest.fixture
def web(repository: Path) -> Iterator[Served]:
    with serve(repository.parent) as served:
        yield served


@pytest.fixture
def guarded(repository: Path) -> Iterator[tuple[Served, dict[str, Any]]]:
    """A server that wants a secret, and the options that carry it."""
    with serve(repository.parent, secret=SECRET) as served:
        yield served, {"headers": {"Authorization": f"Bearer {SECRET}"}}
    set_credentials(f"{served.url}/3dreasonknee", None)


class TestHttp:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_rows_and_volumes(self, load: Load, web: Served, repository: Path, streaming: bool) -> None:
        rows = list(load(data_dir=f"{web.url}/3dreasonknee/", streaming=streaming))
        local = list(load(data_dir=repository, streaming=streaming))
        assert [{**row, "volume": 0} for row in rows] == [{**row, "volume": 0} for row in local]
        assert web.paths(".nii.gz") == web.paths(".nii.gz", "HEAD") == []
        np.testing.assert_array_equal(np.asarray(rows[0]["volume"].dataobj), voxels_of(FIRST))
        # Nothing was listed: every request was for a file of the manifest, or the manifest.
        assert all(path.endswith((".json", ".parquet", ".nii.gz")) for path in web.paths())

    def test_a_volume_is_asked_for_once(self, load: Load, web: Served) -> None:
        rows = [
            row for row in load(data_dir=f"{web.url}/3dreasonknee", streaming=True) if row["id"].startswith("0000002")
        ]
        assert len({row["volume"].get_fdata().tobytes() for row in rows}) == 1
        assert {row["volume"].shape for row in rows} == {SHAPE}
        # The header, then the file; not once for each of the four questions.
        assert len(web.paths("volumes/0000002/12M_right.nii.gz")) <= 2

    def test_volumes_over_http_and_rows_from_disk(self, load: Load, web: Served, tmp_path: Path) -> None:
        annotations = write_repository(tmp_path / "3dreasonknee")
        for path in annotations.rglob("*.nii.gz"):
            path.unlink()
        row = load(data_dir=annotations, volumes_dir=f"{web.url}/3dreasonknee")[0]
        np.testing.assert_array_equal(np.asarray(row["volume"].dataobj), voxels_of(FIRST))

    def test_a_small_shard_is_one_request(self, load: Load, web: Served) -> None:
        assert len(list(load(data_dir=f"{web.url}/3dreasonknee", streaming=True))) == 24
        assert sorted(web.paths()) == [f"/3dreasonknee/data/train-0000{at}-of-00003.parquet" for at in range(3)] + [
            "/3dreasonknee/manifest.json"
        ]

    def test_a_server_without_ranges(self, load: Load, repository: Path) -> None:
        with serve(repository.parent, ranges=False) as served:
            assert len(list(load(data_dir=f"{served.url}/3dreasonknee", streaming=True))) == 24

    def test_big_shard_from_server_without_ranges(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "served" / "3dreasonknee", images=False, shards=1, text=300_000, noise=True)
        with (
            serve(root.parent, ranges=False) as served,
            pytest.warns(RuntimeWarning, match=r"server of http.*train-00000-of-00001\.parquet does not send ranges"),
        ):
            rows = list(load(data_dir=f"{served.url}/3dreasonknee", streaming=True, columns=["id"]))
        assert len(rows) == 24

    @pytest.mark.slow
    def test_a_big_shard_with_a_flipped_bit(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "served" / "3dreasonknee", images=False, shards=1, text=300_000, noise=True)
        path = root / "data/train-00000-of-00001.parquet"
        data = path.read_bytes()
        groups = pq.read_metadata(path)
        with serve(root.parent) as served:
            for number in range(groups.num_row_groups):
                group = groups.row_group(number)
                chunks = [group.column(column) for column in range(group.num_columns)]
                for chunk in [each for each in chunks if each.path_in_schema in ("id", "question", "question_id")]:
                    start = chunk.dictionary_page_offset or chunk.data_page_offset
                    place = start + chunk.total_compressed_size // 2
                    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
                    with pytest.raises(RepositoryError, match=r"train-00000-of-00001.* is not readable Parquet"):
                        list(load(data_dir=f"{served.url}/3dreasonknee", streaming=True))

    @pytest.mark.slow
    def test_store_without_installed_file_system(self) -> None:
        code = (
            "import sys; sys.modules['s3fs'] = None\n"
            "from reasonknee_datasets import load_dataset\n"
            "load_dataset('s3://bucket/3dreasonknee', split='train', streaming=True)\n"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert 'Run: pip install "reasonknee_datasets[s3]"' in run.stderr

    def test_big_shard_reads_requested_columns_only(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "served" / "3dreasonknee", images=False, shards=1, text=300_000, noise=True)
        size = (root / "data/train-00000-of-00001.parquet").stat().st_size
        assert size > 5_000_000
        with serve(root.parent) as served:

            def cost(**chosen: Any) -> tuple[int, int]:
                served.bytes_sent = 0
                rows = list(load(data_dir=f"{served.url}/3dreasonknee", streaming=True, **chosen))
                return served.bytes_sent - (root / "manifest.json").stat().st_size, len(rows)

            assert cost()[0] > 0.95 * size
            sent, rows = cost(columns=["id", "grades"])
            assert rows == 24
            assert sent < 0.1 * size
            sent, rows = cost(filters=[("patient", "==", "0000004")])
            assert rows == 4
            assert sent < 0.3 * size  # one of six row groups, and the footer
            served.bytes_sent = 0
            next(iter(load(data_dir=f"{served.url}/3dreasonknee", streaming=True)))
            assert served.bytes_sent < 0.6 * size  # the first row does not wait for the last row group

    def test_a_missing_volume(self, load: Load, web: Served) -> None:
        row = next(iter(load(data_dir=f"{web.url}/3dreasonknee", streaming=True, volumes_dir=f"{web.url}/elsewhere")))
        with pytest.raises(VolumeNotFoundError, match=r"elsewhere/volumes/0000001/00M_left\.nii\.gz.*volumes_dir= or"):
            row["volume"].shape  # noqa: B018

    def test_a_missing_repository(self, load: Load, web: Served) -> None:
        with pytest.raises(
            RepositoryNotFoundError,
            match=r"http://127.*/3dreasonkne is not a prepared repository",
        ):
            load(data_dir=f"{web.url}/3dreasonkne")

    def test_a_missing_shard(self, load: Load, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "served" / "3dreasonknee", images=False)
        (root / "data/train-00002-of-00003.parquet").unlink()
        with (
            serve(root.parent) as served,
            pytest.raises(
                RepositoryNotFoundError, match=r"The shard http.*train-00002-of-00003\.parquet does not exist"
            ),
        ):
            load(data_dir=f"{served.url}/3dreasonknee")

    def test_an_official_release(self, load: Load, tmp_path: Path) -> None:
        write_official(tmp_path / "release")
        with (
            serve(tmp_path) as served,
            pytest.raises(
                RepositoryError, match=r"is the official release, .*\. Download it to DIR, then run: reasonknee"
            ),
        ):
            load(data_dir=f"{served.url}/release")

    def test_no_server(self, load: Load) -> None:
        with serve(Path("/nowhere")) as served:
            pass
        with pytest.raises(RepositoryError, match=r"manifest .* cannot be read: .*Connect.*Check the address"):
            load(data_dir=f"{served.url}/3dreasonknee")

    def test_no_permission(self, load: Load, guarded: tuple[Served, dict[str, Any]]) -> None:
        with pytest.raises(RepositoryError, match=r"manifest .* cannot be read: .*403.*storage_options= or token="):
            load(data_dir=f"{guarded[0].url}/3dreasonknee")

    def test_resuming(self, load: Load, web: Served) -> None:
        stopped = load(data_dir=f"{web.url}/3dreasonknee", streaming=True)
        iterator = iter(stopped)
        seen = [next(iterator)["id"] for _ in range(11)]
        fresh = load(data_dir=f"{web.url}/3dreasonknee", streaming=True)
        fresh.load_state_dict(stopped.state_dict())
        rest = [row["id"] for row in fresh]
        assert len(seen + rest) == len(set(seen + rest)) == 24

    def test_workers(self, load: Load, web: Served) -> None:
        data = pytest.importorskip("torch.utils.data")
        loaded = load(data_dir=f"{web.url}/3dreasonknee", streaming=True, columns=["id", "volume"])
        loader = data.DataLoader(loaded, batch_size=None, num_workers=2, multiprocessing_context="fork")
        rows = {row["id"]: row["volume"] for row in loader}
        assert len(rows) == 24
        np.testing.assert_array_equal(np.asarray(rows[f"{FIRST}/q01"].dataobj), voxels_of(FIRST))


class TestSecrets:
    """Credentials open things, and are nowhere else."""

    @pytest.mark.parametrize("streaming", [False, True])
    def test_they_are_written_nowhere(
        self, load: Load, guarded: tuple[Served, dict[str, Any]], tmp_path: Path, streaming: bool
    ) -> None:
        served, options = guarded
        loaded = load(data_dir=f"{served.url}/3dreasonknee", storage_options=options, streaming=streaming)
        row = next(iter(loaded))
        np.testing.assert_array_equal(np.asarray(row["volume"].dataobj), voxels_of(FIRST))
        mapped = loaded.map(lambda example: {"shape": list(example["volume"].shape)})
        next(iter(mapped))
        if not streaming:
            mapped.save_to_disk(tmp_path / "saved")
            mapped.to_parquet(tmp_path / "written.parquet")
            assert SECRET not in loaded._fingerprint + mapped._fingerprint
        told = [pickle.dumps(loaded), pickle.dumps(row), pickle.dumps(row["volume"])]
        told += [text.encode() for text in (repr(loaded), str(loaded.info), repr(row), repr(loaded.features))]
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert files or streaming
        assert not [data for data in told if SECRET.encode() in data]
        assert not [path for path in files if SECRET.encode() in path.read_bytes() or SECRET in str(path)]

    def test_the_builder_keeps_none(self, guarded: tuple[Served, dict[str, Any]], tmp_path: Path) -> None:
        served, options = guarded
        builder = reasonknee_datasets.builder.ReasonKnee(
            str(tmp_path), data_dir=f"{served.url}/3dreasonknee", storage_options=options, token=SECRET
        )
        assert SECRET.encode() not in pickle.dumps(builder)
        assert SECRET not in repr(vars(builder)) + repr(builder.config)
        # `datasets` keeps a builder's download settings in the module that the builder is from.
        assert SECRET not in repr(vars(reasonknee_datasets.builder))

    def test_errors_do_not_tell_them(self, load: Load, guarded: tuple[Served, dict[str, Any]]) -> None:
        served, options = guarded
        row = next(
            iter(
                load(
                    data_dir=f"{served.url}/3dreasonknee",
                    volumes_dir=f"{served.url}/gone",
                    storage_options=options,
                    streaming=True,
                )
            )
        )
        with pytest.raises(VolumeNotFoundError, match="gone/volumes") as caught:
            row["volume"].shape  # noqa: B018
        assert SECRET not in str(caught.value) + repr(caught.value.__cause__)
        set_credentials(f"{served.url}/gone", None)

    def test_wrong_ones_are_named_and_forgotten(self, load: Load, web: Served) -> None:
        place = f"{web.url}/3dreasonknee"
        with pytest.raises(RepositoryError, match=r"does not accept these storage_options: .*'bogus'.*http://"):
            load(data_dir=place, streaming=True, storage_options={"bogus": 1})
        with pytest.raises(RepositoryError, match=r"storage_options must be a mapping, not a str\."):
            load(data_dir=place, streaming=True, storage_options=SECRET)
        assert next(iter(load(data_dir=place, streaming=True)))["id"]

    def test_forked_workers_have_them(self, load: Load, guarded: tuple[Served, dict[str, Any]]) -> None:
        data = pytest.importorskip("torch.utils.data")
        served, options = guarded
        loaded = load(data_dir=f"{served.url}/3dreasonknee", storage_options=options, streaming=True, columns=["id"])
        loader = data.DataLoader(loaded, batch_size=None, num_workers=2, multiprocessing_context="fork")
        assert len(list(loader)) == 24

    def test_the_search_finds_what_is_planted(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(f'{{"token": "{SECRET}"}}', encoding="utf-8")
        assert [path for path in tmp_path.rglob("*") if SECRET.encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def bucket(repository: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The repository in an S3 bucket, and the options that open it."""
    s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")
    server_module = pytest.importorskip("moto.server", reason="moto's server is not installed")
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "access-key", "secret": SECRET, "client_kwargs": {"endpoint_url": f"http://{host}:{port}"}}
    store = s3fs.S3FileSystem(**options)
    store.mkdir("knees")
    store.put(str(repository), "knees/3dreasonknee", recursive=True)
    yield "s3://knees/3dreasonknee", options
    set_credentials("s3://knees/3dreasonknee", None)
    server.stop()


class TestS3:
    @pytest.mark.parametrize("streaming", [False, True])
    def test_rows_and_volumes(
        self, load: Load, bucket: tuple[str, dict[str, Any]], tmp_path: Path, streaming: bool
    ) -> None:
        url, options = bucket
        loaded = load(data_dir=url, storage_options=options, streaming=streaming)
        rows = list(loaded)
        assert len(rows) == 24
        np.testing.assert_array_equal(np.asarray(rows[0]["volume"].dataobj), voxels_of(FIRST))
        assert repr(rows[0]["volume"]) == "LazyVolume('s3://knees/3dreasonknee/volumes/0000001/00M_left.nii.gz')"
        assert SECRET.encode() not in pickle.dumps(loaded)
        assert not [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]

    def test_volumes_from_s3_and_rows_over_http(
        self, load: Load, bucket: tuple[str, dict[str, Any]], guarded: tuple[Served, dict[str, Any]]
    ) -> None:
        url, options = bucket
        served, headers = guarded
        row = next(
            iter(
                load(
                    data_dir=f"{served.url}/3dreasonknee",
                    volumes_dir=url,
                    storage_options={"s3": options, "http": headers},
                    streaming=True,
                )
            )
        )
        np.testing.assert_array_equal(np.asarray(row["volume"].dataobj), voxels_of(FIRST))

    def test_a_missing_repository(self, load: Load, bucket: tuple[str, dict[str, Any]]) -> None:
        with pytest.raises(RepositoryNotFoundError, match=r"s3://knees/3dreasonkne is not"):
            load(data_dir="s3://knees/3dreasonkne", storage_options=bucket[1])
        set_credentials("s3://knees/3dreasonkne", None)


@pytest.mark.slow
class TestHub:
    """`datasets` reads HF_ENDPOINT at import, so each of these is a process of its own."""

    def run(self, repository: Path, tmp_path: Path, *lines: str, endpoint: str | None = None) -> str:
        code = textwrap.dedent(
            f"""
            import pickle
            import numpy as np
            from reasonknee_datasets import load_dataset
            secret, cache = {SECRET!r}, {str(tmp_path / "cache")!r}
            url = "hf://datasets/owner/knees"
            """
        ) + "\n".join(lines)
        with serve(repository, secret=SECRET, hub=True) as served:
            settings = {"HF_ENDPOINT": endpoint or served.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}
            run = subprocess.run(
                [sys.executable, "-c", code],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, **settings, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
        assert run.returncode == 0, run.stderr[-3000:]
        return run.stdout

    @pytest.mark.parametrize("streaming", [False, True])
    def test_rows_and_volumes(self, repository: Path, tmp_path: Path, streaming: bool) -> None:
        out = self.run(
            repository,
            tmp_path,
            f"rows = load_dataset(data_dir=url, token=secret, split='train', streaming={streaming}, cache_dir=cache)",
            "row = next(iter(rows))",
            "print(row['id'], row['volume'].shape, repr(row['volume']))",
            # A pickled IterableDataset takes the cached HfFileSystems along.
            "print(secret.encode() in pickle.dumps(rows))",
        )
        volume = f"LazyVolume('hf://datasets/owner/knees@{COMMIT}/volumes/0000001/00M_left.nii.gz')"
        assert out == f"{FIRST}/q01 {SHAPE} {volume}\nFalse\n"
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert not [path for path in files if SECRET.encode() in path.read_bytes()]

    def test_a_revision_is_resolved_to_its_commit(self, repository: Path, tmp_path: Path) -> None:
        # A branch, a tag and the commit itself have one cache; volumes are of the commit.
        out = self.run(
            repository,
            tmp_path,
            "for revision in (None, 'v1', " + repr(COMMIT) + "):",
            "    options = dict(token=secret, split='train', cache_dir=cache, revision=revision)",
            "    rows = load_dataset(data_dir=url, **options)",
            "    print(rows[0]['volume'].path, len({file['filename'] for file in rows.cache_files}))",
            "import pathlib",
            "print(len(list(pathlib.Path(cache).glob('3dreasonknee/*'))))",
            "try:",
            "    load_dataset(data_dir=url + '@v1', revision='v2', token=secret, cache_dir=cache)",
            "except Exception as error:",
            "    print(error)",
        )
        place = f"hf://datasets/owner/knees@{COMMIT}/volumes/0000001/00M_left.nii.gz 1"
        refusal = "hf://datasets/owner/knees@v1 names revision 'v1', and revision= is 'v2'. Name one of them."
        assert out.splitlines() == [place, place, place, "1", refusal]

    def test_without_a_token(self, repository: Path, tmp_path: Path) -> None:
        out = self.run(
            repository,
            tmp_path,
            "try:",
            "    load_dataset(data_dir=url, split='train', streaming=True, cache_dir=cache)",
            "except Exception as error:",
            "    print(type(error).__name__, error)",
        )
        assert out.startswith("RepositoryNotFoundError hf://datasets/owner/knees is not a prepared repository")

    def test_without_a_connection(self, repository: Path, tmp_path: Path) -> None:
        out = self.run(
            repository,
            tmp_path,
            "try:",
            "    load_dataset(data_dir=url, split='train', streaming=True, cache_dir=cache)",
            "except Exception as error:",
            "    print(type(error).__name__, error)",
            endpoint="http://127.0.0.1:1",
        )
        assert out.startswith(
            "RepositoryError The manifest hf://datasets/owner/knees/manifest.json cannot be read: ConnectError"
        )
