"""Finding a prepared repository and reading its tables, locally or through any fsspec URL."""

from reasonknee_datasets.safe_paths import join
from reasonknee_datasets.sources.repository import (
    NAME,
    Repository,
    WithdrawnDataWarning,
    find_place,
    find_repository,
    find_volumes,
    keep_credentials,
    name_setting,
    open_repository,
    to_place,
    trying_credentials,
)
from reasonknee_datasets.sources.revisions import (
    check_mixture,
    check_revision,
    describe_changes,
    resolve_revision,
)
from reasonknee_datasets.sources.selection import (
    LAZY,
    MASK,
    VOLUME,
    VOLUME_PATH,
    Selection,
    SplitPart,
    parse_split,
    select,
)
from reasonknee_datasets.sources.shard_reader import read_shard
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
]
