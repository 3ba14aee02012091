"""Write the file of a network of integers: safetensors, with a description; ``runtimes/reading.py`` reads it."""

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from spyketorch import _files

BITS = (1, 2, 4, 8)

_TYPES = {"|u1": "U8", "|i1": "I8", "<i4": "I32"}


class Weights(NamedTuple):
    """Weights as they lie in the file.

    Attributes:
        values: integers, int32.
        bits: 1, 2, 4 or 8.
        signed: whether some are below 0.
    """

    values: np.ndarray
    bits: int
    signed: bool

    @classmethod
    def of(cls, values: np.ndarray, bits: int) -> Self | None:
        """Numbers as integers of so many bits; None where they are none, or need more."""
        signed = bool((values < 0).any())
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        whole = (values % 1 == 0).all() and low <= values.min() and values.max() <= high
        return cls(values.astype(np.int32), bits, signed) if whole else None

    @classmethod
    def fewest(cls, values: np.ndarray) -> Self:
        """Integers of 8 bits at most, in the fewest that hold them."""
        return next(found for bits in BITS if (found := cls.of(values, bits)) is not None)


def packed(weight: np.ndarray, bits: int) -> np.ndarray:
    """Weights of so many bits, in two's complement if they have a sign, beside one another in bytes."""
    fields = (weight.reshape(-1).astype(np.int64) & (2**bits - 1)).astype(np.uint8)
    rows = np.concatenate([fields, np.zeros(-len(fields) * bits % 8 // bits, np.uint8)]).reshape(-1, 8 // bits)
    joined: np.ndarray = np.bitwise_or.reduce(rows << np.arange(0, 8, bits, dtype=np.uint8), 1)
    return joined.astype(np.uint8)


def span(weight: np.ndarray, times: int = 1, offset: Any = 0) -> list[int]:
    """The least and the largest sum of weights that are heard up to so many times, with an offset for each neuron."""
    flat = weight.reshape(len(weight), -1).astype(np.int64)
    low, high = (flat.clip(*side).sum(1) * times + offset for side in ((None, 0), (0, None)))
    return [int(low.min()), int(high.max())]


def safetensors(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """Tensors and a description, to which crc32 of the data is added."""
    header: dict[str, Any] = {}
    data = b""
    for name, tensor in tensors.items():
        own = np.ascontiguousarray(tensor)
        ends = [len(data), len(data) + own.nbytes]
        header[name] = {"dtype": _TYPES[own.dtype.str], "shape": list(own.shape), "data_offsets": ends}
        data += own.tobytes()
    header["__metadata__"] = {"spyketorch": json.dumps({**description, "crc32": zlib.crc32(data)})}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text + data


def content(description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of the file of a network."""
    return safetensors({"format": "spyketorch integer network", "version": 1, **description}, tensors)


def write(path: str | os.PathLike[str], description: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> None:
    """Write a file, whole or not at all."""
    with _files.atomic(Path(path)) as part:
        part.write_bytes(content(description, tensors))
