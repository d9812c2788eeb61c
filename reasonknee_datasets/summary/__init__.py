"""Summary of a prepared repository."""

from reasonknee_datasets.summary.counts import GeometrySummary, SplitSummary, Summary, VolumeGrid, summarise

__all__ = ["GeometrySummary", "SplitSummary", "Summary", "VolumeGrid", "summarise"]
