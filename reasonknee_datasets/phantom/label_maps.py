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
class LabelMapFiles:
    """The content of the two files."""

    labels: object
    questions: object


def _one_or_list(names: tuple[str, ...]) -> str | list[str]:
    return names[0] if len(names) == 1 else list(names)


def _name_to_id() -> LabelMapFiles:
    """Name the background too, as the official file does."""
    labels = {"background": 0, **LABELS}
    return LabelMapFiles(labels, {str(q): _one_or_list(names) for q, names in REGION_NAMES.items()})


def _id_to_name() -> LabelMapFiles:
    ids = {str(q): [LABELS[name] for name in names] for q, names in REGION_NAMES.items()}
    return LabelMapFiles({str(number): name for name, number in LABELS.items()}, ids)


def _name_list() -> LabelMapFiles:
    """Write labels as a list in which a label's place is its id; ids without a label are filled."""
    names = {number: name for name, number in LABELS.items()} | {0: "background"}
    listed = [names.get(number, f"unused_{number}") for number in range(max(names) + 1)]
    return LabelMapFiles(listed, {str(q): list(region) for q, region in REGION_NAMES.items()})


def _pairs() -> LabelMapFiles:
    return LabelMapFiles(
        [[name, number] for name, number in LABELS.items()], [[q, list(names)] for q, names in REGION_NAMES.items()]
    )


def _small_objects() -> LabelMapFiles:
    return LabelMapFiles(
        [{name: number} for name, number in LABELS.items()],
        [{str(q): _one_or_list(names)} for q, names in REGION_NAMES.items()],
    )


def _objects() -> LabelMapFiles:
    return LabelMapFiles(
        [{"id": number, "name": name} for name, number in LABELS.items()],
        [{"question": q, "labels": list(names)} for q, names in REGION_NAMES.items()],
    )


def _keyed_objects() -> LabelMapFiles:
    colours = {str(number): {"name": name, "color": [number * 3 % 256, 80, 160]} for name, number in LABELS.items()}
    return LabelMapFiles(colours, {str(q): {"labels": list(names)} for q, names in REGION_NAMES.items()})


def _nested() -> LabelMapFiles:
    inner = _name_to_id()
    return LabelMapFiles({"labels": inner.labels}, {"mapping": inner.questions})


def _grouped() -> LabelMapFiles:
    """Nest names by bone and questions by category."""
    bones: dict[str, dict[str, int]] = {}
    for name, number in LABELS.items():
        bone, part = name.split("_", 1)
        bones.setdefault(bone, {})[part] = number
    categories: dict[str, dict[str, list[str]]] = {}
    for question, names in REGION_NAMES.items():
        categories.setdefault(QUESTIONS[question].category, {})[str(question)] = list(names)
    return LabelMapFiles(bones, categories)


def _label_to_questions() -> LabelMapFiles:
    asked: dict[str, list[int]] = {}
    for question, names in REGION_NAMES.items():
        for name in names:
            asked.setdefault(name, []).append(question)
    return LabelMapFiles(dict(LABELS), asked)


def _opaque() -> LabelMapFiles:
    """Write label names that carry no meaning."""
    words = "see the annotation protocol"
    return LabelMapFiles({"legend": words}, {"regions": words})


LABEL_MAP_VARIANTS: Mapping[str, Callable[[], LabelMapFiles]] = {
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
"""Values of ``write_release(label_map_variant=...)``; the first is the default."""
