"""A reference's source, as the learner gets it (stub), as nbgrader keeps it (marked), and as it is (solved).

Work is by lines of the source, so comments and layout of what is given stay as the author wrote them.
"""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass
from pathlib import Path

from coursekit import paths
from coursekit.errors import CourseError

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
STUB = ["# your code here", "raise NotImplementedError"]


@dataclass(frozen=True)
class Body:
    """Lines `first`…`last` (1-based) of a definition that the learner writes, with their indentation."""

    first: int
    last: int
    indent: str


def module_path(symbol: str) -> Path:
    return paths.SHARED.joinpath(*symbol.split(".")[:-1]).with_suffix(".py")


@functools.cache
def module_tree(path: Path, _stamp: float) -> tuple[str, ast.Module]:
    text = path.read_text("utf-8")
    return text, ast.parse(text)


def find_definition(text: str, tree: ast.Module, name: str) -> str | None:
    """The source of the top-level function or class `name`, without its decorator `@exercise`."""
    lines = text.splitlines()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            kept = [lines[d.lineno - 1] for d in node.decorator_list if getattr(d, "id", "") != "exercise"]
            return "\n".join(kept + lines[node.lineno - 1 : node.end_lineno])
    return None


def reference_source(symbol: str) -> str:
    """The reference of an exercise as it stands in the library.

    Raises CourseError where the module or the definition is missing.
    """
    path = module_path(symbol)
    if not path.is_file():
        raise CourseError(f"{symbol}: there is no {path.relative_to(paths.REPO)}.")
    source = find_definition(*module_tree(path, path.stat().st_mtime), symbol.rpartition(".")[2])
    if source is None:
        raise CourseError(f"{symbol}: {path.relative_to(paths.REPO)} defines no such function or class.")
    return source


def bodies(source: str) -> list[Body]:
    """What the learner writes: a function's body after its docstring; in a class, that of each method not marked `# given`."""
    lines = source.splitlines()
    node = ast.parse(source).body[-1]
    functions = [node] if isinstance(node, ast.FunctionDef) else [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef)]
    methods = [n for n in functions if n is node or n in getattr(node, "body", [])]
    found = []
    for function in methods:
        header = lines[function.lineno - 1 : function.body[0].lineno]
        if any(line.rstrip().endswith("# given") for line in header):
            continue
        statements = function.body[1:] if ast.get_docstring(function, clean=False) is not None else function.body
        if statements:
            after = function.body[0].end_lineno + 1 if statements is not function.body else header_end(function, lines) + 1
            found.append(Body(after, function.end_lineno, " " * statements[0].col_offset))
    return found


def is_given(source: str, line: int) -> bool:
    """Whether that line (1-based) of a class belongs to a method that is handed out whole."""
    lines = source.splitlines()
    for node in getattr(ast.parse(source).body[-1], "body", []):
        if isinstance(node, ast.FunctionDef) and node.lineno <= line <= node.end_lineno:
            return any(text.rstrip().endswith("# given") for text in lines[node.lineno - 1 : node.body[0].lineno])
    return False


def header_end(function: ast.FunctionDef, lines: list[str]) -> int:
    """The last line of `def …:`; comments below it belong to the body."""
    line = function.body[0].lineno - 1
    while line > function.lineno and not lines[line - 1].split("#")[0].rstrip().endswith(":"):
        line -= 1
    return max(line, function.lineno)


def replace_bodies(source: str, render) -> str:
    lines = source.splitlines()
    for body in reversed(bodies(source)):
        kept = lines[body.first - 1 : body.last]
        lines[body.first - 1 : body.last] = render(kept, body.indent)
    return "\n".join(lines)


def stub(source: str) -> str:
    """Signature, docstring and what is given; `raise NotImplementedError` where the learner writes."""
    return replace_bodies(source, lambda _, indent: [indent + line for line in STUB])


def marked(source: str) -> str:
    """The solution between nbgrader's marks."""
    return replace_bodies(source, lambda kept, indent: [indent + BEGIN, *kept, indent + END])


def is_untouched(source: str) -> bool:
    """Whether a cell still holds a stub (a body that is nothing but `raise NotImplementedError`)."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
    return any(
        isinstance(f.body[-1], ast.Raise) and "NotImplementedError" in ast.unparse(f.body[-1]) and len(f.body) <= 2 for f in functions
    )


def strip_bodies(text: str, names: set[str]) -> ast.Module:
    """The module's tree with the solutions of the exercises `names` taken out, for the process that judges an answer to them."""
    tree = ast.parse(text)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names:
            for function in [n for n in ast.walk(node) if isinstance(n, ast.FunctionDef)]:
                function.body = [ast.Raise(ast.Name("NotImplementedError", ast.Load()))]
    return ast.fix_missing_locations(tree)
