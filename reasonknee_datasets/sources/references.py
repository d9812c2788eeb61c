"""The references of a repository's volumes and masks: where each file is, and what it must be."""

from __future__ import annotations

from reasonknee_datasets.errors import RepositoryError
from reasonknee_datasets.manifest import Manifest, VolumeRecord
from reasonknee_datasets.plain_paths import join
from reasonknee_datasets.schema import mask_path
from reasonknee_datasets.volumes import ExpectedFile
from reasonknee_datasets.volumes.reference import write_reference


def write_references(manifest: Manifest, volumes: str) -> dict[str, str]:
    """Write the reference of every volume, with the grid, size and index hash that its file must have.

    Parameters
    ----------
    manifest : Manifest
        The repository's.
    volumes : str
        The place that contains ``volumes/``.

    Returns
    -------
    dict of str to str
        By volume path.
    """
    # Prepared with --volumes none, the sizes are those of the images, which the user may have packed since.
    are_placed = (manifest.source.get("options") or {}).get("volumes") != "none"
    return {
        path: write_reference(join(volumes, path), record.geometry, _expected(record) if are_placed else None)
        for path, record in manifest.volumes.items()
    }


def write_mask_references(manifest: Manifest, root: str) -> dict[str, str]:
    """Write the reference of every mask, on the grid of its volume.

    Parameters
    ----------
    manifest : Manifest
        The repository's.
    root : str
        The repository, which always contains its masks.

    Returns
    -------
    dict of str to str
        By volume path; a volume without a mask is left out.

    Raises
    ------
    RepositoryError
        If the repository has no masks.
    """
    if not manifest.masks:
        raise RepositoryError(
            f"{root} was prepared without masks and has no column 'mask'. Prepare the release again "
            "with `reasonknee prepare --masks`, or leave out masks=True and the column."
        )
    references = {}
    for path, volume in manifest.volumes.items():
        mask = manifest.masks.get(mask_path(path))
        if mask is not None:
            place = join(root, mask_path(path))
            references[path] = write_reference(place, volume.geometry or mask.geometry, _expected(mask))
    return references


def _expected(record: VolumeRecord) -> ExpectedFile | None:
    return None if record.bytes is None else ExpectedFile(record.bytes, record.index_sha256)
