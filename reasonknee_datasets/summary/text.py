"""A summary as plain text: aligned tables that fit a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from textwrap import wrap

from reasonknee_datasets.moaks import ATTRIBUTES, CATEGORIES
from reasonknee_datasets.schema import VISITS
from reasonknee_datasets.summary.counts import GeometrySummary, Summary

_GRIDS_SHOWN = 6
_WIDTH = 120
_FIRST, _COLUMN = 30, 9  # least widths, so that the columns of all tables line up


def render_summary(summary: Summary) -> Iterator[str]:
    """Write a summary, line by line."""
    if summary.synthetic:
        yield "SYNTHETIC: every row and voxel was made by the phantom; no patient is in here."
    revision = summary.source.get("revision") or "not recorded"
    yield f"{summary.name} at {summary.location}"
    yield f"  source revision {revision}; manifest {summary.digest[:12]}; annotations {_bytes(summary.bytes)}"
    yield from _render_provenance(summary)
    splits = summary.splits
    yield ""
    facts: list[tuple[str, list[int]]] = [
        ("rows", [split.rows for split in splits.values()]),
        ("volumes", [split.volumes for split in splits.values()]),
        ("patients", [len(split.patients) for split in splits.values()]),
    ]
    visits = sorted({visit for split in splits.values() for visit in split.visits}, key=_rank(VISITS))
    facts += [(f"volumes at {visit}", [split.visits.get(visit, 0) for split in splits.values()]) for visit in visits]
    sides = sorted({side for split in splits.values() for side in split.sides}, reverse=True)
    facts += [(f"{side} knees", [split.sides.get(side, 0) for split in splits.values()]) for side in sides]
    yield from _table("", [*splits, "all"], [(name, _with_sum(counts)) for name, counts in facts])
    names = sorted({name for split in splits.values() for name in split.categories}, key=_rank(CATEGORIES))
    counts = [(name, _with_sum([split.categories.get(name, 0) for split in splits.values()])) for name in names]
    yield ""
    yield from _table("rows by category", [*splits, "all"], counts)
    yield ""
    yield from _render_grades(summary)
    yield ""
    yield from _render_geometry(summary.geometry)
    yield from _render_masks(summary)


def _render_provenance(summary: Summary) -> Iterator[str]:
    convention = summary.box_convention
    agreement, checked = convention.get("agreement"), convention.get("checked", 0)
    proof = (
        f"{agreement:.1%} of {checked:,} boxes agree with their masks"
        if checked and agreement is not None
        else ("not checked against masks")
    )
    by_layout = convention.get("by_layout") or {}
    names = "; ".join(f"{name} in {layout} arrays" for layout, name in by_layout.items())
    names = names or convention.get("name", "unknown")
    yield f"  boxes read as {names} ({convention.get('source', 'unknown')}): {proof}"
    report = summary.report
    allowed, dropped = report.get("allowed") or {}, report.get("rows_dropped", 0)
    if allowed or dropped:
        yield f"  problems allowed: {_counts(allowed) or 'none'}; rows dropped: {dropped:,}"
    if report.get("grades_nulled_count"):
        yield f"  illegal grades made null: {report['grades_nulled_count']:,}, listed in the manifest"
    if report.get("violations"):
        yield f"  rules of MOAKS that records break, uncorrected: {_counts(report['violations'])}"
    for note in report.get("notes") or ():
        yield from wrap(f"note: {note}", _WIDTH, initial_indent="  ", subsequent_indent="    ")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _render_grades(summary: Summary) -> Iterator[str]:
    total: Counter[tuple[str, str, int | None]] = Counter()
    for split in summary.splits.values():
        total.update(split.grades)
    slots = sorted(
        {(category, attribute) for category, attribute, _ in total},
        key=lambda slot: (_rank(CATEGORIES)(slot[0]), _rank(ATTRIBUTES)(slot[1])),
    )
    # Every grade up to the highest seen, so that two repositories' tables have the same columns.
    values = list(range(1 + max((grade for *_, grade in total if grade is not None), default=-1)))
    rows = [
        (f"{category} {attribute}", [total.get((category, attribute, grade), 0) for grade in (*values, None)])
        for category, attribute in slots
    ]
    yield from _table("answers by grade", [*map(str, values), "missing"], rows)


def _render_geometry(geometry: GeometrySummary) -> Iterator[str]:
    if not geometry.grids:
        yield f"volumes: geometry not recorded for {geometry.unknown:,}, prepared without images"
        return
    median, greatest = geometry.tilts
    yield f"volumes: {_bytes(geometry.bytes)}; oblique by {median:.1f} degrees (median), {greatest:.1f} at most"
    common = sorted(geometry.grids.items(), key=lambda item: (-item[1], item[0].shape))
    for grid, count in common[:_GRIDS_SHOWN]:
        shape, spacing = (" x ".join(f"{value:g}" for value in values) for values in (grid.shape, grid.spacing))
        yield f"  {count:>9,}  {shape} voxels of {spacing} mm, axes {grid.axes}, {grid.dtype}"
    rest = common[_GRIDS_SHOWN:]
    if rest:
        yield f"  {sum(count for _, count in rest):>9,}  on {len(rest)} other grids"
    if geometry.unknown:
        yield f"  {geometry.unknown:>9,}  without images"


def _render_masks(summary: Summary) -> Iterator[str]:
    if not summary.masks:
        yield "masks: none; prepare --masks keeps those of the release"
        return
    labels = ", ".join(f"{name} {label}" for name, label in summary.labels.items())
    text = f"masks: {summary.masks:,}, with the labels {labels or 'of which the release names none'}"
    yield from wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)


def _table(title: str, heads: Sequence[str], rows: Sequence[tuple[str, Sequence[int]]]) -> Iterator[str]:
    first = max([_FIRST, len(title), *(len(name) for name, _ in rows)])
    widths = [
        max(_COLUMN, len(head), *(len(f"{counts[place]:,}") for _, counts in rows)) if rows else max(_COLUMN, len(head))
        for place, head in enumerate(heads)
    ]
    yield "  ".join([title.ljust(first), *(head.rjust(width) for head, width in zip(heads, widths, strict=True))])
    for name, counts in rows:
        # A grade that a slot or the data do not have is a dot: zeros would drown the numbers.
        cells = [(f"{count:,}" if count else "·").rjust(width) for count, width in zip(counts, widths, strict=True)]
        yield "  ".join([name.ljust(first), *cells])


def _with_sum(counts: Sequence[int]) -> list[int]:
    return [*counts, sum(counts)]


def _rank(order: Sequence[str]) -> Callable[[str], tuple[int, str]]:
    return lambda name: (order.index(name) if name in order else len(order), name)


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1000
    return f"{count:.3g} TB"
