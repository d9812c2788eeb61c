"""Pictures of examples, for notebooks and files."""

from reasonknee_datasets.figures.example_figure import gallery, show
from reasonknee_datasets.figures.interactive_view import view
from reasonknee_datasets.figures.looks import FigureError
from reasonknee_datasets.figures.notebook import register_notebook_display

__all__ = ["FigureError", "gallery", "register_notebook_display", "show", "view"]
