"""A small Hub on the loopback: dataset repositories in memory, with the endpoints that huggingface_hub calls.

Create, settings, validate-yaml, preupload, LFS batch with single and multipart uploads, commit, refs, tag, info, tree,
paths-info and resolve with ranges. Faults are planted by a pattern of method and path.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from huggingface_hub import constants

from tests.helpers.new_port import on_new_port

TOKEN = "hf_planted_s3cret_1a2b3c4d"
PART = 100_000
"""Bytes of a part in multipart uploads."""
_LFS = (".parquet", ".gz", ".webp")


@dataclass
class Commit:
    """One commit: every file by its path."""

    oid: str
    title: str
    files: dict[str, bytes]


@dataclass
class HubRepository:
    """A dataset repository."""

    private: bool
    gated: Any = False
    commits: list[Commit] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> dict[str, bytes]:
        """Files of the last commit."""
        return self.commits[-1].files

    def commit(self, title: str, files: dict[str, bytes]) -> Commit:
        """Add a commit."""
        oid = hashlib.sha1(f"{len(self.commits)} {title} {sorted(files)}".encode()).hexdigest()
        self.commits.append(Commit(oid, title, files))
        return self.commits[-1]

    def at(self, revision: str) -> Commit | None:
        """Find a commit by branch, tag or hash."""
        oid = self.commits[-1].oid if revision == "main" else self.tags.get(revision, revision)
        return next((commit for commit in self.commits if commit.oid == oid), None)


@dataclass
class Fault:
    """Fault of the next requests that match: a status, "cut" before or "lost" after they are done, or a call."""

    pattern: str
    how: int | str | Callable[[], None]
    times: int = 1


@dataclass
class HubServer:
    """State of a running server."""

    url: str = ""
    repositories: dict[str, HubRepository] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    uploaded: int = 0
    """Bytes of whole files that were received, each counted as often as it came."""

    def add(self, name: str, files: dict[str, bytes], *, private: bool = False) -> HubRepository:
        """Create a repository with one commit."""
        self.repositories[name] = HubRepository(private)
        self.repositories[name].commit("initial", files)
        return self.repositories[name]

    def fault(self, pattern: str, how: int | str | Callable[[], None], times: int = 1) -> None:
        """Plant a fault."""
        self.faults.append(Fault(pattern, how, times))

    def count(self, pattern: str) -> int:
        """Count the requests that match a pattern of method and path."""
        return sum(re.search(pattern, request) is not None for request in self.requests)

    def patch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make huggingface_hub in this process talk to this server alone; it reads HF_ENDPOINT at import."""
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)  # tox sets it for all other tests
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        template = f"{self.url}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)

    def environment(self, home: str) -> dict[str, str]:
        """Settings with which a process talks to this server alone."""
        hub = {"HF_ENDPOINT": self.url, "HF_HOME": home, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0"}
        return {**hub, "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}


class _CutError(Exception):
    pass


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: HubServer

    def log_message(self, *arguments: Any) -> None:
        """Write no log."""

    def handle_request(self) -> None:
        """Plant the faults, then answer."""
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        name = f"{self.command} {self.path}"
        self.hub.requests.append(name)
        for fault in self.hub.faults:
            if fault.times and re.search(fault.pattern, name):
                fault.times -= 1
                if callable(fault.how):
                    fault.how()
                elif isinstance(fault.how, int):
                    return self.answer(fault.how, {"error": "planted"})
                elif fault.how == "cut":
                    self.close_connection = True
                    return None
                else:  # done, and the answer is lost or cut off
                    self.lost = True
                break
        try:
            return self.dispatch()
        except _CutError:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815

    lost = False

    def answer(self, status: int, tree: Any = None, *, data: bytes = b"", **headers: str) -> None:
        """Send JSON or bytes."""
        if self.lost:
            self.lost = False
            if self.command == "GET" and data:  # a body that breaks off
                self.send_response(status)
                for key, value in {"Content-Length": str(len(data)), **headers}.items():
                    self.send_header(key.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(data[: len(data) // 2])
                self.wfile.flush()
            raise _CutError
        if tree is not None:
            data, headers = json.dumps(tree).encode(), {"Content-Type": "application/json", **headers}
        self.send_response(status)
        for key, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def dispatch(self) -> None:
        """Choose by method and path."""
        path = unquote(urlsplit(self.path).path)
        authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if path.startswith("/storage/"):
            return self.storage(path)
        if not authorised and self.command not in {"GET", "HEAD"} and "paths-info" not in path:
            return self.answer(401, {"error": "Invalid username or password."})
        if path == "/api/repos/create":
            return self.create()
        if path == "/api/validate-yaml":
            return self.answer(200, {"errors": [], "warnings": []})
        match = re.match(r"/(?:api/)?datasets/([^/]+/[^/]+?)(\.git)?(?:/(.*))?$", path)
        repository = self.hub.repositories.get(match[1]) if match else None
        if match is None or repository is None or (repository.private and not authorised):
            return self.answer(404 if authorised else 401, {"error": "no such repository"}, X_Error_Code="RepoNotFound")
        what, _, rest = (match[3] or "").partition("/")
        if match[2]:
            return self.lfs_batch()
        return getattr(self, f"on_{what.replace('-', '_') or 'info'}")(match[1], repository, rest)

    def create(self) -> None:
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repositories:
            return self.answer(409, {"error": "You already created this dataset repo", "url": self.hub.url})
        private = asked.get("private") or asked.get("visibility") == "private"
        self.hub.add(name, {".gitattributes": b"*.parquet filter=lfs\n"}, private=private)
        return self.answer(200, {"url": f"{self.hub.url}/datasets/{name}", "name": name})

    def on_info(self, name: str, repository: HubRepository, rest: str) -> None:
        commit = repository.at(rest.partition("/")[0] or "main")
        if commit is None:
            return self.answer(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        told = {"id": name, "sha": commit.oid, "siblings": siblings, "tags": [], "gated": repository.gated}
        return self.answer(200, {**told, "private": repository.private})

    on_revision = on_info

    def on_settings(self, name: str, repository: HubRepository, rest: str) -> None:
        asked = json.loads(self.body)
        repository.gated = asked.get("gated", repository.gated)
        if "private" in asked or "visibility" in asked:
            repository.private = asked.get("private") or asked.get("visibility") == "private"
        return self.answer(200, {})

    def on_refs(self, name: str, repository: HubRepository, rest: str) -> None:
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.commits[-1].oid}
        tags = [{"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": oid} for tag, oid in repository.tags.items()]
        return self.answer(200, {"branches": [main], "converts": [], "tags": tags})

    def on_tag(self, name: str, repository: HubRepository, rest: str) -> None:
        tag, commit = json.loads(self.body)["tag"], repository.at(rest)
        if tag in repository.tags:
            return self.answer(409, {"error": "Tag already exists"})
        assert commit is not None
        repository.tags[tag] = commit.oid
        return self.answer(200, {})

    def on_preupload(self, name: str, repository: HubRepository, rest: str) -> None:
        told = []
        for file in json.loads(self.body)["files"]:
            held = repository.files.get(file["path"])
            mode = "lfs" if file["path"].endswith(_LFS) else "regular"
            oid = None if held is None else _oid(held, mode == "lfs")
            told.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return self.answer(200, {"files": told})

    def lfs_batch(self) -> None:
        told = []
        for wanted in json.loads(self.body)["objects"]:
            oid, place = wanted["oid"], f"{self.hub.url}/storage/{wanted['oid']}"
            entry: dict[str, Any] = {"oid": oid, "size": wanted["size"]}
            if oid not in self.hub.blobs:
                header = {}
                if wanted["size"] > PART:
                    count = -(-wanted["size"] // PART)
                    header = {"chunk_size": str(PART)} | {f"{i}": f"{place}/{i}" for i in range(1, count + 1)}
                verify = {"href": f"{place}/verify"}
                entry["actions"] = {"upload": {"href": place, "header": header}, "verify": verify}
            told.append(entry)
        return self.answer(200, {"transfer": "basic", "objects": told})

    def storage(self, path: str) -> None:
        _, _, oid, *more = path.split("/")
        if more and more[0].isdigit():
            self.hub.parts.setdefault(oid, {})[int(more[0])] = self.body
            return self.answer(200, ETag=f'"{more[0]}"')
        if self.command == "PUT":
            data = self.body
        elif more == ["verify"]:
            return self.answer(200 if oid in self.hub.blobs else 404, {})
        else:
            data = b"".join(self.hub.parts[oid][part] for part in sorted(self.hub.parts[oid]))
        if hashlib.sha256(data).hexdigest() != oid:
            return self.answer(400, {"error": "hash differs"})
        self.hub.uploaded += len(data)
        self.hub.blobs[oid] = data
        return self.answer(200, {})

    def on_commit(self, name: str, repository: HubRepository, rest: str) -> None:
        files, title = dict(repository.files), ""
        for line in self.body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header":
                title = value["summary"]
            elif item["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif item["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    return self.answer(400, {"error": f"LFS pointer to a file that was not uploaded: {value['path']}"})
                files[value["path"]] = self.hub.blobs[value["oid"]]
            else:
                files.pop(value["path"])
        commit = repository.commit(title, files)
        return self.answer(
            200, {"commitUrl": f"{self.hub.url}/datasets/{name}/commit/{commit.oid}", "commitOid": commit.oid}
        )

    def on_tree(self, name: str, repository: HubRepository, rest: str) -> None:
        revision, _, folder = rest.partition("/")
        commit, query = repository.at(revision), parse_qs(urlsplit(self.path).query)
        if commit is None:
            return self.answer(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
        inside = [path for path in sorted(commit.files) if not folder or path.startswith(f"{folder}/")]
        if query.get("recursive", ["false"])[0].lower() == "true":
            return self.answer(200, [_describe(path, commit.files) for path in inside])
        depth = folder.count("/") + 2 if folder else 1
        names = sorted({"/".join(path.split("/")[:depth]) for path in inside})
        return self.answer(200, [_describe(path, commit.files) for path in names])

    def on_paths_info(self, name: str, repository: HubRepository, rest: str) -> None:
        commit = repository.at(rest)
        if commit is None:
            return self.answer(404, {"error": "no such revision"}, X_Error_Code="RevisionNotFound")
        text = self.body.decode()
        paths = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text).get("paths", [])
        folders = {path.rpartition("/")[0] for path in commit.files}
        known = [path for path in paths if path in commit.files or any(f"{f}/".startswith(f"{path}/") for f in folders)]
        return self.answer(200, [_describe(path, commit.files) for path in known])

    def on_resolve(self, name: str, repository: HubRepository, rest: str) -> None:
        revision, _, path = rest.partition("/")
        commit = repository.at(revision)
        if commit is None or path not in commit.files:
            code = "RevisionNotFound" if commit is None else "EntryNotFound"
            return self.answer(404, {"error": "not found"}, X_Error_Code=code)
        data = commit.files[path]
        headers = {
            "ETag": f'"{_oid(data, path.endswith(_LFS))}"',
            "X_Repo_Commit": commit.oid,
            "Accept_Ranges": "bytes",
        }
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if match is None:
            return self.answer(200, data=data, **headers)
        start, stop = int(match[1]), min(int(match[2] or len(data)) + bool(match[2]), len(data))
        headers["Content_Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
        return self.answer(206, data=data[start:stop], **headers)


def _oid(data: bytes, lfs: bool) -> str:
    return hashlib.sha256(data).hexdigest() if lfs else hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _describe(path: str, files: dict[str, bytes]) -> dict[str, Any]:
    if path not in files:
        return {"type": "directory", "path": path, "oid": "1" * 40, "size": 0}
    data = files[path]
    told: dict[str, Any] = {"type": "file", "path": path, "oid": _oid(data, False), "size": len(data)}
    if path.endswith(_LFS):
        told["lfs"] = {"oid": _oid(data, True), "size": len(data), "pointerSize": 130}
    return told


@contextmanager
def serve_hub() -> Iterator[HubServer]:
    """Run a Hub on the loopback."""
    hub = HubServer()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = on_new_port(lambda: ThreadingHTTPServer(("127.0.0.1", 0), handler))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
