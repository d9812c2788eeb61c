"""Where data are found, what is refused and how, and what goes through to `datasets` untouched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import reasonknee_datasets
from reasonknee_datasets import load_dataset
from reasonknee_datasets.errors import CacheError, ReasonKneeError, RepositoryError, RepositoryNotFoundError
from reasonknee_datasets.load import find_example, register
from reasonknee_datasets.manifest import FORMAT
from reasonknee_datasets.safe_paths import join
from reasonknee_datasets.sources import SyntheticDataWarning, parse_split, select, synthetic
from reasonknee_datasets.sources.repository import to_place
from tests.helpers.disks import locked, open_folder, small_disk
from tests.helpers.prepared_repository import SHAPE, write_official, write_repository

Load = Callable[..., Any]


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    for name in ("REASONKNEE_DATA", "REASONKNEE_VOLUMES", "REASONKNEE_REQUIRE_REAL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_repository(tmp_path_factory.mktemp("prepared") / "3dreasonknee")


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def first_row(**kwargs: Any) -> Any:
        loaded = load_dataset(**{"split": "train", "streaming": True, "cache_dir": str(tmp_path / "cache"), **kwargs})
        return next(iter(loaded))

    return first_row


class TestFinding:
    def test_an_argument(self, load: Load, repository: Path) -> None:
        for given in (repository, str(repository), f"{repository}/", f"file://{repository}"):
            assert load(data_dir=given)["volume"].shape == SHAPE

    def test_a_relative_folder_is_made_absolute(
        self, load: Load, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.chdir(repository.parent)
        row = load(data_dir="3dreasonknee/../3dreasonknee")
        monkeypatch.chdir(tmp_path)
        assert row["volume"].shape == SHAPE

    def test_the_home_folder(self, load: Load, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(repository.parent))
        assert load(data_dir="~/3dreasonknee")["id"] == "0000001/00M/left/q01"

    def test_the_setting(self, load: Load, repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REASONKNEE_DATA", str(repository))
        assert load()["volume"].shape == SHAPE

    def test_an_argument_beats_the_setting(
        self, load: Load, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REASONKNEE_DATA", str(write_repository(tmp_path / "other", marker="other", images=False)))
        assert load()["question"].startswith("other")
        assert load(data_dir=repository)["question"].startswith("first")

    def test_the_current_folder(self, load: Load) -> None:
        write_repository(Path("3dreasonknee"))
        assert load()["volume"].shape == SHAPE

    def test_the_setting_beats_the_current_folder(
        self, load: Load, repository: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_repository(Path("3dreasonknee"), marker="beside", images=False)
        assert load()["question"].startswith("beside")
        monkeypatch.setenv("REASONKNEE_DATA", str(repository))
        assert load()["question"].startswith("first")

    def test_a_zip_file(self, load: Load, repository: Path, tmp_path: Path) -> None:
        archive = shutil.make_archive(str(tmp_path / "packed"), "zip", repository)
        row = load(data_dir=f"zip://::{archive}")
        assert row["volume"].shape == SHAPE

    def test_by_id(self, repository: Path) -> None:
        example = find_example(repository, "0000009/00M/left/q02")
        assert example["volume"].shape == SHAPE
        with pytest.raises(RepositoryError, match=r"has no row 1/00M/left/q01"):
            find_example(repository, "1/00M/left/q01")
        with pytest.raises(
            RepositoryError, match=r"^'0000009/00M/left/q2' is not an id, which has the form patient/visit/side"
        ):
            find_example(repository, "0000009/00M/left/q2")


def test_a_notebook_learns_to_show_volumes(repository: Path) -> None:
    shells = pytest.importorskip("IPython.core.interactiveshell", reason="IPython is not installed")
    pytest.importorskip("matplotlib")
    shell = shells.InteractiveShell.instance()
    try:
        example = next(iter(load_dataset(split="train", streaming=True, data_dir=repository)))
        data, _ = shell.display_formatter.format(example["volume"])
    finally:
        shells.InteractiveShell.clear_instance()
    assert data["image/png"][:4] == b"\x89PNG"
    assert data["text/plain"].startswith("LazyVolume(")


class TestLocked:
    @pytest.fixture
    def open_repository(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
        with open_folder() as folder:
            monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(folder / "cache"))
            monkeypatch.chdir(folder)
            write_repository(folder / "3dreasonknee", images=False)
            load_dataset(split="train", streaming=True)  # imports modules that another user may not read
            (folder / "cache").chmod(0o777)
            for path in (folder / "cache").rglob("*"):
                path.chmod(0o777)
            yield folder / "3dreasonknee"

    @pytest.mark.parametrize("named", [True, False])
    @pytest.mark.parametrize("inside", ["", "manifest.json"])
    def test_a_repository(self, open_repository: Path, inside: str, named: bool) -> None:
        match = r"manifest\.json cannot be read: PermissionError.* Check the permissions"
        with locked(open_repository / inside), pytest.raises(RepositoryError, match=match):
            load_dataset(split="train", data_dir=open_repository if named else None)

    @pytest.mark.parametrize("inside", ["data", "data/train-00000-of-00003.parquet"])
    def test_its_rows(self, open_repository: Path, inside: str) -> None:
        rows = load_dataset(split="train", streaming=True, data_dir=open_repository)
        with (
            locked(open_repository / inside),
            pytest.raises(RepositoryError, match=r"cannot be read: PermissionError.*Check the permissions"),
        ):
            next(iter(rows))

    def test_the_cache(self, open_repository: Path) -> None:
        match = r"cache of datasets at .* cannot be written: Permission denied\. .* another folder"
        with locked(open_repository.parent / "cache"), pytest.raises(CacheError, match=match):
            load_dataset(split="train", data_dir=open_repository)

    def test_the_cache_is_not_needed_to_stream(self, open_repository: Path) -> None:
        wanted = [row["id"] for row in load_dataset(split="train", streaming=True)]
        with locked(open_repository.parent / "cache"):
            rows = load_dataset(split="train", streaming=True)
            assert [row["id"] for row in rows] == wanted
            assert find_example(open_repository, wanted[0])["id"] == wanted[0]

    def test_the_cache_is_needed_for_a_phantom(self, open_repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir("/")
        with locked(open_repository.parent / "cache"), pytest.raises(CacheError, match="cannot be written"):
            load_dataset(split="train", streaming=True)

    def test_a_full_disk_under_the_cache(self, tmp_path: Path) -> None:
        repository = write_repository(tmp_path / "3dreasonknee", images=False, text=50_000)
        with small_disk(tmp_path / "disk", "300k") as disk:
            match = r"cache of datasets at .* cannot be written: .*(No space left|Not enough disk).* Free space"
            with pytest.raises(CacheError, match=match):
                load_dataset(data_dir=repository, cache_dir=str(disk / "cache"))
            left = [path for path in disk.rglob("*") if path.is_file() and path.suffix != ".lock"]
            assert not left


class TestNotFinding:
    def test_a_misspelt_folder(self, load: Load, repository: Path) -> None:
        with pytest.raises(
            RepositoryNotFoundError,
            match=r"3dreasonkne does not exist\. Did you mean '.*3drea",
        ):
            load(data_dir=repository.parent / "3dreasonkne")
        with pytest.raises(FileNotFoundError, match=r"exists and has no nothing_like_it"):
            load(data_dir=repository.parent / "nothing_like_it" / "at" / "all")

    def test_load_dataset_hub_name_as_data_dir(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(FileNotFoundError, match=r"A dataset on the Hub is named as hf://datasets/owner/name\.$"):
            load_dataset(data_dir="owner/name")

    def test_the_folder_above(self, load: Load, repository: Path) -> None:
        with pytest.raises(RepositoryNotFoundError, match=r"has no manifest\.json\. Did you mean '.*/3dreasonknee'\?"):
            load(data_dir=repository.parent)

    def test_a_setting_that_names_nothing(self, load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write_repository(Path("3dreasonknee"), images=False)  # not taken instead
        monkeypatch.setenv("REASONKNEE_DATA", str(tmp_path / "gone"))
        with pytest.raises(RepositoryNotFoundError, match=r"REASONKNEE_DATA names .*gone, which does not exist"):
            load()

    def test_a_folder_without_a_manifest(self, load: Load, tmp_path: Path) -> None:
        with pytest.raises(RepositoryNotFoundError, match=r"it has no manifest\.json.*reasonknee prepare"):
            load(data_dir=tmp_path)

    @pytest.mark.parametrize("inside", ["data", "volumes", "volumes/0000001", "index"])
    def test_a_folder_inside_a_repository(self, load: Load, repository: Path, inside: str) -> None:
        with pytest.raises(RepositoryNotFoundError, match=rf"has no manifest\.json\. Did you mean '{repository}'\?"):
            load(data_dir=repository / inside)

    @pytest.mark.parametrize("name", ["knees.zip", "knees.tar.gz", "Knees.TGZ"])
    def test_an_archive(self, load: Load, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"PK")
        with pytest.raises(
            RepositoryNotFoundError, match=r"is a file and not a folder\. Unpack it, and name the folder"
        ):
            load(data_dir=tmp_path / name)

    def test_a_file(self, load: Load, repository: Path) -> None:
        with pytest.raises(
            RepositoryNotFoundError, match=r"manifest\.json is a file and not a folder\. Did you mean its folder"
        ):
            load(data_dir=repository / "manifest.json")

    @pytest.mark.parametrize("inside", ["", "data"])
    def test_an_official_release(self, load: Load, tmp_path: Path, inside: str) -> None:
        root = write_official(tmp_path / "release") / inside
        match = rf"is the official release, which must be prepared first\. Run: reasonknee prepare --release {root} "
        with pytest.raises(RepositoryError, match=match):
            load(data_dir=root)

    def test_an_official_release_in_the_usual_place(self, load: Load) -> None:
        write_official(Path("3dreasonknee"))
        with pytest.raises(RepositoryError, match=r"is the official release.*Run: reasonknee prepare --release"):
            load()

    def test_a_damaged_manifest(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "manifest.json").write_text('{"format": 1', encoding="utf-8")
        with pytest.raises(
            RepositoryError, match=r"The manifest in .*manifest\.json is damaged: it is not readable JSON"
        ):
            load(data_dir=tmp_path)

    @pytest.mark.parametrize(
        "url",
        ["https://me:secret@host/knees", "https://host/knees?signature=secret", "simplecache::ftp://me:secret@host/x"],
    )
    @pytest.mark.parametrize("argument", ["data_dir", "volumes_dir"])
    def test_secrets_in_a_url(self, load: Load, repository: Path, argument: str, url: str) -> None:
        named = {"data_dir": "The address of a repository"}.get(argument, argument)
        with pytest.raises(RepositoryError, match=rf"{named} must not hold credentials or a query") as caught:
            load(**{"data_dir": repository, argument: url})
        assert "secret" not in str(caught.value).replace("secrets", "")

    def test_a_file_system_that_is_not_installed(self, load: Load) -> None:
        with pytest.raises(RepositoryError, match=r"manifest .* cannot be read.*Install the file system"):
            load(data_dir="abfs://container/3dreasonknee")

    def test_a_protocol_that_nobody_knows(self, load: Load) -> None:
        with pytest.raises(RepositoryError, match=r"manifest .* cannot be read: ValueError: Protocol not known: s4"):
            load(data_dir="s4://bucket/3dreasonknee")

    @pytest.mark.parametrize("option", ["steaming", "datadir", "volume_dir", "filter"])
    def test_a_misspelt_argument(self, option: str) -> None:
        with pytest.raises(TypeError, match=rf"load_dataset has no argument '{option}'\. Did you"):
            load_dataset(**{option: True})

    def test_an_argument_that_means_nothing_here(self) -> None:
        with pytest.raises(TypeError, match=r"has no argument 'trust_remote_code'\. Available: path, name, split"):
            load_dataset("3dreasonknee", trust_remote_code=True)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the phantom, which takes some seconds to draw: made by a script that guards nothing."""
    cache = tmp_path_factory.mktemp("phantom")
    version = f"{reasonknee_datasets.__version__}-{FORMAT}-{synthetic._PATIENTS}-{synthetic._SEED}"
    (cache / "3dreasonknee-phantom" / f"making-{version}-killed").mkdir(parents=True)  # as a killed run leaves one
    script = cache / "script.py"
    script.write_text(
        "from reasonknee_datasets import load_dataset\n"
        f"rows = load_dataset('3dreasonknee', split='train', streaming=True, cache_dir={str(cache)!r})\n"
        "print(next(iter(rows))['synthetic'])\n",
        encoding="utf-8",
    )
    unset = {name: value for name, value in os.environ.items() if not name.startswith("REASONKNEE_")}
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=cache, env=unset)
    assert run.returncode == 0, run.stderr[-3000:]
    assert run.stdout == "True\n"
    assert "are SYNTHETIC: a phantom of 6 patients that this package draws now, once, and keeps in" in run.stderr
    return cache


