"""The pages in a real headless Chromium: drawn pixels, keys, errors, and requests that leave the machine."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from tests.helpers.browser_process import browsing
from tests.helpers.marked_repository import HOSTILE_ID, SCRIPT

playwright = pytest.importorskip("playwright.sync_api", reason="the pages are driven by playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed"),
    pytest.mark.xdist_group("browser"),
]

# WebGL 2 in software. Chromium's own services ask for updates; every name but the loopback's is unknown to it.
OPTIONS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
OPTIONS += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
_READY = "[...document.querySelectorAll('canvas[data-scene]')].every(canvas => canvas.dataset.drawn == 'all')"
_AMBER, _BLUE = (255, 176, 0), (86, 207, 255)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        yield browser
        browser.close()


class Watched:
    """A page, what its console said, and what it asked for."""

    def __init__(self, chromium: Any, address: str) -> None:
        self.address = address
        self.page = chromium.new_page(viewport={"width": 1200, "height": 800})
        self.page.set_default_timeout(120_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(f"error: {error}"))
        self.page.on("request", lambda request: self.asked.append(request.url))

    def open(self, path: str) -> Any:
        self.page.goto(self.address + path)
        self.wait()
        return self.page

    def wait(self) -> None:
        self.until(_READY)

    def until(self, condition: str) -> None:
        """Wait until a JavaScript expression is true; the page's policy forbids playwright's `wait_for_function`."""
        for _ in range(2400):
            if self.page.evaluate(condition):
                return
            self.page.wait_for_timeout(50)
        raise AssertionError(f"never true: {condition}; the console said {self.said}")

    def pixels(self, number: int = 0) -> np.ndarray:
        """Photograph one viewer, without the legend and crosshair that lie over it."""
        from PIL import Image

        self.page.evaluate(
            "() => { for (const text of document.querySelectorAll('.viewer p')) text.hidden = true;"
            "for (const canvas of document.querySelectorAll('canvas')) canvas.viewer.nv.setCrosshairWidth(0); }"
        )
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
        shot = self.page.locator("canvas").nth(number).screenshot()
        return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)

    def tiles(self, number: int = 0) -> dict[str, tuple[int, int, int, int]]:
        """Find where each slice is drawn: left, top, width, height, by plane."""
        slices = self.page.evaluate(
            "number => document.querySelectorAll('canvas')[number].viewer.nv.screenSlices"
            ".map(slice => [slice.axCorSag, ...slice.leftTopWidthHeight])",
            number,
        )
        names = {0: "axial", 1: "coronal", 2: "sagittal"}
        edge = 3  # without the lines of the neighbours
        return {
            names[kind]: (round(left) + edge, round(top) + edge, round(width) - 2 * edge, round(height) - 2 * edge)
            for kind, left, top, width, height in slices
            if kind in names
        }


@pytest.fixture
def watched(chromium: Any, address: str) -> Iterator[Watched]:
    watched = Watched(chromium, address)
    yield watched
    watched.page.close()
    assert watched.said == []
    outside = [url for url in watched.asked if not url.startswith((f"{address}/", "data:", "blob:"))]
    assert outside == []
    assert len(watched.asked) > 1


def bounds(mask: np.ndarray) -> np.ndarray:
    """Lowest and highest row and column that are set."""
    rows, columns = np.nonzero(mask)
    assert rows.size > 10
    return np.array([rows.min(), columns.min(), rows.max(), columns.max()])


def near(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return np.abs(pixels - colour).max(axis=-1) < 40


@pytest.mark.parametrize("volume", ["0000001/12M/left", "0000002/00M/right"])
def test_box_surrounds_its_content(watched: Watched, volume: str) -> None:
    watched.open(f"/example/{volume}/q01")
    pixels = watched.pixels()
    tiles = watched.tiles()
    assert set(tiles) == {"axial", "coronal", "sagittal"}
    for left, top, width, height in tiles.values():
        tile = pixels[top : top + height, left : left + width]
        bright = tile.min(axis=-1) > 180  # the voxels of the box, which the slices at its centre cut
        grey = (tile.max(axis=-1) > 30) & (tile.max(axis=-1) < 180)
        assert grey.sum() > 500, "the volume round it is drawn"
        outline, inside = bounds(near(tile, _AMBER)), bounds(bright)
        # The line is drawn on the border, and hides up to its own width of what is bright.
        np.testing.assert_allclose(outline, inside, atol=6)


def test_box_of_oblique_volume(watched: Watched) -> None:
    watched.open("/example/0000001/48M/left/q01")
    pixels = watched.pixels()
    for left, top, width, height in watched.tiles().values():
        tile = pixels[top : top + height, left : left + width]
        outline, inside = bounds(near(tile, _AMBER)), bounds(tile.min(axis=-1) > 180)
        assert (outline[:2] <= inside[:2] + 2).all()
        assert (outline[2:] >= inside[2:] - 2).all()
        assert np.abs(outline - inside).max() < 45


def test_the_3d_view_shows_volume_and_box(watched: Watched) -> None:
    watched.open("/example/0000001/00M/left/q01")
    pixels = watched.pixels()
    for left, top, width, height in watched.tiles().values():
        pixels[top : top + height, left : left + width] = 0
    assert near(pixels, _AMBER).sum() > 100
    assert (pixels.max(axis=-1) > 30).sum() > 2000


def test_keys_move_through_the_list_and_back(watched: Watched, address: str) -> None:
    page = watched.open("/example/0000001/00M/left/q01?visit=00M&side=left")
    loaded = sum("/volumes/" in url for url in watched.asked)
    for key, question in (
        ("n", "q16"),
        ("ArrowRight", "q40"),
        ("ArrowRight", "q40"),
        ("p", "q16"),
        ("ArrowLeft", "q01"),
    ):
        page.keyboard.press(key)
        page.wait_for_url(f"{address}/example/0000001/00M/left/{question}?visit=00M&side=left")
        watched.until(f"document.querySelector('.identity').textContent.includes('{question}')")
    assert sum("/volumes/" in url for url in watched.asked) == loaded, "the volume is the same and is not read again"
    page.go_back()
    watched.until("document.querySelector('.identity').textContent.includes('q16')")
    page.keyboard.press("v")
    page.wait_for_url(f"{address}/visits/0000001/00M/left/q16?visit=00M&side=left")
    watched.wait()
    page.keyboard.press("l")
    page.wait_for_url(f"{address}/example/0000001/00M/left/q16?visit=00M&side=left")
    watched.wait()
    page.keyboard.press("l")
    page.wait_for_url(f"{address}/?visit=00M&side=left")


def test_next_volume_draws_its_box(watched: Watched, address: str) -> None:
    page = watched.open("/example/0000001/00M/left/q01?category=bone_marrow_lesion&split=train")
    page.keyboard.press("n")
    page.wait_for_url(f"{address}/example/0000001/12M/left/q01?*")
    watched.until("document.querySelector('canvas').viewer.volume?.includes('12M')")
    tile = watched.tiles()["axial"]
    pixels = watched.pixels()[tile[1] : tile[1] + tile[3], tile[0] : tile[0] + tile[2]]
    np.testing.assert_allclose(bounds(near(pixels, _AMBER)), bounds(pixels.min(axis=-1) > 180), atol=6)


def test_quick_keys_leave_one_volume(watched: Watched, address: str) -> None:
    page = watched.open("/example/0000001/00M/left/q01?category=bone_marrow_lesion&split=train")
    for visit in ("12M", "48M"):
        page.keyboard.press("n")
        page.wait_for_url(f"{address}/example/0000001/{visit}/left/q01?*")
    watched.until("document.querySelector('canvas').viewer.volume?.includes('48M')")
    watched.wait()
    assert page.evaluate("document.querySelector('canvas').viewer.nv.volumes.length") == 1
    for left, top, width, height in watched.tiles().values():
        pixels = watched.pixels()[top : top + height, left : left + width]
        assert np.abs(bounds(near(pixels, _AMBER)) - bounds(pixels.min(axis=-1) > 180)).max() < 45


def test_volumes_that_are_left_are_freed(chromium: Any, address: str) -> None:
    watched = Watched(chromium, address)
    page = watched.open("/example/0000001/00M/left/q01?category=bone_marrow_lesion&split=train")
    page.evaluate("window.left = new WeakRef(document.querySelector('canvas').viewer.nv.volumes[0])")
    page.keyboard.press("n")
    watched.until("document.querySelector('canvas').viewer.volume?.includes('12M')")
    watched.wait()
    collected = page.context.new_cdp_session(page)
    collected.send("HeapProfiler.collectGarbage")
    assert page.evaluate("left.deref() === undefined")
    page.close()


def test_page_prefetches_next_volume(watched: Watched) -> None:
    watched.open("/example/0000001/00M/left/q01?category=bone_marrow_lesion&split=train")
    watched.page.wait_for_load_state("networkidle")
    before = [url.rpartition("/volumes/")[2] for url in watched.asked if "/volumes/" in url]
    assert before == ["0000001/00M_left.nii.gz", "0000001/12M_left.nii.gz"]
    watched.page.keyboard.press("n")
    watched.until("document.querySelector('canvas').viewer.volume?.includes('12M')")
    watched.wait()
    watched.page.wait_for_load_state("networkidle")
    after = [url.rpartition("/volumes/")[2] for url in watched.asked if "/volumes/" in url]
    assert after == [*before, "0000001/48M_left.nii.gz"]


def test_key_b_hides_the_box(watched: Watched) -> None:
    page = watched.open("/example/0000001/00M/left/q01")
    assert near(watched.pixels(), _AMBER).sum() > 100
    page.keyboard.press("b")
    assert near(watched.pixels(), _AMBER).sum() == 0
    page.keyboard.press("b")
    assert near(watched.pixels(), _AMBER).sum() > 100


def test_visits_are_drawn_side_by_side(watched: Watched) -> None:
    watched.open("/visits/0000001/00M/left/q01")
    for number in range(3):
        pixels = watched.pixels(number)
        assert near(pixels, _AMBER).sum() > 50
        assert (pixels.min(axis=-1) > 180).sum() > 50


@pytest.mark.parametrize("path", ["/", "/example/0000001/00M/left/q16", f"/example/{quote(HOSTILE_ID)}"])
def test_script_in_texts_is_shown(watched: Watched, path: str) -> None:
    page = watched.open(path)
    assert SCRIPT in page.locator("body").inner_text()
    assert page.title() != "owned"
    assert page.locator("img").count() == 0
    assert page.evaluate("document.querySelectorAll('script:not([src])').length") == 0


def test_the_filter_form_works(watched: Watched, address: str) -> None:
    page = watched.open("/")
    page.locator("select[name=category]").select_option("osteophyte")
    page.locator("input[name=patient]").fill("0000002")
    page.locator("button", has_text="Filter").click()
    page.wait_for_url(f"{address}/?*category=osteophyte*")
    assert page.locator("tbody tr").count() == 1
    page.locator("tbody a").click()
    watched.wait()
    assert page.locator(".steps .count").inner_text() == "1 of 1"


def test_predicted_boxes_have_their_own_colour(chromium: Any, marked: Path, answered: Path) -> None:
    with browsing(marked, "--predictions", str(answered)) as address:
        watched = Watched(chromium, address)
        watched.open("/example/0000001/00M/left/q01")
        pixels = watched.pixels()
        assert near(pixels, _AMBER).sum() > 100
        assert near(pixels, _BLUE).sum() > 100
        watched.page.close()
        assert watched.said == []


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 700)])
def test_nothing_is_cut_off_at_an_edge(chromium: Any, address: str, scheme: str, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for path in ("/", "/example/0000001/00M/left/q01", "/visits/0000001/00M/left/q01"):
        page.goto(address + path)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        whole = "[...document.querySelectorAll('.scroll')].every(each => each.scrollWidth <= each.clientWidth)"
        assert page.evaluate(whole), path
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 19, 24)"
    assert dark == (scheme == "dark")
    page.close()
