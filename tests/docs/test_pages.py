"""The documentation is true: its Python runs, its commands run or are understood, its links lead somewhere."""

from __future__ import annotations

import ast
import doctest
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from reasonknee_datasets.cli.main import _parser
from tests.docs.reference_pages import MADE, PAGES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
ALL = sorted(DOCS.rglob("*.md"))
_BLOCK = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)(#[^)\s]+)?\)")

# Kinds of blocks: shown commands that run (console), shown commands that are only parsed, since they need real
# data or a network (bash), Python with its output (python), Python that needs libraries of the extra `interop` (py, run
# by tests/test_library_page.py), and text that no program reads.
_LANGUAGES = {"bash", "bibtex", "console", "json", "py", "python", "text", "toml", "yaml", ""}


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of one language."""
    return [text for kind, text in _BLOCK.findall(page.read_text(encoding="utf-8")) if kind == language]


def named(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory, phantom_release: Path, prepared: Path) -> Path:
    """A folder with `release` and `3dreasonknee`, as every page assumes it."""
    folder = tmp_path_factory.mktemp("pages")
    shutil.copytree(phantom_release, folder / "release")
    shutil.copytree(prepared, folder / "3dreasonknee")
    return folder


@pytest.mark.parametrize("page", ALL, ids=named)
def test_blocks_are_of_known_kinds(page: Path) -> None:
    kinds = {kind for kind, _ in _BLOCK.findall(page.read_text(encoding="utf-8"))}
    assert kinds <= _LANGUAGES, kinds - _LANGUAGES


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in ALL if blocks(page, "python") or blocks(page, "console")], ids=named)
def test_code_runs(page: Path, material: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("release", "3dreasonknee"):
        shutil.copytree(material / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                run_command(line[2:], tmp_path)
    shown = [block for block in blocks(page, "python") if ">>> " in block]
    plain = [block for block in blocks(page, "python") if ">>> " not in block]
    names: dict[str, object] = {"__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest("\n".join(shown), names, named(page), str(page), 0)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    result = runner.run(test, clear_globs=False)
    assert result.failed == 0, "see the captured output above"
    for block in plain:
        exec(compile(block, str(page), "exec"), test.globs)


def run_command(line: str, folder: Path) -> None:
    words = shlex.split(line)
    if words[0] == "reasonknee":
        words = [sys.executable, "-m", "reasonknee_datasets", *words[1:]]
    done = subprocess.run(words, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", [page for page in ALL if blocks(page, "bash")], ids=named)
def test_commands_are_understood(page: Path) -> None:
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["reasonknee"] and "--help" not in words:
                _parser().parse_args(words[1:])  # exits, and prints why, where the command does not know an option


@pytest.mark.parametrize("page", ALL, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(_BLOCK, "", page.read_text(encoding="utf-8"))
    for target, anchor in _LINK.findall(text):
        found = (page.parent / target).resolve()
        assert found.is_file(), target
        assert ROOT in found.parents, target
        if anchor and found.suffix == ".md":
            assert anchor[1:] in anchors(found), f"{target}{anchor}"


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as Python-Markdown makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("name", MADE)
def test_page_agrees_with_the_code(name: str) -> None:
    remedy = "python -m tests.docs.reference_pages writes the pages again"
    assert (PAGES / name).read_text(encoding="utf-8") == MADE[name](), remedy


_DOCUMENTED = sorted(
    {
        name
        for page in PAGES.glob("*.md")
        for name, options in re.findall(r"^::: (\S+)\n((?: +.*\n?)*)", page.read_text(encoding="utf-8"), re.MULTILINE)
        if "members:" not in options and (ROOT / name.replace(".", "/") / "__init__.py").is_file()
    }
)


@pytest.mark.parametrize("package", _DOCUMENTED)
def test_reference_shows_every_public_name(package: str) -> None:
    """The generator reads code without running it: names need an import in it, no submodule, and a docstring."""
    folder = ROOT / package.replace(".", "/")
    homes = {
        alias.name: node.module or package
        for node in ast.walk(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for name in import_module(package).__all__:
        assert name in homes, f"{name} is not imported"
        assert not (folder / f"{name}.py").exists(), f"{name} is a module as well"
        home = find_spec(homes[name])
        assert home is not None
        assert home.origin is not None
        assert documents(Path(home.origin), name), f"{name} has no docstring in {homes[name]}"


def documents(path: Path, name: str) -> bool:
    """Check whether a module, or one that it imports a name from, defines the name with a docstring."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name and ast.get_docstring(node):
            return True
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(each, ast.Name) and each.id == name for each in targets):
            return isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        if isinstance(node, ast.ImportFrom) and name in {alias.name for alias in node.names}:
            home = find_spec(node.module or "")
            return home is not None and home.origin is not None and documents(Path(home.origin), name)
    return False


def test_environment_page_names_every_variable() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "reasonknee_datasets").rglob("*.py"))
    used = set(re.findall(r"REASONKNEE_[A-Z_]+[A-Z]", code))
    page = set(re.findall(r"`(REASONKNEE_[A-Z_]+)`", (PAGES / "environment.md").read_text(encoding="utf-8")))
    assert used == page


def test_site_has_every_page() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {named(page) for page in ALL}
