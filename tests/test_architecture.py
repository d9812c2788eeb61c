"""Layers of modules, light imports, and plain English in docstrings, comments and messages."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import reasonknee_datasets
from reasonknee_datasets.errors import MissingExtraError

ROOT = Path(reasonknee_datasets.__file__).parent

# A module may import from its own floor and from the floors above it in this list.
FLOORS = (
    {
        "errors",
        "parallel",
        "cluster",
        "safe_paths",
        "atomic_files",
        "json_fields",
        "printable",
        "system",
        "moaks",
        "boxes",
        "orientation",
    },
    {"volumes"},
    {"schema"},
    {"manifest", "manifest_shape", "read_errors", "feature", "registration", "release", "oai"},
    {"figures", "card", "croissant", "quality", "prompts"},
    {"prepare"},
    {"phantom"},
    {"sources", "builder", "load"},
    {"check", "summary"},
    {"transforms"},
    {"collate", "loader"},
    {"bench"},
    {"publish", "browse"},
    {"cli", "demo"},
)
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}
MODULES = sorted(
    path for path in ROOT.rglob("*.py") if path.parent != ROOT or path.stem not in {"__init__", "__main__"}
)


def floor_of(path: Path) -> int:
    return FLOOR[path.relative_to(ROOT).with_suffix("").parts[0]]


def imports(source: str) -> set[str]:
    """Name every room of the package that a module imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "reasonknee_datasets" and len(parts) > 1 and parts[1] in FLOOR:
                found.add(parts[1])
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_up_the_list(path: Path) -> None:
    own = floor_of(path)
    lower = {name for name in imports(path.read_text(encoding="utf-8")) if FLOOR[name] > own}
    assert not lower, f"{path.relative_to(ROOT)} imports {sorted(lower)}, which are below it in the list"


def test_import_check_sees_function_bodies() -> None:
    source = "def f():\n    from reasonknee_datasets.cli import main\n    return main\n"
    assert imports(source) == {"cli"}


@pytest.mark.parametrize("heavy", ["torch", "datasets", "matplotlib", "transformers", "pandas", "nibabel"])
def test_importing_the_package_stays_light(heavy: str) -> None:
    code = f"import sys, reasonknee_datasets; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_only_the_command_line_prints() -> None:
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] == "cli":
            continue
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        assert not any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls), path


def test_fork_hooks_and_fcntl_in_one_module() -> None:
    direct = [path.name for path in MODULES if re.search(r"^import fcntl|os\.register_at_fork", path.read_text(), re.M)]
    assert direct == ["system.py"]


def test_no_private_collection_of_helpers() -> None:
    assert not [path for path in MODULES if path.stem in {"utils", "util", "helpers", "misc", "common"}]


@pytest.mark.slow
def test_core_imports_without_torch() -> None:
    for path in MODULES:
        if floor_of(path) >= FLOOR["transforms"]:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] == "torch" for name in names), path


@pytest.mark.parametrize("name", [name for name in reasonknee_datasets.__all__ if name != "__version__"])
def test_every_public_name_is_found_and_documented(name: str) -> None:
    try:
        value = getattr(reasonknee_datasets, name)
    except MissingExtraError as error:
        pytest.skip(str(error))
    assert value.__doc__
    assert name in dir(reasonknee_datasets)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'load_datasets'"):
        _ = reasonknee_datasets.load_datasets


def test_torch_names_name_their_extra() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import reasonknee_datasets\n"
        "try: reasonknee_datasets.make_dataloader\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert 'pip install "reasonknee_datasets[torch]"' in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("shown", ["help", "inspect.getmembers", "dir"])
