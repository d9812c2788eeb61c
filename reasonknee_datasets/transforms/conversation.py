"""`ToConversation`: an example, or several questions of one volume, as a row that training frameworks read."""

from __future__ import annotations

import os
from collections import ChainMap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reasonknee_datasets.errors import ReasonKneeError, add_note, check_type
from reasonknee_datasets.transforms.base import (
    BatchRow,
    Example,
    Transform,
    TransformError,
    check_choice,
    is_column,
    require,
)
from reasonknee_datasets.transforms.fields import (
    as_convention,
    box_numbers,
    check_box_key,
    official_numbers,
    read_field,
    write_field,
)
from reasonknee_datasets.transforms.frames import ToFrames, as_frames
from reasonknee_datasets.transforms.pictures import describe_video, read_frames, save_images, settings, to_images
from reasonknee_datasets.transforms.regrid import set_numbers
from reasonknee_datasets.transforms.templates import Template, get_template

STYLES = ("trl", "trl_messages", "llama_factory", "ms_swift")
MEDIA = ("video", "images", "none")

# Tags that these two frameworks replace inside texts.
_TAGS = ("<image>", "<video>", "<audio>", "<bbox>", "<ref-object>", "<cot-process>", "<start-image>")
_ROLES = {"system": "system", "prompt": "user", "completion": "assistant"}

