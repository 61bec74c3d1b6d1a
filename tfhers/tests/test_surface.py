"""What the package offers, and that stub and module say the same."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import tfhers._tfhers as native

import tfhers


def stub() -> ast.Module:
    return ast.parse((Path(tfhers.__file__).parent / "_tfhers.pyi").read_text())


def test_the_package_exports_exactly_what_the_native_module_has() -> None:
    """Nothing public is left out, nothing private is let out."""
    public = {name for name in dir(native) if not name.startswith("_")}
    assert public | {"TYPES", "TypeInfo"} == set(tfhers.__all__)
    assert all(hasattr(tfhers, name) for name in tfhers.__all__)


def test_the_stub_names_every_function_and_member() -> None:
    """A checker that trusts the stub is not deceived."""
    top = {node.name: node for node in stub().body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert set(top) | {"PARAMETERS"} == {name for name in dir(native) if not name.startswith("__")}
    for name, node in top.items():
        if isinstance(node, ast.ClassDef) and not name.endswith("Error"):
            members = {inner.name for inner in node.body if isinstance(inner, ast.FunctionDef)}
            assert members == {member for member in dir(getattr(native, name)) if not member.startswith("__")}


def test_types_have_the_numbers_of_fhevm() -> None:
    """The numbers are those of the chain, and two bits make a block."""
    numbers = {name: info.fhe_type for name, info in tfhers.TYPES.items()}
    assert numbers == {
        "bool": 0,
        "uint8": 2,
        "uint16": 3,
        "uint32": 4,
        "uint64": 5,
        "uint128": 6,
        "uint160": 7,
        "uint256": 8,
    }
    assert all(2 * info.blocks == info.bits for name, info in tfhers.TYPES.items() if name != "bool")
    assert (tfhers.TYPES["bool"].bits, tfhers.TYPES["bool"].blocks) == (1, 1)


def test_errors_form_one_tree() -> None:
    """One `except TfheError` catches all that is the input's fault."""
    assert issubclass(tfhers.FormatError, tfhers.TfheError)
    assert issubclass(tfhers.ProofError, tfhers.TfheError)
    assert not issubclass(tfhers.TfheError, ValueError)


@pytest.mark.parametrize("handle", ["ClientKey", "Seed", "KeySet"])
def test_secret_handles_cannot_be_copied_out(handle: str) -> None:
    """No pickling, no constructor, no attribute that holds a secret."""
    kind = getattr(tfhers, handle)
    with pytest.raises(TypeError):
        kind()
    assert not hasattr(kind, "__getstate__") or kind.__getstate__ is object.__getstate__
    assert "__dict__" not in dir(kind)
