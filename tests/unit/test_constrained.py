"""Masks against two grammars of others: `regex` for the automaton, llguidance for JSON schemas on SmolLM2's vocabulary."""

import json
import random

import jsonschema
import pytest
import regex
import torch
from hybridlab.llm.automaton import Automaton, Choice, Repeat, Sequence, byte_range, text
from hybridlab.llm.constrained import Grammar, generate_constrained, plain_pieces, token_mask
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.json_schema import schema_pattern
from hybridlab.llm.smollm2 import gguf_path, load_tokenizer
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

pytestmark = pytest.mark.slow(seconds=3)

LOWER = byte_range(0x61, 0x63)


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        (Repeat(LOWER, 2, 4), r"[abc]{2,4}"),
        (Repeat(LOWER, 0, 0), r""),
        (Repeat(LOWER, 1, None), r"[abc]+"),
        (Sequence((Repeat(text("ab")), text("a"))), r"(?:ab)*a"),
        (Choice((text("a"), text("ab"), Repeat(text("c"), 2, 2))), r"a|ab|cc"),
        (Repeat(Choice((text("a"), Sequence((text("b"), Repeat(text("c"))))))), r"(?:a|bc*)*"),
        (Sequence(()), r""),
    ],
)
def test_the_automaton_takes_what_regex_takes(pattern, expression: str):
    automaton, known = Automaton(pattern), regex.compile(expression)
    draw = random.Random(0)
    for _ in range(400):
        word = "".join(draw.choice("abc") for _ in range(draw.randint(0, 7)))
        assert automaton.matches(word.encode()) == (known.fullmatch(word) is not None), word


SCHEMAS = {
    "boolean": {"type": "boolean"},
    "null or whole": {"anyOf": [{"type": "null"}, {"type": "integer"}]},
    "enum": {"enum": ["red", "green", 7, None, "gr\u00fcn"]},
    "const": {"const": "ok"},
    "list": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
    "any list": {"type": "array", "items": {"enum": ["a", "b"]}},
    "string": {"type": "string", "maxLength": 6},
    "open string": {"type": "string"},
    "object": {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 8},
            "age": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["x", "y"]}},
        },
        "required": ["name", "age", "tags"],
        "additionalProperties": False,
    },
    "nothing in it": {"type": "object", "properties": {}, "additionalProperties": False},
}


@pytest.fixture(scope="module")
def smollm2():
    """SmolLM2's tokenizer by our reader, its pieces, and llguidance's own view of the vocabulary."""
    import llguidance.hf

    tokenizer = BytePairTokenizer.from_gguf(GGUFFile(gguf_path()))
    return tokenizer, plain_pieces(tokenizer), llguidance.hf.from_tokenizer(load_tokenizer(), n_vocab=len(tokenizer))


@pytest.mark.slow(seconds=20)
@pytest.mark.parametrize("name", SCHEMAS)
def test_masks_are_those_of_llguidance_along_a_random_text(smollm2, name: str):
    """Without strings the same, token for token; in strings a part of it, since ours hold no escapes."""
    import llguidance
    import llguidance.torch as masks

    tokenizer, pieces, theirs = smollm2
    end = tokenizer.special["<|im_end|>"]
    schema = {**SCHEMAS[name], "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
    matcher = llguidance.LLMatcher(theirs, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(schema)))
    assert not matcher.is_error(), matcher.get_error()
    grammar = Grammar(Automaton(schema_pattern(SCHEMAS[name])), pieces, end)
    state, written, draw = grammar.automaton.start, b"", torch.Generator().manual_seed(1)
    for _ in range(60):
        bits = masks.allocate_token_bitmask(1, len(pieces))
        masks.fill_next_token_bitmask(matcher, bits, 0)
        allowed = ((bits[0][:, None] >> torch.arange(32)) & 1).flatten()[: len(pieces)].bool()
        mine = grammar.mask(state)
        if allowed.sum() == 1:  # where only one text can follow, llguidance takes the tokenizer's own way of writing it
            assert mine[allowed].all()
        elif "string" in name or "object" in name:
            assert not (mine & ~allowed).any(), [pieces[t] for t in (mine & ~allowed).nonzero().flatten()[:5]]
        else:
            assert torch.equal(mine, allowed), [pieces[t] for t in (mine ^ allowed).nonzero().flatten()[:5]]
        short = torch.tensor([0.05 if len(piece) > 2 else 1 for piece in pieces])
        choice = int(torch.multinomial((mine & allowed) * short, 1, generator=draw))
        if choice == end:
            break
        assert matcher.consume_token(choice)
        written, state = written + pieces[choice], grammar.after(state, choice)
    if choice == end:
        jsonschema.validate(json.loads(written), SCHEMAS[name])


