"""Every worked example in a docstring is true."""

import doctest
from importlib import import_module

import pytest
from conftest import ROOT

FILES = [path for path in sorted((ROOT / "numroberta").rglob("*.py")) if ">>> " in path.read_text("utf-8")]
MODULES = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_are_true(name):
    try:
        module = import_module(name)
    except ImportError as error:  # which says what to install, as numroberta.spark does
        pytest.skip(str(error))
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
    assert result.attempted
    assert not result.failed
