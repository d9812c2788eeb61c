"""The mark `slow`: what must carry it, and what must not be left to slow tests alone."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import TESTS, is_slow_file
from tests.helpers.paths import ROOT

PACKAGE = ROOT / "reasonknee_datasets"
# Modules whose tests are all slow, because the library that they are written for takes seconds to import.
NEED_A_HEAVY_LIBRARY = {"bench/tasks"}
# Subpackages whose tests are in the folder of the one that uses them.
TESTED_IN = {"quality": "check"}
# A test with one of these marks starts a browser or several processes.
COSTLY = ("browser", "cluster")


def marked(node: ast.FunctionDef | ast.ClassDef, name: str) -> bool:
    """Return whether a decorator of a test or of a class is the mark `name`."""
    marks = [each.func if isinstance(each, ast.Call) else each for each in node.decorator_list]
    return any(isinstance(mark, ast.Attribute) and mark.attr == name for mark in marks)


@cache
def find_tests(path: Path) -> dict[str, list[ast.FunctionDef | ast.ClassDef]]:
    """Find the tests of a file by name, each with the definitions whose marks it carries."""
    found: dict[str, list[ast.FunctionDef | ast.ClassDef]] = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            found[node.name] = [node]
        elif isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            for method in node.body:
                if isinstance(method, ast.FunctionDef) and method.name.startswith("test_"):
                    found[f"{node.name}::{method.name}"] = [node, method]
    return found


def quick_tests(path: Path) -> list[str]:
    if is_slow_file(path):
        return []
    found = find_tests(path).items()
    return [name for name, nodes in found if not any(marked(node, "slow") for node in nodes)]


FILES = sorted(TESTS.rglob("test_*.py"))
MODULES = [path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py")) if path.stem != "__init__"]
TESTED = [path for path in MODULES if (TESTS / path.parent / f"test_{path.name}").is_file()]


@pytest.mark.parametrize("path", TESTED, ids=lambda path: path.with_suffix("").as_posix())
def test_module_has_a_quick_test(path: Path) -> None:
    found = quick_tests(TESTS / path.parent / f"test_{path.name}")
    assert bool(found) != (path.with_suffix("").as_posix() in NEED_A_HEAVY_LIBRARY)


@pytest.mark.parametrize("folder", sorted({path.parts[0] for path in MODULES if len(path.parts) > 1}))
def test_subpackage_has_quick_tests(folder: str) -> None:
    assert any(map(quick_tests, (TESTS / TESTED_IN.get(folder, folder)).glob("test_*.py")))


def test_costly_kinds_of_test_are_slow() -> None:
    quick = [
        f"{path.relative_to(TESTS)}::{name}"
        for path in FILES
        if not is_slow_file(path)
        for name, nodes in find_tests(path).items()
        if any(marked(node, mark) for node in nodes for mark in COSTLY)
        and not any(marked(node, "slow") for node in nodes)
    ]
    assert not quick


@pytest.mark.parametrize("mark", COSTLY)
def test_files_of_costly_tests_are_slow(mark: str) -> None:
    start = "pytestmark = "
    for path in FILES:
        _, _, marks = path.read_text(encoding="utf-8").partition(f"\n{start}")
        assert f"pytest.mark.{mark}" not in marks.partition("\n\n")[0] or is_slow_file(path), path


@pytest.mark.parametrize(
    ("source", "quick"),
    [
        ("pytestmark = pytest.mark.slow\ndef test_a(): ...\n", []),
        ("pytestmark = [pytest.mark.slow, pytest.mark.timeout(5)]\ndef test_a(): ...\n", []),
        ("pytestmark = [\n    pytest.mark.slow,\n    pytest.mark.browser,\n]\ndef test_a(): ...\n", []),
        ("pytestmark = pytest.mark.timeout(5)\n@pytest.mark.slow\ndef test_a(): ...\ndef test_b(): ...\n", ["test_b"]),
        ("@pytest.mark.slow\nclass TestA:\n    def test_a(self): ...\n", []),
        (
            "class TestA:\n    @pytest.mark.slow\n    def test_a(self): ...\n    def test_b(self): ...",
            ["TestA::test_b"],
        ),
    ],
)
def test_quick_tests(source: str, quick: list[str], tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(source, encoding="utf-8")
    assert quick_tests(tmp_path / "test_it.py") == quick
