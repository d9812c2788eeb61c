"""``data/phantom.json``: the declaration of a synthetic release."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from reasonknee_datasets.boxes import BoxConvention
from reasonknee_datasets.errors import BoxError, ReleaseError
from reasonknee_datasets.json_fields import Fields, parse_json
from reasonknee_datasets.private_files import open_regular

MARKER = "phantom.json"
_MOST_BYTES = 100_000


@dataclass(frozen=True, slots=True)
class Marker:
    """A synthetic release's declaration.

    Attributes
    ----------
    annotations_only : bool
        Whether it has neither images nor masks, so that nothing can be compared with them.
    convention : BoxConvention
        How its boxes are written.
    """

    annotations_only: bool
    convention: BoxConvention


def read_marker(data: Path) -> Marker | None:
    """Read the declaration of a synthetic release; None where there is none.

    Raises
    ------
    ReleaseError
        If there is one that cannot be read.
    """
    path = data / MARKER
    remedy = "Remove the file to have the release checked like an official one, or write the phantom again"
    try:
        with os.fdopen(open_regular(path), "rb") as file:
            tree = parse_json(file.read(_MOST_BYTES))
        fields = Fields(tree, MARKER, lambda problem: ReleaseError(f"{problem}, in {path}. {remedy}."))
        if not fields.flag("synthetic"):
            return None
        return Marker(fields.flag("annotations_only"), BoxConvention.parse(fields.text("box_convention")))
    except FileNotFoundError:
        return None
    except ReleaseError:
        raise
    except (OSError, ValueError, BoxError) as error:
        raise ReleaseError(f"{path} cannot be read: {str(error)[:200]}. {remedy}.") from error
