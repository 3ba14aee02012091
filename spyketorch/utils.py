"""The original's ``utils`` under its names: encoders, data sets, and tensors as text files."""

import hashlib
import math
import os
from typing import Any

import numpy as np
import torch
import torch.nn as nn  # noqa: F401  scripts take it from a star import
import torch.nn.functional as fn  # noqa: F401  scripts take it from a star import
from torch import Tensor
from torch.nn.parameter import Parameter  # noqa: F401  scripts take it from a star import

from spyketorch import _checks as check
from spyketorch import functional as sf  # noqa: F401  scripts take it from a star import
from spyketorch._checks import to_pair as to_pair
from spyketorch._files import atomic
from spyketorch.data._cache import CacheDataset as CacheDataset
from spyketorch.encoding._filter import Filter as Filter
from spyketorch.encoding._inhibition import LateralIntencityInhibition as LateralIntencityInhibition
from spyketorch.encoding._inhibition import generate_inhibition_kernel as generate_inhibition_kernel
from spyketorch.encoding._kernels import DoGKernel as DoGKernel
from spyketorch.encoding._kernels import FilterKernel as FilterKernel
from spyketorch.encoding._kernels import GaborKernel as GaborKernel
from spyketorch.encoding._normalization import LocalNormalization as LocalNormalization
from spyketorch.encoding._rank_order import Intensity2Latency as Intensity2Latency

_TEXT_TYPES = {
    "float": np.float32,
    "double": np.float64,
    "int": np.int32,
    "long": np.int64,
    "byte": np.uint8,
    "bool": np.bool_,
}


def tensor_to_text(data: Tensor, address: str | os.PathLike[str]) -> None:
    """Write a tensor as lines of text: its shape, its values in row-major order, both comma-separated, a checksum.

    Floats are written with as many digits as they need to be read back the same. The file is replaced atomically. A
    reader of two lines, as the original's, reads it too; a space behind the shape announces the third.

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "weights.txt"
        >>> tensor_to_text(torch.tensor([[0.5, 1.0]]), path)
        >>> path.read_text().splitlines()  # doctest: +ELLIPSIS
        ['1,2 ', '0.5,1.0', 'sha256 da2d47e0...']
        >>> text_to_tensor(path)
        tensor([[0.5000, 1.0000]])
    """
    path = check.path(address, "address")
    array = check.tensor(data, "data").detach()
    if array.is_complex() or array.is_quantized or array.is_meta or array.layout is not torch.strided:
        raise check.fail_type("data", "a dense tensor of real numbers", data)
    array = array.cpu()
    if array.is_floating_point() and array.dtype != torch.float64:
        array = array.float()
    values = array.to(torch.int64 if not array.is_floating_point() else array.dtype).numpy().ravel()
    lines = f"{','.join(map(str, array.shape))}{_CHECKED}{','.join(map(str, values))}\n"
    with atomic(path) as part:
        part.write_bytes(f"{lines}{_checksum(lines)}\n".encode())


_CHECKED = " \n"  # how the first line ends where a checksum follows the second


def _checksum(lines: str) -> str:
    return f"sha256 {hashlib.sha256(lines.encode()).hexdigest()}"


def text_to_tensor(address: str | os.PathLike[str], type: str = "float") -> Tensor:
    """Read a tensor that :func:`tensor_to_text` wrote.

    Args:
        address: path of the file.
        type: 'float', 'double', 'int', 'long', 'byte' or 'bool'.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a file that is not two lines of a shape and as many values as it says, or an unknown type.
    """
    if not isinstance(type, str) or type not in _TEXT_TYPES:
        raise check.fail("type", f"one of {sorted(_TEXT_TYPES)}", type)
    path, dtype = check.path(address, "address"), _TEXT_TYPES[type]
    try:
        text: str = path.read_bytes().decode().replace("\r\n", "\n")
        sizes, words, checksum, *rest = [*text.splitlines(), "", "", ""]
        shape = [int(size) for size in sizes.replace(",", " ").split()]
        wide: Any = np.array(words.replace(",", " ").split(), dtype if type in ("float", "double") else np.int64)
        values = wide.astype(dtype)
        if type in ("int", "byte") and (values != wide).any():  # which numpy before 2 wraps around
            wrong = int(wide[values != wide][0])
            raise ValueError(f"{wrong} is none of {np.iinfo(dtype).min}..{np.iinfo(dtype).max}")
    except (ValueError, OverflowError, IsADirectoryError) as error:  # a UnicodeDecodeError is a ValueError
        raise ValueError(
            f"`address` must name a text file with a line of sizes and a line of {type} values; {str(path)!r}: {error}"
        ) from None
    if sizes.endswith(" ") or checksum.startswith("sha256"):
        if text != f"{sizes}\n{words}\n{checksum}\n" or checksum != _checksum(f"{sizes}\n{words}\n"):
            raise ValueError(
                f"{str(path)!r} is damaged, cut off or edited: its checksum is another; if it is right, delete the "
                "third line and the space at the end of the first"
            )
    elif checksum.strip():
        rest.append(checksum)
    if any(line.strip() for line in rest) or values.size != math.prod(shape):
        raise ValueError(
            f"`address` must name a text file of two lines, with {' x '.join(map(str, shape))} = {math.prod(shape)} "
            f"values; {str(path)!r} holds {values.size}: it is damaged or cut off"
        )
    return torch.from_numpy(values.reshape(shape))
