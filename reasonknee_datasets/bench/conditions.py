"""Conditions: the images and questions that a model is shown, as values.

===================  ==================================================================================================
condition            images, then questions
===================  ==================================================================================================
``zero_shot``        the whole knee; the short wording
``guided``           the whole knee; the wording that describes the finding
``region_given``     a crop to the true box, for grading alone
``box_first``        the whole knee; first where the region is, then, in the same conversation, the question
``own_region``       the whole knee, and where the region is; then a crop to that box alone, and the question
``jittered_region``  a crop to the true box, moved and scaled by known amounts: the cost of localising so badly
``text_only``        no image; the guided wording
``shuffled_image``   another patient's knee of the same side, drawn by seed; the guided wording
``official``         as the authors' scripts (see below), for Qwen2.5-VL
``official_o1``      the same for o1
===================  ==================================================================================================

The two official conditions reproduce the scripts, flaws included, and are reported apart from the others. The
difference of ``region_given`` and ``guided`` is the cost of not knowing the region; a series of ``jittered_region``
separates the loss of localisation from the loss of grading. ``text_only`` and ``shuffled_image`` are controls: a score
of ``guided`` does not come from the image unless it is higher than theirs.

The authors' scripts were read in github.com/rajpurkarlab/3DReasonKnee at commit
bcc32ba9a6ddfc580a3dd008a33409e2dc6df592: ``code/zero_shot/qwen2vl.py`` (7B) and ``qwen2vl-3b.py``, which differ in the
model alone, and ``code/zero_shot/o1.py``. ``official`` and ``official_o1`` reproduce:

- the system prompts, verbatim;
- the *guided* prompts as published (58 and 59 damaged), although the files are called zero-shot;
- the frames of the recipes ``official_qwen`` and ``official_o1``, and their order (Qwen: video, then question; o1:
  question, then 32 images);
- the generation settings that the scripts set, and no others.

Not reproduced: where ``o1.py`` cannot read an answer, it stores the previous question's with its token counts; it
labels its PNG images as JPEG. The video of ``qwen2vl.py`` is sent as its frames, one image each: inspect_ai sends a
video to Google's models only, and none to OpenAI-compatible servers. For ``o1`` with OpenAI's own endpoint, pass
``-M responses_api=false`` to inspect_ai, since the script's ``response_format`` belongs to chat completions.

The published scripts do not state the following, and a report on ``official`` should mention it:

- the revision of the models' weights, and so the sampling settings of their own generation_config, which the scripts
  leave as they are;
- the version of qwen_vl_utils, which decides how the frames are resized, and whether fps=4.0 reaches the model;
- the wording behind the paper's zero-shot and structured-instruction rows: all scripts read the guided file and write
  to results_*_zeroshot.json;
- the snapshot of o1 and its reasoning effort: the request names neither;
- how the answers were scored: no scorer was published;
- the scripts of the paper's other models, and of its condition with the region given.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Literal, get_args

import numpy as np

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import BenchError, nearest
from reasonknee_datasets.prompts import Wording
from reasonknee_datasets.transforms import FRAME_RECIPES, ToFrames


@dataclass(frozen=True, slots=True)
class OfficialScript:
    """Settings of one of the authors' scripts.

    Attributes
    ----------
    system : str
        System prompt.
    text_first : bool
        Whether the question precedes the frames.
    max_tokens : int or None
        Limit of an answer's tokens; None where the script sets none.
    response_format : {"json_object"} or None
    """

    system: str
    text_first: bool
    max_tokens: int | None
    response_format: Literal["json_object"] | None


SCRIPTS: Mapping[str, OfficialScript] = MappingProxyType(
    {
        "qwen": OfficialScript(
            system=(
                "You are a radiologist. You are given a question and a series of knee MRI images presented as a video. "
                "Please provide your answer in JSON format."
            ),
            text_first=False,
            max_tokens=1024,
            response_format=None,
        ),
        "o1": OfficialScript(
            system="You are a radiologist. You are given a question and a set of knee MRI images.",
            text_first=True,
            max_tokens=None,
            response_format="json_object",
        ),
    }
)
"""The scripts by the values of `Condition.script`."""

MAX_TOKENS = 1024
"""Limit of an answer's tokens in the conditions that are not the authors'."""

Region = Literal["whole", "true", "jittered", "own"]
Image = Literal["own", "none", "other"]
Script = Literal["qwen", "o1"]

# As many frames as the authors gave o1, over the same part of a knee.
_WHOLE = FRAME_RECIPES["clean_o1"]
# Regions are small: a bone-marrow lesion's subregion is some 30 slices, and would be 60 pixels wide at one a voxel.
_CLOSE = ToFrames("sagittal", count=16, size=336)


@dataclass(frozen=True, slots=True)
class Condition:
    """One way of asking.

    Parameters
    ----------
    name : str
        Key of `CONDITIONS`, also of a variant.
    wording : {"zeroshot", "guided"}
        Wording of the question.
    region : {"whole", "true", "jittered", "own"}
        Images of the question: the whole volume, or a crop to the true box, to a moved one, or to the model's own.
    asks_box : bool
        Ask first where the region is.
    frames, region_frames : ToFrames
        Frames of a whole volume, and of a crop.
    margin_mm : float
        Margin around the box of a crop, in mm at each end of each axis.
    shift : float
        Distance by which a jittered box is moved along each array axis, in lengths of the box there.
    scale : float
        Factor on the length of a jittered box along each axis.
    image : {"own", "none", "other"}
        The record's own volume, no image at all, or a volume of another patient.
    script : {"qwen", "o1"}, optional
        The authors' script to reproduce.

    Raises
    ------
    BenchError
        If the parts do not go together.

    Examples
    --------
    >>> str(get_condition("jittered_region(shift=0.5)"))
    'jittered_region(shift=0.5, scale=1.0)'
    >>> get_condition("guided") == GUIDED
    True
    """

    name: str
    wording: Wording = "guided"
    region: Region = "whole"
    asks_box: bool = False
    frames: ToFrames = _WHOLE
    region_frames: ToFrames = _CLOSE
    margin_mm: float = 0.0
    shift: float = 0.0
    scale: float = 1.0
    image: Image = "own"
    script: Script | None = None

    def __post_init__(self) -> None:
        for name, kind in (("wording", Wording), ("region", Region), ("image", Image)):
            if getattr(self, name) not in get_args(kind):
                known = nearest(str(getattr(self, name)), get_args(kind))
                raise BenchError(f"Unknown {name} {getattr(self, name)!r} of a condition. {known}.")
        for name, least in (("margin_mm", 0.0), ("shift", 0.0), ("scale", 0.01)):
            value = float(getattr(self, name))
            if not (least <= value < 1e3):
                raise BenchError(f"A condition's {name} must be {least:g} to 1000, got {value}.")
            object.__setattr__(self, name, value)
        if self.region == "own" and not self.asks_box:
            raise BenchError("A condition that crops to the model's own box must ask for it: set asks_box=True.")
        if self.image != "own" and (self.region != "whole" or self.asks_box or self.script is not None):
            raise BenchError(
                f"A condition with image={self.image!r} shows whole volumes and asks for no box, got {self!r}. "
                "The record's box does not apply to another volume."
            )
        if self.script is not None and (self.region != "whole" or self.asks_box or self.wording != "guided"):
            raise BenchError(
                f"The authors' scripts show whole volumes, ask for no box and use the guided prompts, got {self!r}. "
                "Leave script out."
            )

    def __str__(self) -> str:
        usual = CONDITIONS.get(self.name, self)
        always = ("shift", "scale") if self.region == "jittered" else ()
        names = [field.name for field in fields(self) if field.name not in ("name", "frames", "region_frames")]
        shown = [name for name in names if name in always or getattr(self, name) != getattr(usual, name)]
        inside = ", ".join(f"{name}={getattr(self, name)}" for name in shown)
        return f"{self.name}({inside})" if inside else self.name

    @property
    def recipes(self) -> str:
        """The frame recipes that it uses, for a run's metadata."""
        if self.image == "none":
            return "none"
        whole, close = repr(self.frames), repr(self.region_frames)
        if self.region == "whole":
            return whole
        return f"whole: {whole}; region: {close}" if self.asks_box else close

    @property
    def max_tokens(self) -> int | None:
        """Limit of an answer's tokens; None where the authors' script sets none."""
        return MAX_TOKENS if self.script is None else SCRIPTS[self.script].max_tokens

    @property
    def sees_true_box(self) -> bool:
        """Whether the frames depend on the true box."""
        return self.region in ("true", "jittered")


