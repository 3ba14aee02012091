"""Data sets that remember what their transforms made."""

import hashlib
import io
import os
import re
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from spyketorch import _checks as check
from spyketorch._files import atomic

# what pickles of numpy arrays and scalars are made of: safe to load, though not on torch's list
_NUMPY: list[Any] = [np.ndarray, np.dtype, np.zeros(1).__reduce__()[0], np.int64(0).__reduce__()[0]]
_NUMPY += [type(np.dtype(code)) for code in "?bBhHiIlLqQefdgFDGSUMm"]

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
            By default it is the length and the ``repr`` of the data set; where that does not say all (an object printed
            as an address in memory) the cache serves this object and its workers, but no later run.

    Raises:
        ValueError: when an item on disk is damaged; :meth:`reset_cache` clears it.

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
            if not hasattr(dataset, method):
                raise check.fail_type("dataset", "a map-style data set with __len__ and __getitem__", dataset)
        if key is not None and not isinstance(key, str):
            raise check.fail_type("key", "a string or None", key)
        self.dataset = dataset
        self.cache_address = None if cache_address is None else check.path(cache_address, "cache_address")
        if self.cache_address is not None:
            self.cache_address.mkdir(parents=True, exist_ok=True)
        self._memory: dict[int, Any] = {}
        self._fingerprint = _fingerprint(dataset, key)

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        index = check.integer(index.item() if isinstance(index, torch.Tensor) else index, "index")
        if not -len(self) <= index < len(self):
            raise IndexError(f"`index` must lie in 0..{len(self) - 1}; got {index}")
        index %= len(self)
        if self.cache_address is None:
            if index not in self._memory:
                self._memory[index] = self.dataset[index]
            return self._memory[index]
        path = self._path(index)
        if path.exists():
            entry = self._read(path)
            if entry["fingerprint"] == self._fingerprint:
                return entry["item"]
        item = self.dataset[index]
        content = io.BytesIO()
        torch.save({"fingerprint": self._fingerprint, "item": _storable(item)}, content)
        try:
            content.seek(0)
            _load(content)
        except Exception as error:  # better now than in the run that relies on it
            raise check.fail_type("dataset", f"{_STORABLE}, to be kept on disk", item) from error
        with atomic(path) as part:
            part.write_bytes(content.getvalue())
        return item

    def reset_cache(self) -> None:
        """Forget every item; on disk, delete the files of this data set's items and nothing else."""
        self._memory.clear()
        if self.cache_address is not None:
            for index in range(len(self)):
                self._path(index).unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        assert self.cache_address is not None
        return self.cache_address / f"{index:08d}.spyketorch.pt"

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            entry = _load(path)
            entry["fingerprint"], entry["item"]
        except Exception as error:  # torch raises many types for a damaged file
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ValueError(
                f"`cache_address` holds a file that is damaged or not from this cache, {str(path)!r} ({reason}): "
                "call reset_cache() to clear the cache"
            ) from error
        return entry


def _load(file: Path | io.BytesIO) -> dict[str, Any]:
    with torch.serialization.safe_globals(_NUMPY):
        return torch.load(file, weights_only=True)  # type: ignore[no-any-return]


def _storable(item: Any) -> Any:
    """The item without the rest of the storages that its tensors are views of; an error for what would not reload."""
    if isinstance(item, torch.Tensor):
        return item.detach().as_subclass(torch.Tensor).clone()
    if type(item) in (tuple, list):
        return type(item)(_storable(part) for part in item)
    if type(item) is dict:
        return {_storable(name): _storable(part) for name, part in item.items()}
    if item is None or isinstance(item, bool | int | float | complex | str | bytes | np.generic | np.ndarray):
        return item
    raise check.fail_type("dataset", f"{_STORABLE}, to be kept on disk", item)


def _fingerprint(dataset: Dataset[Any], key: str | None) -> str:
    text = key
    if text is None:
        text = f"{type(dataset).__module__}.{type(dataset).__qualname__} {len(dataset)} {dataset!r}"  # type: ignore[arg-type]
        if re.search(r" at 0x[0-9a-fA-F]+", text):  # says where an object is, not what: good for this run alone
            text += uuid.uuid4().hex
    return hashlib.sha256(text.encode()).hexdigest()
