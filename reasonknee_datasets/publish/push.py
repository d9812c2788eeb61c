"""Upload of a prepared repository to the Hub: private, gated, resumable, and without images of patients."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tqdm.auto import tqdm

from reasonknee_datasets import __version__
from reasonknee_datasets.errors import PublishError
from reasonknee_datasets.manifest import FOLDERS, MANIFEST, Manifest, VolumeRecord
from reasonknee_datasets.prepare.staging import hash_file
from reasonknee_datasets.publish.doctor import examine
from reasonknee_datasets.publish.hub_calls import call_hub, open_hub
from reasonknee_datasets.publish.previews import write_without_previews
from reasonknee_datasets.safe_paths import is_url
from reasonknee_datasets.sources import find_place
from reasonknee_datasets.sources.repository import open_repository

if TYPE_CHECKING:
    from huggingface_hub import HfApi

# A commit of more files can take the Hub longer than its own time limit.
_COMMIT_FILES, _COMMIT_BYTES = 100, 5_000_000_000
Gate = Literal["manual", "auto"]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """Plan of an upload; its string is what ``reasonknee push`` prints.

    Attributes
    ----------
    repo_id : str
        ``owner/name`` of the dataset repository.
    private : bool
        Whether a new repository is private.
    gate : {"manual", "auto"}
        How requests for access are answered.
    tag : str
        Tag of the last commit.
    synthetic : bool
        Whether a program made the data.
    annotations : tuple of (str, int)
        Path and bytes of the files that hold no voxels, and of previews where they are included.
    volumes : tuple of (str, int)
        Path and bytes of the volumes.
    masks : tuple of (str, int)
        Path and bytes of the segmentation masks, which are annotations and show no patient's image.
    left_out : str
        Content that stays on this machine; may be empty.
    """

    repo_id: str
    private: bool
    gate: Gate
    tag: str
    synthetic: bool
    annotations: tuple[tuple[str, int], ...]
    volumes: tuple[tuple[str, int], ...]
    masks: tuple[tuple[str, int], ...]
    left_out: str

    def __str__(self) -> str:
        def total(files: Sequence[tuple[str, int]]) -> str:
            return f"{len(files):,} files, {sum(size for _, size in files):,} bytes"

        from huggingface_hub.constants import ENDPOINT

        kind = "SYNTHETIC data" if self.synthetic else "real data"
        lines = [
            f"{kind} to {ENDPOINT}/datasets/{self.repo_id}, tag {self.tag}",
            f"  visibility   {'private' if self.private else 'public'}, gated ({self.gate})",
            f"  annotations  {total(self.annotations)}",
            f"  volumes      {total(self.volumes)}",
            *([f"  masks        {total(self.masks)}"] if self.masks else []),
        ]
        return "\n".join([*lines, *([f"  left out     {self.left_out}"] if self.left_out else [])])


def push(
    data_dir: str | os.PathLike[str],
    repo_id: str,
    *,
    include_volumes: bool = False,
    i_may_redistribute: bool = False,
    private: bool = True,
    gate: Gate = "manual",
    tag: str | None = None,
    dry_run: bool = False,
    token: bool | str | None = None,
    progress: bool = True,
) -> PushPlan:
    """Upload a prepared repository to a dataset repository on the Hub.

    The repository is checked first (see `examine`). A run that was interrupted is resumed by the same call: files
    that are on the Hub already are not sent again. The manifest arrives together with the shards, in one commit.

    Parameters
    ----------
    data_dir : path
        A local prepared repository.
    repo_id : str
        ``owner/name``. It is created where it does not exist.
    include_volumes : bool, optional
        Upload volumes and previews too. Of real patients only together with `i_may_redistribute`.
    i_may_redistribute : bool, optional
        States that the terms of the images allow you to pass them on to those whom the repository admits.
    private : bool, optional
        Whether a new repository is private. The visibility of an existing one is left as it is.
    gate : {"manual", "auto"}, optional
        Whether requests for access are answered by you, or granted to everyone who agrees to the terms of the card.
    tag : str, optional
        Tag of the upload; by default ``v`` and the version of this package.
    dry_run : bool, optional
        Check and plan, and upload nothing.
    token : str or bool, optional
        The Hub's; by default that of ``hf auth login`` or ``HF_TOKEN``.
    progress : bool, optional
        Whether progress bars are shown.

    Returns
    -------
    PushPlan

    Raises
    ------
    PublishError
        If the check finds errors, the terms forbid the upload, the tag is at another commit, or the Hub refuses.
    """
    if is_url(os.fspath(data_dir)):
        raise PublishError(f"push uploads a local folder, not {os.fspath(data_dir)}. Download it first.")
    if repo_id.count("/") != 1:
        raise PublishError(f"{repo_id!r} names no owner. Write the dataset repository as owner/name.")
    from huggingface_hub.utils.tqdm import disable_progress_bars

    root = Path(data_dir).expanduser().resolve()
    manifest = open_repository(str(find_place(root))).manifest
    _check_terms(manifest, include_volumes, i_may_redistribute)
    _check_repository(root, manifest, include_volumes, progress)
    with tempfile.TemporaryDirectory(prefix="reasonknee-push-") as folder:
        source, left_out = root, []
        if not include_volumes and manifest.has_previews:
            # Shards without the column of previews; the same input gives the same bytes, so that a run resumes.
            source, left_out = Path(folder), ["previews"]
            manifest = write_without_previews(root, source, progress=progress)
        held = {path: record for path, record in manifest.volumes.items() if (root / path).exists()}
        if held and not include_volumes:
            left_out.insert(0, f"{len(held):,} volumes")
            held = {}
        names = [MANIFEST, *manifest.files, *(shard.path for shard in manifest.all_shards())]
        plan = PushPlan(
            repo_id=repo_id,
            private=private,
            gate=gate,
            tag=tag or f"v{__version__}",
            synthetic=manifest.synthetic,
            annotations=tuple((name, (source / name).stat().st_size) for name in sorted(names)),
            volumes=tuple((path, (root / path).stat().st_size) for path in sorted(held)),
            masks=tuple((path, (root / path).stat().st_size) for path in sorted(manifest.masks)),
            left_out=f"{' and '.join(left_out)} (--include-volumes)" if left_out else "",
        )
        if not dry_run:
            disable_progress_bars()  # one bar a file; this module shows one of all volumes
            _Upload(open_hub(token), plan, progress, real_voxels=include_volumes and not manifest.synthetic).run(
                source, root, manifest
            )
    return plan


def _check_terms(manifest: Manifest, include_volumes: bool, i_may_redistribute: bool) -> None:
    if include_volumes and not manifest.synthetic and not i_may_redistribute:
        raise PublishError(
            "The volumes and previews are images of OAI participants, and the NDA's data use terms forbid passing them "
            "on. If the terms that you agreed to allow it for those whom the repository will admit, add "
            "--i-may-redistribute; otherwise leave out --include-volumes."
        )


def _check_repository(root: Path, manifest: Manifest, include_volumes: bool, progress: bool) -> None:
    """Run the doctor; volumes are read only where they are uploaded."""
    report = examine(root, hashes=include_volumes, progress=progress)
    problems = [f"{each.check}: {each.found} {each.remedy}" for each in report.errors]
    if not include_volumes:
        there = (shard for shard in manifest.all_shards() if (root / shard.path).exists())
        damaged = [shard.path for shard in there if hash_file(root / shard.path) != shard.sha256]
        problems += [f"checksums: {path} is not the file in the manifest. Prepare again." for path in damaged]
    if problems:
        listed = "\n  ".join(problems)
        raise PublishError(
            f"The check of {root} found {len(problems)} errors, and nothing was uploaded:\n  {listed}\n"
            "`reasonknee doctor` shows the whole report."
        )


@dataclass(frozen=True, slots=True)
class _Upload:
    """Runs one upload."""

    hub: HfApi
    plan: PushPlan
    progress: bool
    real_voxels: bool

    def run(self, source: Path, root: Path, manifest: Manifest) -> None:
        """Create the repository, upload the volumes in batches and everything else in one commit, then tag it."""
        self._create()
        before = self._find_tag()
        self._send_volumes(root, manifest)
        head = self._send_annotations(source, manifest)
        if before is None:
            self._call("create_tag", tag=self.plan.tag, revision=head, exist_ok=True)
        elif before != head:
            raise PublishError(
                f"{self.plan.repo_id} has the tag {self.plan.tag} already, at the commit {before[:8]}, and the upload "
                f"ended at {head[:8]}. Everything is uploaded; run again with another --tag to name it."
            )

    def _call(self, method: str, **options: Any) -> Any:
        doing = f"calling {method} for {self.plan.repo_id}"
        function = getattr(self.hub, method)
        return call_hub(function, repo_id=self.plan.repo_id, repo_type="dataset", doing=doing, **options)

    def _create(self) -> None:
        """Create the repository and gate it before anything is sent; never expose voxels in a public, open one."""
        if not self._call("repo_exists", first=True):
            self._call("create_repo", private=self.plan.private, exist_ok=True)
        self._call("update_repo_settings", gated=self.plan.gate)
        info = self._call("repo_info")
        if self.real_voxels and not info.private and not info.gated:
            raise PublishError(
                f"{self.plan.repo_id} is public and not gated, so that everyone could read images of OAI participants. "
                "Make it private or gated on its settings page, then run again."
            )

    def _find_tag(self) -> str | None:
        refs = self._call("list_repo_refs")
        return next((str(ref.target_commit) for ref in refs.tags if ref.name == self.plan.tag), None)

    def _send_volumes(self, root: Path, manifest: Manifest) -> None:
        files = (*self.plan.volumes, *self.plan.masks)
        records = {**manifest.volumes, **manifest.masks}
        total = sum(size for _, size in files)
        with tqdm(total=total, unit="B", unit_scale=True, desc="volumes", disable=not self.progress or None) as bar:
            for batch in _batches(files):
                there = self._find_volumes([path for path, _ in batch], records)
                missing = [path for path, _ in batch if path not in there]
                if missing:
                    kinds = "volumes and masks" if manifest.masks else "volumes"
                    self._commit(root, missing, [], f"Upload {len(missing)} {kinds}")
                bar.update(sum(size for _, size in batch))

    def _find_volumes(self, paths: list[str], records: Mapping[str, VolumeRecord]) -> set[str]:
        """Return the volumes and masks that are on the Hub, by the hashes in the manifest: no file is read for that."""
        found = self._call("get_paths_info", paths=paths)
        held = {each.path: each.lfs.sha256 for each in found if getattr(each, "lfs", None)}
        return {path for path in paths if held.get(path, "") == records[path].sha256}

    def _send_annotations(self, source: Path, manifest: Manifest) -> str:
        """Send shards, card and manifest in one commit, which also deletes what another version left."""
        names = [name for name, _ in self.plan.annotations]
        known = {*names, *manifest.volumes, *manifest.masks}
        folders = tuple(f"{folder}/" for folder in (*FOLDERS.values(), "volumes", "masks"))
        listed = self._call("list_repo_files")
        stale = sorted(path for path in listed if path.startswith(folders) and path not in known)
        return self._commit(source, names, stale, f"Upload the annotations ({self.plan.tag})")

    def _commit(self, folder: Path, names: Sequence[str], stale: Sequence[str], message: str) -> str:
        """Commit files of a folder and deletions; a second run sends only what is not on the Hub yet."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        def commit(**options: Any) -> Any:
            # Operations are created for each call, because a failed call changes them.
            operations: list[CommitOperationDelete | CommitOperationAdd] = [
                *(CommitOperationDelete(path) for path in stale),
                *(CommitOperationAdd(name, folder / name) for name in names),
            ]
            return self.hub.create_commit(operations=operations, commit_message=message, **options)

        doing = f"uploading to {self.plan.repo_id}"
        done = call_hub(commit, repo_id=self.plan.repo_id, repo_type="dataset", doing=doing)
        return str(done.oid)


def _batches(files: Sequence[tuple[str, int]]) -> Iterator[list[tuple[str, int]]]:
    """Divide a list of files into commits of at most a given size."""
    batch: list[tuple[str, int]] = []
    for path, size in files:
        if batch and (len(batch) == _COMMIT_FILES or sum(each for _, each in batch) + size > _COMMIT_BYTES):
            yield batch
            batch = []
        batch.append((path, size))
    if batch:
        yield batch
