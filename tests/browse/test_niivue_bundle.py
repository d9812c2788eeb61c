"""NiiVue out of the wheel, and what is said where it cannot be found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from reasonknee_datasets.browse.niivue_bundle import niivue_module

_FIND = "from reasonknee_datasets.browse.niivue_bundle import niivue_module; niivue_module()"


def test_niivue_module_exports_the_class() -> None:
    module = niivue_module()
    assert module.endswith(b" as Niivue};\n")
    assert len(module) > 1_000_000


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bundle", "said"),
    [
        ("export default 1", "this version of ipyniivue has another layout. Run: pip install 'ipyniivue>=2.4,<2.5'"),
        (None, "this version of ipyniivue has another layout"),
    ],
)
def test_another_layout_is_named(tmp_path: Path, bundle: str | None, said: str) -> None:
    static = tmp_path / "ipyniivue/static"
    static.mkdir(parents=True)
    (tmp_path / "ipyniivue/__init__.py").touch()
    if bundle is not None:
        (static / "widget.js").write_text(bundle, encoding="utf-8")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {_FIND}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert said in done.stderr


@pytest.mark.slow
def test_without_ipyniivue_the_extra_is_named() -> None:
    absent = "import importlib.util as u; f = u.find_spec; u.find_spec = lambda n: None if n == 'ipyniivue' else f(n)"
    code = f"{absent}; {_FIND}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert (
        'ipyniivue is needed for reasonknee browse and is not installed. Run: pip install "reasonknee_datasets[app]"'
        in (done.stderr)
    )
