"""The pictures of a report: plots as SVG, and the true and answered boxes of the worst cases."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.evaluation import Evaluation
from reasonknee_datasets.bench.group_results import HEADLINE, TOTALS, Estimate, Group, Pool
from reasonknee_datasets.bench.report.group_tables import format_number, name_subject, plural
from reasonknee_datasets.bench.report.result_tables import pairs
from reasonknee_datasets.bench.results import Case, Comparison, ErrorDecomposition, Results
from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import ReasonKneeError, missing_extra
from reasonknee_datasets.figures.planes import Panel, choose_plane, cut_planes, grey_window
from reasonknee_datasets.moaks import QUESTIONS, Question
from reasonknee_datasets.sources import find_volumes, join
from reasonknee_datasets.volumes import open_volume

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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
        asked=name_subject(question),
        truth=pairs(case.truth),
        answer=pairs(given),
        iou="" if case.iou is None else format_number(case.iou),
        jpeg=jpeg,
        problem=problem,
    )


def _draw_case(volume: Any, question: Question, true_box: Box, answered: Box | None, *, synthetic: bool) -> bytes:
    """Draw the slice through the middle of the true box; the answered box is dashed where it misses the slice."""
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


_INK, _MODEL, _BASE, _LOST = "#1c2733", "#1f6f8b", "#b0b8c0", "#c2562d"
# One for each baseline that grades, the two controls among them: none is drawn twice.
_MARKERS = ("s", "D", "^", "v", "P", "X", "*", "h")
# So that one result is one page, byte for byte: matplotlib draws the ids inside an SVG at random otherwise.
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "reasonknee",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """One plot as SVG, with its title and its text alternative."""

    title: str
    alt: str
    svg: bytes


def draw_plots(subject: Results | Comparison | ErrorDecomposition) -> tuple[Plot, ...]:
    """Draw every plot of results, the differences of a comparison, or the lost shares of an error decomposition.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise missing_extra("matplotlib", "bench", "the plots of a report") from error
    with matplotlib.rc_context(_STYLE):
        if isinstance(subject, Results):
            return tuple(_plots(subject))
        return (_differences(subject) if isinstance(subject, Comparison) else _lost_shares(subject),)


def _plots(results: Results) -> Iterator[Plot]:
    yield _totals(results)
    yield _categories(results)
    boxes = results.group().localisation
    if boxes is not None:
        yield _histogram(boxes.histogram, boxes.counts.missing)
    if results.group().coverage.parsed < results.group().coverage.slots:
        yield _failures(results)
    for group in results.groups:
        if group.by == "category" and any(pool.condition == "all" for pool in group.pools):
            yield _confusions(group)


def _totals(results: Results) -> Plot:
    """Draw the four totals with the scores of the baselines."""
    figure, axes = _figure(7, 0.5 * len(TOTALS) + 1.2)
    scores = results.group().totals["missing_as_wrong"].metrics
    graders = [base for base in results.baselines if base.totals]
    for place, name in enumerate(TOTALS):
        value = scores[name]
        for base, marker in zip(graders, cycle(_MARKERS), strict=False):
            found = base.totals["missing_as_wrong"].get(name)
            if found is not None and found.value is not None:
                label = base.name.replace("_", " ") if place == 0 else None
                axes.plot(found.value, place, marker, color=_LOST, markersize=6, fillstyle="none", label=label)
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [place, place], color=_MODEL, linewidth=2.5)
        if value.value is not None:
            axes.plot(value.value, place, "o", color=_MODEL, label="the model" if place == 0 else None)
    axes.set_yticks(range(len(TOTALS)), list(TOTALS))
    axes.set_ylim(len(TOTALS) - 0.5, -0.5)
    axes.set_xlim(0, 1.02)  # a dot at 1 is whole
    axes.set_xlabel("score" + _bars(scores[name] for name in TOTALS))
    figure.legend(loc="outside upper center", ncols=3, frameon=False, fontsize=8)
    told = ", ".join(f"{name} {value.value:.3f}" for name, value in scores.items() if value.value is not None)
    return _plot(figure, "Totals", f"The model's totals: {told}.")


def _categories(results: Results) -> Plot:
    groups = [group for group in results.groups if group.by == "category"]
    figure, axes = _figure(7, 0.32 * len(groups) + 0.9)
    told = []
    for place, group in enumerate(groups):
        value = group.totals["missing_as_wrong"].metrics[HEADLINE]
        if value.value is None:
            continue
        axes.barh(place, value.value, color=_MODEL, height=0.62)
        if value.low is not None and value.high is not None:
            axes.plot([value.low, value.high], [place, place], color=_INK, linewidth=1.5)
        told.append(f"{group.value} {value.value:.3f}")
    axes.set_yticks(range(len(groups)), [group.value.replace("_", " ") for group in groups])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    bars = _bars(group.totals["missing_as_wrong"].metrics[HEADLINE] for group in groups)
    axes.set_xlabel(f"{HEADLINE}, slots without a grade count as wrong{bars}")
    return _plot(figure, "By category", f"{HEADLINE} by category: {', '.join(told)}.")


