"""The training path, next to other libraries: from files to collated batches of eight with tokens.

All files are in the page cache, and all contenders read the same seekable ``.nii.gz`` files. Every contender is
held to the voxels that nibabel reads and to the tokenizer's own tokens before it is timed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.phantom.scan_grids import Size
from tests.benchmarks import resuming, tokenizing
from tests.benchmarks.bound import Bound
from tests.benchmarks.knee_rows import Knees, make_knees
from tests.benchmarks.resuming import FirstBatch
from tests.benchmarks.tables import Table
from tests.benchmarks.throughput import NIFTI, Rates, measure_ours, measure_peers
from tests.benchmarks.timing import Times

_OVERHEAD = 150_000_000
_SHARE = (0.75, 0.65)  # of the bound: without and with workers, whose batches are sent to the main process


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured.

    Attributes
    ----------
    size, patients, crop
        Of the phantom, and voxels of each crop.
    workers : tuple of int
        Numbers of workers.
    decoding : tuple of int
        With how many workers decodes are counted.
    rounds : int
        Epochs of ours with each.
    cold_rows, cached_volumes : int
        Rows for peers that read whole files; volumes for those that convert or cache them.
    resumes : int
        Starts, fresh and resumed each.
    """

    size: Size = "oai"
    patients: int = 4
    crop: tuple[int, int, int] = (64, 96, 96)
    workers: tuple[int, ...] = (0, 2)
    decoding: tuple[int, ...] = (0, 2, 4)
    rounds: int = 5
    cold_rows: int = 32
    cached_volumes: int = 2
    resumes: int = 6


@dataclass(frozen=True, slots=True)
class Report:
    """The aims, and behind it who took how long."""

    tables: tuple[Table, ...]

    def __str__(self) -> str:
        return "\n\n".join(str(table) for table in self.tables)


@dataclass(slots=True)
class Measured:
    """Everything that the tables say."""

    rates: dict[int, Rates]
    decodes: dict[int, float]
    tokens: dict[str, Times]
    first: FirstBatch


def measure(folder: Path, *, plan: Plan | None = None, missing_ok: bool = False) -> Report:
    """Measure everything in `plan`; a peer that is not installed is an error, or else left out."""
    plan = plan or Plan()
    knees = make_knees(folder, size=plan.size, patients=plan.patients, crop=plan.crop)
    bound = Bound(knees)
    rates = {workers: measure_ours(knees, workers, rounds=plan.rounds, bound=bound) for workers in plan.workers}
    decodes = {workers: rates[workers].decodes for workers in plan.workers}
    for workers in set(plan.decoding) - set(plan.workers):
        decodes[workers] = measure_ours(knees, workers, rounds=2, bound=None).decodes
    tokens = tokenizing.measure(knees)
    first = resuming.measure(knees, workers=max(plan.workers), rounds=plan.resumes)
    for workers in plan.workers:
        rates[workers].peers = measure_peers(
            knees,
            workers,
            folder,
            cold_rows=plan.cold_rows,
            cached_volumes=plan.cached_volumes,
            missing_ok=missing_ok,
        )
    measured = Measured(rates, {workers: decodes[workers] for workers in sorted(decodes)}, tokens, first)
    return Report((summarise(measured), _speeds(measured, knees, plan), _tokens(measured)))


