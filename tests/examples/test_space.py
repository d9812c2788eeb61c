"""The files of a Hugging Face Space: what the Dockerfile says is performed."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import SpaceCard

from tests.helpers.space_run import DOCKERFILE, check, instructions

for _module in ("starlette", "uvicorn", "jinja2", "ipyniivue"):
    pytest.importorskip(_module, reason="the Space needs the extra `app`")


@pytest.mark.slow  # draws the phantom in an empty home
def test_space_command_serves_phantom_in_hub_frame(tmp_path: Path) -> None:
    check(tmp_path)


def test_dockerfile_extra_and_user() -> None:
    said = instructions()
    assert [word for word, _ in said] == ["FROM", "RUN", "RUN", "USER", "WORKDIR", "CMD", "EXPOSE"]
    assert said[1][1] == 'pip install --no-cache-dir "reasonknee_datasets[app]"'
    assert said[2][1] == "useradd --create-home --uid 1000 user"
    assert (said[3][1], said[4][1]) == ("user", "/home/user")
    assert SpaceCard.load(DOCKERFILE.parent / "README.md").data.app_port == int(said[-1][1]) == 7860
