"""A registered inspect_ai provider that answers by a Python function, and runs of the task with it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("inspect_ai", minversion="0.3.285", reason="the task needs it, and it needs Python 3.11")

from inspect_ai import eval as inspect_eval
from inspect_ai.log import EvalLog
from inspect_ai.log._samples import sample_active
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelAPI, ModelOutput, ModelUsage, get_model, modelapi
from inspect_ai.tool import ToolChoice, ToolInfo
from PIL import Image

from reasonknee_datasets.bench.run_spec import RunSpec
from reasonknee_datasets.bench.tasks import make_task


@dataclass(frozen=True)
class Asked:
    """One request as a provider gets it."""

    id: str
    messages: tuple[ChatMessage, ...]
    config: GenerateConfig

    @property
    def text(self) -> str:
        """All text, message by message."""
        return "\n".join(message.text for message in self.messages)

    @property
    def urls(self) -> list[str]:
        """The data URL of every image, in order."""
        blocks = [block for message in self.messages if isinstance(message.content, list) for block in message.content]
        return [block.image for block in blocks if block.type == "image"]

    @property
    def pixels(self) -> list[NDArray[np.uint8]]:
        """Every image, decoded."""
        files = [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in self.urls]
        return [np.asarray(Image.open(io.BytesIO(file))) for file in files]

    @property
    def step(self) -> str:
        """Whether it asks for a box, or for an answer."""
        return "box" if "Where in these frames" in self.messages[-1].text else "answer"


Answer = Callable[[Asked], "str | ModelOutput"]


class Scripted(ModelAPI):
    """A model without a network: `answer` is set on it after it is made."""

    answer: Answer

    async def generate(
        self, input: list[ChatMessage], tools: list[ToolInfo], tool_choice: ToolChoice, config: GenerateConfig
    ) -> ModelOutput:
        active = sample_active()
        assert active is not None
        said = self.answer(Asked(str(active.sample.id), tuple(input), config))
        if isinstance(said, ModelOutput):
            return said
        output = ModelOutput.from_content(self.model_name, said)
        output.usage = ModelUsage(input_tokens=10, output_tokens=2, total_tokens=12)
        return output


@modelapi(name="scripted")
def _scripted() -> type[ModelAPI]:
    return Scripted


def scripted(answer: Answer, name: str = "m") -> Model:
    """Return a model that answers by a function."""
    model = get_model(f"scripted/{name}", memoize=False)
    assert isinstance(model.api, Scripted)
    model.api.answer = answer
    return model


def run_study(study: RunSpec, answer: Answer, folder: Path, *, name: str = "m", **options: Any) -> EvalLog:
    """Evaluate a study with a function; return the log, whose file is in the folder."""
    options = {"display": "none", "log_format": "eval", "max_samples": 8} | options
    (log,) = inspect_eval(make_task(study), model=scripted(answer, name), log_dir=str(folder), **options)
    return log
