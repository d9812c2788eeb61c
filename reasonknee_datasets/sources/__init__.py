"""Finding a prepared repository and reading its tables, locally or through any fsspec URL."""

from reasonknee_datasets.plain_paths import join
from reasonknee_datasets.sources.find import NAME, find_place, find_repository, find_volumes, name_setting
from reasonknee_datasets.sources.locations import keep_credentials, to_place, trying_credentials
from reasonknee_datasets.sources.references import write_mask_references, write_references
from reasonknee_datasets.sources.repository import Repository, open_repository
from reasonknee_datasets.sources.revisions import (
    WithdrawnDataWarning,
    check_mixture,
    check_revision,
    describe_changes,
    resolve_revision,
    warn_withdrawn,
)
from reasonknee_datasets.sources.selection import LAZY, MASK, VOLUME, VOLUME_PATH, Selection, select
from reasonknee_datasets.sources.shard_reader import read_shard
from reasonknee_datasets.sources.split_syntax import SplitPart, parse_split
from reasonknee_datasets.sources.synthetic import SyntheticDataWarning
from reasonknee_datasets.sources.visit_pairs import EARLIER, LATER, check_visits, pair_schema, read_pairs

__all__ = [
    "EARLIER",
    "LATER",
    "LAZY",
    "MASK",
    "NAME",
    "VOLUME",
    "VOLUME_PATH",
    "Repository",
    "Selection",
    "SplitPart",
    "SyntheticDataWarning",
    "WithdrawnDataWarning",
    "check_mixture",
    "check_revision",
    "check_visits",
    "describe_changes",
    "find_place",
    "find_repository",
    "find_volumes",
    "join",
    "keep_credentials",
    "name_setting",
    "open_repository",
    "pair_schema",
    "parse_split",
    "read_pairs",
    "read_shard",
    "resolve_revision",
    "select",
    "to_place",
    "trying_credentials",
    "warn_withdrawn",
    "write_mask_references",
    "write_references",
]
