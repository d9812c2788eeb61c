"""NiiVue, the WebGL viewer of volumes, as it comes in the ipyniivue wheel."""

from __future__ import annotations

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from reasonknee_datasets.errors import ReasonKneeError, missing_extra

# ipyniivue bundles NiiVue for notebooks and exports the notebook widget alone. The minified name of the class is
# where the widget makes its instance: console.log("Creating new Niivue instance");...x=new CLASS(options).
_CLASS = re.compile(rb'"Creating new Niivue instance"\);.{0,200}?=new ([\w$]+)\(', re.DOTALL)


class BrowserError(ReasonKneeError, RuntimeError):
    """A dataset browser that cannot start or show the requested page."""


@cache
def niivue_module() -> bytes:
    """Read NiiVue as a JavaScript module that exports the class ``Niivue``.

    Raises
    ------
    MissingExtraError
        If ipyniivue is not installed.
    BrowserError
        If the installed ipyniivue has another layout than the supported versions.
    """
    found = find_spec("ipyniivue")
    if found is None or not found.submodule_search_locations:
        raise missing_extra("ipyniivue", "app", "reasonknee browse")
    path = Path(found.submodule_search_locations[0], "static", "widget.js")
    try:
        bundle = path.read_bytes()
    except OSError:
        bundle = b""
    name = _CLASS.search(bundle)
    if name is None:
        raise BrowserError(
            f"NiiVue was not found in {path}: this version of ipyniivue has another layout. "
            "Run: pip install 'ipyniivue>=2.4,<2.5'."
        )
    return bundle + b"\nexport{" + name[1] + b" as Niivue};\n"
