"""HDF5 files that strangers made: what is read lies in the file itself, and takes memory in keeping with its size.

HDF5 can point elsewhere (soft and external links, external storage, virtual datasets), declare more than it holds
(chunks that were never written), and inflate without a bound: a chunk's filter may give a gigabyte where sixteen
kilobytes are asked for. Datasets that do so are refused with a ValueError that says why, before they are read.
"""

from __future__ import annotations

import math
import os
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np

# Bytes that are read at once without asking what they take in the file; beyond, so many times what they take there:
# maps of real fields shrink by less.
FREE = 1 << 26
RATIO = 100
HEAD = 1 << 22  # bytes at the start of a file that are looked at before HDF5 does
# The most that gzip shrinks anything, and so the most that is declared for what lies in the file.
GZIP = 1032
# Filters that leave the size of a chunk (but for a checksum), and those that shrink it; numbers from 256 on are of
# plug-ins that the user has installed.
_KEEP = {h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32}
_SHRINK = {h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_SZIP, h5py.h5z.FILTER_LZF}
_PLUGINS = 256
_HEAP = b"GCOL\x01\0\0\0"  # what a heap of text begins with


def open_file(path: Path) -> h5py.File:
    """Open a file to read.

    Raises
    ------
    OSError
        If it is not there, not HDF5, truncated, or damaged where it keeps text.
    """
    # HDF5 1.14 never returns from reading text whose heap, damaged, has a piece of no size. It lies before the maps.
    with open(path, "rb") as content:
        head = content.read(HEAD)
    start = head.find(_HEAP)
    while start >= 0:
        size = int.from_bytes(head[start + 8 : start + 16], "little")
        at, end = start + 16, min(start + size, len(head))
        while at + 16 <= end:
            piece = int.from_bytes(head[at + 8 : at + 16], "little")
            # Free space, number 0, counts its own 16 bytes; others are padded to eights.
            need = piece if head[at : at + 2] == bytes(2) else 16 + -(-piece // 8) * 8
            at += need
            if need < 16 or at > start + size:
                raise OSError(f"the heap of text at byte {start} is damaged")
        start = head.find(_HEAP, start + 1)
    return h5py.File(path, "r")


def dataset(group: h5py.Group, path: str) -> h5py.Dataset:
    """The dataset of numbers or text at `path` below `group`.

    Raises
    ------
    KeyError
        If there is none.
    ValueError
        If it, or what it holds, lies elsewhere than in the file, if much more is declared than is there, or it is of
        no plain type.
    """
    item = _item(group, path)
    if not isinstance(item, h5py.Dataset) or item.shape is None:
        raise ValueError(f"{path!r} is no array")
    if item.is_virtual or item.external:
        raise ValueError(f"the values of {path!r} lie in other files, which are not looked at")
    if item.dtype.kind not in "biufS" and getattr(h5py.check_string_dtype(item.dtype), "length", 0) is not None:
        raise ValueError(f"{path!r} is of type {item.dtype}, neither numbers nor text")
    numbers = _filters(item)
    unknown = [n for n in numbers if n not in _KEEP | _SHRINK and n < _PLUGINS]
    if unknown or sum(n not in _KEEP for n in numbers) > 1 or len(set(numbers)) < len(numbers):
        raise ValueError(f"{path!r} is packed by the HDF5 filters {numbers}: save it with gzip alone")
    if item.nbytes > FREE + GZIP * _stored(item):
        raise ValueError(f"{path!r} declares {item.nbytes} bytes, but only {_stored(item)} are there")
    return item


def read(group: h5py.Group, path: str) -> np.ndarray:
    """All of the array at `path` below `group`; errors as of :func:`dataset`, an OSError where it is damaged."""
    data = dataset(group, path)
    _check_size(data, data.nbytes, path)
    for place in _large_chunks(data, path):
        _check_chunk(data, place, path)
    return _text(data, path) if data.dtype.kind == "O" else data[()]


class Rows:
    """An array in a file, read by rows when asked for; errors as of :func:`read`."""

    def __init__(self, group: h5py.Group, path: str):
        self._data, self._path = dataset(group, path), path
        self.shape, self.dtype, self.attrs = self._data.shape, self._data.dtype, self._data.attrs
        if self.dtype.kind == "O" or not self.shape:
            raise ValueError(f"{path!r} is no array of numbers")
        _check_size(self._data, self.dtype.itemsize * math.prod(self.shape[1:]), path)
        self._size = _size_on_disc(self._data)
        self._unseen: dict[int, list[tuple[int, ...]]] = {}
        for place in _large_chunks(self._data, path):
            self._unseen.setdefault(place[0] // self._data.chunks[0], []).append(place)

    def __getitem__(self, index: Any) -> np.ndarray:
        # HDF5 reads zeros where a file has ended since it was opened.
        if _size_on_disc(self._data) < self._size:
            raise OSError("the file has become shorter")
        if self._unseen:
            rows = np.arange(self.shape[0])[index[0] if isinstance(index, tuple) else index]
            for chunk in np.unique(rows // self._data.chunks[0]):
                for place in self._unseen.get(int(chunk), []):
                    _check_chunk(self._data, place, self._path)
                self._unseen.pop(int(chunk), None)
        return self._data[index]


def names(group: h5py.Group, path: str) -> list[str]:
    """The names in the group at `path` below `group`; errors as of :func:`dataset`."""
    item = _item(group, path)
    if not isinstance(item, h5py.Group):
        raise ValueError(f"{path!r} is no group")
    return list(item)


def _size_on_disc(data: h5py.Dataset) -> int:
    """Bytes of the open file, wherever it has been moved to since."""
    return os.fstat(data.file.id.get_vfd_handle()).st_size


def _item(group: h5py.Group, path: str) -> Any:
    item: Any = group
    for part in path.split("/"):
        if not isinstance(item, h5py.Group) or part not in item:
            raise KeyError(f"there is no {path!r}")
        if not isinstance(item.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{path!r} is a link to something else, which is not followed")
        item = item[part]
    return item


def _filters(data: h5py.Dataset) -> list[int]:
    pipeline = data.id.get_create_plist()
    return [pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())]


def _stored(data: h5py.Dataset) -> int:
    """Bytes that a dataset takes in its file; chunks may be said to share them."""
    return min(data.id.get_storage_size(), data.file.id.get_filesize())


def _chunk_bytes(data: h5py.Dataset) -> int:
    return data.dtype.itemsize * math.prod(data.chunks or (0,))


def _check_size(data: h5py.Dataset, size: int, path: str) -> None:
    """Refuse to read `size` bytes, or a chunk, at once of a dataset that takes far less in the file."""
    size = max(size, _chunk_bytes(data))
    if size > FREE + RATIO * _stored(data):
        raise ValueError(
            f"{path!r} takes {_stored(data)} bytes in the file and {size} to be read: save it uncompressed"
        )


def _large_chunks(data: h5py.Dataset, path: str) -> list[tuple[int, ...]]:
    """The chunks that gzip might inflate to more than is free; a ValueError where one is larger packed than it is."""
    places: list[tuple[int, ...]] = []
    numbers, size = _filters(data), _chunk_bytes(data)
    if not numbers or data.chunks is None:
        return places

    def look(chunk: Any) -> None:
        # What does not shrink is stored as it is, but for a checksum.
        if chunk.size > size + 64:
            raise ValueError(f"a chunk of {path!r} is larger packed than it is")
        packed = h5py.h5z.FILTER_DEFLATE in numbers and not (
            chunk.filter_mask >> numbers.index(h5py.h5z.FILTER_DEFLATE) & 1
        )
        if packed and GZIP * chunk.size > FREE:
            places.append(tuple(chunk.chunk_offset))

    data.id.chunk_iter(look)
    return places


def _check_chunk(data: h5py.Dataset, place: tuple[int, ...], path: str) -> None:
    """Refuse a chunk that gzip inflates to more than it holds: HDF5 would take all the memory for it."""
    size = _chunk_bytes(data) + 4  # and a checksum
    try:
        inflated = zlib.decompressobj().decompress(data.id.read_direct_chunk(place)[1], size + 1)
    except zlib.error as error:
        raise OSError(f"a chunk of {path!r} is damaged ({error})") from error
    if len(inflated) > size:
        raise ValueError(f"a chunk of {path!r} inflates to more than it holds")


def _text(data: h5py.Dataset, path: str) -> np.ndarray:
    """Text of any length, some at a time: a list may name one long string over and over."""
    if data.ndim != 1:
        raise ValueError(f"{path!r} is no list of text")
    found: list[bytes] = []
    for start in range(0, len(data), 32):
        found += data[start : start + 32].tolist()
        if sum(map(len, found[-32:])) > FREE >> 10:
            raise ValueError(f"the text of {path!r} is too long")
    return np.array(found, dtype=object)
