"""The pages as HTTP: what they show, which files they serve, and whom they refuse."""

from __future__ import annotations

import gzip
import html
import re
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

from reasonknee_datasets.boxes import Box, world_bounds
from reasonknee_datasets.browse.browser_app import Browser
from reasonknee_datasets.browse.host_check import host_name
from reasonknee_datasets.browse.row_index import RowIndex
from reasonknee_datasets.sources import open_repository
from tests.helpers.browser_process import ask, browsing
from tests.helpers.marked_repository import HOSTILE_ID, SCRIPT

_EXAMPLE = "/example/0000001/00M/left/q16"
_VOLUME = "/volumes/volumes/0000001/00M_left.nii.gz"


def page(address: str, path: str) -> str:
    status, _, body = ask(address, path)
    assert status == 200, body[:500]
    return body.decode()


def test_the_list_links_every_row(address: str) -> None:
    ids = re.findall(r'<a href="/example/([^"?]+)', page(address, "/"))
    assert len(ids) == 16
    assert ids[0] == "0000001/00M/left/q01"


def test_filters_stay_in_links(address: str) -> None:
    listed = page(address, "/?category=cartilage_lesion&side=left")
    assert "<strong>3</strong> of 16 rows" in listed
    link = html.unescape(re.findall(r'<a href="(/example/[^"]+)', listed)[1])
    assert link == "/example/0000001/12M/left/q16?category=cartilage_lesion&side=left"
    shown = html.unescape(page(address, link))
    assert "2 of 3" in shown
    assert 'id="next" href="/example/0000001/48M/left/q16?category=cartilage_lesion&side=left"' in shown
    assert 'id="previous" href="/example/0000001/00M/left/q16?category=cartilage_lesion&side=left"' in shown


def test_example_page_shows_texts_and_grades(address: str) -> None:
    shown = page(address, _EXAMPLE)
    for text in ("Is it worn?", "I look at the surface.", "size", "depth", "0000001/00M/left/q16", "8, 12, 15"):
        assert text in shown
    assert '<i class="true">1</i>' in shown
    assert "All 3 scans" in shown


def test_visits_show_the_same_knee_and_question(address: str) -> None:
    shown = page(address, "/visits/0000001/12M/left/q16")
    assert re.findall(r"<h2><a href=\"/example/([^\"?]+)", shown) == [
        f"0000001/{visit}/left/q16" for visit in ("00M", "12M", "48M")
    ]
    assert shown.count("<canvas") == 3


def test_id_in_query_opens_page(address: str) -> None:
    status, headers, _ = ask(address, "/?id=0000001/00M/left/q16")
    assert (status, headers["location"]) == (303, _EXAMPLE)


@pytest.mark.parametrize(
    ("query", "problem"),
    [("grade=two", "The grade 'two' is not a whole number"), ("grade=1&compare=near", "Unknown comparison 'near'")],
)
def test_a_wrong_filter_is_named(address: str, query: str, problem: str) -> None:
    status, _, body = ask(address, f"/?{query}")
    assert status == 400
    assert problem in html.unescape(body.decode())


@pytest.mark.parametrize("number", ["0", "-3", "99", "x", "1e9", "9" * 30])
def test_page_numbers_outside_are_brought_inside(address: str, number: str) -> None:
    assert "Page 1 of 1" in page(address, f"/?page={number}")


def test_no_match_is_said(address: str) -> None:
    assert "No row matches" in page(address, "/?patient=9999999")


def test_volume_response_and_ranges(address: str, marked: Path) -> None:
    stored = (marked / "volumes/0000001/00M_left.nii.gz").read_bytes()
    status, headers, body = ask(address, _VOLUME)
    assert (status, body) == (200, stored)
    assert "content-encoding" not in headers
    assert headers["accept-ranges"] == "bytes"
    status, headers, body = ask(address, _VOLUME, Range="bytes=100-299")
    assert (status, body) == (206, stored[100:300])
    assert headers["content-range"] == f"bytes 100-299/{len(stored)}"
    assert gzip.decompress(stored)[344:348] == b"n+1\0"


_OUTSIDE = (
    "../manifest.json",
    "../../etc/passwd",
    "..%2fmanifest.json",
    "%2e%2e/manifest.json",
    "%2e%2e%2f%2e%2e%2fmanifest.json",
    "..%5cmanifest.json",
    "%252e%252e%252fmanifest.json",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "volumes/0000001/../../manifest.json",
    "volumes/0000001/../0000001/00M_left.nii.gz",
    "volumes/0000001//00M_left.nii.gz",
    "./volumes/0000001/00M_left.nii.gz",
    "manifest.json",
    "data/train-00000-of-00001.parquet",
    "volumes/0000001",
    "volumes/0000001/secret.nii.gz",
    "volumes/0000001/link.nii.gz",
    "volumes/0000001/00M_left.nii.gz%00",
    "",
)


@pytest.mark.parametrize("prefix", ["/volumes/", "/example/", "/visits/", "/static/"])
@pytest.mark.parametrize("path", _OUTSIDE)
def test_paths_reach_nothing_but_recorded_volumes(address: str, marked: Path, prefix: str, path: str) -> None:
    (marked / "volumes/0000001/secret.nii.gz").write_bytes(b"secret")
    link = marked / "volumes/0000001/link.nii.gz"
    if not link.is_symlink():
        link.symlink_to("/etc/passwd")
    status, _, body = ask(address, prefix + path)
    assert status in (404, 405), (status, body[:200])
    assert b"secret" not in body
    assert b"root:" not in body
    assert b"checksum" not in body


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:80",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "localhost@evil",
        "",
        "x:y",
    ],
)
def test_a_foreign_host_is_refused(address: str, host: str) -> None:
    for path in ("/", _EXAMPLE, _VOLUME, "/static/browse.js"):
        status, _, body = ask(address, path, Host=host)
        assert status == 403, path
        assert b"Host header names another server" in body


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1.evil.example", "file://", ""])
def test_a_foreign_origin_is_refused(address: str, origin: str) -> None:
    status, headers, body = ask(address, _VOLUME, Origin=origin)
    assert (status, body) == (403, b"Refused: the request comes from a page of another site.\n")
    assert "access-control-allow-origin" not in headers


