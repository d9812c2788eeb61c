"""The ``reasonknee`` command."""

from __future__ import annotations

from reasonknee_datasets.cli.main import main

__all__ = ["main"]
