"""The table of slow tests in conftest.py."""

from __future__ import annotations

import pytest

from tests.conftest import SLOW_PATHS, TESTS


@pytest.mark.parametrize("name", sorted(SLOW_PATHS))
def test_slow_paths_exist(name: str) -> None:
    file, _, class_name = name.partition("::")
    path = TESTS / file
    assert path.exists()
    assert not class_name or f"class {class_name}:" in path.read_text(encoding="utf-8")
