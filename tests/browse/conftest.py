"""The repository and the server that the browser's tests share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

for _module in ("starlette", "uvicorn", "jinja2", "ipyniivue"):
    pytest.importorskip(_module, reason="the browser needs the extra `app`")

from tests.helpers.browser_process import browsing  # noqa: E402
from tests.helpers.marked_repository import write_marked_repository  # noqa: E402


@pytest.fixture(scope="session")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of bright boxes; read it, never write into it."""
    return write_marked_repository(tmp_path_factory.mktemp("marked") / "3dreasonknee")


@pytest.fixture(scope="session")
def address(marked: Path) -> Iterator[str]:
    """The address of a running ``reasonknee browse``."""
    with browsing(marked) as found:
        yield found


@pytest.fixture(scope="session")
def answered(marked: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Predictions of the train split: one right, one wrong with a box, one text that says nothing."""
    path = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    lines = [
        {"id": "0000001/00M/left/q40", "slots": {"grade": 1}, "box": [8, 12, 15, 20, 20, 40]},
        {"id": "0000001/00M/left/q01", "slots": {"size": 3, "number": 2, "percent": 3}, "box": [8, 12, 15, 14, 20, 40]},
        {"id": "0000001/12M/left/q16", "text": "<b>no idea</b>"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path
