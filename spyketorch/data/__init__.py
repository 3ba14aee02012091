"""Data sets that remember what their transforms made."""

from spyketorch.data._cache import CacheDataset as CacheDataset
