"""Make ``docs/report.jpg`` anew: score a real answer file with ``reasonknee evaluate`` and photograph its page.

Run ``python docs/report_picture.py`` from the repository. It writes the annotations of synthetic patients, answers the
test split with the nearest train boxes' most frequent grades (the baseline ``box_only``) in place of a model, and
needs chromium and Pillow.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from reasonknee_datasets.bench.box_grader import BoxGrader
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare

PATIENTS, WIDTH, HEIGHT = 120, 1300, 2100


def reasonknee(*arguments: str | Path) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "reasonknee_datasets", *map(str, arguments)], check=True)


def write_answers(data: Path, out: Path) -> None:
    """Answer every test record by the grades of the nearest train boxes."""
    truth = read_truth(str(data), "test")
    answers = BoxGrader(read_truth(str(data), "train")).answer(truth)
    with out.open("w", encoding="utf-8") as file:
        for row, name in enumerate(truth.ids):
            slots = QUESTIONS[int(truth.question[row])].slots
            grades = zip(slots, answers.grades[row].tolist(), strict=False)
            line = {"id": name, "slots": {slot.attribute: grade for slot, grade in grades if grade >= 0}}
            file.write(json.dumps(line) + "\n")


def take_picture(page: Path, out: Path, profile: Path) -> None:
    """Photograph the top of a page, 1,300 pixels wide."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("No chromium on this machine. Install it, then run again.")
    shot = profile.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    size = [f"--window-size={WIDTH},{HEIGHT}", f"--user-data-dir={profile}", f"--screenshot={shot}"]
    subprocess.run([browser, *options, *size, page.as_uri()], check=True, timeout=120)
    Image.open(shot).convert("RGB").save(out, quality=80)


def main() -> None:
    """Write the data, score the answers, and save the picture."""
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data, report = work / "3dreasonknee", work / "report"
        write_release(work / "release", patients=PATIENTS, seed=5, annotations_only=True, workers=1)
        # Without masks the box convention cannot be measured, so it is stated.
        convention = "slice0-x1-y2-pairs-inclusive-voxel"
        prepare(work / "release", data, volumes="none", box_convention=convention, allow=["missing-mask"], workers=1)
        write_answers(data, work / "answers.jsonl")
        reasonknee(
            *("evaluate", "--predictions", work / "answers.jsonl", "--data", data, "--out", report),
            *("--model", "nearest train boxes", "--condition", "region_given"),
        )
        take_picture(report / "report.html", Path(__file__).with_name("report.jpg"), work / "profile")


if __name__ == "__main__":
    main()
