"""`Template`: prompt and expected answer of a model, as text with named fields.

====================  ================================================================================================
field                 text
====================  ================================================================================================
``question``          the diagnostic question, verbatim
``finding`` ...       ``finding``, ``subregion``, ``category``, ``side`` and ``visit``, as in their columns
``box``               six numbers in the transform's box convention, as a JSON list: by default in the frames where the
                      example has frames (first frame, row and column, then one past the last), else in the grid
``vision``            the placeholders of the pictures (`Vision`); nothing where there are none
``bos``, ``eos``      the tokenizer's own tokens
``reasoning``         the steps, with the template's separator between them
``answer``            the answer as JSON
``official_answer``   reasoning and diagnosis as the official record's ``answer`` has them, character for character
====================  ================================================================================================

The last three contain the answer, so no prompt may contain them.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from numbers import Integral
from string import Formatter
from types import MappingProxyType

from reasonknee_datasets.errors import shown
from reasonknee_datasets.transforms.base import TransformError
from reasonknee_datasets.transforms.regrid import set_numbers

TEXT_FIELDS = ("question", "finding", "subregion", "category", "side", "visit")
PROMPT_FIELDS = (*TEXT_FIELDS, "box", "vision", "bos")
ANSWER_FIELDS = ("reasoning", "answer", "official_answer")
COMPLETION_FIELDS = (*TEXT_FIELDS, "box", *ANSWER_FIELDS, "eos")

Part = tuple[str, str]  # ("text", its characters) or ("field", its name)


@dataclass(frozen=True, slots=True)
class Template:
    r"""The text of one question and its answer, with fields in braces.

    Parameters
    ----------
    prompt : str
        Prompt of the model. A literal brace is written twice.
    completion : str
        Expected answer, over which the loss is computed.
    system : str, optional
        The text before, for chat models.
    chat : bool
        Whether prompt and completion are turns in the tokenizer's chat template, which then writes what is around
        them and ends the turn.
    separator : str
        The text between reasoning steps.

    Raises
    ------
    TransformError
        If a field is unknown, or a prompt names one that contains the answer.

    Examples
    --------
    >>> Template("{question}\nThe box is {box}.\n", "{reasoning}\n{answer}{eos}").parts("completion")
    (('field', 'reasoning'), ('text', '\n'), ('field', 'answer'), ('field', 'eos'))
    >>> Template("{question} {grade}", "{answer}")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    reasonknee_datasets.transforms.base.TransformError: Unknown field {grade} in the prompt of the template....
    """

    prompt: str
    completion: str
    _: KW_ONLY
    system: str | None = None
    chat: bool = False
    separator: str = "\n"

    def __post_init__(self) -> None:
        for name in ("system", "prompt", "completion", "separator"):
            text = getattr(self, name)
            if text is None and name == "system":
                continue
            if not isinstance(text, str):
                raise TransformError(f"{name} must be a text, not {shown(text)}.")
            # Interned, so that equal templates pickle to equal bytes, and have one fingerprint.
            object.__setattr__(self, name, sys.intern(str(text)))
        for name in ("system", "prompt", "completion"):
            known = COMPLETION_FIELDS if name == "completion" else PROMPT_FIELDS
            for kind, field in self.parts(name):
                if kind == "field" and field not in known:
                    raise _refuse_field(name, field, known)
        if self.system is not None and not self.chat:
            raise TransformError(
                "A template with a system message must be a chat. Set chat=True, or write it into prompt."
            )

    def parts(self, name: str) -> tuple[Part, ...]:
        """Return the literals and fields of ``prompt``, ``completion`` or ``system`` in order."""
        return parse(name, getattr(self, name) or "")

    @property
    def fields(self) -> frozenset[str]:
        """The fields that any part names."""
        named = (part for name in ("system", "prompt", "completion") for part in self.parts(name))
        return frozenset(text for kind, text in named if kind == "field")


def parse(name: str, text: str) -> tuple[Part, ...]:
    """Split a text at its fields."""
    parts: list[Part] = []
    try:
        for literal, field, spec, conversion in Formatter().parse(text):
            if literal:
                parts.append(("text", literal))
            if field is not None:
                if spec or conversion:
                    raise ValueError(f"a format after {field!r}")
                parts.append(("field", field))
    except ValueError as error:
        raise TransformError(
            f"The {name} of the template cannot be parsed: {error}. Write fields as {{question}}, and a "
            "literal brace twice."
        ) from error
    return tuple(parts)


def _refuse_field(name: str, field: str, known: tuple[str, ...]) -> TransformError:
    if name != "completion" and field in ANSWER_FIELDS:
        return TransformError(
            f"The {name} of the template contains {{{field}}}, part of the answer. Move it to the completion, or leave "
            "it out."
        )
    return TransformError(
        f"Unknown field {{{field}}} in the {name} of the template. Available: {', '.join(known)}. Write a literal "
        "brace twice."
    )


_GROUNDED = "{reasoning}\n\nBounding box: {box}\n\nFinal diagnosis: {answer}"
_UNGROUNDED = "{reasoning}\n\nFinal diagnosis: {answer}"

TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        "chat": Template("{vision}{question}", _GROUNDED, chat=True),
        "chat_without_box": Template("{vision}{question}", _UNGROUNDED, chat=True),
        "plain": Template("{bos}{vision}{question}\n", _GROUNDED + "{eos}"),
        "plain_without_box": Template("{bos}{vision}{question}\n", _UNGROUNDED + "{eos}"),
        # The space is in the completion: tokenizers join it to the word that follows, as they did for the authors,
        # whose text is "<question>\nResponse: <answer><eos>". (They leave "Response: " out where a prompt contains
        # "instruction:"; none of the 69 does.) Their prompt names no picture, so their model saw none, their loss ran
        # over the prompt too, and at evaluation they left "Response:" out: these three are not repeated here.
        "official_sft": Template("{question}\nResponse:", " {official_answer}{eos}"),
    }
)
"""Templates by name.

