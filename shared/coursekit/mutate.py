"""A generic mutator over reference solutions: small wrong changes that a check must notice.

Kinds: operators, comparisons, signs, constants and off-by-one, axes (a `dim`, an index), dropped statements,
swapped arguments, negated conditions, dropped keyword arguments, `and`/`or`. Docstrings, annotations, and messages
of errors are left alone.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.MatMult: ast.Mult,
    ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


@dataclass(frozen=True)
class Mutant:
    """`label` is stable while the body is: line in the definition, kind, and what became what."""

    label: str
    source: str
    line: int


def mutants(source: str) -> list[Mutant]:
    """Every single-change mutant of a definition whose unparsed source differs from it, without repeats."""
    tree = ast.parse(source)
    original, seen, found = ast.unparse(tree), set(), []
    for line, label, mutated in every_change(tree):
        text = ast.unparse(ast.fix_missing_locations(mutated))
        if text != original and text not in seen:
            seen.add(text)
            found.append(Mutant(label, text, line))
    return found


def every_change(tree: ast.Module) -> Iterator[tuple[int, str, ast.Module]]:
    places = list(ast.walk(tree))
    off_limits = spared(tree)
    for index, node in enumerate(places):
        if id(node) in off_limits:
            continue
        for kind, change in changes(node):
            mutated = copy.deepcopy(tree)
            target = list(ast.walk(mutated))[index]
            before = short(node)
            change(target)
            line = getattr(node, "lineno", 0)
            if kind.startswith("dropped `"):
                line = int(kind.rpartition(" ")[2])
                yield line, f"line {line}, {kind.rpartition(' of line')[0]}", mutated
            else:
                yield line, f"line {line}, {kind}: {before} → {short(target)}", mutated


def spared(tree: ast.Module) -> set[int]:
    """Docstrings, annotations, given methods' signatures, and everything inside `raise`: no behaviour that a check judges lies there."""
    spared_nodes: set[int] = set()

    def spare(node: ast.AST | None) -> None:
        if node is not None:
            spared_nodes.update(id(inner) for inner in ast.walk(node))

    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False) is not None:
            spare(node.body[0])
        if isinstance(node, ast.FunctionDef):
            spare(node.returns)
        if isinstance(node, ast.arg):
            spare(node.annotation)
        if isinstance(node, ast.AnnAssign):
            spare(node.annotation)
        if isinstance(node, ast.Raise):
            for inner in ast.iter_child_nodes(node):
                spare(inner)
    return spared_nodes


def changes(node: ast.AST) -> list[tuple[str, Callable[[ast.AST], object]]]:
    """The changes that apply to one node; each alters the copy it is given."""
    found: list[tuple[str, Callable]] = []
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
        found.append(("operator", lambda n: setattr(n, "op", OPERATORS[type(n.op)]())))
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Sub, ast.Div, ast.MatMult, ast.Pow)):
        found.append(("swapped operands", swap_operands))
    if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        found.append(("comparison", lambda n: n.ops.__setitem__(0, COMPARISONS[type(n.ops[0])]())))
    if isinstance(node, ast.BoolOp):
        found.append(("and/or", lambda n: setattr(n, "op", ast.Or() if isinstance(n.op, ast.And) else ast.And())))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not)) and not isinstance(node.operand, ast.Constant):
        found.append(
            ("sign", lambda n: setattr(n, "op", ast.UAdd()) if isinstance(n.op, ast.USub) else n.__dict__.update(vars(double_negation(n))))
        )
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        found.append(("constant", lambda n: setattr(n.operand, "value", n.operand.value + 1)))
    if isinstance(node, ast.Constant):
        found += constants(node)
    if isinstance(node, (ast.If, ast.IfExp, ast.While)):
        found.append(("condition", lambda n: setattr(n, "test", ast.UnaryOp(ast.Not(), n.test))))
    if isinstance(node, ast.Call):
        if len(node.args) >= 2 and not any(isinstance(a, ast.Starred) for a in node.args[:2]):
            found.append(("swapped arguments", swap_arguments))
        for position, keyword in enumerate(node.keywords):
            if keyword.arg:
                found.append((f"dropped {keyword.arg}=", lambda n, p=position: n.keywords.pop(p)))
    if isinstance(node, (ast.FunctionDef, ast.For, ast.While, ast.If, ast.With)):
        for position, statement in enumerate(node.body):
            if droppable(statement):
                found.append((f"dropped `{short(statement)}` of line {statement.lineno}", lambda n, p=position: drop(n, p)))
    return found


def constants(node: ast.Constant) -> list[tuple[str, Callable]]:
    if isinstance(node.value, bool):
        return [("constant", lambda n: setattr(n, "value", not n.value))]
    if isinstance(node.value, int):
        return [("constant", lambda n: setattr(n, "value", n.value + 1))]
    if isinstance(node.value, float):
        return [("constant", lambda n: setattr(n, "value", n.value * 2 if n.value else 1.0))]
    return []


def swap_operands(node: ast.BinOp) -> None:
    node.left, node.right = node.right, node.left


def swap_arguments(node: ast.Call) -> None:
    node.args[0], node.args[1] = node.args[1], node.args[0]


def double_negation(node: ast.UnaryOp) -> ast.UnaryOp:
    return ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), node.operand))


def droppable(statement: ast.stmt) -> bool:
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
        return False
    if isinstance(statement, ast.If) and all(isinstance(s, ast.Raise) for s in statement.body) and not statement.orelse:
        return True
    return isinstance(statement, (ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For))


def drop(node: ast.AST, position: int) -> None:
    node.body[position] = ast.Pass()


def short(node: ast.AST) -> str:
    try:
        text = ast.unparse(node)
    except Exception:
        return type(node).__name__
    return " ".join(text.split())[:60]
