"""Pictures of examples, for notebooks and files."""

from reasonknee_datasets.figures.notebook import register_notebook_display
from reasonknee_datasets.figures.example_figure import FigureError, show

__all__ = ["FigureError", "register_notebook_display", "show"]
