"""The metadata: one place for every bound, a reason for each, and no dependency that pulls in CUDA."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import reasonknee_datasets
from tests.helpers.paths import ROOT

_LINES = (ROOT / "setup.cfg").read_text(encoding="utf-8").splitlines()
_CONFIG = configparser.ConfigParser()
_CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")


def requirements(text: str) -> list[Requirement]:
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("%")]


def pins(path: Path) -> dict[str, Requirement]:
    return {canonicalize_name(one.name): one for one in requirements(path.read_text(encoding="utf-8"))}


def test_version_matches_package() -> None:
    assert _CONFIG["metadata"]["version"] == reasonknee_datasets.__version__


@pytest.mark.skipif((ROOT / "PKG-INFO").exists(), reason="a source distribution's setup.cfg has no comments")
def test_core_bounds_have_reasons() -> None:
    start = _LINES.index("install_requires =")
    for number, line in enumerate(_LINES[start + 1 :], start + 1):
        if not line.startswith("    "):
            break
        if not line.strip().startswith("#"):
            assert _LINES[number - 1].strip().startswith("#"), f"{line.strip()} must have its reason in the line above"


def test_min_tests_exactly_the_lowest_bounds() -> None:
    lowest = pins(ROOT / ".ci" / "lowest.txt")
    for one in requirements(_CONFIG["options"]["install_requires"]):
        (bound,) = one.specifier
        assert bound.operator == ">="
        (pin,) = lowest[canonicalize_name(one.name)].specifier
        assert pin.operator == "=="
        padded = bound.version + ".0" * (pin.version.count(".") - bound.version.count("."))
        assert pin.version == padded, f"{one.name}: setup.cfg says {bound.version}, .ci/lowest.txt {pin.version}"


@pytest.mark.parametrize("extra", ["figures", "s3", "test", "text", "torch"])
def test_constraints_name_packages_of_extras(extra: str) -> None:
    tested = pins(ROOT / "constraints.txt")
    for one in requirements(_CONFIG["options.extras_require"][extra]):
        assert canonicalize_name(one.name) in tested, f"{one.name} is missing from constraints.txt: run .ci/pin"


def test_the_tested_set_holds_no_cuda() -> None:
    tested = pins(ROOT / "constraints.txt")
    assert not [name for name in tested if re.match(r"nvidia-|triton|cuda-", name)]
    assert str(tested["torch"].specifier) == "==2.13.0"


def test_tox_environments_that_name_torch() -> None:
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    named = {section for section in tox.sections() if re.search(r"\b(torch|dev)\b", tox[section].get("extras", ""))}
    assert named <= {"testenv:py311", "testenv:docs", "testenv:types", "testenv:bench"}
    assert all(tox[section]["base_python"] == "python3.11" for section in named)
