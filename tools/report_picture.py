"""Write ``docs/report.jpg``: score made answers with ``reasonknee evaluate`` and take a picture of the report.

Run ``python tools/report_picture.py [FOLDER]`` from the repository; with a folder, report and picture of the whole
page are saved there too. No model is used: the annotations are synthetic, and the answers are made from the truth by a
noisy reader, which is right in most slots, off by one grade in others, leaves some out, and draws boxes that are a few
voxels off. It needs chromium and Pillow.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.moaks import QUESTIONS
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare

PATIENTS, WIDTH, HEIGHT = 120, 1300, 2100
RIGHT, MISSING, OFF = 0.93, 0.02, 0.15


def reasonknee(*arguments: str | Path) -> None:
    """Run the command line."""
    subprocess.run([sys.executable, "-m", "reasonknee_datasets", *map(str, arguments)], check=True)


def write_answers(data: Path, out: Path) -> None:
    """Answer every test record by a noisy reading of the truth: no model, and no image."""
    truth, draw = read_truth(str(data), "test"), np.random.default_rng(0)
    with out.open("w", encoding="utf-8") as file:
        for row, name in enumerate(truth.ids):
            slots = {}
            for slot, grade in zip(QUESTIONS[int(truth.question[row])].slots, truth.grades[row].tolist(), strict=False):
                if grade < 0 or draw.random() < MISSING:
                    continue
                off = 0 if draw.random() < RIGHT else int(draw.choice([-1, 1]))
                slots[slot.attribute] = min(max(grade + off, slot.low), slot.high)
            start, stop = truth.boxes[row, :3], truth.boxes[row, 3:]
            noise = draw.normal(0, OFF, (2, 3)) * (stop - start)
            low = np.maximum(np.rint(start + noise[0]), 0).astype(int)
            high = np.maximum(np.rint(stop + noise[1]), low + 1).astype(int)
            file.write(json.dumps({"id": name, "slots": slots, "box": [*low.tolist(), *high.tolist()]}) + "\n")


def take_picture(page: Path, out: Path, profile: Path, height: int = HEIGHT) -> None:
    """Take a picture of the top of a page, 1,300 pixels wide."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("No chromium on this machine. Install it, then run again.")
    shot = profile.with_suffix(".png")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
    size = [f"--window-size={WIDTH},{height}", f"--user-data-dir={profile}", f"--screenshot={shot}"]
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
            *("--model", "noisy reader of the truth (made answers)", "--condition", "own_region"),
        )
        take_picture(report / "report.html", Path(__file__).parents[1] / "docs" / "report.jpg", work / "profile")
        if len(sys.argv) > 1:
            shutil.copytree(report, sys.argv[1], dirs_exist_ok=True)
            take_picture(report / "report.html", Path(sys.argv[1]) / "whole.png", work / "profile", height=9000)


if __name__ == "__main__":
    main()