Turns = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ToConversation(Transform):
    """Convert an example to a row of chat messages and pictures for a training framework.

    The row has only these columns: ``ids`` (of the questions), the messages, ``images`` or ``videos``, and
    ``video_metadata``. Under ``Dataset.map`` pass ``remove_columns=data.column_names`` with it.

    ``trl``
        ``prompt`` and ``completion``: messages whose contents are lists of blocks, with a block for every picture
        before the question. TRL takes the loss over the completion alone.
    ``trl_messages``
        The same in one column ``messages``, which may hold several turns. TRL takes the loss over the questions too,
        unless it runs with ``assistant_only_loss=True`` (see `settings`) or a collator of your own masks them.
    ``llama_factory``, ``ms_swift``
        ``messages`` whose contents are texts, with ``<image>`` or ``<video>`` for every picture.

    Pictures are PIL images, a video is a list of them. With ``turns``, consecutive questions of one volume share a
    conversation, and its pictures occur once, before the first: give it batches (``with_transform``, or
    ``map(batched=True)`` with a batch size that ``turns`` divides).

    **No frame is dropped or doubled.** A processor that samples frames needs to know that these are the sampled ones:
    `processor_kwargs` gives what it must be called with, and `settings` what a framework must be run with.

    Parameters
    ----------
    style : {"trl", "trl_messages", "llama_factory", "ms_swift"}
        Framework whose format the row has.
    turns : int
        Largest number of questions in one conversation.
    media : {"video", "images", "none"}
        Whether the frames are one video, separate images, or left out.
    template : Template or str
        The text of each question and answer; ``"chat_without_box"`` for answers without a box. What its ``{vision}``,
        ``{bos}`` and ``{eos}`` are replaced with is written by the framework's own chat template.
    frames : ToFrames or int, optional
        Makes the frames of a conversation, once; a number makes that many sagittal ones. Without it the example must
        have some.
    box : {"box", "box_volume", "frame_box"}, optional
        Which box the answer writes. By default the one in the model's input: in the frames (frame, row, column), or
        in the current grid with ``media="none"``.
    box_convention : BoxConvention or str
        As in `TokenizeReasoning`.
    for_generation : bool
        Whether to leave the answer out.
    folder : str, optional
        Folder in which frames are written as PNG files, each once; the row then has their absolute paths.
        LLaMA-Factory reads videos of data files in no other way, and a JSON file can contain nothing else.

    Raises
    ------
    TransformError
        If a parameter is unknown, if ``turns`` is above 1 where only one question fits, or, for an example, if it has
        no frames where ``media`` needs them, if questions of one conversation have different crops, or if a text
        contains a tag that the framework would replace.

    Examples
    --------
    >>> example = {
    ...     "id": "9016403/00M/right/q63", "question_id": 63, "question": "Any tear?",
    ...     "reasoning": ["Look.", "No tear."], "answer": '{"presence": 0}',
    ...     "frames": np.zeros((4, 28, 28), np.uint8), "frame_fps": 2.0,
    ... }
    >>> row = ToConversation("ms_swift", template=Template("{question}", "{reasoning} {answer}"))(example)
    >>> row["messages"][0]
    {'role': 'user', 'content': '<video>Any tear?'}
    >>> row["video_metadata"]
    [{'total_num_frames': 4, 'fps': 2.0, 'width': 28, 'height': 28, 'duration': 2.0, 'frames_indices': [0, 1, 2, 3]}]
    """

    style: str = "trl"
    _: KW_ONLY
    turns: int = 1
    media: str = "video"
    template: Template | str = "chat"
    frames: ToFrames | int | None = None
    box: str | None = None
    box_convention: str = "slice0-x1-y2-corners-exclusive-voxel"
    for_generation: bool = False
    folder: str | None = None

    def __post_init__(self) -> None:
        check_choice("style", self.style, STYLES)
        check_choice("media", self.media, MEDIA)
        check_box_key(self.box)
        check_type("for_generation", self.for_generation, bool, "True or False")
        object.__setattr__(self, "box_convention", str(as_convention(self.box_convention)))
        get_template(self.template)
        object.__setattr__(self, "frames", as_frames(self.frames))
        set_numbers(self, "turns", kind=int, least=1)
        if self.folder is not None:
            check_type("folder", self.folder, str | os.PathLike, "the path of a folder for the pictures, or None")
            object.__setattr__(self, "folder", str(self.folder))
        if self.turns > 1 and (self.for_generation or self.style == "trl"):
            what = "for_generation=True" if self.for_generation else "style='trl'"
            raise TransformError(
                f"{what} takes one question a row, not turns={self.turns}: earlier answers would be in the prompt, "
                "which the loss leaves out. Choose turns=1, or style='trl_messages' with the answers."
            )

    def __call__(self, example: Any) -> Any:
        """Return the row of an example, or the rows of a batch; a batch may have fewer rows than questions."""
        scratch = example if isinstance(example, dict) else example.copy()
        if not is_column(scratch.get("id")):
            return self._noted([scratch])
        batch = [BatchRow(scratch, index) for index in range(len(scratch["id"]))]
        rows = [self._noted(group) for group in self._groups(batch)]
        return {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}

    def apply(self, example: Example, params: None = None) -> dict[str, Any]:
        """Return the row of one example."""
        return self._noted([example])

    def output_features(self, features: Any) -> Any:
        """Return the features of the rows."""
        from datasets import Image, List, Value  # at use: importing datasets takes a second

        text = Value("string")
        picture = Image() if self.folder is None else text
        blocks = List({"type": text, "text": text}) if self.style.startswith("trl") else text
        messages = List({"role": text, "content": blocks})
        known: dict[str, Any] = {"ids": List(text)}
        if self.style == "trl":
            known |= {"prompt": messages} | ({} if self.for_generation else {"completion": messages})
        else:
            known["messages"] = messages
        if self.media == "images":
            known["images"] = List(picture)
        elif self.media == "video":
            whole, share = Value("int32"), Value("float64")
            metadata = dict.fromkeys(("total_num_frames", "width", "height"), whole)
            metadata |= dict.fromkeys(("fps", "duration"), share) | {"frames_indices": List(whole)}
            known |= {"videos": List(List(picture)), "video_metadata": List(metadata)}
        return type(features)(known)

    @staticmethod
    def processor_kwargs(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return the arguments of a processor of transformers, besides the text, for a batch of rows.

        ``do_sample_frames=False`` turns its sampling off; the metadata has the time of each frame, which Qwen2.5-VL's
        positions depend on: without it the processor assumes 24 frames per second.

        Parameters
        ----------
        rows : sequence of mappings
            Rows of this transform.

        Returns
        -------
        dict
            ``images``, or ``videos`` with ``video_metadata`` and ``do_sample_frames``; empty without pictures.
        """
        images = [row["images"] for row in rows if row.get("images")]
        videos = [video for row in rows for video in row.get("videos") or ()]
        kwargs: dict[str, Any] = {"images": images} if images else {}
        if videos:
            metadata = [known for row in rows for known in row["video_metadata"]]
            kwargs |= {"videos": videos, "video_metadata": metadata, "do_sample_frames": False}
        return kwargs

    def settings(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the framework settings with which every frame is used once and at its full size.

        Arguments of ``SFTConfig`` for TRL (whose own collator knows images only: collate videos with
        `processor_kwargs`), of the run and of ``dataset_info.json`` for LLaMA-Factory, environment variables for
        ms-swift. A model's processor may still round sides: to multiples of 28 for Qwen2.5-VL, and of 56 where
        qwen_vl_utils 0.0.14 reads the frames of a video for ms-swift.

        Parameters
        ----------
        row : mapping
            Any row; its frames are as many and as large as those of the others.

        Returns
        -------
        dict
            Settings by name.
        """
        return settings(self.style, row)

    def _groups(self, batch: Sequence[Example]) -> Iterator[list[Example]]:
        for _, group in groupby(batch, key=_volume_id):
            rows = list(group)
            yield from (rows[place : place + self.turns] for place in range(0, len(rows), self.turns))

    def _noted(self, examples: Sequence[Example]) -> dict[str, Any]:  # type: ignore[override]
        try:
            return self._converse(examples)
        except ReasonKneeError as error:
            add_note(error, f"while ToConversation transformed {examples[0].get('id', 'an example without an id')}")
            raise

    def _converse(self, examples: Sequence[Example]) -> dict[str, Any]:
        regions = {tuple(example["region"]) for example in examples if "region" in example}
        if len(regions) > 1:
            raise TransformError(
                f"The questions of one conversation are about different regions, {sorted(regions)}, but share its "
                "pictures. Leave CropToBox out, or set turns=1."
            )
        shown = self._frames(examples[0])
        turns = [
            turn for place, example in enumerate(examples) for turn in self._turns(example, shown, first=not place)
        ]
        pictures = [] if shown is None else self._pictures(shown[0], examples[0])
        media = [pictures] if self.media == "video" else pictures
        messages = self._messages(turns, len(media))
        row: dict[str, Any] = {"ids": [str(example["id"]) for example in examples]}
        if self.style == "trl":
            answers = 0 if self.for_generation else 1
            row |= {"prompt": messages[: len(messages) - answers]} | ({"completion": messages[-1:]} if answers else {})
        else:
            row["messages"] = messages
        if shown is not None:
            row["videos" if self.media == "video" else "images"] = media
        if shown is not None and self.media == "video":
            row["video_metadata"] = [describe_video(*shown)]
        return row

    def _frames(self, example: Example) -> tuple[NDArray[np.uint8], float] | None:
        """Return a conversation's frames, and how many there are in a second."""
        if self.media == "none":
            return None
        return read_frames(example if self._recipe is None else self._recipe.apply(example), self.media)

    @property
    def _recipe(self) -> ToFrames | None:
        assert not isinstance(self.frames, int)  # __post_init__ has made a recipe of it
        return self.frames

    def _pictures(self, frames: NDArray[np.uint8], example: Example) -> list[Any]:
        """Return the frames as pictures, or as the files that they were written to."""
        if self.folder is None:
            return to_images(frames)
        return save_images(frames, Path(self.folder) / _volume_id(example))

    def _turns(self, example: Example, shown: tuple[NDArray[np.uint8], float] | None, *, first: bool) -> Turns:
        template = get_template(self.template)
        if self._recipe is not None and shown is not None and "box" in template.fields:
            made = {"frames": shown[0], "frame_box": self._recipe.box(example).to_row()}
            example = ChainMap(made, example)  # type: ignore[arg-type]  # which only reads it
        names = ["system"] if first and template.system is not None else []
        names += ["prompt"] if self.for_generation else ["prompt", "completion"]
        return [(_ROLES[name], self._text(template, name, example)) for name in names]

    def _text(self, template: Template, name: str, example: Example) -> str:
        convention, text = as_convention(self.box_convention), ""
        box = "box" if self.box is None and self.media == "none" else self.box
        for kind, part in template.parts(name):
            if kind == "text":
                text += part
            elif part == "box":
                text += f"[{''.join(box_numbers(box, convention)(example))}]"
            elif part == "official_answer":
                value = read_field(part, example)
                head, tail = (write_field(half, value, "")[0] for half in ("official_head", "official_tail"))
                text += head + "".join(official_numbers(example, convention)) + tail
            elif part not in ("vision", "bos", "eos"):
                text += write_field(part, read_field(part, example), template.separator)[0]
        return text

    def _messages(self, turns: Turns, pictures: int) -> list[dict[str, Any]]:
        """Put a block or a tag for each picture before the first question."""
        kind = "video" if self.media == "video" else "image"
        messages: list[dict[str, Any]] = []
        for role, text in turns:
            number, pictures = (pictures, 0) if role == "user" else (0, pictures)
            if self.style.startswith("trl"):
                # No block has a key `image` or `video`: Arrow would give it to text blocks too, and templates and TRL
                # take a block that has one for a picture.
                blocks = [{"type": kind} for _ in range(number)]
                messages.append({"role": role, "content": [*blocks, {"type": "text", "text": text}]})
            else:
                messages.append({"role": role, "content": f"<{kind}>" * number + _without_tags(text, self.style)})
        return messages


def _volume_id(example: Example) -> str:
    return str(require(example, "id", "its place in a conversation")).rsplit("/q", 1)[0]


def _without_tags(text: str, style: str) -> str:
    """Refuse a text that the framework would put pictures into."""
    found = [tag for tag in _TAGS if tag in text]
    if found:
        raise TransformError(
            f"A text of the example contains {found[0]}, which {style} would replace by a picture. Leave the row out, "
            "or choose style='trl'."
        )
    return text
