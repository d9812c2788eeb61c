"""The web application of the browser: a list of rows, a page for each, and the files of their volumes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from reasonknee_datasets.browse.host_check import HostCheck
from reasonknee_datasets.browse.niivue_bundle import niivue_module
from reasonknee_datasets.browse.prediction_index import PredictionIndex
from reasonknee_datasets.browse.row_index import RowFilter, RowIndex, pretty_answer
from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.figures.example_text import example_text
from reasonknee_datasets.moaks import CATEGORIES
from reasonknee_datasets.schema import SIDES, SPLITS, VISITS

_PAGE_ROWS = 50


@dataclass(frozen=True)
class Browser:
    """Data of the pages.

    Attributes
    ----------
    index : RowIndex
    volumes : Path
        The folder that contains ``volumes/``.
    predictions : PredictionIndex or None
    """

    index: RowIndex
    volumes: Path
    predictions: PredictionIndex | None = None

    @cached_property
    def templates(self) -> Environment:
        """The templates; every value is escaped."""
        found = Environment(
            loader=PackageLoader("reasonknee_datasets.browse"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        found.globals |= {
            "manifest": self.index.repository.manifest,
            "folder": Path(self.index.repository.root).name,
            "predictions": self.predictions,
            "quote": quote,
            "spell": lambda name: name.replace("_", " "),
        }
        return found

    def render(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Fill a template."""
        page = self.templates.get_template(template).render(**values)
        return HTMLResponse(page, status_code=status, headers={"Cache-Control": "no-store"})

    def listed(self, query: Mapping[str, str]) -> tuple[RowFilter, str, NDArray[np.int64]]:
        """Find the rows that a query asks for, in its order: the filter, ``order`` and positions."""
        wanted = RowFilter.from_query(query)
        found = self.index.find(wanted)
        order = query.get("order", "worst") if self.predictions is not None else ""
        if self.predictions is not None and order == "worst":
            found = self.predictions.worst_first(found)
        return wanted, order, found

    def scene(self, position: int) -> dict[str, Any] | None:
        """Describe a row's volume and boxes for the viewer; None where its volume is not here.

        Boxes are the world coordinates (RAS+, mm) of their eight outer corners, for corner number 4 i + 2 j + k.
        """
        row = self.index.brief(position)
        path = row["volume_path"]
        record = self.index.repository.manifest.volumes.get(path)
        if record is None or record.affine is None or not self.volume_url(path):
            return None
        affine = np.asarray(record.affine, dtype=np.float64)
        scene: dict[str, Any] = {
            "volume": self.volume_url(path),
            "box": _corners(row["box"], affine),
            "predicted": None,
        }
        prediction = self.predictions.by_position.get(position) if self.predictions else None
        if prediction is not None and prediction.box is not None:
            scene["predicted"] = _corners(prediction.box, affine)
        scene["mask"] = self.volume_url(self.index.masks.get(path, "")) or None
        return scene

    @cached_property
    def files(self) -> frozenset[str]:
        """The paths of all volumes and masks, as the repository records them; no other file is served."""
        return frozenset({*self.index.repository.manifest.volumes, *self.index.masks.values()})

    def volume_url(self, path: str) -> str:
        """Return the URL of a recorded volume or mask; empty where it is not here."""
        return "" if self.file(path) is None else f"/volumes/{quote(path)}"

    def file(self, path: str) -> Path | None:
        """Find the file of a recorded volume or mask; None for any other path, and where there is no such file."""
        found = self.volumes / path if path in self.files else None
        return found if found is not None and found.is_file() else None


def make_browser_app(browser: Browser, *, hosts: Iterable[str] = (), embed_in: Iterable[str] = ()) -> Starlette:
    """Build the ASGI application.

    Parameters
    ----------
    browser : Browser
    hosts : iterable of str
        Host names of the server, besides those of the loopback.
    embed_in : iterable of str
        Origins whose pages may show it in a frame.
    """

    async def not_found(request: Request, error: Exception) -> Response:
        detail = error.detail if isinstance(error, HTTPException) else "Not found"
        return browser.render("problem.html", 404, problem=detail)

    async def bad_query(request: Request, error: Exception) -> Response:
        return browser.render("problem.html", 400, problem=str(error))

    pages = _Pages(browser)
    return Starlette(
        routes=[
            Route("/", pages.rows),
            Route("/example/{id:path}", pages.example),
            Route("/visits/{id:path}", pages.visits),
            Route("/volumes/{path:path}", pages.volume),
            Route("/static/niivue.js", pages.niivue),
            Mount("/static", StaticFiles(packages=[("reasonknee_datasets.browse", "static")])),
        ],
        middleware=[Middleware(HostCheck, hosts=tuple(hosts), embed_in=tuple(embed_in))],
        exception_handlers={404: not_found, RepositoryError: bad_query},
    )


