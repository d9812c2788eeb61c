"""The README is true: its Python runs and prints what it says, its commands run, its links lead somewhere."""

from __future__ import annotations

import doctest
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
_CONSOLE = re.compile(r"```console\n(.*?)```", re.DOTALL)
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")
_ANCHOR = re.compile(r"\]\(#([^)]+)\)")


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the README's own commands, in order, in an empty folder; what follows in Python finds what they made."""
    folder = tmp_path_factory.mktemp("readme")
    for block in _CONSOLE.findall(README):
        for line in block.splitlines():
            words = shlex.split(line[2:]) if line.startswith("$ ") else []
            if words[:1] == ["reasonknee"]:
                command = [sys.executable, "-m", "reasonknee_datasets", *words[1:]]
                done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
                assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
    return folder


def test_readme_has_commands_and_python() -> None:
    assert _CONSOLE.search(README), "README.md must show commands"
    assert ">>> " in README, "README.md must show Python with its output"


@pytest.mark.slow
@pytest.mark.slow
def test_python_prints_what_the_readme_says(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    text = re.sub(r"^```.*$", "", README, flags=re.MULTILINE)  # doctest takes a fence for output
    test = doctest.DocTestParser().get_doctest(text, {}, "README.md", str(ROOT / "README.md"), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(test)
    assert result.attempted > 15
    assert result.failed == 0, "see the captured output above"


def test_links_lead_somewhere() -> None:
    broken = [target for target in _LINK.findall(README) if not (ROOT / target).exists()]
    assert not broken, broken


def test_anchors_lead_to_headings() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert not [anchor for anchor in _ANCHOR.findall(README) if anchor not in slugs]
