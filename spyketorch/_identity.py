"""What decides the answers of an object: its content, in hashes that the next run finds again."""

import dis
import functools
import hashlib
import importlib.util
import itertools
import sys
import sysconfig
import types
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import spyketorch

_PLAIN = {type(None), bool, int, float, complex, str, bytes, range, types.EllipsisType, torch.dtype, torch.device}
_SAID_ELSEWHERE = {  # of a class: where it stands, what it is called, what its writer says of it
    *("__dict__", "__weakref__", "__module__", "__qualname__", "__doc__", "__firstlineno__", "__static_attributes__"),
    *("__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__parameters__"),
    *("__orig_bases__", "__abstractmethods__", "_abc_impl", "__slotnames__"),  # the last once it has been copied
}


def digest(*tensors: Tensor) -> str:
    """A hash of shapes, types and values."""
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def hashed(*parts: str) -> str:
    """A hash of texts, in which no end of one passes for the start of the next."""
    return hashlib.sha256("".join(f"{len(part)}:{part}" for part in parts).encode(errors="surrogatepass")).hexdigest()


class Content:
    """A hash of all that an object is made of: values, tensors, and the code of functions and classes.

    Code of installed packages counts by the version of the package; code of one's own by its instructions, constants
    and whatever it names: globals, closures, the functions that it calls, what it reads in modules of one's own.

    Args:
        code: whether code counts; it differs from one Python to the next. Without, functions and classes are their name
            and the values that they hold.

    Attributes:
        unknown: types of the parts that do not tell what they hold, such as open files.
    """

    def __init__(self, *, code: bool = True) -> None:
        self.code, self.unknown = code, list[str]()
        self._done: dict[int, str] = {}
        self._kept: list[Any] = []  # an object that is gone would leave its id to another

    def __call__(self, value: Any) -> str:
        kind = type(value)
        if kind in _PLAIN or (kind in (list, tuple) and set(map(type, value)) <= _PLAIN):
            return hashed(kind.__name__, repr(value))
        if id(value) not in self._done:
            self._kept.append(value)
            self._done[id(value)] = f"round {len(self._done)}"  # what is met again within itself
            self._done[id(value)] = hashed(self._name(kind), *self._parts(value))
        return self._done[id(value)]

    def _parts(self, value: Any) -> Iterator[str]:
        if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
            yield digest(value)
        elif isinstance(value, np.memmap) and value.mode == "r" and value.filename is not None:
            yield _of_file(value)
        elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
            yield f"{value.shape} {value.dtype.str} {hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()}"
        elif isinstance(value, PurePath):
            yield str(value)
        elif isinstance(value, types.ModuleType):
            yield hashed(_origin(value.__name__) or _source(value)) if self.code else value.__name__
        elif isinstance(value, type) and not self.code:
            yield value.__qualname__
        elif isinstance(value, type | types.FunctionType) and _origin(value.__module__) is not None:
            yield f"{_name(value)} {_origin(value.__module__) if self.code else ''}"
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, types.FunctionType):
            yield from self._function(value)
        elif isinstance(value, types.CodeType):
            yield from self._code(value)
        else:
            yield from map(self, self._made_of(value))

    def _made_of(self, value: Any) -> Iterator[Any]:
        """The parts of a container or of an instance."""
        if type(value) in (list, tuple):
            yield from value
        elif type(value) in (dict, types.MappingProxyType):
            for pair in value.items():
                yield from pair
        elif type(value) in (set, frozenset):
            yield from sorted(map(self, value))
        elif isinstance(value, types.MethodType):
            yield from (value.__func__, value.__self__)
        elif isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType | None):
            yield f"{value.__module__}.{value.__qualname__}"
        elif isinstance(value, property):
            yield from (value.fget, value.fset, value.fdel)
        elif isinstance(value, staticmethod | classmethod):
            yield value.__func__
        elif isinstance(value, functools.cached_property):
            yield value.func
        elif isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType):
            yield value.__name__
        elif callable(value) and hasattr(value, "__wrapped__"):  # by functools.cache, numba and the like
            yield value.__wrapped__
        else:
            yield from self._reduced(value)

    def _reduced(self, value: Any) -> Iterator[Any]:
        """What pickle would make it of."""
        try:
            made = value.__reduce_ex__(4)
        except Exception:  # whatever an object says that is not to be written down
            self.unknown.append(_name(type(value)))
            return
        if isinstance(made, str):
            yield made
            return
        yield from made[:3]
        for more in made[3:5]:
            yield list(more or ())

    def _name(self, kind: type) -> str:
        return _name(kind) if self.code else kind.__qualname__

    def _class(self, value: type) -> Iterator[str]:
        yield _name(value)
        yield from map(self, value.__bases__)
        for name, part in vars(value).items():
            if name not in _SAID_ELSEWHERE:
                yield from (name, self(part))

    def _function(self, value: types.FunctionType) -> Iterator[str]:
        yield self(value.__code__) if self.code else value.__qualname__
        yield from map(self, (value.__defaults__, value.__kwdefaults__))
        read, around = _Reads.of(value.__code__), value.__globals__
        for cell in value.__closure__ or ():
            try:
                yield from (self(cell.cell_contents), *self._of_module(cell.cell_contents, read.attributes))
            except ValueError:  # not filled yet
                yield "empty"
        yield from map(self, [vars(value)] if vars(value) else [])
        for name in sorted(read.globals | (read.attributes if "globals" in read.globals else set())):
            if name in around:
                yield from (name, self(around[name]), *self._of_module(around[name], read.attributes))
        for name in sorted(read.imports) if self.code else ():
            yield from (name, *self._imported(name, str(around.get("__package__") or ""), read.attributes))

    def _of_module(self, value: Any, attributes: set[str]) -> Iterator[str]:
        """What code reads of a module of one's own."""
        if self.code and isinstance(value, types.ModuleType) and _origin(value.__name__) is None:
            for name in sorted(attributes & vars(value).keys()):
                yield from (name, self(vars(value)[name]))

    def _imported(self, name: str, package: str, attributes: set[str]) -> Iterator[str]:
        """A module that code imports when it runs, where it is the user's own."""
        for full in (f"{package}.{name}", name) if package else (name,):
            try:
                spec = importlib.util.find_spec(full)
                if spec is not None and spec.origin is not None and not _installed(full, spec.origin):
                    module = importlib.import_module(full)
                    yield from (self(module), *self._of_module(module, attributes))
                    return
            except Exception:  # whatever importing it runs into; the code itself may expect it
                continue

    def _code(self, value: types.CodeType) -> Iterator[str]:
        yield value.co_code.hex()
        yield from map(self, value.co_consts)
        yield repr((value.co_names, value.co_varnames, value.co_freevars, value.co_argcount, value.co_flags))


