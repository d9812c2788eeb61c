"""What the authors' scripts do, as far as they are published, and what of it is not known.

Read in github.com/rajpurkarlab/3DReasonKnee at commit bcc32ba9a6ddfc580a3dd008a33409e2dc6df592:
``code/zero_shot/qwen2vl.py`` (7B) and ``qwen2vl-3b.py``, which differ in the model alone, and ``code/zero_shot/o1.py``.
The conditions ``official`` and ``official_o1`` reproduce them: the system prompts verbatim, the *guided* prompts as
published (58 and 59 damaged) although the files are called zero-shot, the frames of the recipes ``official_qwen`` and
``official_o1``, their order (Qwen: video, then question; o1: question, then 32 images), and the generation settings
that they set and no others.

Not reproduced: where ``o1.py`` cannot read an answer, it stores the previous question's with its token counts; it
labels its PNG images as JPEG. The video of ``qwen2vl.py`` is sent as its frames, one image each: inspect_ai sends a
video to Google's models only, and none to OpenAI-compatible servers. For ``o1`` with OpenAI's own endpoint, give
inspect_ai ``-M responses_api=false``, since the script's ``response_format`` belongs to chat completions.

`UNKNOWN` lists what the scripts leave open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

SOURCE = "github.com/rajpurkarlab/3DReasonKnee@bcc32ba9a6ddfc580a3dd008a33409e2dc6df592, code/zero_shot"


@dataclass(frozen=True, slots=True)
class OfficialScript:
    """What one of the authors' scripts sends.

    Attributes
    ----------
    files : tuple of str
        Where it is, below `SOURCE`.
    models : tuple of str
        What it asks.
    system : str
        Its system prompt.
    media : {"video", "images"}
        How frames are given.
    text_first : bool
        Whether the question precedes the frames.
    max_tokens : int or None
        Tokens of an answer; None where it sets none.
    response_format : {"json_object"} or None
    fences : bool
        Whether code fences are removed before ``json.loads``.
    """

    files: tuple[str, ...]
    models: tuple[str, ...]
    system: str
    media: Literal["video", "images"]
    text_first: bool
    max_tokens: int | None
    response_format: Literal["json_object"] | None
    fences: bool


SCRIPTS: Mapping[str, OfficialScript] = MappingProxyType(
    {
        "qwen": OfficialScript(
            files=("qwen2vl.py", "qwen2vl-3b.py"),
            models=("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen2.5-VL-3B-Instruct"),
            system=(
                "You are a radiologist. You are given a question and a series of knee MRI images presented as a video. "
                "Please provide your answer in JSON format."
            ),
            media="video",
            text_first=False,
            max_tokens=1024,
            response_format=None,
            fences=True,
        ),
        "o1": OfficialScript(
            files=("o1.py",),
            models=("o1",),
            system="You are a radiologist. You are given a question and a set of knee MRI images.",
            media="images",
            text_first=True,
            max_tokens=None,
            response_format="json_object",
            fences=False,
        ),
    }
)
"""The scripts by the name that `Condition.script` gives them."""

UNKNOWN: tuple[str, ...] = (
    "the revision of the models' weights, and so the sampling settings of their own generation_config, which the "
    "scripts leave as they are",
    "the version of qwen_vl_utils, which decides how the frames are resized, and whether fps=4.0 reaches the model",
    "which of the two wordings the paper's zero-shot and structured-instruction rows used: all scripts read the guided "
    "file and write to results_*_zeroshot.json",
    "which snapshot of o1 answered, and with what reasoning effort: the request names neither",
    "how the answers were scored: no scorer was published",
    "the scripts of the paper's other models, and of its condition with the region given",
)
"""What the published scripts do not tell; a report on ``official`` should say so."""
