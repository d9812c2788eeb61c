"""The walkthrough is true: executed afresh, no cell fails, and what its cells say is what the page says.

``python tests/docs/test_notebook.py`` executes it and writes it again.
"""

from __future__ import annotations

import base64
import io
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

Image = pytest.importorskip("PIL.Image")
for needed in ("ipykernel", "matplotlib", "tokenizers", "torch"):
    pytest.importorskip(needed)
nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

ROOT = Path(__file__).parents[2]
WALKTHROUGH = ROOT / "examples" / "walkthrough.ipynb"
_WIDGET = "application/vnd.jupyter.widget-view+json"
_LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def execute(folder: Path) -> Any:
    """Execute the walkthrough in an empty folder; give it with outputs that no machine or time of day shows in."""
    notebook = nbformat.read(WALKTHROUGH, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    own = {
        "HF_HOME": str(folder / "cache"),
        "REASONKNEE_REQUIRE_REAL": "",
        "PYTHONWARNINGS": "ignore:IProgress not found",
    }
    client.execute(env={**os.environ, **own})
    notebook.metadata = nbformat.read(WALKTHROUGH, as_version=4).metadata
    for cell in code_cells(notebook):
        # The page shows no progress bars, whether or not widgets are installed for them.
        cell.outputs = [output for output in cell.outputs if _WIDGET not in output.get("data", {})]
        for output in cell.outputs:
            if "data" in output:
                output.data = tidied(output.data, folder)
    return notebook


def tidied(data: Any, folder: Path) -> dict[str, Any]:
    """Take the folder out of texts, and make pictures small: grey slices take a third as JPEG."""
    texts = {kind: text.replace(f"{folder}{os.sep}", "") for kind, text in data.items() if kind.startswith("text/")}
    if "image/png" not in data:
        return texts
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85, optimize=True)
    return {"image/jpeg": base64.b64encode(buffer.getvalue()).decode(), **texts}


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def said(cell: Any) -> dict[str, Any]:
    """Return the text of a cell and whether it shows a picture, without parts that differ between runs."""
    printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
    shown = [output.data for output in cell.outputs if "data" in output]
    return {
        "code": cell.source,
        "printed": printed,
        "shown": [(sorted(data), data.get("text/plain")) for data in shown],
    }


@pytest.fixture(scope="module")
def page() -> Any:
    return nbformat.read(WALKTHROUGH, as_version=4)


@pytest.mark.slow
def test_notebook_outputs_are_current(page: Any, tmp_path: Path) -> None:
    fresh = execute(tmp_path)  # raises what a cell raises
    assert [said(cell) for cell in code_cells(fresh)] == [said(cell) for cell in code_cells(page)]


def test_notebook_cells_are_in_order(page: Any) -> None:
    nbformat.validate(page)
    cells = code_cells(page)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type in ("stream", "execute_result", "display_data") for output in outputs)
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert sum("image/jpeg" in output.get("data", {}) for output in outputs) == 3


def test_notebook_page_size_and_privacy(page: Any) -> None:
    assert WALKTHROUGH.stat().st_size < 1_000_000
    text = re.sub(r'"image/jpeg": "[^"]*"', "", WALKTHROUGH.read_text(encoding="utf-8"))
    assert not re.findall(r"(?<![\w.)])/(?:home|root|tmp|usr|work|Users|private|var)/[\w./]*", text)
    assert not [cell for cell in page.cells if "execution" in cell.metadata]  # timings


def test_its_links_lead_somewhere(page: Any) -> None:
    text = "\n".join(cell.source for cell in page.cells if cell.cell_type == "markdown")
    links = _LINK.findall(text)
    assert links
    assert not [target for target in links if not (WALKTHROUGH.parent / target).exists()]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        nbformat.write(execute(Path(place).resolve()), WALKTHROUGH)
    sys.exit()
