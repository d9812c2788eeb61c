"""Control characters of files and servers do not reach the terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reasonknee_datasets.cli import main
from reasonknee_datasets.manifest import MANIFEST
from reasonknee_datasets.printable import printable
from tests.helpers.hostile_server import serve
from tests.helpers.prepared_repository import write_repository

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\x08\r\u202e\u2028\ud800"


@given(st.text())
def test_printable(text: str) -> None:
    shown = printable(text)
    assert all(character.isprintable() or character in "\n\t" or character.isspace() for character in shown)
    assert not set(shown) & set("\x1b\x07\x08\r\x9b\u202e\u2066\u2028\u2029\x0b\x0c\x85\x1c")
    shown.encode()


@pytest.mark.parametrize("text", ["grade 2\n\tKnie: größe 3 × 4 µm", "\u00a0膝\u3000", "", "C:\\x1b"])
def test_printable_leaves_ordinary_text(text: str) -> None:
    assert printable(text) == text


def test_printable_shows_what_was_there() -> None:
    assert printable(HOSTILE) == r"\x1b]0;title\x07\x1b[2J\x9b31m\x08\x0d\u202e\u2028\ud800"


def test_command_escapes_control_characters_of_manifest(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_repository(tmp_path / "3dreasonknee")
    tree = json.loads((root / MANIFEST).read_text())
    tree["source"]["revision"] = tree["name"] = HOSTILE
    tree["box_convention"]["name"] = HOSTILE
    del tree["checksum"]  # who writes the text also writes a checksum that fits, or none
    (root / MANIFEST).write_text(json.dumps(tree))
    assert main(["info", str(root)]) == 1  # the reader refuses such a field, and shows what it found
    err = capsys.readouterr().err
    assert r"\x1b]0;title\x07" in err
    assert not set(err) & set("\x1b\x07\x08\x9b\r\u202e")


def test_command_escapes_control_characters_of_errors(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    root = write_repository(tmp_path / "3dreasonknee")
    tree = json.loads((root / MANIFEST).read_text())
    tree["configs"]["quintuples"]["splits"]["train"]["shards"][0]["sha256"] = [HOSTILE]
    tree["format"] = HOSTILE
    (root / MANIFEST).write_text(json.dumps(tree))
    with serve(lambda handler: handler.start(500, Content_Length="0", X="\x1b[2J")) as here:
        for where in (str(root), f"{here.url}/\x1b[31m", f"\x1b[31m{tmp_path}\u202e"):
            assert main(["info", where]) == 1
    with pytest.raises(SystemExit, match=r"^2$"):
        main(["inf\x1bo"])
    err = capsys.readouterr().err
    assert "\\x1b" in err
    assert not set(err) & set("\x1b\x07\x08\x9b\r\u202e")


def test_progress_bars_still_move(tmp_path: Path) -> None:
    code = (
        "import sys, tqdm\nfrom reasonknee_datasets.cli.terminal import printable_streams\n"
        "with printable_streams():\n"
        "    for _ in tqdm.tqdm(range(3), desc='outer\\x1b[2J', mininterval=0):\n"
        "        for _ in tqdm.tqdm(range(2), desc='inner', leave=False, mininterval=0):\n"
        "            for _ in tqdm.tqdm(range(2), desc='third', leave=False, mininterval=0): pass\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"\rinner: 100%" in done.stderr
    assert rb"outer\x1b[2J: 100%" in done.stderr
    assert b"\x1b[2J" not in done.stderr
    assert b"\x1b[A\x1b[A" in done.stderr
    assert rb"\x1b[A" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_commands_print_in_any_encoding(encoding: str, prepared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "膝"
    folder.symlink_to(prepared)
    done = subprocess.run(
        [sys.executable, "-m", "reasonknee_datasets", "info", str(folder)],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": f"{encoding}:strict"},
    )
    name = "膝" if encoding == "utf-8" else r"\u819d"
    dot = "." if encoding == "ascii" else "·"
    shown = done.stdout.decode(encoding)
    assert f"3dreasonknee at {folder.with_name(name)}" in shown
    assert f" {dot} " in " ".join(shown.split())
