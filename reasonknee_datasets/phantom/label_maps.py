"""``labels.json`` and ``question_subregion_mapping.json``, in each of the structures that they may officially have.

How the two files are structured is not known. A reader must understand every variant but ``opaque``, for which it has
to compare the boxes with the masks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom.mask_labels import LABELS, REGION_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True, slots=True)
class LabelMap:
    """The content of the two files."""

    labels: object
    questions: object


def _one_or_list(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _name_to_id() -> LabelMap:
    """Name the background too, as the official file does."""
    labels = {"background": 0, **LABELS}
    return LabelMap(labels, {str(q): _one_or_list(names) for q, names in REGION_NAMES.items()})


def _id_to_name() -> LabelMap:
    ids = {str(q): [LABELS[name] for name in names] for q, names in REGION_NAMES.items()}
    return LabelMap({str(number): name for name, number in LABELS.items()}, ids)


def _name_list() -> LabelMap:
    """Write labels as a list in which a label's place is its id; ids without a label are filled."""
    names = {number: name for name, number in LABELS.items()} | {0: "background"}
    listed = [names.get(number, f"unused_{number}") for number in range(max(names) + 1)]
    return LabelMap(listed, {str(q): list(region) for q, region in REGION_NAMES.items()})


def _pairs() -> LabelMap:
    return LabelMap(
        [[name, number] for name, number in LABELS.items()], [[q, list(names)] for q, names in REGION_NAMES.items()]
    )


def _small_objects() -> LabelMap:
    return LabelMap(
        [{name: number} for name, number in LABELS.items()],
        [{str(q): _one_or_list(names)} for q, names in REGION_NAMES.items()],
    )


def _objects() -> LabelMap:
    return LabelMap(
        [{"id": number, "name": name} for name, number in LABELS.items()],
        [{"question": q, "labels": list(names)} for q, names in REGION_NAMES.items()],
    )


def _keyed_objects() -> LabelMap:
    colours = {str(number): {"name": name, "color": [number * 3 % 256, 80, 160]} for name, number in LABELS.items()}
    return LabelMap(colours, {str(q): {"labels": list(names)} for q, names in REGION_NAMES.items()})


def _nested() -> LabelMap:
    inner = _name_to_id()
    return LabelMap({"labels": inner.labels}, {"mapping": inner.questions})


def _grouped() -> LabelMap:
    """Nest names by bone and questions by category."""
    bones: dict[str, dict[str, int]] = {}
    for name, number in LABELS.items():
        bone, part = name.split("_", 1)
        bones.setdefault(bone, {})[part] = number
    categories: dict[str, dict[str, list[str]]] = {}
    for question, names in REGION_NAMES.items():
        categories.setdefault(QUESTIONS[question].category, {})[str(question)] = list(names)
    return LabelMap(bones, categories)


def _label_to_questions() -> LabelMap:
    asked: dict[str, list[int]] = {}
    for question, names in REGION_NAMES.items():
        for name in names:
            asked.setdefault(name, []).append(question)
    return LabelMap(dict(LABELS), asked)


def _opaque() -> LabelMap:
    """Write label names that carry no meaning."""
    words = "see the annotation protocol"
    return LabelMap({"legend": words}, {"regions": words})


LABEL_MAP_VARIANTS: Mapping[str, Callable[[], LabelMap]] = {
    "name_to_id": _name_to_id,
    "id_to_name": _id_to_name,
    "name_list": _name_list,
    "pairs": _pairs,
    "small_objects": _small_objects,
    "objects": _objects,
    "keyed_objects": _keyed_objects,
    "nested": _nested,
    "grouped": _grouped,
    "label_to_questions": _label_to_questions,
    "opaque": _opaque,
}
"""What ``write_release(label_map_variant=...)`` takes; the first is the default."""
