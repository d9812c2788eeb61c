"""`TransformersModel`: a vision-language model of ``transformers`` in this process."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

from reasonknee_datasets.bench.runner.replies import AskError, Generation, Reply
from reasonknee_datasets.bench.runner.requests import Frames, Request
from reasonknee_datasets.errors import explain, missing_extra


class TransformersModel:
    """A local model, asked one question at a time.

    Frames reach its processor as they are: pictures as PIL images, a video with the statement that no frame is to be
    sampled. What the processor then does to them (most resize) is the model's own.

    Parameters
    ----------
    model : str
        A folder, or a name on the Hub.
    revision : str, optional
        Of the Hub. The commit that was loaded is part of the result's identity, where it is known.
    device : str
        ``cpu``, ``cuda``, or ``auto``, which spreads a model over what there is (needs ``accelerate``).
    dtype : str
        As the weights are stored, by default.
    loaded : (model, processor), optional
        Instead of loading: a model and its processor.

    Raises
    ------
    MissingExtraError
        Where ``transformers`` or ``torch`` is not installed.
    """

    media = frozenset({"images", "video"})
    concurrency: int | None = 1

    def __init__(
        self,
        model: str,
        revision: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        loaded: tuple[Any, Any] | None = None,
    ) -> None:
        self.name = model
        self._lock = threading.Lock()
        self._model, self._processor = loaded if loaded is not None else _load(model, revision, device, dtype)
        self._model.eval()
        self.revision = revision or getattr(self._model.config, "_commit_hash", None)

    def redact(self, text: str) -> str:
        """Give the text as it is: nothing secret is used."""
        return text

    def ask(self, request: Request, generation: Generation) -> Reply:
        """Generate an answer."""
        torch: Any = import_module("torch")
        if generation.response_format is not None or generation.reasoning_effort is not None:
            remedy = "Leave response_format and reasoning_effort to endpoints"
            raise AskError(explain("a local model", "be asked for text", repr(generation), remedy), "fatal")
        with self._lock, torch.inference_mode():
            inputs = self._inputs(request).to(self._model.device)
            if generation.seed is not None:
                torch.manual_seed(generation.seed)
            written = self._model.generate(**inputs, **_settings(generation))
        prompt = inputs["input_ids"].shape[1]
        tokens = written[0, prompt:]
        text = self._processor.batch_decode([tokens], skip_special_tokens=True, clean_up_tokenization_spaces=False)[0]
        cut = generation.max_tokens is not None and len(tokens) >= generation.max_tokens
        ended = len(tokens) > 0 and int(tokens[-1]) in self._ends()
        usage = {"prompt_tokens": prompt, "completion_tokens": len(tokens)}
        return Reply(text, "length" if cut and not ended else "stop", usage)

    def _inputs(self, request: Request) -> Any:
        chat: list[dict[str, Any]] = []
        for message in request.messages:
            blocks: list[dict[str, str]] = []
            for part in message.parts:
                if not isinstance(part, Frames):
                    blocks.append({"type": "text", "text": part})
                elif part.media == "video":
                    blocks.append({"type": "video"})
                else:
                    blocks += [{"type": "image"}] * len(part)
            chat.append({"role": message.role, "content": blocks})
        text = self._processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        return self._processor(text=[text], return_tensors="pt", **picture_arguments(request))

    def _ends(self) -> set[int]:
        ends = self._model.generation_config.eos_token_id
        return set(ends) if isinstance(ends, list | tuple) else {ends}


def picture_arguments(request: Request) -> dict[str, Any]:
    """Give what a processor is called with, beside the text: every frame once, as large as it is.

    ``do_sample_frames=False`` keeps it from sampling a video, and the metadata tells it when each frame was: without
    that, a processor takes 24 frames for a second.
    """
    images = [image for frames in request.frames if frames.media == "images" for image in frames.images()]
    videos = [frames for frames in request.frames if frames.media == "video"]
    # One list for the one text: some processors take a flat list for one picture a text.
    arguments: dict[str, Any] = {"images": [images]} if images else {}
    if videos:
        arguments["videos"] = [frames.images() for frames in videos]
        arguments["video_metadata"] = [frames.metadata() for frames in videos]
        arguments["do_sample_frames"] = False
    return arguments


def _settings(generation: Generation) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    if generation.max_tokens is not None:
        settings["max_new_tokens"] = generation.max_tokens
    if generation.temperature == 0:
        # What a model's own generation_config says of sampling would only be warned about.
        settings |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    elif generation.temperature is not None:
        settings |= {"do_sample": True, "temperature": generation.temperature}
    return settings


def _load(model: str, revision: str | None, device: str, dtype: str) -> tuple[Any, Any]:
    try:
        import_module("torch")  # transformers imports without it, and then has no models
        transformers: Any = import_module("transformers")
    except ImportError as error:
        raise missing_extra("transformers and torch", "bench", "TransformersModel") from error
    kind = transformers.AutoModelForImageTextToText
    loaded = kind.from_pretrained(model, revision=revision, dtype=dtype, device_map=device)
    return loaded, transformers.AutoProcessor.from_pretrained(model, revision=revision)
