"""Pictures of the worst cases: the true box and the answered one on the same slice."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.report.report_table import format_number
from reasonknee_datasets.bench.report.result_tables import pairs
from reasonknee_datasets.bench.results import Case
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import ReasonKneeError
from reasonknee_datasets.figures.plane_choice import choose_plane
from reasonknee_datasets.figures.planes import Panel, cut_planes, grey_window
from reasonknee_datasets.moaks import QUESTIONS, Question
from reasonknee_datasets.sources import find_volumes, join
from reasonknee_datasets.volumes import open_volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TRUE, _ANSWERED, _PAPER = "#ffd23f", "#4cc9f0", "#101418"


@dataclass(frozen=True, slots=True)
class CasePicture:
    """One of the worst cases as it is shown: question, truth, answer, and a JPEG or the reason why there is none."""

    id: str
    asked: str
    truth: str
    answer: str
    iou: str
    jpeg: bytes | None
    problem: str | None


def draw_worst(evaluation: Evaluation, pictures: int, volumes_dir: str | None) -> list[CasePicture]:
    """Draw some of the worst cases, one a category in turn."""
    results = evaluation.results
    if not pictures or not results.worst:
        return []
    root = find_volumes(volumes_dir, evaluation.repository.root)
    truth, synthetic = evaluation.truth, bool(results.identity and results.identity.synthetic)
    row = {name: place for place, name in enumerate(truth.ids)}
    drawn = []
    questions = {case.id: QUESTIONS[int(truth.question[row[case.id]])] for case in results.worst}
    for case in _by_category(results.worst, questions)[:pictures]:
        path = truth.volumes[truth.volume[row[case.id]]]
        drawn.append(_draw(case, questions[case.id], join(root, path), synthetic=synthetic))
    # A repository without images has nothing to draw, which is not an error.
    return drawn if any(each.jpeg for each in drawn) else []


def _by_category(cases: Sequence[Case], questions: Mapping[str, Question]) -> list[Case]:
    """Take the worst of each category first, then the second worst of each."""
    seen: dict[str, int] = {}
    ranked = []
    for case in cases:
        category = questions[case.id].category
        seen[category] = seen.get(category, 0) + 1
        ranked.append((seen[category], case))
    return [case for _, case in sorted(ranked, key=lambda item: item[0])]


def _draw(case: Case, question: Question, url: str, *, synthetic: bool) -> CasePicture:
    answered = None if case.box is None else Box.from_row(list(case.box))
    jpeg, problem = None, None
    try:
        true_box = Box.from_row(list(case.true_box))
        jpeg = _draw_case(open_volume(url), question, true_box, answered, synthetic=synthetic)
    except ReasonKneeError as error:
        problem = str(error)
    given: dict[str, Any] = {
        name: case.reasons.get(name, "none") if grade is None else grade for name, grade in case.answer.items()
    }
    return CasePicture(
        id=case.id,
        asked=f"{question.finding.replace('_', ' ')}, {question.subregion.replace('_', ' ')}",
        truth=pairs(case.truth),
        answer=pairs(given),
        iou="" if case.iou is None else format_number(case.iou),
        jpeg=jpeg,
        problem=problem,
    )


def _draw_case(volume: Any, question: Question, true_box: Box, answered: Box | None, *, synthetic: bool) -> bytes:
    """Draw the slice through the true box's middle in the plane that the question is read in.

    Parameters
    ----------
    volume : nibabel image
        Only three slices are read.
    question : Question
    true_box, answered : Box
        Half-open voxels in the array order of `volume`; the answered one is dashed where it misses the slice.
    synthetic : bool
        The picture then says so.
    """
    from matplotlib.figure import Figure

    panels = cut_planes(volume, true_box.clip(volume.shape))
    panel = panels[choose_plane(question.finding, question.subregion)]
    height, width = panel.size
    figure = Figure(figsize=(3.2 * width / height, 3.2), dpi=110, facecolor=_PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    low, high = grey_window(panels.values())
    axes.imshow(panel.image, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0))
    _outline(axes, panel, true_box, _TRUE)
    if answered is not None:
        _outline(axes, panel, answered, _ANSWERED)
    if synthetic:
        axes.text(width / 2, height - 2, "SYNTHETIC", color="white", ha="center", va="bottom", fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="jpeg", facecolor=_PAPER, pil_kwargs={"quality": 85})
    return buffer.getvalue()


def _outline(axes: Axes, panel: Panel, box: Box, colour: str) -> None:
    from matplotlib.patches import Rectangle

    (down, up_side_down), (across, mirrored) = panel.screen
    rows, columns = panel.image.shape
    top, bottom = _span(box.start[down], box.stop[down], rows, up_side_down)
    left, right = _span(box.start[across], box.stop[across], columns, mirrored)
    axis, index, _ = panel.cut
    style = "-" if box.start[axis] <= index < box.stop[axis] else "--"
    corner = (left * panel.spacing[1], top * panel.spacing[0])
    size = ((right - left) * panel.spacing[1], (bottom - top) * panel.spacing[0])
    axes.add_patch(Rectangle(corner, *size, fill=False, edgecolor=colour, linewidth=1.4, linestyle=style))


def _span(start: int, stop: int, count: int, flipped: bool) -> tuple[int, int]:
    return (count - stop, count - start) if flipped else (start, stop)