@pytest.mark.slow
class TestPhantom:
    @pytest.mark.slow
    def test_it_stands_in_with_a_warning(self, kept: Path) -> None:
        with pytest.warns(SyntheticDataWarning, match=r"rows and voxels are SYNTHETIC: .* drew and keeps in .*DATA;"):
            loaded = load_dataset("3dreasonknee", cache_dir=str(kept))
        assert loaded["train"].info.description.startswith("SYNTHETIC")
        assert all(len(loaded[split]) for split in ("train", "validation", "test"))
        row = loaded["train"][0]
        assert row["synthetic"] is True
        assert row["volume"].get_fdata().ndim == 3
        start, stop = np.array(row["box"][:3]), np.array(row["box"][3:])
        assert (start >= 0).all()
        assert (start < stop).all()
        assert (stop <= row["volume"].shape).all()

    def test_its_warning_names_a_repository_above(
        self, load: Load, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A notebook's kernel often runs in a folder below the one that holds the data."""
        root = write_repository(tmp_path / "3dreasonknee")
        (tmp_path / "work" / "notebooks").mkdir()
        monkeypatch.chdir(tmp_path / "work" / "notebooks")
        with pytest.warns(SyntheticDataWarning, match=rf"Did you mean data_dir='{root}', which is above this folder\?"):
            load_dataset("3dreasonknee", split="train", streaming=True, cache_dir=str(kept))

    @pytest.mark.slow
    def test_it_is_made_once_and_whole(self, load: Load, kept: Path) -> None:
        def state() -> dict[Path, int]:
            return {path: path.stat().st_mtime_ns for path in kept.rglob("3dreasonknee-phantom/*/*.json")}

        before = state()
        assert before
        with pytest.warns(SyntheticDataWarning):
            load(cache_dir=str(kept))
        assert state() == before
        assert not list(kept.rglob("making-*"))

    @pytest.mark.slow
    def test_stock_datasets_reads_it_without_this_package(self, kept: Path, tmp_path: Path) -> None:
        (manifest,) = kept.glob("3dreasonknee-phantom/*/manifest.json")
        repository = manifest.parent
        code = textwrap.dedent(
            f"""
            import sys, datasets
            loaded = datasets.load_dataset({str(repository)!r}, cache_dir={str(tmp_path / "cache")!r})
            for name in ("volumes", "balanced"):
                datasets.load_dataset({str(repository)!r}, name, cache_dir={str(tmp_path / "cache")!r})
            print(sorted(loaded), loaded["train"][0]["volume_path"][:8])
            assert "reasonknee_datasets" not in sys.modules
            """
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert run.returncode == 0, run.stderr[-3000:]
        assert run.stdout == "['test', 'train', 'validation'] volumes/\n"

    @pytest.mark.parametrize("value", ["1", "true"])
    def test_real_data_required(self, load: Load, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        monkeypatch.setenv("REASONKNEE_REQUIRE_REAL", value)
        with pytest.raises(
            RepositoryNotFoundError, match=r"No data were found .* REASONKNEE_REQUIRE_REAL forbids synthetic data"
        ):
            load()

    def test_real_data_required_and_synthetic_ones_named(
        self, load: Load, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("REASONKNEE_REQUIRE_REAL", "1")
        with pytest.raises(RepositoryError, match=r"has synthetic data, which REASONKNEE_REQUIRE_REAL forbids"):
            load(data_dir=repository)
        assert load(data_dir=write_repository(tmp_path / "real", synthetic=False, images=False))["synthetic"] is False
        monkeypatch.setenv("REASONKNEE_REQUIRE_REAL", "0")
        assert load(data_dir=repository)["synthetic"] is True


class TestPassingThrough:
    @pytest.fixture
    def parquet(self, tmp_path: Path) -> Path:
        pq.write_table(pa.table({"x": [1, 2, 3], "y": ["a", "b", "c"]}), tmp_path / "train.parquet")
        return tmp_path / "train.parquet"

    def test_any_other_name(self, parquet: Path, tmp_path: Path) -> None:
        own = load_dataset("parquet", data_files={"val": str(parquet)}, cache_dir=str(tmp_path / "cache"))
        stock = datasets.load_dataset("parquet", data_files={"val": str(parquet)}, cache_dir=str(tmp_path / "cache"))
        assert {name: part.to_list() for name, part in own.items()} == {
            name: part.to_list() for name, part in stock.items()
        }
        assert list(own) == ["val"]  # not renamed

    def test_its_arguments(self, parquet: Path, tmp_path: Path) -> None:
        rows = load_dataset(
            "parquet",
            split="train",
            streaming=True,
            data_files=str(parquet),
            columns=["x"],
            filters=[("x", ">", 1)],
            cache_dir=str(tmp_path / "cache"),
        )
        assert list(rows) == [{"x": 2}, {"x": 3}]

    def test_a_folder(self, parquet: Path, tmp_path: Path) -> None:
        rows = load_dataset(str(parquet.parent), split="train", cache_dir=str(tmp_path / "cache"))
        assert rows.to_list()[0] == {"x": 1, "y": "a"}

    def test_its_own_errors(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="Empty 'data_files'"):
            load_dataset("parquet", data_files=[], cache_dir=str(tmp_path))


class TestRegistration:
    """In a process of its own, since `datasets` keeps what it is told."""

    def run(self, repository: Path, tmp_path: Path, *lines: str, **environment: str) -> str:
        code = textwrap.dedent(
            f"""
            import datasets, reasonknee_datasets
            reasonknee_datasets.register()
            reasonknee_datasets.register()
            root, cache = {str(repository)!r}, {str(tmp_path / "cache")!r}
            """
        ) + "\n".join(lines)
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path / "work",
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8", **environment},
        )
        assert run.returncode == 0, run.stderr
        return run.stdout

    @pytest.mark.slow
    def test_datasets_finds_the_builder(self, repository: Path, tmp_path: Path) -> None:
        out = self.run(
            repository,
            tmp_path,
            "for streaming in (False, True):",
            "    given = {'data_dir': root, 'cache_dir': cache, 'streaming': streaming}",
            "    rows = datasets.load_dataset('3dreasonknee', split='val', **given)",
            "    row = next(iter(rows)); print(row['id'], row['volume'].shape, rows.info.description[:9])",
            "one = datasets.load_dataset('3dreasonknee', 'volumes', data_dir=root, cache_dir=cache)",
            "print(sorted(one), one['test'].num_rows)",
            "builder = datasets.load_dataset_builder('3dreasonknee', data_dir=root, cache_dir=cache)",
            "print(type(builder).__name__)",
        )
        assert out.splitlines() == [
            *[f"0000007/00M/left/q01 {SHAPE} SYNTHETIC"] * 2,
            "['test', 'train', 'validation'] 3",
            "ReasonKnee",
        ]

    @pytest.mark.slow
    def test_settings_count_there_too(self, repository: Path, tmp_path: Path) -> None:
        code = "print(datasets.load_dataset('3dreasonknee', cache_dir=cache, split='train')[0]['id'])"
        assert self.run(repository, tmp_path, code, REASONKNEE_DATA=str(repository)) == "0000001/00M/left/q01\n"

    @pytest.mark.slow
    def test_the_rest_is_as_it_was(self, repository: Path, tmp_path: Path) -> None:
        pq.write_table(pa.table({"x": [1]}), tmp_path / "work" / "train.parquet")
        out = self.run(
            repository,
            tmp_path,
            "given = {'cache_dir': cache, 'split': 'train'}",
            "print(datasets.load_dataset('parquet', data_files='train.parquet', **given).to_list())",
            f"print(datasets.load_dataset({str(tmp_path / 'work')!r}, **given).to_list())",
        )
        assert out == "[{'x': 1}]\n" * 2

    def test_without_it_the_name_is_unknown(self) -> None:
        assert "3dreasonknee" not in datasets.packaged_modules._PACKAGED_DATASETS_MODULES

    def test_a_datasets_that_keeps_no_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(datasets.packaged_modules, "_PACKAGED_DATASETS_MODULES")
        with pytest.raises(ReasonKneeError, match=r"has no private table of modules in which register\(\)"):
            register()


def test_it_is_public() -> None:
    assert reasonknee_datasets.load_dataset is load_dataset
    assert reasonknee_datasets.register is register


@pytest.mark.parametrize(
    ("root", "joined"),
    [
        ("/data", "/data/manifest.json"),
        ("https://host/a", "https://host/a/manifest.json"),
        ("simplecache::s3://b/a", "simplecache::s3://b/a/manifest.json"),
        ("zip://::/a.zip", "zip://manifest.json::/a.zip"),
        ("zip://in::s3://b/a.zip", "zip://in/manifest.json::s3://b/a.zip"),
    ],
)
def test_joining(root: str, joined: str) -> None:
    assert join(to_place(root, "data_dir"), "manifest.json") == joined


@pytest.mark.parametrize("place", ["hf://datasets/knees", "hf://datasets/knees@main", "hf://datasets/knees/"])
def test_to_place_of_hub_needs_owner(place: str) -> None:
    with pytest.raises(RepositoryError, match="data_dir names no owner in hf://datasets/knees"):
        to_place(place, "data_dir")


def test_splits_keep_their_rounding() -> None:
    (part,) = parse_split("val[:33%](pct1_dropremainder)", ("validation",))
    assert part.text == "validation[:33%](pct1_dropremainder)"
    assert (part.stop, part.percent) == (33, True)


@pytest.mark.parametrize("form", ["tuples", "tuple", "mapping", "listed", "expression", "either"])
@pytest.mark.parametrize(
    ("column", "value", "meant"),
    [
        ("side", "Left", "left"),
        ("side", "rigth", "right"),
        ("visit", "0M", "00M"),
        ("visit", "12m", "12M"),
        ("category", "cartilage", "cartilage_lesion"),
        ("finding", "Popliteal_Cyst", "popliteal_cyst"),
        ("subregion", "femur_medial_centre", "femur_medial_central"),
        ("question_id", 70, None),
    ],
)
def test_filters_refuse_unknown_value(form: str, column: str, value: Any, meant: str | None) -> None:
    filters = {
        "tuples": [("patient", "==", "0000001"), (column, "==", value)],
        "tuple": (column, "!=", value),
        "mapping": {column: value},
        "listed": {"patient": "0000001", column: [value]},
        "expression": (pc.field("patient") == "0000001") & (pc.field(column) == value),
        "either": [[("patient", "==", "0000001")], [(column, "in", [value])]],
    }[form]
    hint = f"Did you mean '{meant}'\\? Available: " if meant else "Available: 1, 2, 3"
    with pytest.raises(RepositoryError, match=rf"The filters ask for {column} '{value}', which no row has\. {hint}"):
        select("quintuples", None, filters)


@pytest.mark.parametrize(
    ("filters", "named"),
    [
        ([("grade_size", ">=", 9)], "grade_size >= 9"),
        ([("grade_size", ">", 3)], "grade_size > 3"),
        ([("grade_presence", "<", 0)], "grade_presence < 0"),
        ([("question_id", ">", 1e6)], "question_id > 1000000"),
        ([("visit", ">", "99M")], "visit > 99M"),
        (pc.scalar(9) <= pc.field("grade_size"), "grade_size >= 9"),
        (pc.field("grade_size").cast(pa.int64()) >= 9, "grade_size >= 9"),
        ([("grade_size", "==", 2.5)], "grade_size '2.5'"),
        ([("grade_size", "in", [1.5, 2])], "grade_size '1.5'"),
        (pc.scalar(9) == pc.field("grade_size"), "grade_size '9'"),
    ],
)
def test_filters_refuse_impossible_numbers_and_bounds(filters: Any, named: str) -> None:
    with pytest.raises(RepositoryError, match=rf"The filters ask for {named}, which no row has\. Available: "):
        select("quintuples", None, filters)


@pytest.mark.parametrize(
    "filters",
    [
        [("grade_size", ">=", 2.5)],
        [("grade_size", "<=", 9)],
        [("visit", ">=", "12M")],
        [("id", ">", "z")],
        ~(pc.field("grade_size") >= 9),
        pc.scalar(1) <= pc.field("grade_size"),
    ],
)
def test_filters_accept_possible_bounds(filters: Any) -> None:
    assert select("quintuples", None, filters).expression is not None


@pytest.mark.parametrize(
    "filters",
    [
        {"side": "right", "question_id": [1, 2]},
        [("side", "==", "right"), ("question_id", "in", [1, 2])],
        (pc.field("side") == "right") & pc.field("question_id").isin([1, 2]),
    ],
)
def test_filters_of_every_form_agree(repository: Path, filters: Any) -> None:
    rows = load_dataset(split="train", streaming=True, data_dir=repository, filters=filters)
    wanted = [row["id"] for row in load_dataset(split="train", streaming=True, data_dir=repository)]
    wanted = [each for each in wanted if "/right/" in each and each[-3:] in ("q01", "q02")]
    assert [row["id"] for row in rows] == wanted != []


def test_filters_that_are_one_tuple(repository: Path) -> None:
    rows = load_dataset(split="test", streaming=True, data_dir=repository, filters=("side", "==", "right"))
    assert {row["side"] for row in rows} == {"right"}


@pytest.mark.parametrize("filters", ["side == left", ("side", "right"), [("side", "right")], [], [("side", "is", 1)]])
def test_filters_that_are_none(filters: Any) -> None:
    with pytest.raises(
        RepositoryError, match=r'The filters .* do not fit .*\. Write \[\("question_id", "==", 19\), \.'
    ):
        select("quintuples", None, filters)


@pytest.mark.parametrize("split", ["test", "test[:1]", ["test", "validation"]])
def test_filters_with_split_write_only_it(repository: Path, tmp_path: Path, split: Any) -> None:
    def load(split: Any) -> Any:
        options = {"data_dir": repository, "filters": {"side": "left"}, "cache_dir": str(tmp_path)}
        return load_dataset(split=split, **options)

    load(split)
    written = {path.stem.partition("-")[2] for path in tmp_path.rglob("*.arrow")}
    assert written == ({"test", "validation"} if isinstance(split, list) else {"test"})
    assert {row["side"] for row in load("train")} == {"left"}
    assert set(load(None)) == {"train", "validation", "test"}


class TestBroken:
    """Anything in the usual place is used or refused; the phantom is used only where nothing is there."""

    def refused(self, match: str) -> None:
        for options in ({"streaming": True}, {}):
            with pytest.raises(RepositoryError, match=match) as caught:
                load_dataset(split="train", **options)
            assert ".partial" not in str(caught.value)

    def test_a_dangling_link(self) -> None:
        Path("3dreasonknee").symlink_to("/mnt/disk/3dreasonknee")
        self.refused(
            r"\./3dreasonknee names .*, which is a link to /mnt/disk/3dreasonknee, which does not exist\. Mount the"
        )

    def test_a_dangling_link_that_is_named(self, load: Load, tmp_path: Path) -> None:
        (tmp_path / "knees").symlink_to("/mnt/disk/3dreasonknee")
        with pytest.raises(RepositoryNotFoundError, match=r"/knees is a link to /mnt/disk/3dreasonknee"):
            load(data_dir=tmp_path / "knees")

    @pytest.mark.parametrize("content", [None, "data/train-00000-of-00001.parquet", "README.md"])
    def test_a_folder_without_a_manifest(self, content: str | None) -> None:
        Path("3dreasonknee").mkdir()
        if content is not None:
            (Path("3dreasonknee") / content).parent.mkdir(exist_ok=True)
            (Path("3dreasonknee") / content).write_text("x")
        self.refused(r"\./3dreasonknee names .*, which is not a prepared repository: it has no manifest\.json")

    def test_a_file(self) -> None:
        Path("3dreasonknee").write_text("x")
        self.refused(r"\./3dreasonknee names .*/3dreasonknee, which is a file and not a folder\. Move it away")

    def test_a_damaged_manifest(self) -> None:
        write_repository(Path("3dreasonknee"), images=False)
        Path("3dreasonknee/manifest.json").write_bytes(b"")
        self.refused(r"The manifest in .* is not readable JSON")

    def test_a_killed_run_of_prepare(self) -> None:
        Path(".3dreasonknee.partial/volumes").mkdir(parents=True)
        self.refused(r"3dreasonknee is not complete: a run of `reasonknee prepare` .* run the same command again")

    def test_a_staging_folder_is_never_suggested(self, load: Load) -> None:
        Path(".3dreasonknees.partial").mkdir()
        with pytest.raises(RepositoryNotFoundError, match=r"exists and has no 3dreasonknee2\.") as caught:
            load(data_dir="3dreasonknee2")
        assert ".partial" not in str(caught.value)

    def test_an_interrupted_prepare_that_is_named(self, load: Load) -> None:
        Path(".knees.partial").mkdir()
        with pytest.raises(
            RepositoryNotFoundError, match=r"knees is not complete: a run of .* run the same command again"
        ):
            load(data_dir="knees")


class TestFirstArgument:
    @pytest.mark.parametrize("name", ["3DReasonKnee", "3dreasonknee", "3DREASONKNEE"])
    def test_the_name_in_any_case(self, name: str, repository: Path) -> None:
        row = next(iter(load_dataset(name, split="train", streaming=True, data_dir=repository)))
        assert row["volume"].shape == SHAPE

    @pytest.mark.parametrize("form", ["{}", "{}/", "../prepared/3DReasonKnee", "zip://::{}.zip", "file://{}"])
    def test_a_prepared_repository_brings_its_volumes(
        self, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = write_repository(tmp_path / "prepared" / "3DReasonKnee")
        shutil.make_archive(str(root), "zip", root)
        monkeypatch.chdir(tmp_path / "work")
        row = next(iter(load_dataset(form.format(root), split="train", streaming=True)))
        assert row["volume"].shape == SHAPE

    def test_a_folder_of_another_name(self, tmp_path: Path) -> None:
        root = write_repository(tmp_path / "knees")
        loaded = load_dataset(str(root), split="test", cache_dir=str(tmp_path / "cache"))
        assert loaded[0]["volume"].shape == SHAPE

    def test_load_dataset_forwards_similar_hub_names(self) -> None:
        with pytest.raises((ConnectionError, FileNotFoundError), match="nobody/3DReasonKnee"):
            load_dataset("nobody/3DReasonKnee", split="train")

    @pytest.mark.parametrize(
        "name", ["rajpurkarlab/3DReasonKnee", "rajpurkarlab/3dreasonknee", "Rajpurkarlab/3DReasonKnee/"]
    )
    def test_the_official_release_on_the_hub(self, name: str) -> None:
        with pytest.raises(
            RepositoryError, match=r"is the official release, which .*reasonknee download --out DIR, then"
        ):
            load_dataset(name, split="train")

    def test_a_folder_that_does_not_exist(self, tmp_path: Path) -> None:
        with pytest.raises(RepositoryNotFoundError, match=r"3dreasonknee does not exist"):
            load_dataset(str(tmp_path / "3dreasonknee"), split="train")

    def test_a_url_that_holds_no_repository(self, tmp_path: Path) -> None:
        shutil.make_archive(str(tmp_path / "empty"), "zip", tmp_path / "work")
        with pytest.raises(RepositoryNotFoundError, match=r"empty\.zip is not a prepared repository: it has no man"):
            load_dataset(f"zip://::{tmp_path}/empty.zip", split="train")

    def test_the_repository_named_twice(self, repository: Path) -> None:
        with pytest.raises(RepositoryError, match=r"Both the first argument, .*, and data_dir name a repository"):
            load_dataset(str(repository), data_dir=repository)

    def test_load_dataset_forwards_folder_with_other_manifest(self, tmp_path: Path) -> None:
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / "manifest.json").write_text('{"name": "other"}')
        (tmp_path / "other" / "rows.csv").write_text("a,b\n1,2\n")
        loaded = load_dataset(str(tmp_path / "other"), data_files="rows.csv", cache_dir=str(tmp_path / "cache"))
        assert loaded["train"][0] == {"a": 1, "b": 2}