class _Pages:
    """The handlers; they read files and therefore run in threads."""

    def __init__(self, browser: Browser) -> None:
        self.browser, self.index = browser, browser.index
        self.choices = {
            "split": [name for name in SPLITS if name in self.index.choices("split")],
            "category": [name for name in CATEGORIES if name in self.index.choices("category")],
            "visit": list(VISITS),
            "side": list(SIDES),
            "attribute": self.index.choices("attribute"),
            "compare": ["at least", "exactly", "not graded"],
        }

    def rows(self, request: Request) -> Response:
        if request.query_params.get("id"):
            return RedirectResponse(f"/example/{quote(request.query_params['id'].strip())}", status_code=303)
        wanted, order, found = self.browser.listed(request.query_params)
        last = max(1, -(-len(found) // _PAGE_ROWS))
        asked = request.query_params.get("page", "1")
        page = min(max(1, int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1), last)
        shown = found[(page - 1) * _PAGE_ROWS : page * _PAGE_ROWS].tolist()
        by_position = self.browser.predictions.by_position if self.browser.predictions else {}
        return self.browser.render(
            "rows.html",
            wanted=wanted,
            choices=self.choices,
            order=order,
            rows=[self.index.brief(each) | {"prediction": by_position.get(each)} for each in shown],
            count=len(found),
            total=len(self.index),
            page=page,
            last=last,
            query=wanted.to_query(order="" if order == "worst" else order),
        )

    def example(self, request: Request) -> Response:
        position = self._position(request)
        wanted, order, found = self.browser.listed(request.query_params)
        places = np.flatnonzero(found == position)
        place = int(places[0]) if len(places) else None
        row = self.index.row(position)
        prediction = self.browser.predictions.by_position.get(position) if self.browser.predictions else None
        steps = {"previous": -1, "next": 1} if place is not None else {}
        near = {
            name: self.index.brief(int(found[place + step]))
            for name, step in steps.items()
            if place is not None and 0 <= place + step < len(found)
        }
        return self.browser.render(
            "example.html",
            row=row,
            text=example_text(row),
            answer=pretty_answer(row["answer"]),
            scene=self.browser.scene(position),
            prediction=prediction,
            place=place,
            count=len(found),
            query=wanted.to_query(order="" if order == "worst" else order),
            neighbours={name: each["id"] for name, each in near.items()},
            next_volume=self.browser.volume_url(near["next"]["volume_path"]) if "next" in near else "",
            visits=len(self.index.other_visits(position)),
        )

    def visits(self, request: Request) -> Response:
        position = self._position(request)
        wanted = RowFilter.from_query(request.query_params)
        examples = [
            {"row": row, "text": example_text(row), "scene": self.browser.scene(each)}
            for each in self.index.other_visits(position)
            for row in [self.index.row(each)]
        ]
        return self.browser.render(
            "visits.html", row=self.index.brief(position), examples=examples, query=wanted.to_query()
        )

    def volume(self, request: Request) -> Response:
        """Serve a file as it is, whole or in the requested ranges."""
        path = f"volumes/{request.path_params['path']}"
        found = self.browser.file(request.path_params["path"]) or self.browser.file(path)
        if found is None:
            raise HTTPException(404, "The repository has no such volume.")
        headers = {"Cache-Control": "private, max-age=3600"}
        # No Content-Encoding: the viewer gets the .nii.gz itself and inflates it.
        return FileResponse(found, media_type="application/gzip", headers=headers)

    def niivue(self, request: Request) -> Response:
        return Response(
            niivue_module(),
            media_type="text/javascript",
            headers={"Cache-Control": "private, max-age=86400", "ETag": f'"{version("ipyniivue")}"'},
        )

    def _position(self, request: Request) -> int:
        position = self.index.position(request.path_params["id"])
        if position is None:
            raise HTTPException(404, "The repository has no such row. Ids are patient/visit/side/qNN.")
        return position


def _corners(row: Iterable[int], affine: NDArray[np.float64]) -> list[list[float]]:
    """Map the eight outer corners of a half-open box to the world; voxel centres have whole coordinates."""
    low, high = np.reshape(np.asarray(list(row), dtype=np.float64), (2, 3)) - 0.5
    corners = np.array(list(product(*zip(low, high, strict=True))))
    found: list[list[float]] = np.round(corners @ affine[:3, :3].T + affine[:3, 3], 4).tolist()
    return found
