"""The dataset browser: a local web page that shows rows, their volumes and boxes."""

from reasonknee_datasets.browse.niivue_bundle import BrowserError

__all__ = ["BrowserError"]
