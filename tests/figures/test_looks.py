"""Colours that are used together keep their contrast for all common kinds of colour vision."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest

from reasonknee_datasets.figures.looks import (
    BOX,
    LOOKS,
    PREDICTED,
    SLICE_CAPTION,
    SLICE_TEXT,
    SLICE_WARNING,
    FigureError,
    find_look,
)
from tests.helpers.paths import ROOT

# Machado, Oliveira and Fernandes (2009), severity 1.0, for linear RGB.
VISIONS = {
    "normal": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
TEXT = 4.5  # WCAG 2, level AA
APART = 20.0  # CIE76; 2.3 is just noticeable


def linear(colour: str, vision: str) -> np.ndarray:
    """Simulate a kind of colour vision, in linear RGB."""
    encoded = np.array(list(bytes.fromhex(colour[1:]))) / 255
    values = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return np.clip(VISIONS[vision] @ values, 0, 1)


def contrast(one: str, two: str, vision: str) -> float:
    """WCAG's ratio of luminances, 1 to 21."""
    high, low = sorted((float(linear(each, vision) @ (0.2126, 0.7152, 0.0722)) for each in (one, two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def difference(one: str, two: str, vision: str) -> float:
    """CIE76 distance in L*a*b*."""

    def lab(colour: str) -> np.ndarray:
        to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
        ratio = to_xyz @ linear(colour, vision) / (0.9505, 1.0, 1.089)
        cubic = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
        return np.array([116 * cubic[1] - 16, 500 * (cubic[0] - cubic[1]), 200 * (cubic[1] - cubic[2])])

    return float(np.linalg.norm(lab(one) - lab(two)))


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("name", LOOKS)
def test_text_is_readable(name: str, vision: str) -> None:
    look = find_look(name)
    pairs = [(each, look.paper) for each in (look.ink, look.faint, look.accent, look.warning)]
    pairs += [(look.paper, look.accent), (look.faint, look.rule)]
    assert {pair: round(contrast(*pair, vision), 1) for pair in pairs if contrast(*pair, vision) < TEXT} == {}


@pytest.mark.parametrize("vision", VISIONS)
def test_box_colours_differ_from_grey(vision: str) -> None:
    assert difference(BOX, PREDICTED, vision) > 2 * APART
    for colour, grey in product((BOX, PREDICTED), range(0, 256, 5)):
        assert difference(colour, f"#{grey:02x}{grey:02x}{grey:02x}", vision) > (APART if colour == BOX else 10)
    for colour in (SLICE_TEXT, SLICE_CAPTION, SLICE_WARNING, BOX):
        assert contrast(colour, "#000000", vision) > TEXT


@pytest.mark.parametrize("vision", VISIONS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_browser_s_pages_are_readable(scheme: str, vision: str) -> None:
    css = (ROOT / "reasonknee_datasets/browse/static/browse.css").read_text(encoding="utf-8")
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", css, re.S)
    )
    colours = light if scheme == "light" else dark
    pairs = [("on-true", "true"), ("paper", "link")]
    pairs += list(product(("ink", "faint", "link", "true", "wrong", "predicted"), ("paper", "panel")))
    low = {pair: contrast(colours[pair[0]], colours[pair[1]], vision) for pair in pairs}
    assert {pair: value for pair, value in low.items() if value < TEXT} == {}


def test_check_fails_on_confused_colours() -> None:
    assert difference("#d62728", "#6f7b00", "deuteranopia") < APART < difference("#d62728", "#6f7b00", "normal")
    assert contrast("#98a2b3", "#ffffff", "normal") < TEXT


def test_an_unknown_look_is_named() -> None:
    with pytest.raises(FigureError, match=r"Unknown look 'bright'\. Available: dark, light\."):
        find_look("bright")