def _of_file(array: "np.memmap[Any, Any]") -> str:
    """What a mapped file holds where, by its name, size and time of change: it may be too large to be read for that."""
    root: Any = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    place = root.offset + array.ctypes.data - root.ctypes.data
    found = Path(str(array.filename)).stat()
    laid_out = f"{place} {array.shape} {array.strides} {array.dtype.str}"
    return f"{array.filename} {found.st_size} {found.st_mtime_ns} {laid_out}"


def _name(value: Any) -> str:
    return f"{value.__module__}.{value.__qualname__}"


class _Reads(NamedTuple):
    """Names that code reads, and the code within it: globals, attributes (also by a text), modules that it imports."""

    globals: set[str]
    attributes: set[str]
    imports: set[str]

    @classmethod
    def of(cls, code: types.CodeType) -> "_Reads":
        steps = list(dis.get_instructions(code))
        found = cls(
            {step.argval for step in steps if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")},
            {*code.co_names, *(const for const in code.co_consts if isinstance(const, str))},
            {step.argval for step in steps if step.opname == "IMPORT_NAME"},
        )
        for part in code.co_consts:
            if isinstance(part, types.CodeType):
                for mine, more in zip(found, cls.of(part), strict=True):
                    mine |= more
        return found


@functools.cache
def _origin(module: str | None) -> str | None:
    """The version of the package that a module comes from; None where it is the user's own."""
    root = (module or "").partition(".")[0]  # code that is executed from a text has none
    if root == "spyketorch":  # perhaps an editable install, whose version stays while its code changes
        return f"{spyketorch.__version__} {_package()}"
    if root in sys.stdlib_module_names:
        return "Python"
    found = sys.modules.get(root)
    file = getattr(found, "__file__", None)
    return str(getattr(found, "__version__", "")) if file is not None and _installed(root, file) else None


def _installed(module: str, file: str) -> bool:
    """Whether a module is no code of the user's own."""
    root = module.partition(".")[0]
    places = [Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")]
    known = root in sys.stdlib_module_names or root == "spyketorch"
    return known or any(Path(file).is_relative_to(place) for place in places)


def _package() -> str:
    """A hash of this package's code."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashed(*(file.read_text(encoding="utf-8") for file in files))


def _source(module: types.ModuleType) -> str:
    file = getattr(module, "__file__", None)
    return Path(file).read_text(encoding="utf-8", errors="replace") if file and Path(file).is_file() else ""


# networks


def settings(module: nn.Module, name: str) -> dict[str, str | Tensor]:
    """What decides a module's answers beside its ``state_dict`` and its code, by the names of the attributes."""
    found: dict[str, str | Tensor] = {}
    for path, part in module.named_modules(prefix=name):
        found[f"{_TYPE} {path}"] = type(part).__qualname__
        aside = _EVERY.union(getattr(part, "_decides_nothing", ()))
        values = {key: value for key, value in vars(part).items() if key not in aside}
        if not its_own(part):  # private ones keep what was computed before
            values = {key: value for key, value in values.items() if key[0] != "_"}
        values |= {key: part._buffers[key] for key in sorted(part._non_persistent_buffers_set)}
        found |= {f"{path}.{key}": _said(value) for key, value in values.items()}
    return found


def its_own(module: nn.Module) -> bool:
    """Whether a module is the user's own, of which nobody knows what its answers depend on."""
    kinds = type(module).__mro__
    return _origin(kinds[0].__module__) is None and not any(kind.__module__.startswith("spyketorch.") for kind in kinds)


def users_own(value: Any) -> bool:
    """Whether a function or a class is the user's own."""
    return _origin(getattr(value, "__module__", None)) is None


def hooks(module: nn.Module) -> list[Any]:
    """Forward hooks on a module and its parts, which may change what it answers."""
    both = [hooks for part in module.modules() for hooks in (part._forward_pre_hooks, part._forward_hooks)]
    found = itertools.chain.from_iterable(hooks.values() for hooks in both)
    return [hook for hook in found if not str(getattr(hook, "__module__", "")).startswith("spyketorch.")]


@contextmanager
def unhooked(module: nn.Module) -> Iterator[None]:
    """The module without its forward hooks, for a while."""
    kept = [(part, part._forward_pre_hooks, part._forward_hooks) for part in module.modules()]
    try:
        for part, _, _ in kept:
            part._forward_pre_hooks, part._forward_hooks = OrderedDict(), OrderedDict()
        yield
    finally:
        for part, before, after in kept:
            part._forward_pre_hooks, part._forward_hooks = before, after


def code_of(value: Any) -> str:
    """A hash of the code of a hook and the plain values that it holds, not of what it has gathered."""
    function = getattr(value, "__func__", value)
    if not isinstance(function, types.FunctionType):
        return Content()(type(function))[:16]
    held = [cell.cell_contents for cell in function.__closure__ or ()]
    plain = [part for part in (*held, *(function.__defaults__ or ())) if _plain(part) or isinstance(part, Tensor)]
    return Content()([function.__code__, *plain])[:16]


def rule_lines(rule: nn.Module, layer: nn.Module, number: int) -> list[str]:
    """What a learning rule is made of, without the layer that learns by it."""
    content, found = Content(), []
    around = [*layer.modules(), *layer.parameters(), *layer.buffers()]
    content._done.update((id(part), "of the layer") for part in around)
    for path, part in rule.named_modules(prefix=f"rule {number}"):
        if any(part is other for other in around):
            continue
        found.append(f"{path}: {type(part).__qualname__} {content(type(part))[:16]}")
        values = {key: value for key, value in vars(part).items() if key not in _EVERY}
        values |= dict(part.named_buffers(recurse=False)) | dict(part.named_parameters(recurse=False))
        for key, value in values.items():
            said = repr(value) if _plain(value) else f"{type(value).__qualname__} {content(value)[:16]}"
            found.append(f"{path}.{key}: {said}")
    return found


_TYPE = "the type of"
_EVERY = set(vars(nn.Module()))  # attributes of every module


def _said(value: Any) -> str | Tensor:
    if isinstance(value, Tensor) and value.layout is torch.strided and not value.is_meta:
        return value
    text = repr(value)
    if _plain(value):
        return text if len(text) <= 200 else f"{text[:60]}... {hashed(text)[:16]}"
    return f"{type(value).__qualname__} {Content(code=False)(value)[:16]}"


def _plain(value: Any) -> bool:
    return type(value) in _PLAIN or (isinstance(value, tuple | list) and all(map(_plain, value)))


def lines(found: dict[str, str | Tensor]) -> list[str]:
    """Settings as text, exact to the bit."""
    return [f"{name}: {value if isinstance(value, str) else f'{_shape(value)} {digest(value)}'}"
            for name, value in found.items()]  # fmt: skip


def difference(there: Iterable[str], here: Iterable[str]) -> str:
    """The first line in which two descriptions differ; nothing where none does."""
    pairs = zip_longest(there, here, fillvalue="")
    return next((f"{a.strip()!r} there, {b.strip()!r} here" for a, b in pairs if a != b), "")


# Files of networks go from one machine to another, where the last bits of computed values may differ.

_KEPT = 1000  # values of a tensor that are compared; of a larger one as many, evenly spread
_SLACK = 1e-4  # of the largest value, in which computed ones may differ


def written(found: dict[str, str | Tensor]) -> dict[str, Any]:
    """Settings as JSON takes them."""
    return {name: value if isinstance(value, str) else _outline(value) for name, value in found.items()}


def _outline(tensor: Tensor) -> dict[str, Any]:
    values = tensor.detach().cpu().flatten()
    values = values[:: max(1, -(-len(values) // _KEPT))]
    return {"shape": _shape(tensor), "values": values.tolist() if not values.is_complex() else []}


def _shape(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "1"


def unlike(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first of two written settings that differs, in words; nothing where none does."""
    for name in [*here, *there]:
        a, b = there.get(name, "missing"), here.get(name, "missing")
        if "missing" in (a, b) and not name.startswith(_TYPE):
            continue  # as an attribute that came with a later version
        if isinstance(a, str) or isinstance(b, str):
            if a != b:
                return f"{name} is {_short(a)} there, {_short(b)} here"
        elif a["shape"] != b["shape"]:
            return f"{name} is of shape {a['shape']} there, {b['shape']} here"
        else:
            slack = _SLACK * max((abs(value) for value in b["values"]), default=0)
            for place, (x, y) in enumerate(zip(a["values"], b["values"], strict=True)):
                if not (x == y or (isinstance(y, float) and abs(x - y) <= slack)):
                    return f"{name} has a value, number {place} of those compared, that is {x:g} there, {y:g} here"
    return ""


def share_unlike(there: list[int], here: list[int]) -> float:
    """The share of answers that differ."""
    if len(there) != len(here):
        return 1.0
    return sum(a != b for a, b in zip(there, here, strict=True)) / max(1, len(here))


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"a tensor of shape {value['shape']}"
