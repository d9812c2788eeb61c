"""Make the pictures of the browser in ``docs/pictures``: run ``python tools/screenshots.py`` from the repository.

It prepares a synthetic release, starts `reasonknee browse`, and photographs its pages in headless Chromium, which it
needs, with playwright and Pillow (extra ``test``).
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, sync_playwright

from reasonknee_datasets import load_dataset
from reasonknee_datasets.bench.truth import read_truth
from reasonknee_datasets.figures import gallery
from reasonknee_datasets.moaks import SLOTS
from reasonknee_datasets.phantom import write_release
from reasonknee_datasets.prepare import prepare

OUT = Path(__file__).parents[1] / "docs" / "pictures"
OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
LIMIT = 150_000  # bytes of a picture


@contextmanager
def browsing(*arguments: str | Path) -> Iterator[str]:
    """Run `reasonknee browse` on a free port; yields its address."""
    command = [sys.executable, "-m", "reasonknee_datasets", "browse", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[0].rstrip("/")
        finally:
            process.kill()


def take(page: Page, address: str, name: str) -> None:
    """Photograph a page once its volumes are drawn."""
    page.goto(address)
    while not page.evaluate("[...document.querySelectorAll('canvas')].every(canvas => canvas.dataset.drawn == 'all')"):
        page.wait_for_timeout(100)
    page.wait_for_timeout(500)
    save(Image.open(io.BytesIO(page.screenshot())), name)


def save(picture: Image.Image, name: str) -> None:
    """Write a picture as WebP, small enough for the repository."""
    path = OUT / f"{name}.webp"
    picture.convert("RGB").save(path, quality=85, method=6)
    if path.stat().st_size > LIMIT:
        raise SystemExit(f"{path} has {path.stat().st_size:,} bytes, more than {LIMIT:,}. Lower the quality.")


def write_answers(data: Path, out: Path) -> None:
    """Write predictions that are one grade too low, with boxes moved by six voxels."""
    truth = read_truth(str(data), "test")
    with out.open("w", encoding="utf-8") as file:
        for row, name in enumerate(truth.ids):
            pairs = zip(truth.slots[row].tolist(), truth.grades[row].tolist(), strict=True)
            slots = {SLOTS[slot].attribute: max(0, grade - 1) for slot, grade in pairs if slot >= 0 and grade >= 0}
            box = (truth.boxes[row] + [0, 6, 6, 0, 6, 6]).tolist()
            file.write(json.dumps({"id": name, "slots": slots, "box": box}) + "\n")


def main() -> None:
    """Prepare the data and take all pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("No chromium on this machine. Install it, then run again.")
    OUT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        work = Path(folder)
        data, answers = work / "3dreasonknee", work / "answers.jsonl"
        write_release(work / "release", patients=6, seed=0)
        prepare(work / "release", data)
        write_answers(data, answers)
        rows = load_dataset(str(data), split="train", streaming=True, filters={"category": "cartilage_lesion"})
        graded = (row for row in rows if any((grade["grade"] or 0) > 1 for grade in row["grades"]))
        gallery(graded, count=8, out=work / "gallery.png", look="light")
        with Image.open(work / "gallery.png") as picture:
            save(picture, "gallery")
        browser = driver.chromium.launch(executable_path=chromium, args=OPTIONS)
        light = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme="light")
        dark = browser.new_page(viewport={"width": 1280, "height": 760}, color_scheme="dark")
        with browsing(data) as address:
            dark.goto(f"{address}/?category=bone_marrow_lesion&attribute=size&grade=2")
            example = str(dark.locator("tbody a").first.get_attribute("href"))
            take(dark, address + example, "browse-example")
            take(light, f"{address}/?category=cartilage_lesion&subregion=medial&attribute=size&grade=1", "browse-list")
            take(light, address + example.partition("?")[0].replace("/example/", "/visits/"), "browse-visits")
        with browsing(data, "--predictions", answers) as address:
            dark.goto(f"{address}/?category=cartilage_lesion")
            take(dark, address + str(dark.locator("tbody a").first.get_attribute("href")), "browse-predictions")
        browser.close()


if __name__ == "__main__":
    main()