def test_listing_names_without_torch(shown: str) -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import builtins, inspect, pydoc, reasonknee_datasets as package\n"
        "show = {'help': pydoc.render_doc, 'dir': dir}.get(sys.argv[1]) or eval(sys.argv[1])\n"
        "text = str(show(package))\n"
        "assert 'open_volume' in text and 'CropToBox' in text, text\n"
        "assert 'torch' not in [name for name, module in sys.modules.items() if module]"
    )
    done = subprocess.run([sys.executable, "-c", code, shown], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("absent", ["blocked", "not found"])
def test_star_import_without_torch(absent: str) -> None:
    code = (
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        "def hide(name, path=None, target=None):\n"
        "    return None if name.split('.')[0] == 'torch' else find(name, path, target)\n"
        "if sys.argv[1] == 'blocked': sys.modules['torch'] = None\n"
        "else: PathFinder.find_spec = staticmethod(hide)\n"
        "from reasonknee_datasets.boxes import *\n"
        "from reasonknee_datasets import *\n"
        "assert Box and CropToBox and open_volume and 'make_dataloader' not in globals()\n"
        "assert 'QuintupleCollator' not in dir(sys.modules['reasonknee_datasets'])"
    )
    done = subprocess.run([sys.executable, "-c", code, absent], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_star_import_with_torch() -> None:
    pytest.importorskip("torch")
    names: dict[str, object] = {}
    exec("from reasonknee_datasets import *", names)
    assert names["make_dataloader"] is reasonknee_datasets.make_dataloader


def test_a_broken_import_shows_its_cause() -> None:
    code = "import reasonknee_datasets.boxes as boxes; del boxes.Box\nfrom reasonknee_datasets import Box"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert "reasonknee_datasets.Box cannot be imported: module" in done.stderr
    assert "has no attribute 'Box'" in done.stderr


@pytest.mark.slow
def test_bench_exports_without_torch() -> None:
    code = (
        "import sys; from reasonknee_datasets import bench\n"
        "for name in bench.__all__: assert getattr(bench, name) is not None and name in dir(bench)\n"
        "sys.exit('torch' in sys.modules or 'matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Beginnings and words that STYLE bans: a summary states what happens in the imperative, or names what a thing is.
_BANNED_BEGINNINGS = ("Give", "Tell", "Let", "Say")
_BANNED_WORDS = {"nobody", "somebody", "whoever", "everybody"}


def summaries(source: str) -> Iterator[str]:
    """Iterate over the first lines of all docstrings of a module."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield (ast.get_docstring(node) or "").partition("\n")[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_summaries_are_plain(path: Path) -> None:
    lines = list(summaries(path.read_text(encoding="utf-8")))
    assert not [line for line in lines if line.split(" ")[0].rstrip(",") in _BANNED_BEGINNINGS]
    assert not [line for line in lines if _BANNED_WORDS & set(re.findall(r"\w+", line.lower()))]


def test_summaries_finds_a_banned_beginning() -> None:
    assert list(summaries('def f():\n    """Give it."""\n'))[1].startswith(_BANNED_BEGINNINGS)


# Idioms of earlier versions in comments, docstrings and messages: "is no X" for "is not an X", "beside" for "next to",
# "anew" for "again", "lies" and "stands" for "is", and summaries that begin with "What".
_IDIOMS = re.compile(
    r"(?<!there )\b(?:is|are) no (?!longer\b|more\b)|\b(?:anew|beside|lies|stands)\b"
    r"|\b(?:nobody|somebody|whoever|everybody)\b|^\W*(?-i:What)\b",
    re.IGNORECASE,
)
# Official and generated texts with hashes.
_TEXTS = {"phantom/phrases.py", "phantom/signs.py", "prompts/category_texts.py"}
_PLAIN = [path for path in MODULES if path.relative_to(ROOT).as_posix() not in _TEXTS]


def texts(source: str) -> Iterator[str]:
    """Iterate over the comments and strings of a module."""
    text = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in text:
            yield token.string


def comments(source: str) -> Iterator[str]:
    """Iterate over the comments and docstrings of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", _PLAIN, ids=lambda path: str(path.relative_to(ROOT)))
def test_texts_have_no_idioms(path: Path) -> None:
    assert not [found[0] for text in texts(path.read_text(encoding="utf-8")) if (found := _IDIOMS.search(text))]


@pytest.mark.parametrize("folder", ["tests", "examples", "tools"])
def test_comments_outside_the_package_have_no_idioms(folder: str) -> None:
    paths = set((ROOT.parent / folder).rglob("*.py")) - {Path(__file__)}
    assert paths
    found = [
        f"{path}: {match[0]}"
        for path in paths
        for text in comments(path.read_text(encoding="utf-8"))
        if (match := _IDIOMS.search(text))
    ]
    assert not found


@pytest.mark.parametrize(
    "line", ['f"{name} is no table"', '"""What it holds."""', "x = 1  # beside it", "'written anew'", '"lies in it"']
)
def test_texts_finds_an_idiom(line: str) -> None:
    assert [text for text in texts(f"{line}\n") if _IDIOMS.search(text)]
    assert [text for text in comments(f"# {line}\n") if _IDIOMS.search(text)] or line.startswith('"""')
    assert not [text for text in texts("'there is no table, and it is no longer read'\n") if _IDIOMS.search(text)]


def test_names_of_tests_are_short() -> None:
    """At most seven words: a name is found by the function under test, and is not a sentence."""
    names = [
        node.name
        for path in (ROOT.parent / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 2_000
    assert not [name for name in names if name.count("_") > 7]


def test_no_module_name_occurs_twice() -> None:
    stems = Counter(path.stem for path in ROOT.rglob("*.py"))
    assert not [stem for stem, count in stems.items() if count > 1 and stem not in {"__init__"}]


def test_files_named_in_the_architecture_page_exist() -> None:
    page = (ROOT.parent / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|txt|md|css))`", page))
    named |= {f"{name}/__init__.py" for name in re.findall(r"`(tests/[\w/]+)/`", page)}
    assert {"volumes/cache.py", "bench/metrics/grades.py", "prompts/prompt_set.py"} <= named  # where changes begin
    assert not [name for name in named if not (ROOT / name).is_file() and not (ROOT.parent / name).is_file()]


def public_names(source: str) -> set[str]:
    """Return the public classes and functions at the top of a module; the overloads of a function count once."""
    kinds = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    found = {node.name for node in ast.parse(source).body if isinstance(node, kinds)}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.slow
def test_no_public_name_occurs_twice() -> None:
    names = Counter(name for path in ROOT.rglob("*.py") for name in public_names(path.read_text(encoding="utf-8")))
    assert not [name for name, count in names.items() if count > 1]


def test_public_names_counts_overloads_once() -> None:
    source = "class Box: ...\ndef f(): ...\n@overload\ndef g(x: int): ...\ndef g(x): ...\ndef _h():\n    def i(): ...\n"
    assert public_names(source) == {"Box", "f", "g"}
