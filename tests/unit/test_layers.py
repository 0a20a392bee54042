"""A module imports only from its own layer and the layers below it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "airflow_provider_tallyfy"
ROOT = Path(__file__).parents[2] / PACKAGE

#: From the lowest to the highest; the first part of a module's name below the package.
LAYERS = (
    {"exceptions", "version_compat", "provider_info"},
    {"protocol"},
    {"metrics"},
    {"hooks"},
    {"waiting", "actions", "events", "export"},
    {"links", "rendering"},
    {"triggers", "notifications"},
    {"assets"},
    {"sensors"},
    {"operators"},
    {"transfers"},
    {"policies", "__init__"},
)
RANKS = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_by(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            # `from package import part` names the part; `from package.part import name` may name a module of it.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


MODULES = {name_of(path): sorted(set(imported_by(path))) for path in ROOT.rglob("*.py")}
IMPORTS = [
    (module, name)
    for module, names in sorted(MODULES.items())
    for name in names
    if name.startswith(f"{PACKAGE}.")
]


def test_every_module_is_in_a_layer():
    assert set(map(part_of, MODULES)) - {"sandbox"} <= set(RANKS)


def test_no_import_goes_up():
    upwards = [
        f"{module} imports {name}"
        for module, name in IMPORTS
        if part_of(module) != "sandbox" and RANKS.get(part_of(name), 0) > RANKS[part_of(module)]
    ]
    assert upwards == []


def test_the_sandbox_stands_apart():
    assert [
        f"{module} imports {name}"
        for module, name in IMPORTS
        if "sandbox" in (part_of(module), part_of(name))
        and part_of(name) not in ("sandbox", "protocol", "__version__")
    ] == []


@pytest.mark.parametrize("layer", ["protocol", "exceptions", "version_compat"])
def test_the_lowest_layers_stand_alone(layer):
    """The protocol imports no Airflow, and the other two import nothing of the project."""
    forbidden = "airflow." if layer == "protocol" else f"{PACKAGE}."
    assert [
        f"{module} imports {name}"
        for module, names in MODULES.items()
        for name in names
        if part_of(module) == layer and name.startswith(forbidden)
    ] == []
