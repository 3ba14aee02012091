"""Data sets that remember what their transforms made."""

import hashlib
import os
import random
import re
import sys
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spyketorch import _checks as check
from spyketorch._files import DamagedFile, load, save, sweep
from spyketorch._identity import Content, hashed

_STORABLE = "made of tensors, numbers, strings, numpy arrays, tuples, lists and dicts"


class CacheDataset(Dataset[Any]):
    """A data set that computes each item once, and keeps it in memory or on disk.

    Wrap a data set whose transforms are slow, such as filters and rank-order coding: the first pass computes, later
    passes read. On disk, any number of DataLoader workers may share a cache: items are written whole or not at all. In
    memory, each worker process has a cache of its own, so use ``num_workers=0`` or the disk.

    Args:
        dataset: any map-style data set of tensors, numbers, strings, numpy arrays, and tuples, lists or dicts of them.
        cache_address: a directory, made where it is missing; None keeps items in memory.
        key: what the items on disk depend on, in words of your own. Items written under another key are computed anew.
            By default it is the content of the data set when it is wrapped: its values, its transforms, and the code of
            your own functions and classes. Files that it reads count by their names alone: give a key that changes
            when they do. Where a part does not tell what it holds (an open file) the cache serves this object and its
            workers, but no later run, and warns.

    Raises:
        ValueError: when an item on disk is damaged; :meth:`reset_cache` clears it.

    Warns:
        UserWarning: when the first item is random, as of a transform that draws: a cache keeps the first draw.

    Example:
        >>> calls = []
        >>> class Squares(torch.utils.data.Dataset):
        ...     def __len__(self): return 3
        ...     def __getitem__(self, i):
        ...         calls.append(i)
        ...         return torch.tensor(i * i), i
        >>> cached = CacheDataset(Squares())
        >>> cached[2], cached[2], calls
        ((tensor(4), 2), (tensor(4), 2), [2])
    """

    def __init__(
        self, dataset: Dataset[Any], cache_address: str | os.PathLike[str] | None = None, *, key: str | None = None
    ) -> None:
        for method in ("__len__", "__getitem__"):
            if not hasattr(dataset, method) or isinstance(dataset, type):
                raise check.fail_type("dataset", "a map-style data set with __len__ and __getitem__", dataset)
        if key is not None and not isinstance(key, str):
            raise check.fail_type("key", "a string or None", key)
        self.dataset = dataset
        self.cache_address = None if cache_address is None else check.folder(cache_address, "cache_address")
        if self.cache_address is not None:
            self.cache_address.mkdir(parents=True, exist_ok=True)
        self._memory: dict[int, Any] = {}
        self._looked = False  # whether an item is random
        self._fingerprint = "" if self.cache_address is None else _fingerprint(dataset, key)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        index = check.integer(index.item() if isinstance(index, torch.Tensor) else index, "index")
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` must lie in 0..{len(self) - 1}; got {index}")
        index %= len(self)
        if self.cache_address is None:
            if index not in self._memory:
                self._memory[index] = self._compute(index)
            return self._memory[index]
        entry = self._read(index)
        if entry is not None and entry["fingerprint"] == self._fingerprint:
            return entry["item"]
        item = self._compute(index)
        entry = {"fingerprint": self._fingerprint, "packed": _pack(item)}
        save(entry, self._path(index), lasting=False)  # it can be computed again; to wait for the disk takes longer
        return item

    def _compute(self, index: int) -> Any:
        if self._looked:
            return self.dataset[index]
        before = _random_state()
        item = self.dataset[index]
        self._looked = True
        if _random_state() != before:
            warnings.warn(
                "the items of `dataset` are random, and a cache keeps the first draw of each for all epochs: cache "
                "what does not change, and draw behind the cache",
                stacklevel=4,
            )
        return item

    def reset_cache(self) -> None:
        """Forget every item; on disk, delete the files of this data set's items and nothing else."""
        self._memory.clear()
        if self.cache_address is not None:
            for index in range(len(self)):
                self._path(index).unlink(missing_ok=True)
            sweep(self.cache_address.glob(".*.spyketorch.pt.*.part"))  # a writer that was killed could not

    def _path(self, index: int) -> Path:
        assert self.cache_address is not None
        return self.cache_address / f"{index:08d}.spyketorch.pt"

    def _read(self, index: int) -> dict[str, Any] | None:
        """An entry on disk, if there is one."""
        path = self._path(index)
        try:
            entry = load(path)
            packed = _unpack(entry["packed"]) if "packed" in entry else entry["item"]  # by 0.1, which packed nothing
            return {"fingerprint": entry["fingerprint"], "item": packed}
        except FileNotFoundError:  # perhaps since another process has reset the cache
            return None
        except Exception as error:  # whatever is wrong with what it holds
            if isinstance(error, DamagedFile) and _of_numpy(path):
                return None
            reason = str(error) if isinstance(error, DamagedFile) else f"{str(path)!r} holds no item ({error!r})"
            raise ValueError(f"`cache_address`: {reason}; call reset_cache() to clear the cache") from error


def _random_state() -> tuple[Any, ...]:
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  the generator that others draw from
    return torch.get_rng_state().numpy().tobytes(), random.getstate(), kind, np.asarray(keys).tobytes(), *rest


def _of_numpy(path: Path) -> bool:
    """Whether a file is an item of 0.1, with arrays that it left to numpy's own way of rebuilding them."""
    try:
        needed = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # as of a damaged file
        return False
    return bool(needed) and all(name.startswith("numpy.") for name in needed)


# Items on disk. Arrays are kept as their bytes, with shape and type, and tuples say what they stand for.


def _pack(item: Any) -> Any:
    """The item as tensors, plain values, lists and tuples; an error for what would not reload."""
    if isinstance(item, torch.Tensor):
        return item.detach().as_subclass(torch.Tensor).clone()  # without the rest of a storage that it is a view of
    if isinstance(item, np.ndarray | np.generic) and re.fullmatch(_TYPES, item.dtype.str):
        if type(item) in (np.ndarray, np.memmap) or isinstance(item, np.generic):
            content = np.frombuffer(item.tobytes(), np.uint8)
            kind = "scalar" if isinstance(item, np.generic) else "array"
            return kind, item.dtype.str, list(item.shape), torch.from_numpy(content.copy())
    elif type(item) is tuple:
        return "tuple", [_pack(part) for part in item]
    elif type(item) is list:
        return [_pack(part) for part in item]
    elif type(item) is dict:
        return "dict", [_pack(name) for name in item], [_pack(part) for part in item.values()]
    elif type(item) in (type(None), bool, int, float, complex, str, bytes):
        return item
    raise check.fail_type("dataset", f"{_STORABLE}, to be kept on disk", item)


def _unpack(packed: Any) -> Any:
    if isinstance(packed, list):
        return [_unpack(part) for part in packed]
    if not isinstance(packed, tuple):
        return packed
    kind, *rest = packed
    if kind == "tuple":
        return tuple(_unpack(rest[0]))
    if kind == "dict":
        return dict(zip(*map(_unpack, rest), strict=True))
    name, shape, content = rest
    if kind not in ("array", "scalar") or not re.fullmatch(_TYPES, name) or content.dtype != torch.uint8:
        raise ValueError(f"{kind} of {name}")
    values, kept = bytearray(content.numpy().tobytes()), np.dtype(name)
    if kept.kind == "b" and max(values, default=0) > 1:
        raise ValueError("bool values other than 0 and 1")
    if kept.kind == "U" and np.ndarray(len(values) // 4, f"{name[0]}u4", values).max(initial=0) > sys.maxunicode:
        raise ValueError("text of no characters")
    array = np.ndarray(shape, kept, values)
    if array.nbytes != len(values):
        raise ValueError(f"{len(values)} bytes for {name} of {shape}")
    return array[()] if kind == "scalar" else array


_TYPES = r"[<>|=][biufcSUMm]\d+(\[\d*(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?"  # numpy's names of types that hold values


def _fingerprint(dataset: Dataset[Any], key: str | None) -> str:
    if key is not None:
        return hashlib.sha256(key.encode()).hexdigest()
    content = Content()
    found = content(dataset)
    if content.unknown:
        warnings.warn(
            f"what `dataset` holds cannot be told from other content, for its part of type {content.unknown[0]}, so "
            "that no later run will use these items: give a `key` of your own",
            stacklevel=3,
        )
        found += uuid.uuid4().hex
    return hashed(found, str(len(dataset)))  # type: ignore[arg-type]
