"""Pictures of examples, for notebooks and files."""

from reasonknee_datasets.figures.example_figure import FigureError, show
from reasonknee_datasets.figures.notebook import register_notebook_display

__all__ = ["FigureError", "register_notebook_display", "show"]