@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_knows_nothing_writes_valid_json(seed: int):
    torch.manual_seed(seed)
    pieces = [bytes([byte]) for byte in range(256)] + [b'{"', b'": ', b", ", b"12", b"]", b"", b"end"]
    model = MiniTransformer(TransformerConfig.llama(len(pieces), d_model=16, n_layers=1, n_heads=2, max_time=512)).eval()
    model.lm_head.weight.data.mul_(40)
    few = {"tags": {"type": "array", "items": {"enum": ["x"]}, "maxItems": 2}, "age": {"enum": [1, 20]}}
    schema = SCHEMAS["object"] | {"properties": SCHEMAS["object"]["properties"] | few}
    grammar = Grammar(Automaton(schema_pattern(schema)), pieces, len(pieces) - 1)
    result = generate_constrained(model, [1, 2], grammar, 200)
    assert result.complete
    jsonschema.validate(json.loads(b"".join(pieces[t] for t in result.tokens)), schema)


def test_where_the_tokens_run_out_the_text_is_said_to_be_unfinished():
    pieces = [b'"', b"a", b"end"]
    model = MiniTransformer(TransformerConfig.llama(3, d_model=16, n_layers=1, n_heads=2)).eval()
    grammar = Grammar(Automaton(Sequence((text('"'), Repeat(text("a"), 9, 9), text('"')))), pieces, 2)
    assert generate_constrained(model, [1], grammar, 4) == ([0, 1, 1, 1], False)
    assert generate_constrained(model, [1], grammar, 12) == ([0] + [1] * 9 + [0], True)
    assert generate_constrained(model, [1], grammar, 11) == ([0] + [1] * 9 + [0], True)
    with pytest.raises(ValueError, match="not allowed here"):
        grammar.after(grammar.automaton.start, 1)
    other = MiniTransformer(TransformerConfig.llama(5, d_model=16, n_layers=1, n_heads=2))
    with pytest.raises(ValueError, match="grammar's vocabulary has 3 tokens and the model's 5"):
        generate_constrained(other, [1], grammar, 4)


def test_special_tokens_never_pass_for_text(smollm2):
    tokenizer, pieces, _ = smollm2
    automaton = Automaton(schema_pattern({"type": "string"}))
    inside = automaton.step(automaton.start, ord('"'))
    mask = token_mask(automaton, inside, pieces, tokenizer.special["<|im_end|>"])
    assert not any(mask[token] for token in tokenizer.special.values())
    assert mask.sum() > 40_000


def test_a_string_holds_every_character_but_half_ones_and_ends_at_its_length():
    automaton = Automaton(schema_pattern({"type": "string", "maxLength": 3}))
    for good in ("", "abc", "Hà!", "😀😀😀", "\u07ff\uffff"):
        assert automaton.matches(json.dumps(good, ensure_ascii=False).encode())
    for bad in (b'"abcd"', b'"\xff"', b'"\xed\xa0\x80"', b'"\xc3"', b'"a', b'"\n"', b'"\\n"', b'"a"b"'):
        assert not automaton.matches(bad)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"type": "number"}, "the schema has the type 'number': supported are string, integer"),
        ({"type": ["string", "null"]}, "the schema has the type"),
        ({}, "the schema has the type None"),
        ({"type": "string", "pattern": "a+"}, "the schema uses 'pattern', which this grammar does not support; llguidance does"),
        ({"type": "integer", "minimum": 3}, "uses 'minimum'"),
        ({"type": "object", "properties": {"a": {"type": "boolean"}}}, "optional property 'a': name every property in `required`"),
        ({"type": "object", "properties": {}, "additionalProperties": True}, "allows additionalProperties"),
        ({"type": "array"}, "array of anything"),
        ({"type": "array", "items": {"type": "null"}, "minItems": 3, "maxItems": 2}, "minItems 3 and maxItems 2"),
        ({"type": "array", "items": {"type": "x"}}, "the schema, items has the type 'x'"),
        ({"anyOf": [{"type": "null"}, {"format": "date"}]}, "the schema, option 1 has the type None"),
    ],
)
def test_a_schema_that_is_not_supported_is_named_with_its_place(schema: dict, message: str):
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        schema_pattern(schema)


def test_a_mask_comes_back_from_memory(smollm2):
    tokenizer, pieces, _ = smollm2
    grammar = Grammar(Automaton(schema_pattern({"type": "string"})), pieces, tokenizer.special["<|im_end|>"])
    first = grammar.mask(grammar.automaton.start)
    assert grammar.mask(grammar.automaton.start) is first
