"""The house from the inside: imports run one way, and faces, which only offer names, are not imported from inside.

Imports for the type checker alone count as well: who reads a module has to know what it names.
"""

import ast
from pathlib import Path

import pytest

import spyketorch

ROOT = Path(spyketorch.__file__).parent

#: rooms from the ground up; each knows those before it alone. A new one stands after all that it imports.
ROOMS = [
    *(
        "_warnings",
        "_on_one_thread",
        "_checks",
        "__init__",
        "_files",
        "_progress",
        "_identity",
        "_state",
        "_convolution",
        "_winners",
    ),
    *(
        "_processes",
        "_common_memory",
        "_plasticity",
        "_teacher",
        "neurons",
        "kernels",
        "functional",
        "latency",
        "learning",
        "snn",
        "encoding",
        "readout",
        "data",
    ),
    *("models", "training", "export", "visualization", "testing", "utils"),
]

#: folders whose `__init__` only offers the names of others
FACES = {"data", "learning", "encoding", "export", "models", "readout", "training", "visualization"}


def name_of(path):
    """A module as it is imported, without `spyketorch.`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in ROOT.rglob("*.py")}


def imported(tree):
    """(module, name) of all that is imported from the package, anywhere in a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "spyketorch":
            assert node.level == 0
            inside = node.module.removeprefix("spyketorch").lstrip(".")
            for alias in node.names:
                full = f"{inside}.{alias.name}".lstrip(".")
                yield (full, "") if full in MODULES else (inside or "__init__", alias.name)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "spyketorch":
                    yield alias.name.removeprefix("spyketorch").lstrip(".") or "__init__", ""


IMPORTS = {
    name: sorted(set(imported(ast.parse(path.read_text(encoding="utf-8")))) - {(name, "")})
    for name, path in MODULES.items()
}


def room(module):
    return module.partition(".")[0]


def test_every_module_has_a_room():
    assert {room(module) for module in MODULES} == set(ROOMS)


def test_a_room_knows_those_below_it_alone():
    height = {name: number for number, name in enumerate(ROOMS)}
    wrong = [
        (name, other)
        for name, found in IMPORTS.items()
        for other, _ in found
        if height[room(other)] > height[room(name)]
    ]
    assert wrong == [], "the first imports the second, which stands above it"


def test_nothing_goes_round_in_circles():
    """Modules that import each other by way of others, within a room too."""
    left = {module: {other for other, _ in found if other != module} for module, found in IMPORTS.items()}
    while True:
        free = {module for module, below in left.items() if not below & left.keys()}
        if not free:
            break
        left = {module: below for module, below in left.items() if module not in free}
    assert left == {}


def test_faces_are_not_imported_from_inside():
    wrong = [
        (name, face, taken) for name, found in IMPORTS.items() for face, taken in found if face in {*FACES, "utils"}
    ]
    assert wrong == [], "the first takes from a face, the second, what it should take from where it is"


@pytest.mark.parametrize("face", sorted(FACES))
def test_a_face_only_offers(face):
    docstring, *rest = ast.parse(MODULES[face].read_text(encoding="utf-8")).body
    assert isinstance(docstring, ast.Expr)
    assert all(isinstance(node, ast.ImportFrom) for node in rest)


def test_it_is_seen_at_all():
    assert ("training._lesson", "Learned") in IMPORTS["training._trainer"]
    assert ("models._network", "Network") in IMPORTS["visualization._mean_stimuli"]
    assert len(MODULES) > 80
