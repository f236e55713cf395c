"""Every public tensor function of the library says the shapes of what it takes and gives, and what it computes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import hybridlab
import pytest

ROOT = Path(hybridlab.__path__[0])
FILES = sorted(ROOT.rglob("*.py"))
#: A tensor that no jaxtyping shape stands around; in a list of arguments of a Callable it can have none.
BARE = re.compile(r"(?<!\[)\bTensor\b(?!,)")


def public_functions(node: ast.AST) -> Iterator[ast.FunctionDef]:
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, ast.FunctionDef) and not inner.name.startswith("_"):
            yield inner
        elif isinstance(inner, ast.ClassDef) and not inner.name.startswith("_"):
            yield from public_functions(inner)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_tensor_functions_have_shapes_and_public_names_docstrings(path):
    tree = ast.parse(path.read_text("utf-8"))
    for function in public_functions(tree):
        given = [argument.annotation for argument in (*function.args.args, *function.args.kwonlyargs)]
        for annotation in filter(None, [*given, function.returns]):
            text = re.sub(r"Callable\[\[.*?\], [^\]]*\]", "", ast.unparse(annotation))
            assert function.name == "step" or not BARE.search(text), f"{function.name}: {text} has no shape"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{node.name} has no docstring"
