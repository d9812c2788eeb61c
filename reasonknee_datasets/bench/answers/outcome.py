"""Outcome of an answer, slot by slot, and the writer of the canonical answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from reasonknee_datasets.boxes import Box, BoxConvention
from reasonknee_datasets.errors import BenchError
from reasonknee_datasets.moaks import Question, Slot, write_answer

CODEC_VERSION = 6
"""Raised whenever any text could be read differently than before: results of two versions do not compare."""

RULES: Mapping[str, str] = MappingProxyType(
    {
        "strict": "json.loads of the whole text gives the value under exactly the keys that the prompt asks for.",
        # Place of the answer in the text.
        "fenced": "The answer is between code fences, which are removed.",
        "in_text": "The answer is within other text or among other objects; JSON outranks the prose around it.",
        "invisible": "Byte-order marks, characters without width, and blanks that JSON does not know are skipped.",
        "special_tokens": "Tokens of a chat template, such as <|im_end|>, are removed.",
        "final_channel": "Where the text has a channel named final, only that channel is read.",
        "thought_removed": "Text in think tags, or before a closing think tag, is a draft and is not read.",
        "answer_tag": "Where the text has answer tags, only their content is read.",
        "final_part": "After a heading such as 'Final answer:' only what follows is read, if it holds an answer.",
        "example_left_out": "A JSON object introduced as an example, as wrong or as another's is not an answer.",
        "echo_left_out": "A placeholder of the prompt's schema, such as (grade from 0-3), is not an answer.",
        "scale_left_out": "Two or more grades in a row, each with its meaning, are the scale and not an answer.",
        # How the JSON is written.
        "comments": "Comments after // or #, between /* and */, or in parentheses after a value are skipped.",
        "extra_comma": "Commas before a closing bracket, doubled or leading ones, and an ellipsis are skipped.",
        "missing_comma": "A new key after a value begins a new member though the comma is missing.",
        "single_quotes": "Strings may stand in single quotes, as Python writes them.",
        "curly_quotes": "Strings may stand in typographic quotes.",
        "wide_punctuation": "Colons and commas of East Asian typesetting count as the ASCII ones.",
        "escaped_json": "JSON whose own quotes are escaped is unescaped once.",
        "empty_value": "A key with nothing behind its colon has no value.",
        "bad_escape": "A backslash before a character that JSON does not escape is dropped.",
        "raw_newline": "Control characters may stand in strings unescaped.",
        "inner_quotes": "A quote inside a string that no comma, colon or bracket follows is a part of the string.",
        "unquoted": "Keys and values may stand without quotes.",
        "python_literal": "True, False, None and NaN are read as Python writes them.",
        "equals": "An equals sign or an arrow may stand for the colon, and a semicolon for the comma.",
        "doubled_braces": "Braces around braces, as templates escape them, hold what they enclose.",
        "json_in_string": "A string that is itself a JSON object is read as one.",
        "unclosed": "Brackets that are not closed are closed behind the last complete value.",
        # Under which keys.
        "wrapper": "The wrapper key is absent, another one, nested, or given more than once.",
        "spelling": "A key is another official spelling, or has the same words in another order or inflection.",
        "subregion_only": "The subject is named by its subregion alone; the question says which finding was asked for.",
        "finding_only": "The subject is named by its finding alone; the question says which place was asked for.",
        "question_number": "The subject is named by the question's number.",
        "no_subject": "The subject key is left out.",
        "bare_value": "The value has no attribute's key, where the question has one slot.",
        "keyed_value": "The value has a key where the prompt asks for it without one.",
        "generic_key": "The value's key is a general word such as score, where the question has one slot.",
        "value_object": "The value is an object in which one key such as grade or value holds the grade.",
        "list": "The answer is in a list.",
        "among_others": "Answers to other questions are in the same text, and are skipped.",
        "repeated": "The same value is given more than once.",
        # Form of the value.
        "digits_in_string": "A whole number in quotes is that number.",
        "whole_float": "A number such as 2.0, not in quotes, is the whole number.",
        "boolean": "In a yes-or-no slot true is 1 and false is 0.",
        "number_word": "zero to eight in words are these numbers.",
        "labelled": "A number with the word grade or score before it, or its description behind it, is that number.",
        "meaning": "A word that the slot's scale, or a yes-or-no slot, uses for exactly one grade is that grade.",
        # Where there is no JSON that answers.
        "bare": "The whole answer is one value, where the question has one slot.",
        "boxed": "The value is in \\boxed{}, where the question has one slot.",
        "table": "The value is in a table, in the row or column with the slot's name.",
        "key_value": "The value follows the slot's name and a colon, an equals sign, a dash, 'is', or 'grade'.",
        "stated": "A clause of the prose states the grade of the asked subject, as 'grade 2' or 'the size is 2'.",
        "corrected": "The text corrects an earlier grade, as in 'on reflection this should be grade 1'.",
        # Boxes.
        "box_names": "The six numbers stand under names such as x_min and end_slice instead of in a list.",
        "box_nested": "The six numbers stand in three pairs, or in two corners, as the convention has them.",
        "box_clipped": "A box that reaches beyond the volume is trimmed to it.",
    }
)
"""By name, from the mildest to the gravest: what each rule does, in one sentence."""

_GRAVITY = {rule: place for place, rule in enumerate(RULES)}


def by_gravity(rules: Iterable[str]) -> tuple[str, ...]:
    """Order rules from the mildest to the gravest, each once; no rule at all is ``strict``.

    Examples
    --------
    >>> by_gravity(["meaning", "fenced", "meaning"]), by_gravity([])
    (('fenced', 'meaning'), ('strict',))
    """
    return tuple(sorted(set(rules), key=_GRAVITY.__getitem__)) or ("strict",)


REASONS: tuple[str, ...] = (
    "missing",
    "out_of_range",
    "wrong_key",
    "conflicting",
    "truncated",
    "refusal",
    "empty",
    "not_json",
    "provider_error",
    "placeholder",
    "retracted",
)
"""Why a slot or a box has no value; tables of answers hold places in this tuple.

