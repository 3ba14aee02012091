"""The public surface, recorded in public_api.txt: a name that goes missing or a signature that changes fails here.

After a change that is meant: `python tests/test_public_api.py` rewrites the file; commit it with the change.
"""

import importlib
import inspect
import pkgutil
from pathlib import Path

import spyketorch

RECORD = Path(__file__).with_name("public_api.txt")
SPECIAL = ("__call__", "__getitem__", "__len__")  # the special methods that users call


def public_modules():
    yield spyketorch
    for info in pkgutil.walk_packages(spyketorch.__path__, "spyketorch."):
        parts = info.name.split(".")[1:]
        if not any(part.startswith("_") or part in ("kernels", "runtimes") for part in parts):
            yield importlib.import_module(info.name)


def belongs(name, value, module):
    """Defined there, or offered there on purpose: `from somewhere import name as name`."""
    offered = f"import {name} as {name}\n" in inspect.getsource(module)
    return offered or getattr(value, "__module__", None) == module.__name__


def signature(call):
    """Names, kinds and defaults; annotations are left to the type checker, their text differs between Pythons."""

    def bare(parameter):
        default = parameter.default
        if callable(default) and default is not parameter.empty:  # its address would differ from run to run
            parameter = parameter.replace(default=Name(default.__name__))
        return parameter.replace(annotation=parameter.empty)

    try:
        found = inspect.signature(call)
    except ValueError:  # exceptions and warnings take whatever their built-in base takes
        return "(...)"
    return str(inspect.Signature([bare(parameter) for parameter in found.parameters.values()]))


class Name(str):
    __repr__ = str.__str__


def methods(cls):
    """Public methods and properties that come from this library, not from torch."""
    seen = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("spyketorch"):
            seen |= {name: value for name, value in vars(base).items() if name[0] != "_" or name in SPECIAL}
    seen.pop("extra_repr", None)  # what torch prints
    for name, value in seen.items():
        value = getattr(value, "__func__", value)  # class and static methods
        if inspect.isfunction(value):
            yield f"{name}{signature(value)}"
        elif isinstance(value, property):
            yield name


def surface():
    lines = set()
    for module in public_modules():
        for name, value in vars(module).items():
            if name.startswith("_") or not belongs(name, value, module):
                continue
            if inspect.isclass(value):
                lines.add(f"{module.__name__}.{name}{signature(value)}")
                lines.update(f"{module.__name__}.{name}.{method}" for method in methods(value))
            elif callable(value):
                lines.add(f"{module.__name__}.{name}{signature(value)}")
    return sorted(lines)


def test_surface_is_as_recorded():
    recorded, found = RECORD.read_text(encoding="utf-8").splitlines(), surface()
    gone, new = sorted(set(recorded) - set(found)), sorted(set(found) - set(recorded))
    assert found == recorded, (
        f"the public surface is not the recorded one.\nmissing or changed: {gone}\nnew or changed: {new}\n"
        "If this is meant, run `python tests/test_public_api.py` and commit tests/public_api.txt with the change."
    )


def test_surface_is_found_at_all():
    """The listing itself works: names of each kind are in it, and names of others are not."""
    names = {line.partition("(")[0] for line in surface()}
    assert names >= {
        "spyketorch.validation",
        "spyketorch.functional.get_k_winners",
        "spyketorch.learning.STDP",
        "spyketorch.learning.STDP.update_all_learning_rate",
        "spyketorch.snn.STDP",
        "spyketorch.snn.Convolution.load_weight",
        "spyketorch.utils.CacheDataset.reset_cache",
        "spyketorch.utils.to_pair",
        "spyketorch.data.CacheDataset",
        "spyketorch.latency.rank_order",
        "spyketorch.visualization.show_tensor",
    }
    assert "spyketorch.snn.Parameter" not in names
    assert "spyketorch.snn.Convolution.state_dict" not in names
    assert not any("0x" in line for line in surface())


def test_every_public_name_is_documented():
    missing = []
    for module in public_modules():
        assert module.__doc__, module.__name__
        for name, value in vars(module).items():
            documented = inspect.isclass(value) or inspect.isfunction(value)
            if not name.startswith("_") and documented and belongs(name, value, module) and not value.__doc__:
                missing.append(f"{module.__name__}.{name}")
    assert missing == []


if __name__ == "__main__":
    RECORD.write_text("\n".join(surface()) + "\n", encoding="utf-8")
    print(f"wrote {RECORD}")