ZERO_SHOT = Condition("zero_shot", "zeroshot")
GUIDED = Condition("guided")
REGION_GIVEN = Condition("region_given", region="true")
BOX_FIRST = Condition("box_first", asks_box=True)
OWN_REGION = Condition("own_region", region="own", asks_box=True)
JITTERED_REGION = Condition("jittered_region", region="jittered", shift=0.25)
TEXT_ONLY = Condition("text_only", image="none")
SHUFFLED_IMAGE = Condition("shuffled_image", image="other")
OFFICIAL = Condition("official", frames=FRAME_RECIPES["official_qwen"], script="qwen")
OFFICIAL_O1 = Condition("official_o1", frames=FRAME_RECIPES["official_o1"], script="o1")

CONDITIONS: Mapping[str, Condition] = MappingProxyType(
    {
        each.name: each
        for each in (
            *(ZERO_SHOT, GUIDED, REGION_GIVEN, BOX_FIRST, OWN_REGION, JITTERED_REGION),
            *(TEXT_ONLY, SHUFFLED_IMAGE, OFFICIAL, OFFICIAL_O1),
        )
    }
)
"""The conditions by name."""

_CALL = re.compile(r"(?P<name>\w+)\s*(?:\((?P<inside>[^()]*)\))?")
_SETTABLE = ("wording", "margin_mm", "shift", "scale")


