"""The tables of one result; Markdown, HTML, CSV and LaTeX are made from these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

from reasonknee_datasets.bench.answers import REASONS
from reasonknee_datasets.bench.group_results import (
    BOX_METRICS,
    CONDITIONS,
    HEADLINE,
    RULES,
    TOTALS,
    By,
    ConventionCheck,
    Coverage,
    Estimate,
    Localisation,
    Unit,
)
from reasonknee_datasets.bench.metrics.reasoning_scores import REASONING_METRICS, ReasoningScores
from reasonknee_datasets.bench.report.group_tables import (
    RESTS_ON,
    RULE_NAMES,
    Table,
    find_total,
    format_estimate,
    format_number,
    group_name,
    group_table,
    metric_tables,
    plural,
    signed,
)
from reasonknee_datasets.bench.results import Baseline, Results
from reasonknee_datasets.bench.run_metadata import RunMetadata


def result_tables(results: Results) -> tuple[Table, ...]:
    """Make every table of one result, in reading order: the headline first."""
    baselines, coverage, boxes = _baselines(results), results.group().coverage, results.group().localisation
    tables = [_totals(results), *baselines[:1], group_table(results, "category"), _coverage(coverage)]
    tables += [_reasons("Slots without an answered grade", coverage.reasons, coverage.slots)]
    if boxes is not None:
        tables += [_boxes(boxes), _reasons("Records without a box", boxes.reasons, boxes.counts.records)]
    if results.conventions is not None:
        tables += [_box_alternatives(results.conventions)]
    if results.reasoning is not None:
        tables += [_reasoning(results.reasoning)]
    tables += [identity_table(results.identity), _worst(results), *metric_tables(results), *baselines[1:]]
    if coverage.parsed < coverage.slots:  # else all rules give the same numbers
        tables += [_rules(results)]
    tables += [_pools(results)]
    kinds: tuple[By, ...] = ("attribute", "subregion", "side", "visit", "question", "slot")
    tables += [group_table(results, by) for by in kinds]
    return tuple(table for table in tables if table.rows)


def identity_table(*identities: RunMetadata | None, names: tuple[str, ...] = ("stated",)) -> Table:
    """Tabulate the metadata of one or several results, one a column."""
    stated = [each or RunMetadata() for each in identities]
    rows = []
    for each in fields(RunMetadata):
        values = [getattr(one, each.name) for one in stated]
        if any(value not in (None, {}) for value in values):
            rows.append((each.name, *[_stated(each.name, value) for value in values]))
    return Table("Run metadata", ("field", *names), tuple(rows))


def _stated(name: str, value: object) -> str:
    if value is None or value == {}:
        return "no boxes" if name == "box_convention" else "not stated"
    if name == "prompts" and isinstance(value, dict):
        return f"{len(value)} prompts, hashes in results.json"
    if isinstance(value, dict):
        return ", ".join(f"{key} {item}" for key, item in value.items())
    return str(value)


def _coverage(counts: Coverage) -> Table:
    rows: tuple[tuple[str, ...], ...] = (
        ("records", f"{counts.records:,}", ""),
        ("with a prediction", f"{counts.given:,}", _share(counts.given, counts.records)),
        ("texts among them", f"{counts.texts:,}", _share(counts.texts, counts.given)),
        ("texts that a strict json.loads reads", f"{counts.strict:,}", _share(counts.strict, counts.texts)),
        ("with a grade in every slot", f"{counts.complete:,}", _share(counts.complete, counts.records)),
        ("slots with a true grade", f"{counts.slots:,}", ""),
        ("answered with a grade", f"{counts.parsed:,}", _share(counts.parsed, counts.slots)),
        ("slots without a true grade, left out", f"{counts.missing_truth_slots:,}", ""),
    )
    if not counts.texts:
        rows = (*rows[:2], *rows[4:])
    return Table("Coverage", ("counted", "number", "share"), rows)


def _reasons(title: str, reasons: Mapping[str, int], of: int) -> Table:
    order = [name for name in ("no_prediction", *REASONS) if reasons.get(name)]
    rows = tuple((name, f"{reasons[name]:,}", _share(reasons[name], of)) for name in order)
    return Table(title, ("reason", "number", "share"), rows)


def _totals(results: Results) -> Table:
    scores = results.group().totals["missing_as_wrong"]
    counts = tuple(f"{getattr(scores.counts, each):,}" for each in (*RESTS_ON, "slots"))
    rows = tuple((name, format_estimate(scores.metrics[name]), *counts) for name in TOTALS)
    caption = "Missing answers count as wrong. " + "; ".join(f"{name}: {about}" for name, about in TOTALS.items())
    return Table("Totals", ("total", "value", *RESTS_ON, "slots"), rows, f"{caption}. {results.about_totals}")


def _rules(results: Results) -> Table:
    scores = results.group().totals
    rows = tuple((name, *(format_estimate(scores[rule].metrics[name]) for rule in results.rules)) for name in TOTALS)
    columns = ("total", *(RULE_NAMES[rule] for rule in results.rules))
    caption = "; ".join(f"{RULE_NAMES[rule]}: {RULES[rule]}" for rule in results.rules)
    return Table("Totals by treatment of missing answers", columns, rows, caption, folded=True)


def _baselines(results: Results) -> tuple[Table, ...]:
    """Compare with each baseline: the headline and boxes first, the other totals folded."""
    first: list[tuple[str, ...]] = []
    rest: list[tuple[str, ...]] = []
    for base in results.baselines:
        for name, score in _headlines(base):
            found = find_total(base.differences, "all", "all", name)
            row = (base.name, name, format_estimate(score), signed(found.difference, name) if found else "")
            (rest if name in TOTALS and name != HEADLINE else first).append(row)
    columns = ("baseline", "metric", "score", "model less baseline")
    captions = [
        "; ".join(f"{base.name}: {base.about}" for base in results.baselines if base.name in {row[0] for row in rows})
        for rows in (first, rest)
    ]
    return (
        Table("Baselines", columns, tuple(first), captions[0]),
        Table("Baselines by the other totals", columns, tuple(rest), captions[1], folded=True),
    )


def _headlines(base: Baseline) -> Iterator[tuple[str, Estimate]]:
    totals = base.totals.get("missing_as_wrong", {})
    for name in TOTALS:
        if name in totals:
            yield name, totals[name]
    for name in ("iou", "acc@0.5"):
        score_of_boxes = (base.localisation or {}).get("record", {}).get(name)
        if score_of_boxes is not None:
            yield name, score_of_boxes


def _pools(results: Results) -> Table:
    rows = []
    for pool in results.group().pools:
        scores = pool.rules["missing_as_wrong"]
        named = f"{pool.scale} {pool.low}-{pool.high}, {len(pool.slots)} slot{'s' * (len(pool.slots) > 1)}"
        for name, value in scores.metrics.items():
            counts = (f"{getattr(scores.counts, each):,}" for each in ("patients", "slots", "positives"))
            rows.append((named, CONDITIONS[pool.condition], name, format_estimate(value), *counts))
    caption = "Pooled only over slots of one scale and range; missing answers count as wrong"
    columns = ("scale", "which of them", "metric", "value", "patients", "slots", "positives")
    return Table("By scale", columns, tuple(rows), caption, folded=True, detail=True)


def _boxes(found: Localisation) -> Table:
    units: tuple[Unit, ...] = ("record", "region")
    rows = tuple(
        (name, *[format_estimate(found.units[unit][name]) for unit in units], about)
        for name, about in BOX_METRICS.items()
    )
    told = found.counts
    caption = (
        f"{told.records:,} records about {told.regions:,} regions of "
        f"{told.patients:,} patients; {told.missing:,} without a box"
    )
    return Table("Localisation", ("metric", "by record", "by region", "meaning"), rows, caption)


def _box_alternatives(check: ConventionCheck) -> Table:
    rows = tuple((one.change, format_number(one.mean_iou), signed(one.gain)) for one in check.alternatives)
    verdict = check.verdict or "no other convention is clearly better"
    read = f"Read as {check.convention}: mean IoU {format_number(check.mean_iou)} over {check.records:,} boxes"
    caption = f"{read}; {verdict}"
    return Table("Other box conventions", ("boxes read with", "mean IoU", "gain"), rows, caption)


def _worst(results: Results) -> Table:
    rows = []
    for case in results.worst:
        answer = {name: case.reasons.get(name) if grade is None else grade for name, grade in case.answer.items()}
        asked = group_name("question", case.id.rsplit("/", 1)[-1])
        overlap = "" if case.iou is None else format_number(case.iou)
        rows.append((case.id, asked, pairs(case.truth), pairs(answer), format_number(case.loss), overlap))
    caption, lacking = "Wrong answers", results.group().coverage.records - results.group().coverage.complete
    if lacking:
        caption += (
            f"; {plural(lacking, 'record')} without a grade in every slot are counted under Coverage, and listed only "
            "if a grade that they do have is wrong"
        )
    columns = ("record", "question", "truth", "answer", "loss", "IoU")
    return Table("Worst cases", columns, tuple(rows), caption, folded=True, detail=True)


def pairs(grades: Mapping[str, object]) -> str:
    """Print grades by attribute: ``size 2, depth missing``."""
    return ", ".join(f"{name} {'missing' if value is None else value}" for name, value in grades.items())


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.1%}" if whole else ""


def first_estimates(results: Results) -> Iterator[Estimate]:
    """List the numbers of the first tables: of everything and of the categories."""
    for group in results.groups:
        if group.by in ("all", "category"):
            yield from group.totals["missing_as_wrong"].metrics.values()


def _reasoning(found: ReasoningScores) -> Table:
    rows = tuple(
        (
            name,
            format_estimate(metric.value),
            f"{metric.count:,} {metric.unit}",
            f"{metric.patients:,}",
            about,
        )
        for name, about in REASONING_METRICS.items()
        if (metric := found.metrics.get(name)) is not None
    )
    caption = (
        f"{found.with_reasoning:,} of {found.records:,} records have reasoning before the "
        "final answer; the others count as empty. These metrics are not a part of any total"
    )
    if found.unseparated:
        caption += f". In {found.unseparated:,} the final answer cannot be told from it: no consistency there"
    return Table("Reasoning", ("metric", "value", "share of", "patients", "meaning"), rows, caption)
