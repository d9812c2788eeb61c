"""Blocks of docs/howto/libraries.md for Lightning, the Trainer, MONAI and TorchIO, run as they are on the page."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

for needed in ("torch", "lightning", "transformers", "accelerate", "monai", "torchio"):
    pytest.importorskip(needed)

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "libraries.md"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory, prepared: Path) -> Any:
    """Names of the page after its blocks have run, one after the other."""
    folder = tmp_path_factory.mktemp("libraries")
    shutil.copytree(prepared, folder / "3dreasonknee")
    found: dict[str, Any] = {"__name__": "__main__", "folder": folder}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
            exec(compile(block, str(PAGE), "exec"), found)
        yield found


def step_of(checkpoint: Any) -> int:
    return int(checkpoint["global_step"])


def test_lightning_resumes_as_the_page_shows(names: dict[str, Any]) -> None:
    torch = names["torch"]
    saved = [torch.load(path, weights_only=False) for path in sorted((names["folder"] / "run").glob("*.ckpt"))]
    (loader,) = max(saved, key=step_of)["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    assert max(map(step_of, saved)) == 6
    assert (loader["epoch"], loader["position"]) == (0, 6 * 8)


def test_trainer_saves_what_the_page_resumes(names: dict[str, Any]) -> None:
    assert (names["folder"] / "trainer_run" / "checkpoint-6").is_dir()


def test_compose_calls_functions_row_by_row(names: dict[str, Any]) -> None:
    from reasonknee_datasets import QuintupleCollator

    rows = names["rows"].with_transform(names["augment"])
    loader = names["torch"].utils.data.DataLoader(rows, batch_size=3, collate_fn=QuintupleCollator())
    batch = next(iter(loader))
    assert batch["volume"].shape == (3, 1, 16, 32, 32)
