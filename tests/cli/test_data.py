"""The command line as its user meets it: each command once, and each way to get it wrong."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from reasonknee_datasets import __version__
from reasonknee_datasets.cli.main import _parser, main
from reasonknee_datasets.release import KINDS
from reasonknee_datasets.volumes.header import parse_index
from reasonknee_datasets.volumes.packing import LEVEL
from tests.helpers.prepared_repository import write_official


def reasonknee(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, which takes a second to start; most tests call `run`."""
    command = [sys.executable, "-m", "reasonknee_datasets", *map(str, words)]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False)


def run(*words: str | Path) -> int:
    return main([str(word) for word in words])


def first_id(prepared: Path) -> str:
    import pyarrow.parquet as pq

    return str(pq.read_table(sorted((prepared / "data").glob("train-*"))[0], columns=["id"])["id"][0])


def test_version() -> None:
    assert reasonknee("--version").stdout.strip() == f"reasonknee_datasets {__version__}"


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; from reasonknee_datasets.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'datasets', 'pyarrow', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, "help must answer at once"
    for command in ("demo", "phantom", "prepare", "pack", "info", "show", "evaluate", "bench"):
        assert command in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "no command is given. Run: reasonknee --help"),
        ("prepar", "Did you mean 'prepare'?"),
        ("check repo --alow xyz", "unrecognized arguments: --alow xyz. Did you mean --allow?"),
        ("check repo --volume-dir=there", "Did you mean --volumes-dir?"),
        ("info repo another", "unrecognized arguments: another. Run: reasonknee info --help"),
        ("check repo --workers two", "argument --workers: must be a whole number of 1 or more, not two"),
        ("demo --patients 0", "argument --patients: must be a whole number of 1 or more, not 0"),
        ("browse repo --port 99999", "argument --port: must be a whole number from 0 to 65535, not 99999"),
        ("previews https://host/knees", "argument DIR: must be a path on this machine, not https://host/knees."),
        ("prepare --release r --out s3://bucket/knees", "argument --out: must be a path on this machine, not s3://"),
        ("prepare --release r --out o --volumes packed", "Did you mean 'pack'?"),
    ],
)
def test_main_wrong_usage(words: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words.split())
    assert message in capsys.readouterr().err


def test_info_says_what_is_there(prepared: Path) -> None:
    done = reasonknee("info", prepared)
    assert done.returncode == 0, done.stderr
    assert "SYNTHETIC" in done.stdout
    manifest = json.loads((prepared / "manifest.json").read_text(encoding="utf-8"))
    rows = sum(shard["rows"] for shard in manifest["configs"]["quintuples"]["splits"]["train"]["shards"])
    assert f"{rows:,}" in done.stdout


