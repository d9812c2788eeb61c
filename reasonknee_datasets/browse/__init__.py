"""Dataset browser: local web pages that show rows, their volumes in NiiVue, and their boxes."""

from reasonknee_datasets.browse.niivue_bundle import BrowserError
from reasonknee_datasets.browse.serve import build_app, check_browser, run_browser

__all__ = ["BrowserError", "build_app", "check_browser", "run_browser"]