``placeholder``: the value repeats the schema, or its object is introduced as an example. ``retracted``: the text says
that its answer is none.
"""


@dataclass(frozen=True, slots=True)
class SlotAnswer:
    """Outcome of one slot: a grade, or the reason why it has none.

    Attributes
    ----------
    slot : Slot
        The slot that was asked for.
    grade : int or None
        A legal grade of the slot.
    reason : str or None
        One of `REASONS` where there is no grade.
    rules : tuple of str
        Every rule of `RULES` that had a part in reading the grade, mildest first; ``("strict",)`` where none was needed
        beyond ``json.loads``, empty where there is no grade.
    """

    slot: Slot
    grade: int | None
    reason: str | None
    rules: tuple[str, ...] = ()

    @property
    def rule(self) -> str | None:
        """The gravest of its rules; None where there is no grade."""
        return self.rules[-1] if self.rules else None


@dataclass(frozen=True, slots=True)
class ParsedAnswer:
    """Outcome of one answer.

    Attributes
    ----------
    question_id : int
        1 to 69.
    slots : tuple of SlotAnswer
        In the question's order.
    strict : bool
        ``json.loads`` of the unchanged text was enough, whatever it held: a strict answer can name a wrong key.
    """

    question_id: int
    slots: tuple[SlotAnswer, ...]
    strict: bool

    @property
    def grades(self) -> dict[str, int | None]:
        """The grades by attribute, None where there is a reason instead: as `write` takes them."""
        return {answer.slot.attribute: answer.grade for answer in self.slots}


@dataclass(frozen=True, slots=True)
class ParsedBox:
    """Outcome of the box of one answer: a box inside the volume, or the reason why there is none.

    Attributes
    ----------
    box : Box or None
        Half-open voxels in the array order of the stored volume.
    reason : str or None
        One of `REASONS` where there is no box.
    rules : tuple of str
        Every rule of `RULES` that had a part in reading it, mildest first; empty where there is no box.
    """

    box: Box | None
    reason: str | None
    rules: tuple[str, ...] = ()

    @property
    def rule(self) -> str | None:
        """The gravest of its rules; None where there is no box."""
        return self.rules[-1] if self.rules else None


BOX_KEY = "bounding_box"


def write(
    question: int | Question,
    grades: Mapping[str, int | None],
    box: Box | None = None,
    convention: BoxConvention | None = None,
    shape: Sequence[int] | None = None,
) -> str:
    """Write an answer as the prompts ask for it; `parse_answer` and `parse_box` give the same back.

    Parameters
    ----------
    question : int or Question
        The question, or its number.
    grades : mapping of attribute to int or None
        By attribute; one that is left out is missing, and missing is written as null, never 0.
    box : Box, optional
        Written first, under ``bounding_box``, as the full prompts have it.
    convention : BoxConvention, optional
        How to write the box; needed with ``box``.
    shape : three ints, optional
        Voxels of the volume along each axis; needed where the convention is normalised.

    Raises
    ------
    GradeError
        If a grade is not legal, or an attribute is not the question's.
    BenchError
        If a box comes without its convention, or a normalised one without the shape.

    Examples
    --------
    >>> write(44, {"grade": 1})
    '{"MOAKS_scores": {"medial meniscus anterior extrusion": 1}}'
    >>> write(62, {"signal": None}, Box((1, 2, 3), (4, 5, 6)), BoxConvention())
    '{"bounding_box": [1, 4, 2, 5, 3, 6], "Patellar_Tendon": {"Signal Abnormality": null}}'
    """
    answer = write_answer(question, grades)
    if box is None:
        return answer
    if convention is None or (convention.normalised and shape is None):
        missing = "its convention" if convention is None else "the shape of its volume"
        raise BenchError(
            f"A box cannot be written without {missing}. Pass convention=BoxConvention(...), and shape=(i, j, k) where "
            "the convention is in shares of the volume."
        )
    numbers = convention.encode(box, () if shape is None else shape)
    return json.dumps({BOX_KEY: numbers, **json.loads(answer)})


def official_parse(text: str | None) -> object | None:
    r"""Return what the authors' scripts get from a text: ``json.loads`` after the code fences are taken out.

    Parameters
    ----------
    text : str or None
        The model's text.

    Returns
    -------
    object or None
        The parsed JSON; None where the authors' scripts have no answer.

    Examples
    --------
    >>> official_parse('```json\n{"ACL": {"Complete Tear": 0}}\n```')
    {'ACL': {'Complete Tear': 0}}
    >>> official_parse("Grade 2.") is None
    True
    """
    if text is None:
        return None
    try:
        return json.loads(without_fences(text))  # type: ignore[no-any-return]  # whatever the model wrote
    except (ValueError, RecursionError):
        return None


def without_fences(text: str) -> str:
    """Remove code fences as the authors' scripts do, wherever they stand."""
    return text.replace("```json", "").replace("```", "").strip()
