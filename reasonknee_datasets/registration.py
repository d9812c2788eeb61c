"""Registration of the ``volume`` column's type with ``datasets``, when both packages are imported.

A data set that was saved or cached names its feature types, and ``datasets`` finds a class by that name only once it is
registered. Importing ``datasets`` takes a second, so it is not imported for this.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_FEATURE = "reasonknee_datasets.feature"  # importing it registers


def register_feature_type() -> None:
    """Register now where ``datasets`` is imported, else as soon as it is."""
    if "datasets" in sys.modules:
        import_module(_FEATURE)
    else:
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds ``datasets`` as the other finders do, once."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != "datasets":
            return None
        sys.meta_path.remove(self)
        specs = (finder.find_spec(name, path, target) for finder in sys.meta_path)
        spec = next((found for found in specs if found is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    """Loads ``datasets`` by its own loader, then registers."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        module.__loader__ = self.loader
        self.loader.exec_module(module)
        import_module(_FEATURE)