@pytest.mark.slow
def test_info_into_closed_pipe(prepared: Path) -> None:
    command = f"{sys.executable} -m reasonknee_datasets info {prepared} | head -n 1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_info_onto_full_disk(prepared: Path) -> None:
    command = f"{sys.executable} -u -m reasonknee_datasets info {prepared} > /dev/full"
    done = subprocess.run(["bash", "-c", command], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert re.fullmatch(r"error: .*No space left on device; REASONKNEE_TRACEBACK=1 shows .*\n", done.stderr)


def test_show_draws_the_row(prepared: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the figures extra is not installed")
    assert run("show", prepared, first_id(prepared), "--out", tmp_path / "row.png") == 0
    assert (tmp_path / "row.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("info", "{tmp}/nowhere"), "does not exist"),
        (("info", "{release}"), "reasonknee prepare --release"),
        (("show", "{prepared}", "9999999/00M/right/q01", "--out", "x.png"), "9999999/00M/right/q01"),
        (("prepare", "--release", "{tmp}/nowhere", "--out", "{tmp}/out"), "nowhere"),
        (("prepare", "--release", "{release}", "--out", "{tmp}/out", "--box-convention", "xyz"), "xyz"),
        (("prepare", "--release", "{release}", "--out", "{tmp}/out", "--allow", "mising-image"), "mising-image"),
        (("demo", "--out", "{tmp}"), "exists already"),
        (("pack", "{tmp}/nowhere.nii.gz", "--in-place"), "nowhere.nii.gz"),
        (("info", "http://127.0.0.1:9/knees"), "AWS_PROFILE, HF_TOKEN or the like in the environment if it needs"),
        (
            (
                "convert",
                "--oai",
                "{release}/data/split_files/train_split.csv",
                "--release",
                "{release}",
                "--out",
                "{tmp}/out",
            ),
            "train_split.csv is a file, not a folder",
        ),
        (("pack", "{release}/data/split_files/train_split.csv", "--out", "{tmp}/out"), "end in .nii or .nii.gz"),
    ],
)
def test_main_prints_errors_without_traceback(
    words: tuple[str, ...],
    message: str,
    prepared: Path,
    phantom_release: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    places = {"tmp": tmp_path, "prepared": prepared, "release": phantom_release}
    monkeypatch.chdir(tmp_path)
    assert run(*(word.format(**places) for word in words)) == 1
    said = capsys.readouterr().err
    error = said.strip().rsplit("error: ", 1)
    assert len(error) == 2, said
    assert message in error[1]
    assert "Traceback" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_traceback_on_request(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "reasonknee_datasets", "info", str(tmp_path / "nowhere")]
    environment = {**os.environ, "REASONKNEE_TRACEBACK": "1"}
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)
    assert "Traceback" in done.stderr


@pytest.mark.slow
def test_demo_does_the_main_job(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the figures extra is not installed")
    done = reasonknee("demo", "--out", tmp_path / "demo", "--patients", "3")
    assert done.returncode == 0, done.stderr
    for word in ("SYNTHETIC", "question", "reasoning", "answer", "cropped", "drew it", "To load it: load_dataset("):
        assert word in done.stdout
    assert (tmp_path / "demo" / "example.png").stat().st_size > 10_000
    assert (tmp_path / "demo" / "3dreasonknee" / "manifest.json").is_file()
    found = re.search(r"cropped .* read ([0-9,]+) of the file's ([0-9,]+) bytes", done.stdout)
    assert found is not None
    read, size = (int(number.replace(",", "")) for number in found.groups())
    assert 0 < read < size


@pytest.mark.slow
def test_demo_without_matplotlib_writes_nothing(tmp_path: Path) -> None:
    program = (
        "import sys; from importlib.machinery import PathFinder\n"
        "class Absent(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, *rest):\n"
        "        return None if name == 'matplotlib' else PathFinder.find_spec(name, *rest)\n"
        "sys.meta_path[:] = [Absent if finder is PathFinder else finder for finder in sys.meta_path]\n"
        "from reasonknee_datasets.cli import main\n"
        f"sys.exit(main(['demo', '--out', {str(tmp_path / 'demo')!r}]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode != 0
    assert 'pip install "reasonknee_datasets[figures]"' in done.stderr
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_demo_open_ends_in_the_browser(tmp_path: Path) -> None:
    for module in ("matplotlib", "starlette", "uvicorn", "ipyniivue"):
        pytest.importorskip(module, reason="needs the extras figures and app")
    opened = tmp_path / "opened"
    # The standard library opens pages with the program that BROWSER names.
    program = tmp_path / "browser"
    program.write_text(f'#!/bin/sh\necho "$1" > {opened}\n', encoding="utf-8")
    program.chmod(0o755)
    command = [sys.executable, "-m", "reasonknee_datasets", "demo", "--out", str(tmp_path / "demo"), "--patients", "3"]
    environment = os.environ | {"BROWSER": f"{program} %s"}
    with subprocess.Popen([*command, "--open"], stdout=subprocess.PIPE, encoding="utf-8", env=environment) as process:
        assert process.stdout is not None
        try:
            address = next(line.split()[0] for line in process.stdout if line.startswith("http://"))
            with urllib.request.urlopen(address, timeout=60) as answer:
                page = answer.read().decode()
        finally:
            process.kill()
    assert "/example/" in address
    assert "Bone marrow lesion" in page
    assert "<canvas" in page
    assert opened.read_text(encoding="utf-8").strip() == address


@pytest.mark.slow
def test_browse_names_what_is_wrong(prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("starlette", reason="needs the extra app")
    assert run("browse", tmp_path) == 1
    assert "manifest.json" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = reasonknee("browse", prepared, "--port", port)
    assert (
        f"The browser cannot listen on 127.0.0.1:{port}: Address already in use. Choose another --port." in done.stderr
    )
    (tmp_path / "answers.jsonl").write_text('{"id": "9999999/00M/left/q01", "text": "0"}\n', encoding="utf-8")
    assert run("browse", prepared, "--predictions", tmp_path / "answers.jsonl") == 1
    assert re.search("No prediction in .* Name the repository of that run", capsys.readouterr().err, re.DOTALL)


def images(folder: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    made = folder / "one.nii.gz", folder / "two.nii"
    for path in made:
        nib.save(nib.Nifti1Image(rng.integers(0, 400, (64, 64, 30)).astype(np.int16), np.eye(4)), path)
    return made


def test_pack_into_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = images(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run("pack", one, two, "--out", "packed/deep", "--level", "1") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "packed/deep/one.nii.gz",
        "packed/deep/two.nii.gz",
    ]
    assert all(re.search(r"[0-9,]+ bytes to [0-9,]+; 5 slabs of [0-9,]+ bytes", line) for line in said)
    for path in (one, two):
        target = tmp_path / "packed" / "deep" / path.with_suffix("").with_suffix(".nii.gz").name
        assert parse_index(target.read_bytes(), target.stat().st_size) is not None
        np.testing.assert_array_equal(nib.load(target).dataobj, nib.load(path).dataobj)


def test_pack_in_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = images(tmp_path)
    voxels = np.asarray(nib.load(one).dataobj).copy()
    assert main(["pack", str(one), "--in-place"]) == 0
    assert parse_index(one.read_bytes(), one.stat().st_size) is not None
    np.testing.assert_array_equal(nib.load(one).dataobj, voxels)
    packed = one.read_bytes()
    assert main(["pack", str(one), "--in-place"]) == 0
    assert one.read_bytes() == packed
    assert main(["pack", str(one), str(two), "--in-place"]) == 1
    assert "only a .nii.gz can be replaced" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"one.nii.gz", "two.nii"}


def test_pack_replaces_nothing_unasked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = images(tmp_path)
    before = {path: path.read_bytes() for path in (one, two)}
    with pytest.raises(SystemExit, match="2"):
        main(["pack", str(one)])
    with pytest.raises(SystemExit, match="2"):
        main(["pack", str(one), "--in-place", "--out", str(tmp_path)])
    capsys.readouterr()
    assert main(["pack", str(two), str(one), "--out", str(tmp_path)]) == 1
    assert "one.nii.gz exists already, and packing into a folder replaces nothing" in capsys.readouterr().err
    (tmp_path / "one.nii").write_bytes(two.read_bytes())
    assert main(["pack", str(one), str(tmp_path / "one.nii"), "--out", str(tmp_path / "new")]) == 1
    assert "Two of the files would be packed as" in capsys.readouterr().err
    assert main(["pack", str(one), "--out", str(two)]) == 1
    assert "Cannot write into the folder" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert {path: path.read_bytes() for path in (one, two)} == before


def test_a_damaged_file_is_not_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, _ = images(tmp_path)
    one.write_bytes(damaged := one.read_bytes()[:-9])
    assert main(["pack", str(one), "--in-place"]) == 1
    assert "one.nii.gz" in capsys.readouterr().err
    assert one.read_bytes() == damaged


def test_pack_packs_as_the_function_does() -> None:
    assert _parser().parse_args(["pack", "x.nii.gz", "--in-place"]).level == LEVEL


def test_prepare_help_lists_what_may_be_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    allowed = [kind.name for kind in KINDS.values() if kind.allowed]
    with pytest.raises(SystemExit, match=r"^0$"):
        main(["prepare", "--help"])
    assert ", ".join(allowed) in re.sub(r"(?<=[a-z]-) ", "", " ".join(capsys.readouterr().out.split()))


@pytest.mark.slow
def test_prepare_previews_without_pillow_is_refused_first(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\n"
        "from reasonknee_datasets.cli.main import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["prepare", "--release", str(tmp_path / "absent"), "--out", str(tmp_path / "out"), "--previews"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "PIL" in done.stderr
    assert "absent" not in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_sigterm_removes_temporary_folder(tmp_path: Path) -> None:
    # The command is ended where its temporary folder exists for certain: at the first table written in it.
    code = (
        "import os, signal, sys\n"
        "from reasonknee_datasets.cli.main import main\n"
        "def stop(event, given):\n"
        "    if event == 'open' and '.unfinished-' in str(given[0]) and str(given[0]).endswith('.csv'):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "sys.addaudithook(stop)\n"
        "main(sys.argv[1:])\n"
    )
    words = [sys.executable, "-c", code, "phantom", "--annotations-only", "--out", tmp_path / "release"]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words",
    [("info",), ("check",), ("check", "--files"), ("doctor",), ("previews",), ("push", "--repo", "owner/knees")],
)
def test_missing_repository_remedies(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_official(tmp_path / "release")
    (tmp_path / "3dreasonknee").mkdir()
    assert main([*words, str(tmp_path / "release")]) == 1
    assert re.search(r"release is the official release.* Run: reasonknee prepare --release", capsys.readouterr().err)
    assert main([*words, str(tmp_path / "3dreasonkne")]) == 1
    found = capsys.readouterr().err
    assert re.match(r"error: /\S*/3dreasonkne does not exist\. Did you mean '/\S*/3dreasonknee'\?", found), found
    assert main([*words, str(tmp_path / "3dreasonknee")]) == 1
    assert re.match(r"error: /\S*/3dreasonknee is not a prepared repository: it has no manif", capsys.readouterr().err)
