"""A JSON schema as a pattern of bytes: all texts that are JSON of that schema, written as `json.dumps` writes them.

A small grammar by hand. What it knows: const, enum, anyOf; string (with maxLength), integer, boolean, null; array (items, minItems,
maxItems); object (properties, all of them required, in their order). Strings hold no escapes. llguidance knows the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hybridlab.llm.automaton import Bytes, Choice, Pattern, Repeat, Sequence, byte_range, text

_TAIL = byte_range(0x80, 0xBF)
#: One character in UTF-8 (the Unicode standard, table 3-7) that needs no escape in a JSON string.
CHARACTER = Choice(
    (
        Bytes(frozenset(range(0x20, 0x7F)) - frozenset(b'"\\')),
        Sequence((byte_range(0xC2, 0xDF), _TAIL)),
        Sequence((byte_range(0xE0, 0xE0), byte_range(0xA0, 0xBF), _TAIL)),
        Sequence((Bytes(frozenset({*range(0xE1, 0xED), 0xEE, 0xEF})), _TAIL, _TAIL)),
        Sequence((byte_range(0xED, 0xED), byte_range(0x80, 0x9F), _TAIL)),
        Sequence((byte_range(0xF0, 0xF0), byte_range(0x90, 0xBF), _TAIL, _TAIL)),
        Sequence((byte_range(0xF1, 0xF3), _TAIL, _TAIL, _TAIL)),
        Sequence((byte_range(0xF4, 0xF4), byte_range(0x80, 0x8F), _TAIL, _TAIL)),
    )
)
INTEGER = Sequence((Repeat(text("-"), 0, 1), Choice((text("0"), Sequence((byte_range(0x31, 0x39), Repeat(byte_range(0x30, 0x39))))))))
KNOWN = {
    "string": {"maxLength"},
    "integer": set(),
    "boolean": set(),
    "null": set(),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
NOTES = {"title", "description", "$schema"}  # say nothing about what is allowed


def schema_pattern(schema: Mapping[str, Any], where: str = "the schema") -> Pattern:
    """The pattern of all texts of a schema. Raises: ValueError that names the place and what is not supported there."""
    for keyword, options in (("const", lambda value: [value]), ("enum", list)):
        if keyword in schema:
            _refuse_others(schema, {keyword, "type"}, where)
            return Choice(tuple(text(json.dumps(value, ensure_ascii=False)) for value in options(schema[keyword])))
    if "anyOf" in schema:
        _refuse_others(schema, {"anyOf"}, where)
        return Choice(tuple(schema_pattern(option, f"{where}, option {n}") for n, option in enumerate(schema["anyOf"])))
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in KNOWN:
        raise ValueError(f"{where} has the type {kind!r}: supported are {', '.join(KNOWN)}, const, enum and anyOf")
    _refuse_others(schema, {"type", *KNOWN[kind]}, where)
    if kind == "object":
        return _object(schema, where)
    if kind == "array":
        return _array(schema, where)
    if kind == "string":
        return Sequence((text('"'), Repeat(CHARACTER, 0, schema.get("maxLength")), text('"')))
    return {"integer": INTEGER, "boolean": Choice((text("true"), text("false"))), "null": text("null")}[kind]


def _object(schema: Mapping[str, Any], where: str) -> Pattern:
    properties = schema.get("properties", {})
    if optional := sorted(set(properties) - set(schema.get("required", ()))):
        raise ValueError(f"{where} has the optional property {optional[0]!r}: name every property in `required`")
    if schema.get("additionalProperties"):
        raise ValueError(f"{where} allows additionalProperties: only those that are named are supported")
    parts: list[Pattern] = [text("{")]
    for number, (name, inner) in enumerate(properties.items()):
        key = (", " if number else "") + json.dumps(name, ensure_ascii=False) + ": "
        parts += [text(key), schema_pattern(inner, f"{where}, property {name!r}")]
    return Sequence((*parts, text("}")))


def _array(schema: Mapping[str, Any], where: str) -> Pattern:
    least, most = schema.get("minItems", 0), schema.get("maxItems")
    if "items" not in schema:
        raise ValueError(f"{where} is an array of anything: say in `items` of what")
    if most is not None and most < max(least, 1):
        raise ValueError(f"{where} has minItems {least} and maxItems {most}: no list, or the empty one alone, is that")
    item = schema_pattern(schema["items"], f"{where}, items")
    more = Repeat(Sequence((text(", "), item)), max(least - 1, 0), None if most is None else most - 1)
    filled = Sequence((item, more))
    return Sequence((text("["), filled if least else Repeat(filled, 0, 1), text("]")))


def _refuse_others(schema: Mapping[str, Any], known: set[str], where: str) -> None:
    if unknown := sorted(set(schema) - known - NOTES):
        raise ValueError(f"{where} uses {unknown[0]!r}, which this grammar does not support; llguidance does")