def _histogram(counts: Sequence[int], missing: int) -> Plot:
    figure, axes = _figure(7, 2.4)
    edges = np.arange(len(counts)) / len(counts)
    axes.bar(edges, counts, width=0.9 / len(counts), align="edge", color=_MODEL)
    axes.set_xlim(0, 1)
    rest = f"; {plural(missing, 'record')} without a box not drawn" if missing else ""
    axes.set_xlabel(f"IoU of box and true box{rest}")
    axes.set_ylabel("records")
    return _plot(figure, "Boxes", f"Records by IoU in steps of {1 / len(counts):g}: {', '.join(map(str, counts))}.")


def _failures(results: Results) -> Plot:
    reasons = results.group().coverage.reasons
    names = [name for name in ("no_prediction", *REASONS) if reasons.get(name)]
    figure, axes = _figure(7, 0.3 * len(names) + 0.9)
    axes.barh(range(len(names)), [reasons[name] for name in names], color=_LOST, height=0.62)
    axes.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    axes.invert_yaxis()
    axes.set_xlabel("slots without an answered grade")
    return _plot(figure, "Failures", ", ".join(f"{name} {reasons[name]:,}" for name in names) + ".")


def _differences(comparison: Comparison) -> Plot:
    rows = [
        row
        for row in comparison.differences
        if row.by in ("all", "category") and (row.kind, row.metric, row.rule) == ("total", HEADLINE, "missing_as_wrong")
    ]
    figure, axes = _figure(7, 0.32 * len(rows) + 0.9)
    axes.axvline(0, color=_INK, linewidth=0.8)
    told = []
    for place, row in enumerate(rows):
        part = row.difference
        if part.value is None:
            continue
        if part.low is not None and part.high is not None:
            axes.plot([part.low, part.high], [place, place], color=_MODEL, linewidth=2)
        axes.plot(part.value, place, "o", color=_MODEL)
        told.append(f"{row.value} {part.value:+.3f}")
    names = ["everything" if row.by == "all" else row.value.replace("_", " ") for row in rows]
    axes.set_yticks(range(len(rows)), names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(f"{HEADLINE}, first less second" + _bars(row.difference for row in rows))
    return _plot(figure, "Difference by category", f"{HEADLINE}, first less second: {', '.join(told)}.")


def _lost_shares(decomposition: ErrorDecomposition) -> Plot:
    rows = [row for row in decomposition.rows if row.by == "all"]
    figure, axes = _figure(7, 0.4 * len(rows) + 1.4)
    told = []
    for place, row in enumerate(rows):
        grading, region = row.grading.value or 0.0, row.region.value or 0.0
        axes.barh(place, grading, color=_MODEL, height=0.5, label=None if place else "by grading")
        axes.barh(
            place, region, left=grading, color=_LOST, height=0.5, label=None if place else "because of the region"
        )
        if row.region.low is not None and row.region.high is not None:
            ends = [grading + row.region.low, grading + row.region.high]
            axes.plot(ends, [place, place], color=_INK, linewidth=1.5)
        told.append(f"{row.condition}: by grading {grading:.3f}, because of the region {region:+.3f}")
    axes.set_yticks(range(len(rows)), [row.condition for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of records lost" + _bars((row.region for row in rows), "of what the region lost"))
    figure.legend(loc="outside upper center", ncols=2, frameon=False, fontsize=8)
    return _plot(figure, "Lost shares", "; ".join(told) + ".")


def _confusions(group: Group) -> Plot:
    pools = [pool for pool in group.pools if pool.condition == "all"]
    wide = [max(1.9, 0.42 * (pool.high - pool.low + 2) + 1.0) for pool in pools]
    from matplotlib.figure import Figure

    figure = Figure(figsize=(sum(wide), 2.9), layout="constrained")
    for axes, pool in zip(figure.subplots(1, len(pools), width_ratios=wide, squeeze=False)[0], pools, strict=True):
        _confusion(axes, pool)
    title = group.value.replace("_", " ")
    figure.suptitle(title, fontsize=10)
    told = "; ".join(
        f"{pool.scale} {pool.low}-{pool.high}, true by row: {[list(row) for row in pool.confusion]}" for pool in pools
    )
    return _plot(figure, f"Confusion: {title}", told)


def _confusion(axes: Axes, pool: Pool) -> None:
    """Shade by the share of the true grade, print the counts."""
    counts = np.array(pool.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), value in np.ndenumerate(counts):
        if value:
            colour = "white" if shares[row, column] > 0.6 else _INK
            size = 7 if counts.size <= 30 else 5.5
            axes.text(column, row, f"{value:,}", ha="center", va="center", color=colour, fontsize=size)
    grades = [str(grade) for grade in range(pool.low, pool.high + 1)]
    axes.set_xticks(range(len(grades) + 1), [*grades, "none"])
    axes.set_yticks(range(len(grades)), grades)
    axes.set_title(f"{pool.scale}, {len(pool.slots)} slot{'s' * (len(pool.slots) > 1)}", fontsize=8)
    axes.set_xlabel("answered")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)


def _bars(values: Iterable[Estimate], of: str = "over patients") -> str:
    """Explain the bars, where there are any."""
    return f"; bars: 95 % intervals {of}" if any(value.low is not None for value in values) else ""


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _plot(figure: Figure, title: str, alt: str) -> Plot:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return Plot(title, alt, buffer.getvalue())