def test_embedding_by_another_site_refused(address: str) -> None:
    other = {"Sec_Fetch_Site": "cross-site"}
    assert ask(address, _VOLUME, **other, Sec_Fetch_Mode="no-cors")[0] == 403
    assert ask(address, "/", **other, Sec_Fetch_Mode="navigate")[0] == 200  # a link in a mail


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1234", "127.0.0.1", "[::1]:8317"])
def test_names_of_the_loopback_are_admitted(address: str, host: str) -> None:
    assert ask(address, "/", Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.slow
def test_a_named_host_and_frame_are_admitted(marked: Path) -> None:
    options = ("--allow-host", "knee.hf.space", "--embed-in", "https://huggingface.co")
    with browsing(marked, *options) as address:
        status, headers, _ = ask(address, "/", Host="knee.hf.space", Origin="https://knee.hf.space")
        assert status == 200
        assert "frame-ancestors https://huggingface.co" in headers["content-security-policy"]
        assert ask(address, "/", Host="other.hf.space")[0] == 403


def test_every_answer_carries_the_policy(address: str) -> None:
    for path in ("/", _EXAMPLE, _VOLUME, "/static/browse.js", "/static/niivue.js", "/nothing"):
        headers = ask(address, path)[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert "http" not in policy
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", [_EXAMPLE, "/visits/0000001/00M/left/q16", "/", f"/example/{quote(HOSTILE_ID)}"])
def test_texts_are_escaped(address: str, path: str) -> None:
    shown = page(address, path)
    assert SCRIPT not in shown
    assert "<script>document" not in shown
    assert "<script>alert" not in shown
    assert 'onerror="' not in shown
    assert "1337" not in shown


@pytest.mark.parametrize("query", ["subregion", "patient", "category", "page", "id"])
def test_what_a_query_says_is_escaped(address: str, query: str) -> None:
    for path in ("/", _EXAMPLE):
        body = ask(address, f"{path}?{query}={quote(SCRIPT)}")[2].decode()
        assert "<script>document" not in body
        assert "<img" not in body


def test_row_without_volume_has_no_viewer(address: str) -> None:
    shown = page(address, f"/example/{quote(HOSTILE_ID)}")
    assert "<canvas" not in shown
    assert "The volume of this row is not in the folder" in shown


@pytest.mark.slow
def test_predictions_come_worst_first_with_both_boxes(marked: Path, answered: Path) -> None:
    with browsing(marked, "--predictions", str(answered)) as address:
        listed = page(address, "/")
        ids = [name[-3:] for name in re.findall(r'<a href="/example/([^"?]+)', listed)]
        assert ids == ["q16", "q01", "q40"]  # 2 of 2 wrong, 1 of 3 wrong, none wrong
        stored = [name[-3:] for name in re.findall(r'<a href="/example/([^"?]+)', page(address, "/?order=stored"))]
        assert len(stored) == 16
        shown = page(address, "/example/0000001/00M/left/q01")
        assert "1 of 3 grades wrong, box IoU 0.50" in shown
        assert "predicted box" in shown
        assert '<i class=" predicted">3</i>' in shown
        assert "&lt;b&gt;no idea&lt;/b&gt;" in page(address, "/example/0000001/12M/left/q16")


def test_scene_mask(marked: Path) -> None:
    index = RowIndex(open_repository(str(marked), where="data_dir"))
    scene = Browser(index, marked).scene(0)
    assert scene is not None
    assert (scene["volume"], scene["mask"]) == (_VOLUME, None)
    mask = "masks/0000001/00M_left.nii.gz"
    index.masks["volumes/0000001/00M_left.nii.gz"] = mask
    browser = Browser(index, marked)
    assert browser.scene(0)["mask"] is None, "its file is absent"  # type: ignore[index]
    (marked / mask).parent.mkdir(parents=True)
    (marked / mask).write_bytes((marked / "volumes/0000001/00M_left.nii.gz").read_bytes())
    assert browser.scene(0)["mask"] == f"/volumes/{mask}"  # type: ignore[index]
    assert browser.file(mask) == marked / mask


def test_scene_box_corners(marked: Path) -> None:
    index = RowIndex(open_repository(str(marked), where="data_dir"))
    corners = np.array(Browser(index, marked).scene(3)["box"])  # type: ignore[index]  # 12M, stored PIR
    row = index.brief(3)
    affine = np.array(index.repository.manifest.volumes[row["volume_path"]].affine)
    bounds = world_bounds(Box.from_row(row["box"]), affine)
    np.testing.assert_allclose([corners.min(axis=0), corners.max(axis=0)], bounds)


@pytest.mark.parametrize(
    ("authority", "host"),
    [("a:1", "a"), ("A", "a"), ("[::1]", "::1"), ("a/b", ""), ("a@b", ""), ("a:b", ""), ("a?b", ""), ("[::1", "")],
)
def test_host_name(authority: str, host: str) -> None:
    assert host_name(authority) == host
