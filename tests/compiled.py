"""The modules in C, of the compiled tree that PENSTOCK_TREE names, as in `make test-compiled`."""

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import pytest

from tests.nursery import TREE


def compiled_module(package: str, name: str) -> ModuleType | None:
    """A module of `proxy.<package>`; None where there is no such tree, or it is not compiled."""
    for file in Path(os.environ.get(TREE, "/nonexistent"), "proxy", package).glob(f"{name}.*.so"):
        spec = importlib.util.spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    return None


def needs(module: ModuleType | None) -> pytest.MarkDecorator:
    """Skips what compares with this module where it isn't there."""
    return pytest.mark.skipif(module is None, reason=f"{TREE} names no compiled tree")
