"""The public names of the package, and where the site documents each."""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from typing import Any

PACKAGES = ("pyrcnn", "pyrcnn.ops", "pyrcnn.models", "pyrcnn.data", "pyrcnn.train", "pyrcnn.evaluate",
            "pyrcnn.checkpoints", "pyrcnn.deploy", "pyrcnn.numpy", "pyrcnn.images")  # fmt: skip

# What mkdocstrings shows of a class beside its own public methods.
OPTIONS = {
    "pyrcnn.data.Transform": 'filters: ["!^_(?!_call__)"]',  # its only method
    "pyrcnn.models.Detector": "inherited_members: [from_pretrained, push_to_hub, save_pretrained]",
}

_ROLE = re.compile(r":(?:func|class|mod|meth|data|attr|exc):`~?([\w.]+)`")


def documented(package: str) -> dict[str, Any]:
    """The functions and classes in ``__all__`` of a package, by name; they have a docstring of their own."""
    module = importlib.import_module(package)
    values = {name: getattr(module, name) for name in module.__all__}
    return {name: value for name, value in values.items() if inspect.isfunction(value) or inspect.isclass(value)}


def constants(package: str) -> dict[str, Any]:
    """The other names in ``__all__``: values, types and modules."""
    module = importlib.import_module(package)
    return {name: getattr(module, name) for name in module.__all__ if name not in documented(package)}


@functools.cache
def addresses() -> dict[str, str]:
    """Each full name of a public function or class → that in the module that defines it, which mkdocstrings knows.

    The other may be the name of a module: ``pyrcnn.ops.nms`` is both.
    """
    found: dict[str, str] = {}
    for package in PACKAGES:
        for name, value in documented(package).items():
            home = f"{value.__module__}.{value.__qualname__}"
            found[f"{package}.{name}"] = found[home] = home
    return found


def link(package: str, name: str) -> str:
    """The Markdown of a link to a public function or class."""
    return f"[`{name}`][{addresses()[f'{package}.{name}']}]"


def block(package: str, name: str) -> str:
    """The Markdown for which mkdocstrings writes the docstring of a public function or class."""
    public = f"{package}.{name}"
    home = addresses()[public]
    anchor = "" if home == public else f'<a id="{public}"></a>\n\n'
    options = ", ".join([f"heading: {public}", f"toc_label: {name}", *filter(None, [OPTIONS.get(public)])])
    return f"{anchor}::: {home}\n    options: {{{options}}}\n"


def linked(text: str, module: str) -> str:
    """Return a docstring's text with its references (``:func:`nms```) as links of mkdocstrings, or as code."""

    def replaced(match: re.Match[str]) -> str:
        name = match[1]
        parents = [module.rsplit(".", i)[0] for i in range(module.count(".") + 1)]
        for full in (name, *(f"{parent}.{name}" for parent in parents)):
            if full in addresses():
                return f"[`{name}`][{addresses()[full]}]"
        return f"`{name}`"

    return _ROLE.sub(replaced, text)
