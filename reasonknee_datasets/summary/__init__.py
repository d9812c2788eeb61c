"""What a prepared repository holds."""

from reasonknee_datasets.summary.counts import Geometry, Grid, SplitSummary, Summary, summarise

__all__ = ["Geometry", "Grid", "SplitSummary", "Summary", "summarise"]
