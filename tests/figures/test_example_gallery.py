"""A dataset as a grid of slices, in a figure and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="figures need the figures extra")

from reasonknee_datasets import load_dataset
from reasonknee_datasets.figures import FigureError, gallery, register_notebook_display
from tests.figures.test_figures import example, stray


def test_gallery_reads_drawn_rows_only() -> None:
    taken: list[str] = []

    def rows() -> Iterator[dict[str, Any]]:
        for number in range(9):
            taken.append(str(number))
            yield example(id=str(number))

    figure = gallery(rows(), count=5, columns=3)
    assert [axes.get_label() for axes in figure.axes] == taken == ["0", "1", "2", "3", "4"]
    lefts = {round(axes.get_position().x0, 3) for axes in figure.axes}
    assert len(lefts) == 3
    assert stray(figure) == []
    assert {len(axes.patches) for axes in figure.axes} == {1}, "each has its box"


def test_gallery_breaks_long_names() -> None:
    long = {"subregion": "_".join(["subregion"] * 12), "finding": "_".join(["finding"] * 12)}
    assert stray(gallery([example(**long), example()], look="light")) == []


@pytest.mark.parametrize(("rows", "options"), [([], {}), ([{}], {"count": 0}), ([{}], {"columns": 0})])
def test_gallery_of_nothing_is_refused(rows: list[Any], options: dict[str, int]) -> None:
    with pytest.raises(FigureError, match=r"no rows to draw|count and columns of 1 or more"):
        gallery(rows, **options)


def test_an_error_names_the_row() -> None:
    with pytest.raises(ValueError, match="outside the volume") as error:
        gallery([example(box=[0, 0, 0, 500, 1, 1])])
    assert "while drawing 0000001/00M/right/q19" in error.value.__notes__


@pytest.mark.parametrize("streaming", [False, True])
def test_notebook_shows_dataset_as_gallery(prepared: Path, tmp_path: Path, streaming: bool) -> None:
    interactive = pytest.importorskip("IPython.core.interactiveshell", reason="needs IPython")
    shell = interactive.InteractiveShell.instance()
    try:
        rows = load_dataset(
            str(prepared), split="validation", streaming=streaming, cache_dir=str(tmp_path), filters={"question_id": 19}
        )
        assert register_notebook_display()
        picture = shell.display_formatter.format(rows)[0]
        assert picture["image/png"][:4] == b"\x89PNG"
        assert "image/png" not in shell.display_formatter.format(rows.select_columns(["id"]))[0]
    finally:
        interactive.InteractiveShell.clear_instance()
