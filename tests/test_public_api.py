"""Every public name has a docstring, a place in the docs and a test."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lightning_al
from lightning_al import strategies

ROOT = Path(__file__).parent.parent
MODULES = ("lightning_al", "lightning_al.strategies", "lightning_al.functional", "lightning_al.oracles")
DEMOS = ("lightning_al.demos",)


def names(*modules: str) -> list[tuple[str, str]]:
    return sorted((module, name) for module in modules for name in importlib.import_module(module).__all__)


PUBLIC = names(*MODULES, *DEMOS)
TESTS = "\n".join(
    path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "tests").rglob("*"))
    if path.suffix in (".py", ".yaml") and path != Path(__file__)
)


def documented_parameters(thing: Any) -> set[str]:
    """The parameters that a docstring's ``Args:`` describes."""
    section = re.search(r"^( *)Args:\n((?:\1 +.*\n|\n)+)", inspect.cleandoc(thing.__doc__) + "\n", re.MULTILINE)
    return set(re.findall(r"^    (\w+):", section.group(2), re.MULTILINE)) if section else set()


def own_methods(thing: type) -> Iterator[tuple[str, Any]]:
    for name, method in vars(thing).items():
        if not name.startswith("_") and (inspect.isfunction(method) or isinstance(method, property)):
            yield name, method


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_has_a_docstring_that_describes_every_argument(module: str, name: str) -> None:
    thing = getattr(importlib.import_module(module), name)
    assert thing.__doc__
    parameters = [
        parameter.name
        for parameter in inspect.signature(thing).parameters.values()
        if parameter.kind not in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    ]
    # arguments that a class inherits are described where they are taken
    takes = next(cls for cls in thing.__mro__ if "__init__" in vars(cls)) if inspect.isclass(thing) else thing
    described = documented_parameters(thing) or documented_parameters(takes)
    assert [parameter for parameter in parameters if parameter not in described] == []
    if inspect.isclass(thing):
        assert [
            method for method, value in own_methods(thing) if not value.__doc__ and not inherits_doc(thing, method)
        ] == []


def inherits_doc(thing: type, method: str) -> bool:
    return any(getattr(getattr(base, method, None), "__doc__", None) for base in thing.__mro__[1:])


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_is_in_the_api_docs(module: str, name: str) -> None:
    api = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"^\.\. auto(class|function):: lightning_al(\.\w+)*\.{name}$", api, re.MULTILINE)


@pytest.mark.parametrize(("module", "name"), PUBLIC)
def test_has_a_test(module: str, name: str) -> None:
    assert re.search(rf"\b{name}\b", TESTS)


@pytest.mark.parametrize("name", strategies.__all__)
def test_every_strategy_is_in_the_table_of_strategies_and_at_top_level(name: str) -> None:
    table = (ROOT / "docs" / "strategies.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}`( \(default\))? \|", table, re.MULTILINE)
    assert getattr(lightning_al, name) is getattr(strategies, name)


def test_every_module_says_what_it_is_for() -> None:
    modules = [module.name for module in pkgutil.walk_packages(lightning_al.__path__, "lightning_al.")]
    assert "lightning_al.callback" in modules
    undocumented = [
        name
        for name in modules
        if not name.endswith("__main__") and not (importlib.import_module(name).__doc__ or "").strip()
    ]
    assert undocumented == []


def test_names_in_all_exist_and_are_sorted() -> None:
    for module in (*MODULES, *DEMOS):
        listed = importlib.import_module(module).__all__
        assert len(set(listed)) == len(listed)
        assert all(hasattr(importlib.import_module(module), name) for name in listed)


def test_version_is_that_of_the_distribution() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert re.search(r'^version = "(.+)"$', project, re.MULTILINE).group(1) == lightning_al.__version__
    assert (ROOT / "lightning_al" / "py.typed").is_file()


def test_functional_knows_nothing_of_lightning() -> None:
    files = sorted((ROOT / "lightning_al" / "functional").glob("*.py"))
    assert files
    importing = [
        p.name
        for p in files
        if re.search(r"^\s*(import|from) lightning\b", p.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert importing == []


def test_only_the_command_line_is_not_imported_by_the_package() -> None:
    """Arrows point one way: nothing imports the command line."""
    files = [path for path in (ROOT / "lightning_al").rglob("*.py") if path.name not in ("cli.py", "__main__.py")]
    importing = [
        p.name
        for p in files
        if re.search(r"lightning_al\.cli|from lightning_al import cli", p.read_text(encoding="utf-8"))
    ]
    assert importing == []