``chat`` for models with a chat template and ``plain`` for others; ``chat_without_box`` and ``plain_without_box``, whose
answers hold no box; ``official_sft`` with the text of the authors' fine-tuning.
"""


def get_template(template: Template | str) -> Template:
    """Take a template by its name, or as it is."""
    if isinstance(template, Template):
        return template
    if not isinstance(template, str) or template not in TEMPLATES:
        raise TransformError(f"template must be a Template or one of {', '.join(TEMPLATES)}, not {shown(template)}.")
    return TEMPLATES[template]


@dataclass(frozen=True, slots=True)
class Vision:
    """The placeholders that a model's pictures take in the prompt.

    Parameters
    ----------
    token : str
        The placeholder, a special token of the tokenizer: ``<|video_pad|>``.
    count : int or str
        How many a prompt has; or the key of the example with the number.
    start, stop : str
        Special tokens before and after them: ``<|vision_start|>``.
    cell : three ints, optional
        Frames, rows and columns of pixels that one placeholder represents. The count then follows from the example's
        ``frames``, whose sides must be whole multiples, or a processor would resize them and count otherwise.

    Examples
    --------
    >>> Vision("<image>", 256).count_for({})
    256
    >>> import numpy as np
    >>> qwen = Vision("<|video_pad|>", start="<|vision_start|>", stop="<|vision_end|>", cell=(2, 28, 28))
    >>> qwen.count_for({"frames": np.zeros((31, 196, 224), np.uint8)})
    896
    """

    token: str
    count: int | str = 1
    _: KW_ONLY
    start: str = ""
    stop: str = ""
    cell: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.count, str):
            set_numbers(self, "count", kind=int, least=1)
        if self.cell is not None:
            object.__setattr__(self, "cell", tuple(map(int, self.cell)))

    def count_for(self, example: Mapping[str, object]) -> int:
        """Return how many placeholders an example's pictures take."""
        if self.cell is not None:
            return self._cells(example)
        if not isinstance(self.count, str):
            return self.count
        count = example.get(self.count)
        if not isinstance(count, Integral) or count < 1:
            raise TransformError(
                f"The example's {self.count} must be the number of placeholders, as the processor counts them, not "
                f"{shown(count)}. Or pass count= a number."
            )
        return int(count)

    def _cells(self, example: Mapping[str, object]) -> int:
        assert self.cell is not None
        shape: tuple[int, ...] = tuple(getattr(example.get("frames"), "shape", ()))
        if len(shape) != 3 or shape[1] % self.cell[1] or shape[2] % self.cell[2]:
            rows, columns = self.cell[1:]
            got = f"have the shape {shape}" if shape else "are missing"
            raise TransformError(
                f"The frames {got}, but must have a multiple of {rows} rows and of {columns} columns. Put "
                f"ToFrames(..., size=({8 * rows}, {8 * columns})) before it, or another such size."
            )
        counts = [-(-int(size) // step) for size, step in zip(shape, self.cell, strict=True)]
        return counts[0] * counts[1] * counts[2]
