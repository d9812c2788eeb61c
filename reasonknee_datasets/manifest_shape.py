"""The shape of a manifest's JSON: every field that is read, and what it must be."""

from __future__ import annotations

from collections.abc import Mapping

from reasonknee_datasets.json_fields import (
    ANY,
    FLAG,
    NUMBER,
    SHA256,
    TEXT,
    WHOLE,
    FieldKind,
    ListOf,
    MapOf,
    Maybe,
    Shape,
    whole,
)
from reasonknee_datasets.safe_paths import stays_inside
from reasonknee_datasets.schema import CONFIGS, SPLITS

_PATH = FieldKind(
    "a path that is relative to the repository and stays inside it, without ':', '?', '%' and control characters",
    stays_inside,
)
FILE: Mapping[str, Shape] = {"bytes": WHOLE, "sha256": SHA256}
SHARD: Mapping[str, Shape] = {
    "path": _PATH,
    "rows": WHOLE,
    **FILE,
    "footer_sha256": Maybe(SHA256),
    "chunk_sha256": Maybe(ListOf(SHA256)),
}
VOLUME: Mapping[str, Shape] = {
    "shape": Maybe(ListOf(whole(2**15), 3)),
    "affine": Maybe(ListOf(ListOf(NUMBER, 4), 4)),
    "dtype": Maybe(TEXT),
    "bytes": Maybe(WHOLE),
    **dict.fromkeys(("sha256", "voxels_sha256", "index_sha256"), Maybe(SHA256)),
}
_COUNTS, _TEXTS = Maybe(MapOf(WHOLE)), Maybe(MapOf(TEXT))
_OPTIONS: Mapping[str, Shape] = {
    **dict.fromkeys(("volumes", "box_convention", "grades_source", "readings", "acl"), Maybe(TEXT)),
    "allow": Maybe(ListOf(TEXT)),
    "masks": Maybe(FLAG),
}
# Of what the repository was made; fields that readers use are checked.
MADE_OF: Mapping[str, Shape] = {
    "source": {
        "revision": Maybe(TEXT),
        "files": Maybe(MapOf(FILE)),
        "tables": Maybe(MapOf(FILE)),
        "converter": _TEXTS,
        "images": _COUNTS,
        "options": Maybe(_OPTIONS),
    },
    "versions": MapOf(TEXT),
    "box_convention": {
        "name": Maybe(TEXT),
        "agreement": Maybe(NUMBER),
        "by_question": Maybe(MapOf(NUMBER)),
        "checked": Maybe(WHOLE),
        "exact": Maybe(WHOLE),
        "source": Maybe(TEXT),
    },
    "report": {
        **dict.fromkeys(("allowed", "table_grades", "warnings", "violations"), _COUNTS),
        **dict.fromkeys(("rows_dropped", "volumes_dropped", "grades_nulled_count"), Maybe(WHOLE)),
        "grades_nulled": Maybe(ListOf(ANY)),
        "notes": Maybe(ListOf(TEXT)),
    },
}
_SPLITS: Mapping[str, Shape] = dict.fromkeys(SPLITS, Maybe({"rows": WHOLE, "shards": ListOf(SHARD)}))
MANIFEST_SHAPE: Mapping[str, Shape] = {
    "format": WHOLE,
    "name": TEXT,
    "synthetic": FLAG,
    **MADE_OF,
    "labels": MapOf(WHOLE),
    "configs": {
        config: Maybe({"splits": _SPLITS}) if config == "preview" else {"splits": _SPLITS} for config in CONFIGS
    },
    "volumes": MapOf(VOLUME, _PATH),
    "masks": MapOf(VOLUME, _PATH),
    "files": MapOf(FILE, _PATH),
    "checksum": Maybe(TEXT),
}
