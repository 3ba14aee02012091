"""Data sets that remember what their transforms made."""

import hashlib
import itertools
import os
import random
import re
import sys
import types
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from spyketorch import _checks as check
from spyketorch._files import DamagedFile, load, save, sweep
from spyketorch._identity import Content, hashed
from spyketorch._warnings import _outside

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
            By default it is the content of the data set: its values, its transforms, and the code of your own functions
            and classes. Files that it reads count by their names alone: give a key that changes when they do. Where a
            part does not tell what it holds (an open file) the cache serves this object and its workers, but no later
            run, and warns.

    No hash sees everything that code may read. So, without a key, the first item that is found on disk is computed as
    well; where it is another, all are forgotten and computed anew, with a warning. Where an attribute of the data set
    or of its transforms is set after they are wrapped, nothing from before is given. What is given is a copy: to write
    to it leaves the cache as it is.

    Raises:
        ValueError: when an item on disk is damaged; :meth:`reset_cache` clears it.

    Warns:
        UserWarning: when the first item is random, as of a transform that draws: a cache keeps the first draw; when
            items on disk are not those that the data set gives.

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
        self._key = key
        self._compared = key is not None  # whether an item on disk is that of the data set
        self._made = set[int]()  # items on disk that this object has computed
        self._outline: _Outline | None = _Outline(dataset)
        self._fingerprint = "" if self.cache_address is None else _fingerprint(dataset, key)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_outline": None}  # a copy holds other objects

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        index = check.integer(index.item() if isinstance(index, torch.Tensor) else index, "index")
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` must lie in 0..{len(self) - 1}; got {index}")
        index %= len(self)
        self._follow()
        if self.cache_address is None:
            if index not in self._memory:
                self._memory[index] = self._compute(index)
            return _copied(self._memory[index])
        entry = self._read(index)
        if entry is not None and entry["fingerprint"] == self._fingerprint:
            if self._compared or index in self._made or self._current(index, entry["item"]):
                return entry["item"]
            self.reset_cache()
        item = self._compute(index)
        entry = {"fingerprint": self._fingerprint, "packed": _pack(item)}
        save(entry, self._path(index), lasting=False)  # it can be computed again; to wait for the disk takes longer
        self._made.add(index)
        return item

    def _follow(self) -> None:
        """Forget what was computed before an attribute of the data set was set."""
        outline = _Outline(self.dataset)
        if self._outline is not None and outline != self._outline:
            self._memory.clear()
            if self.cache_address is not None and self._key is None:
                self._fingerprint = _fingerprint(self.dataset, None)
                self._made.clear()
                self._compared = False
        self._outline = outline

    def _compute(self, index: int) -> Any:
        before = None if self._looked else _random_state()
        item = self.dataset[index]
        self._outline = _Outline(self.dataset)  # which may count its items, or open a file
        if not self._looked:
            self._looked = True
            if not _alike(_random_state(), before):
                _say_random()
        return item

    def _current(self, index: int, item: Any) -> bool:
        """Whether an item on disk is what the data set gives, as far as can be told; warns where it is not."""
        self._compared = True
        before = _random_state()
        try:
            now = _pack(self.dataset[index])
            if _alike(now, _pack(item)):
                return True
            random = not _alike(now, _pack(self.dataset[index]))
        except Exception:  # as when the files that it reads are gone
            return True
        finally:
            _set_random_state(before)
            self._outline = _Outline(self.dataset)
        if random:
            if not self._looked:
                _say_random()
            self._looked = True
            return True
        warnings.warn(
            f"item {index} in {str(self.cache_address)!r} is not what `dataset` gives now, so all items are computed "
            "anew: it depends on what its content does not tell, such as a file or a setting elsewhere; give a `key` "
            "that changes with it",
            stacklevel=_outside(),
        )
        return False

    def reset_cache(self) -> None:
        """Forget every item; on disk, delete the files of this data set's items and nothing else."""
        self._memory.clear()
        self._made.clear()
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


class _Outline:
    """Which objects a data set and its transforms are made of, and their plain values, as far as that is quickly told.

    Equal outlines mean that no attribute has been set in between, and no tensor written to.
    """

    def __init__(self, dataset: Any) -> None:
        self.values, self.kept = list[Any](), list[Any]()  # an object that is gone would leave its id to another
        parts, seen = [dataset], set[int]()
        while parts and len(self.values) < _OUTLINED:
            part = parts.pop()
            kind = type(part)
            if kind in (type(None), bool, int, float, str, bytes):
                self.values += (kind, part)
                continue
            self.values.append(id(part))
            self.kept.append(part)
            if id(part) in seen:
                continue
            seen.add(id(part))
            if isinstance(part, torch.Tensor):
                self.values.append(0 if part.is_inference() else part._version)
            elif kind in (list, tuple):
                parts += part[:_LISTED]
                self.values.append(len(part))
            elif kind is dict:
                parts += itertools.islice(part.values(), _LISTED)
                self.values.append(len(part))
            elif not isinstance(part, type | types.ModuleType | CacheDataset):
                own, untold = getattr(part, "__dict__", {}), _UNTOLD if isinstance(part, nn.Module) else ()
                parts += (value for name, value in own.items() if name not in untold)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Outline) and self.values == other.values


_OUTLINED, _LISTED = 1000, 20  # values, and items of a list
_UNTOLD = vars(nn.Module()).keys() - {"_parameters", "_buffers", "_modules", "training"}


def _say_random() -> None:
    warnings.warn(
        "the items of `dataset` are random, and a cache keeps the first draw of each for all epochs: cache what does "
        "not change, and draw behind the cache",
        stacklevel=_outside(),
    )


def _random_state() -> tuple[Any, Any, Any]:
    return torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002  which others draw from


def _set_random_state(state: tuple[Any, Any, Any]) -> None:
    torch.set_rng_state(state[0])
    random.setstate(state[1])
    np.random.set_state(state[2])  # noqa: NPY002


def _alike(one: Any, two: Any) -> bool:
    """Whether two items are the same; what was computed elsewhere may differ in the last bits."""
    if type(one) is not type(two):
        return False
    if isinstance(one, torch.Tensor):
        if one.shape != two.shape or one.dtype != two.dtype:
            return False
        if not one.is_floating_point():
            return torch.equal(one, two)
        largest = float(one.double().abs().nan_to_num(0, 0, 0).max()) if one.numel() else 0.0
        return torch.allclose(one.double(), two.double(), 1e-4, 1e-6 * largest, equal_nan=True)
    if isinstance(one, np.ndarray):
        return np.array_equal(one, two)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(_alike, one, two))
    return bool(one == two or one != one)


def _copied(item: Any) -> Any:
    """Tensors, arrays and containers anew, all else as it is."""
    if isinstance(item, torch.Tensor):
        return item.clone()
    if isinstance(item, np.ndarray):
        return item.copy()
    if type(item) in (list, tuple):
        return type(item)(map(_copied, item))
    if isinstance(item, tuple) and hasattr(item, "_make"):
        return item._make(map(_copied, item))
    if type(item) is dict:
        return {name: _copied(part) for name, part in item.items()}
    return item


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
            stacklevel=_outside(),
        )
        found += uuid.uuid4().hex
    return hashed(found, str(len(dataset)), str(torch.get_default_dtype()))  # type: ignore[arg-type]