def summarise(measured: Measured) -> Table:
    """Hold every promise to what was measured."""
    caption = (
        "Medians by the clock. The bound (`tests/benchmarks/bound.py`) inflates the slabs that the crops touch with "
        "libdeflate alone and copies the crops in an epoch's order, in as many processes as there are workers; files "
        "are in memory, and nothing is checked. USS is what the largest worker has for itself after the last epoch; "
        "the cache bound is what the shared folder may hold."
    )
    table = Table("Training: aims and figures", ("work", "measured", "against", "figure", "target", "met"), caption)
    for workers, rates in measured.rates.items():
        _add_speed(table, workers, rates)
    for workers, rates in measured.rates.items():
        if rates.bound:
            share = sorted(rates.shares)[len(rates.shares) // 2]
            bound = f"{sorted(rates.bound)[len(rates.bound) // 2]:,.0f} a second"
            _add(
                table,
                f"share of the bound, {_count(workers)}",
                f"{rates.rate:,.0f} a second",
                bound,
                share,
                _SHARE[workers > 0],
            )
    ours, bare = (measured.tokens[name].wall for name in (tokenizing.OURS, tokenizing.BARE))
    _add(table, "tokenization", f"{ours * 1e6:.0f} us", f"called per example, {bare * 1e6:.0f} us", bare / ours, 20)
    for workers, decodes in measured.decodes.items():
        _add(table, f"decodes per volume and epoch, {_count(workers)}", "", "1.0 is the least", decodes, -1.05)
    for workers, rates in measured.rates.items():
        if rates.uss:
            most = rates.cache_bytes + _OVERHEAD
            work = f"private memory of a worker, {_count(workers)}"
            bound = f"cache bound {rates.cache_bytes / 1e6:.0f} MB"
            figure, target = f"{rates.uss / 1e6:.0f} MB", f"at most {most / 1e6:.0f} MB"
            table.add(work, "", bound, figure, target, _met(rates.uss <= most))
    first = measured.first
    cells = (f"{first.resumed * 1e3:.0f} ms", f"fresh start, {first.fresh * 1e3:.0f} ms")
    _add(table, "first batch after resuming at 90 %", *cells, first.resumed / first.fresh, -2)
    return table


def _add_speed(table: Table, workers: int, rates: Rates) -> None:
    mine, work = f"{rates.rate:,.0f} a second", f"quintuples a second, {_count(workers)}"
    if NIFTI in rates.peers:
        theirs = rates.peers[NIFTI]
        _add(table, work, mine, f"{NIFTI}, {theirs:.3g} a second", rates.rate / theirs, 60)
    if rates.peers:
        best = max(rates.peers, key=lambda name: rates.peers[name])
        against = f"the best: {best}, {rates.peers[best]:.3g} a second"
        _add(table, work, mine, against, rates.rate / rates.peers[best], 2)


def _add(table: Table, work: str, measured: str, against: str, figure: float, target: float) -> None:
    """Add a row whose target is a least figure, or a most where it is written as negative."""
    least = target > 0
    met = figure >= target if least else figure <= -target
    table.add(work, measured, against, f"{figure:.3g}", f"at {'least' if least else 'most'} {abs(target):g}", _met(met))


def _met(met: bool) -> str:
    return "yes" if met else "**no**"


def _count(workers: int) -> str:
    return f"{workers} workers"


def _speeds(measured: Measured, knees: Knees, plan: Plan) -> Table:
    """Measure all libraries in one run."""
    width = "x".join(map(str, plan.crop))
    caption = (
        f"{len(knees.questions)} questions about {len(knees.paths)} volumes, crops of {width} voxels, batches of 8. "
        "Ours: whole epochs of files that are new to it, groups of four volumes; without workers on one thread. Peers "
        f"that read the whole file for a row: {plan.cold_rows} rows in random order, whose crops they are told. "
        f"`PersistentDataset` (on /dev/shm) and PNG files (8 bits, window 0 to 400): all rows of {plan.cached_volumes} "
        "volumes, the conversion counted."
    )
    counts = list(measured.rates)
    columns = ("way", *(f"{_count(workers)}, a second" for workers in counts))
    table = Table("Quintuples a second, from file to batch", columns, caption)
    table.add("reasonknee_datasets", *(f"{measured.rates[workers].rate:,.0f}" for workers in counts))
    for name in measured.rates[counts[0]].peers:
        table.add(name, *(f"{measured.rates[workers].peers[name]:.3g}" for workers in counts))
    return table


def _tokens(measured: Measured) -> Table:
    caption = (
        "Question, reasoning, box and answer to tokens and labels; texts that were met before, as they are after the "
        "first rows of a run. Ours gives the spans of steps, box and grades too."
    )
    table = Table("Tokens of one example", ("way", "us", "CPU us"), caption)
    for name, times in measured.tokens.items():
        table.add(name, f"{times.wall * 1e6:.0f}", f"{times.cpu * 1e6:.0f}")
    return table