def get_condition(condition: Condition | str) -> Condition:
    """Return a condition by its name, with values in brackets; a `Condition` is returned as it is.

    The values that brackets can set are wording, margin_mm, shift and scale.

    Raises
    ------
    BenchError
        If the condition or a value's name is unknown, or the value is not legal.

    Examples
    --------
    >>> get_condition("jittered_region(shift=0.5, scale=1.25)").scale
    1.25
    >>> get_condition("zeroshot")
    Traceback (most recent call last):
    reasonknee_datasets.errors.BenchError: Unknown condition 'zeroshot'. Did you mean 'zero_shot'? Available: \
zero_shot, guided, region_given, box_first, own_region, jittered_region, text_only, \
shuffled_image, official, official_o1.
    """
    if isinstance(condition, Condition):
        return condition
    match = _CALL.fullmatch(condition.strip())
    name = match["name"] if match else condition
    if match is None or name not in CONDITIONS:
        raise BenchError(f"Unknown condition {condition!r}. {nearest(name, CONDITIONS)}.")
    changes: dict[str, str | float] = {}
    for word in filter(None, (part.strip() for part in (match["inside"] or "").split(","))):
        key, _, value = (part.strip() for part in word.partition("="))
        if key not in _SETTABLE:
            raise BenchError(f"A condition has no value {key!r} to set, got {word!r}. {nearest(key, _SETTABLE)}.")
        try:
            changes[key] = value if key == "wording" else float(value)
        except ValueError:
            raise BenchError(
                f"{word!r} does not set a number. Write for example jittered_region(shift=0.25)."
            ) from None
    return replace(CONDITIONS[name], **changes)  # type: ignore[arg-type]  # __post_init__ checks them


def jitter(box: Box, shape: tuple[int, int, int], condition: Condition, *, seed: int, key: str) -> Box:
    """Move and scale a box by a condition's amounts, inside a volume.

    The direction along each axis is drawn from seed and key; the box moves the other way where the volume ends. A part
    that is still outside is then cut off. The resulting box is recorded with the answer.

    Parameters
    ----------
    box : Box
        The true box, in the stored volume.
    shape : three ints
        Voxels of the stored volume along its array axes.
    condition : Condition
        With ``shift`` and ``scale``.
    seed : int
    key : str
        Key of the draw, in addition to the seed: questions about one region of a volume share a key and a box.

    Examples
    --------
    >>> half = get_condition("jittered_region(shift=0.5)")
    >>> moved = jitter(Box((40, 40, 40), (60, 60, 60)), (160, 384, 384), half, seed=0, key="a")
    >>> [abs(new - old) for new, old in zip(moved.start, (40, 40, 40))], moved.shape
    ([10, 10, 10], (20, 20, 20))
    """
    digest = hashlib.blake2b(f"{seed}|{key}".encode(), digest_size=16).digest()
    signs = np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big"))).choice((-1, 1), 3)
    start: list[int] = []
    stop: list[int] = []
    for low, high, length, sign in zip(box.start, box.stop, shape, signs.tolist(), strict=True):
        side = max(1, round((high - low) * condition.scale))
        middle, move = (low + high) / 2, condition.shift * (high - low)
        first = [round(middle + way * move - side / 2) for way in (sign, -sign)]
        inside = [place for place in first if place >= 0 and place + side <= length]
        chosen = inside[0] if inside else first[0]
        # A voxel at least is left, at the end that it was moved towards.
        start.append(min(max(chosen, 0), length - 1))
        stop.append(max(min(chosen + side, length), start[-1] + 1))
    return Box.from_row([*start, *stop])
