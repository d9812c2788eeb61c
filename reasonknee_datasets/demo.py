"""The main job from end to end on synthetic data: release, prepare, load, crop, picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonknee_datasets.boxes import Box
from reasonknee_datasets.errors import PrepareError, missing_extra
from reasonknee_datasets.figures import show
from reasonknee_datasets.load import load_dataset
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare
from reasonknee_datasets.volumes import bytes_read

if TYPE_CHECKING:
    from reasonknee_datasets.phantom.scan_grids import Size

# A finding that is there to be seen: the demo looks for the first row of this category with a grade above 0.
_CATEGORY = "bone_marrow_lesion"
_ROWS_SEARCHED = 500


@dataclass(frozen=True, slots=True)
class Demo:
    """Result of the demo: files, and the example that it showed."""

    release: Path
    repository: Path
    figure: Path
    example_id: str


def run_demo(out: Path, *, patients: int, size: Size, seed: int, say: Callable[[str], None]) -> Demo:
    """Make a synthetic release, prepare it, stream it, crop one box and draw it.

    Parameters
    ----------
    out : Path
        A folder that does not exist yet.
    patients, size, seed
        As for `reasonknee_datasets.phantom.write_release`.
    say : callable
        Receives one line a step.

    Raises
    ------
    PrepareError
        If ``out`` exists.
    MissingExtraError
        If matplotlib is not installed; nothing is written then.
    """
    if out.exists():
        raise PrepareError(f"The folder {out} exists already. Remove it, or choose another one with --out.")
    if find_spec("matplotlib") is None:
        raise missing_extra("matplotlib", "figures", "the picture at the end of the demo")
    release, repository, figure = out / "release", out / "3dreasonknee", out / "example.png"

    started = time.perf_counter()

    def step(text: str) -> None:
        say(f"[{time.perf_counter() - started:5.1f} s] {text}")

    write_release(release, patients=patients, size=size, seed=seed)
    step(f"wrote a SYNTHETIC release of {patients} patients in the official layout: {release}")
    prepare(release, repository)
    step(f"prepared it as Parquet and seekable .nii.gz: {repository}")
    rows = load_dataset("3dreasonknee", split="train", streaming=True, data_dir=str(repository))
    example = _first_finding(rows)
    step(f"streamed to the first {_CATEGORY} with a grade above 0: {example['id']}")
    say(_describe(example))
    volume, box = example["volume"], Box.from_row(example["box"])
    shape, before = volume.shape, bytes_read()  # asking for the shape reads the header and the index of slabs
    crop = volume.slicer[box.slices].get_fdata()
    read, held = bytes_read() - before, (repository / example["volume_path"]).stat().st_size
    step(f"cropped {crop.shape} of {shape} voxels: read {read:,} of the file's {held:,} bytes, {read / held:.0%}")
    show(example, out=figure)
    step(f"drew it: {figure}")
    say(f"To load it: load_dataset('3dreasonknee', data_dir={str(repository)!r}, split='train')")
    return Demo(release, repository, figure, example["id"])


def _first_finding(rows: Any) -> dict[str, Any]:
    """Take the first row worth a picture; the very first row where the sample has none."""
    first: dict[str, Any] | None = None
    for number, row in enumerate(rows):
        first = first or row
        if row["category"] == _CATEGORY and any(grade["grade"] for grade in row["grades"]):
            return dict(row)
        if number >= _ROWS_SEARCHED:
            break
    if first is None:
        raise PrepareError("The train split has no rows. Ask for at least 3 patients.")
    return first


def _describe(example: dict[str, Any]) -> str:
    grades = ", ".join(f"{grade['attribute']} {grade['grade']} ({grade['scale']})" for grade in example["grades"])
    steps = "\n".join(f"    {number}. {text.strip()}" for number, text in enumerate(example["reasoning"], 1))
    return (
        f"  question  {example['question']}\n  box       {example['box']}\n  grades    {grades}\n"
        f"  reasoning\n{steps}\n  answer    {example['answer']}"
    )
