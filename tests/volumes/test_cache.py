"""The decode cache is bounded, decodes once, and survives threads and forks."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reasonknee_datasets.errors import VolumeError
from reasonknee_datasets.volumes import DecodeCache, cache_info, open_volume, shared_cache, use_cache
from reasonknee_datasets.volumes.cache import Once
from tests.helpers.volumes_files import knee, same, save


def get(cache: DecodeCache, key: Any, decode: Callable[[], object] = lambda: None, size: int = 100) -> np.ndarray:
    """Take a volume of one slab out of a cache; call a function where it is decoded."""
    return cache.get_slabs(key, np.zeros(1, np.int64), size, size, lambda wanted, out: decode())


def test_least_recently_used_leaves_first() -> None:
    cache = DecodeCache(max_bytes=250)
    for key in "aba":
        get(cache, key)
    get(cache, "c")  # b goes
    assert cache.info().bytes == 200
    get(cache, "a", lambda: pytest.fail("a was used after b"))
    decoded: list[int] = []
    get(cache, "b", lambda: decoded.append(1))
    assert decoded
    info = cache.info()
    assert (info.hits, info.misses, info.decodes, info.entries) == (2, 4, 4, 2)


def test_it_never_holds_more_than_its_bound() -> None:
    cache = DecodeCache(max_bytes=1000)
    rng = np.random.default_rng(0)
    for key, size in zip(rng.integers(0, 30, 500), rng.integers(1, 1500, 500), strict=True):
        get(cache, key, size=int(size))
        assert cache.info().bytes <= 1000


def test_decode_cache_decodes_once_for_threads() -> None:
    cache, barrier, decodes = DecodeCache(), threading.Barrier(8), []

    def decode() -> None:
        decodes.append(threading.get_ident())
        time.sleep(0.05)

    def want() -> None:
        barrier.wait()
        get(cache, "knee", decode)

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(decodes) == 1
    assert cache.info().decodes == 1


def test_an_error_is_not_remembered() -> None:
    memo: Once[str, int] = Once(limit=1)
    for make in (partial(get, DecodeCache()), memo.get):
        with pytest.raises(ZeroDivisionError, match="division"):
            make("a", lambda: 1 / 0)
        assert make("a", lambda: 100) is not None


def test_memo_forgets_the_oldest() -> None:
    memo: Once[int, int] = Once(limit=2)
    assert [memo.get(key, lambda key=key: key) for key in (1, 2, 1, 3)] == [1, 2, 1, 3]
    assert memo.get(1, lambda: pytest.fail("used after 2")) == 1
    assert memo.get(2, lambda: -2) == -2


def _child(cache: DecodeCache, path: Path, queue: Any) -> None:
    decoded = []
    get(cache, "before", lambda: decoded.append(1))
    open_volume(path, cache=cache).dataobj[1]
    queue.put((decoded, cache.info().decodes, cache.info().misses))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_decode_cache_survives_fork_during_decode(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    cache, started, go_on = DecodeCache(), threading.Event(), threading.Event()
    get(cache, "before")

    def slow() -> None:
        started.set()
        go_on.wait(30)

    thread = threading.Thread(target=get, args=(cache, "during", slow))
    thread.start()
    started.wait(30)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    process = context.Process(target=_child, args=(cache, path, queue))
    process.start()
    assert queue.get(timeout=30) == ([], 1, 1)
    process.join(30)
    go_on.set()
    thread.join()


def test_a_volumes_questions_share_one_decode(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", knee())
    shared_cache().clear()
    for start in range(8):
        open_volume(path).dataobj[start : start + 3]
    info = cache_info()
    assert (info.hits, info.misses, info.decodes, info.bytes) == (7, 1, 1, 352 + knee().nbytes)  # with the header
    open_volume(path, cache=None).dataobj[1]
    assert cache_info() == info


def test_decode_cache_with_volume_over_bound(tmp_path: Path) -> None:
    path = save(tmp_path / "knee.nii.gz", array := knee())
    cache = DecodeCache(max_bytes=10)
    np.testing.assert_array_equal(open_volume(path, cache=cache).dataobj[2:5], array[2:5])
    assert cache.info().entries == 0


def test_it_pickles_as_its_bound() -> None:
    cache = DecodeCache(max_bytes=1000)
    get(cache, "a")
    first, second = pickle.loads(pickle.dumps([cache, cache]))
    assert first is second
    assert first.info() == DecodeCache(1000).info()


@pytest.mark.slow
@pytest.mark.parametrize(("text", "found"), [("1000", "1000"), ("", "512000000"), ("0", "0")])
def test_the_environment_sets_the_bound(text: str, found: str) -> None:
    code = "from reasonknee_datasets.volumes import cache_info; print(cache_info().max_bytes)"
    environment = {**os.environ, "REASONKNEE_CACHE_BYTES": text}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == found


def test_a_bound_that_is_no_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REASONKNEE_CACHE_BYTES", "512MB")
    with pytest.raises(VolumeError, match="REASONKNEE_CACHE_BYTES must be a whole number of bytes, but it is '512MB'"):
        DecodeCache()


def test_use_cache_serves_the_reads_inside_it(tmp_path: Path) -> None:
    path, first, second = save(tmp_path / "knee.nii.gz", array := knee()), DecodeCache(), DecodeCache()
    volume = open_volume(path)
    before = cache_info()
    with use_cache(first):
        with use_cache(None):
            assert shared_cache() is first
        same(volume.dataobj[0], array[0])
    with use_cache(second):
        same(volume.dataobj[1], array[1])
        same(volume.dataobj[2], array[2])
    assert shared_cache() not in (first, second)
    assert cache_info() == before  # so far
    same(volume.dataobj[3], array[3])
    counts = [(info.misses, info.hits) for info in (first.info(), second.info())]
    assert counts == [(1, 0), (1, 1)]
    assert cache_info().misses == before.misses + 1


def test_use_cache_in_two_threads_at_once(tmp_path: Path) -> None:
    volume = open_volume(save(tmp_path / "knee.nii.gz", array := knee()))
    caches, both = [DecodeCache(), DecodeCache()], threading.Barrier(2)

    def read(cache: DecodeCache) -> None:
        with use_cache(cache):
            both.wait()
            for plane in range(8):
                same(volume.dataobj[plane], array[plane])
            both.wait()

    threads = [threading.Thread(target=read, args=(cache,)) for cache in caches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [(cache.info().misses, cache.info().hits) for cache in caches] == [(1, 7), (1, 7)]
