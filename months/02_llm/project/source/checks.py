"""The checks of month 2's project. All judge code; the last one also asks the adapter that the notebook exported."""

import json

import torch
from coursekit.checks import Mistake, check, close, must_raise, outcome_file

OUTCOME = "chatbot.gguf"
ASKED = 6  # held-out cases of each ability that the exported adapter is asked
TARGET = 8  # of these eighteen answered as they should be, word for word; the model without an adapter reaches none
IGNORE = -100


# ---------------------------------------------------------------- prefix_mask


def slow_mask(segments):
    """The rule, word for word, one pair at a time."""
    rows, time = segments.shape
    mask = torch.zeros(rows, 1, time, time, dtype=torch.bool)
    for row in range(rows):
        for query in range(time):
            for key in range(query + 1):
                q, k = int(segments[row, query]), int(segments[row, key])
                mask[row, 0, query, key] = q == k or (k == 0 and q > 0)
    return mask


@check(
    "hybridlab.llm.shared_prefix.prefix_mask",
    visible=[{"segments": [[0, 0, 1, 1, 2, 2]]}, {"segments": [[0, 1, 1, 2, -1, -1], [0, 0, 0, 1, 2, 3]]}],
    hidden=[{"segments": [[1, 1, 2, 3, 3, -1]]}, {"segments": [[0, 0, 0, 0], [0, 1, 2, -1], [1, 2, -1, -1]]}],
    hints=(
        "Write down the row 0 0 1 1 2 2. At which places may its last token look?",
        "Two reasons to look: the same segment, or segment 0. And always only backwards.",
        "query = segments[:, None, :, None], key = segments[:, None, None, :]; ((query == key) | ((key == 0) & (query > 0))).tril()",
    ),
)
def check_prefix_mask(prefix_mask, segments):
    """A token sees the common part and its own segment, backwards; padding sees padding alone."""
    segments = torch.tensor(segments)
    got, expected = prefix_mask(segments), slow_mask(segments)
    if not isinstance(got, torch.Tensor) or got.dtype != torch.bool:
        raise Mistake("PMSK-01", "the mask is not of booleans", f"got {getattr(got, 'dtype', type(got).__name__)}", "compare; do not multiply")
    if tuple(got.shape) != tuple(expected.shape):
        raise Mistake("PMSK-02", "the mask has another shape", f"got {tuple(got.shape)}, expected {tuple(expected.shape)}", "dimension 1 stands for the heads: segments[:, None, :, None]")
    if torch.equal(got, expected):
        return
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    where = [int(i) for i in (got != expected).nonzero()[0]]
    told = f"in row {where[0]} token {where[2]} (segment {int(segments[where[0], where[2]])}) and token {where[3]} (segment {int(segments[where[0], where[3]])})"
    if torch.equal(got, ~expected):
        raise Mistake("PMSK-07", "the mask is the wrong way round", told, "True = may look")
    if got.triu(1).any():
        raise Mistake("PMSK-03", "a token sees what comes after it", told, "keep the lower triangle: .tril()")
    if torch.equal(got, (query == key).tril()):
        raise Mistake("PMSK-04", "the questions can't see the common part", told, "segment 0 may be looked at from every question")
    if ((query < 0) & (key == 0) & got).any():
        raise Mistake("PMSK-05", "padding sees the common part", told, "only segments above 0 are questions: query > 0")
    if (got & (query > 0) & (key > 0) & (query != key)).any():
        raise Mistake("PMSK-06", "one question sees another one", told, "the same segment, or segment 0; nothing in between")
    raise Mistake("PMSK-09", "the mask differs", told, "go through the three reasons one by one: same segment, common part, backwards")


# ---------------------------------------------------------------- prefix_rows


def made(groups, seed):
    """Groups of examples by their sizes: (common, [(given, answer), …])."""
    from hybridlab.llm.instruction import Example

    generator = torch.Generator().manual_seed(seed)
    result = []
    for common, rests in groups:
        first = torch.randint(5, 90, (common,), generator=generator)
        examples = []
        for number, (given, answer) in enumerate(rests):
            rest = torch.randint(5, 90, (given + answer,), generator=generator)
            rest[0] = 100 + number
            tokens = torch.cat([first, rest])
            examples.append(Example(tokens, torch.where(torch.arange(len(tokens)) < common + given, IGNORE, tokens)))
        result.append(examples)
    return result


def laid_out(groups, pad_token):
    """The contract, one token at a time."""
    from hybridlab.llm.shared_prefix import common_length

    rows = []
    for group in groups:
        common = common_length(group)
        cells = [(int(token), IGNORE, place, 0) for place, token in enumerate(group[0].tokens[:common])]
        for segment, example in enumerate(group, 1):
            for place in range(common, len(example.tokens)):
                label = IGNORE if place == common else int(example.labels[place])
                cells.append((int(example.tokens[place]), label, place, segment))
        rows.append(cells)
    width = max(map(len, rows))
    filled = [cells + [(pad_token, IGNORE, 0, -1)] * (width - len(cells)) for cells in rows]
    return [torch.tensor([[cell[part] for cell in cells] for cells in filled]) for part in range(4)]


@check(
    "hybridlab.llm.shared_prefix.prefix_rows",
    visible=[{"groups": [(4, [(2, 2), (3, 1)])]}, {"groups": [(3, [(1, 2), (2, 3)]), (5, [(2, 1)])], "pad_token": 7}, {"bad": True}],
    hidden=[{"groups": [(0, [(0, 3), (0, 2)])], "seed": 5}, {"groups": [(0, [(3, 2), (2, 2)]), (6, [(1, 1), (2, 2), (1, 4)])], "seed": 3, "pad_token": 2}, {"groups": [(2, [(4, 3)]), (1, [(1, 1)])], "seed": 4}, {"bad": True}],
    hints=(
        "Draw the row of a group of two on paper: tokens, labels, positions, segments below each other.",
        "First the common part, once. Then a pointer that runs through the row: each example's rest goes from there, and its positions go on where the common part ends.",
        "rows.labels[row, start + 1 : end] = example.labels[common + 1 :] leaves the first token of a rest without a label.",
    ),
)
def check_prefix_rows(prefix_rows, groups=(), seed=0, pad_token=0, bad=False):
    """The common part stands once; positions go on from it; no label asks for what another example would have to predict."""
    if bad:
        return judge_refusals(prefix_rows)
    examples = made(groups, seed)
    before = [[part.clone() for part in example] for group in examples for example in group]
    got = prefix_rows(examples, pad_token=pad_token) if pad_token else prefix_rows(examples)
    if any(not torch.equal(a, b) for example, old in zip((e for g in examples for e in g), before) for a, b in zip(example, old)):
        raise Mistake("PROW-01", "the examples are changed", "tokens or labels differ after the call", "write into the rows alone")
    expected = laid_out(examples, pad_token)
    for name, part in zip(("tokens", "labels", "positions", "segments"), expected):
        value = getattr(got, name, None)
        if not isinstance(value, torch.Tensor) or value.dtype != torch.int64:
            raise Mistake("PROW-02", "the rows are not four tensors of int64", f"{name} is {getattr(value, 'dtype', type(value).__name__)}", "return PackedRows(tokens, labels, positions, segments)")
        if value.shape != part.shape:
            raise Mistake("PROW-03", "a row has another length", f"{name}: {tuple(value.shape)}, expected {tuple(part.shape)}", "the common part once, and each rest; as long as the longest row")
    name, wrong = next(((name, part) for name, part in zip(got._fields, expected) if not torch.equal(getattr(got, name), part)), (None, None))
    if name is None:
        return
    row, place = (int(i) for i in (getattr(got, name) != wrong).nonzero()[0])
    told = f"{name}[{row}, {place}] is {int(getattr(got, name)[row, place])}, expected {int(wrong[row, place])}"
    if name == "labels":
        extra = (got.labels != IGNORE) & (expected[1] == IGNORE)
        if extra.any():
            raise Mistake("PROW-04", "a label asks for what nothing of its own can predict", told, "common part, first token of each rest, padding: -100")
        raise Mistake("PROW-05", "labels are missing or displaced", told, "labels are not shifted here: the loss does that")
    if name == "positions":
        raise Mistake("PROW-06", "the positions do not go on where the common part ends", told, "each rest counts from common_length(group), whatever stands before it in the row")
    if name == "segments":
        raise Mistake("PROW-07", "the segments are others", told, "0 for the common part, 1, 2, … for the rests, -1 for padding")
    raise Mistake("PROW-09", "the tokens stand elsewhere", told, "print the row of one group beside its examples")


def judge_refusals(prefix_rows):
    from hybridlab.llm.instruction import Example

    nothing = Example(torch.arange(4), torch.full((4,), IGNORE))
    for groups in ([], [[]], [[nothing]]):
        must_raise(ValueError, lambda g=groups: prefix_rows(g), "PROW-08", f"{len(groups)} groups without anything to learn must raise ValueError",
                   "no groups: raise it yourself; the rest is what common_length raises, so call it before you write")
    try:
        prefix_rows([])
    except ValueError as error:
        if "training set" not in str(error):
            raise Mistake("PROW-08", "the error does not say that the training set is empty", str(error)[:100], "raise ValueError('the training set is empty: …')") from None


# ---------------------------------------------------------------- read_call

TOOLS = [("get_weather", ("city", "day")), ("stop", ())]


@check(
    "hybridlab.llm.tool_calls.read_call",
    visible=[
        {"answer": '<tool_call>{"name": "get_weather", "arguments": {"city": "Huế", "day": "Monday"}}</tool_call>', "wanted": ("get_weather", {"city": "Huế", "day": "Monday"})},
        {"answer": "It will rain.", "wanted": None, "code": "CALL-01"},
        {"answer": '<tool_call>{"name": "get_weather", "arguments": {"city": "Huế"</tool_call>', "wanted": None, "code": "CALL-02"},
        {"answer": ' <tool_call>{"arguments": {}, "name": "stop"}</tool_call>\n', "wanted": ("stop", {})},
        {"answer": 'I stop. <tool_call>{"name": "stop", "arguments": {}}</tool_call>', "wanted": None, "code": "CALL-03"},
        {"answer": '<tool_call>"stop"</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": '<tool_call>{"name": "restart", "arguments": {}}</tool_call>', "wanted": None, "code": "CALL-05", "says": "stop"},
        {"answer": '<tool_call>{"name": "get_weather", "arguments": {"day": "Monday"}}</tool_call>', "wanted": None, "code": "CALL-06", "says": "city"},
    ],
    hidden=[
        {"answer": f"<tool_call>{'[' * 100_000}</tool_call>", "wanted": None, "code": "CALL-02"},
        {"answer": '<tool_call>{"name": ["stop"], "arguments": {}}</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": ' \n<tool_call>\n{"arguments": {}, "name": "stop"}\n</tool_call> ', "wanted": ("stop", {})},
        {"answer": '<tool_call>{"name": "get_weather", "arguments": {"day": {"of": "week", "n": 3}, "city": "</b>"}}</tool_call>', "wanted": ("get_weather", {"day": {"of": "week", "n": 3}, "city": "</b>"})},
        {"answer": 'Of course! <tool_call>{"name": "stop", "arguments": {}}</tool_call>', "wanted": None, "code": "CALL-03"},
        {"answer": '<tool_call>{"name": "stop", "arguments": {}}</tool_call> Done.', "wanted": None, "code": "CALL-03"},
        {"answer": '<tool_call>["stop", {}]</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": '<tool_call>7</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": '<tool_call>{"name": "stop"}</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": '<tool_call>{"name": "stop", "arguments": {}, "and": 1}</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": '<tool_call>{"name": "stop", "arguments": []}</tool_call>', "wanted": None, "code": "CALL-04"},
        {"answer": '<tool_call>{"name": "delete_all", "arguments": {}}</tool_call>', "wanted": None, "code": "CALL-05", "says": "get_weather"},
        {"answer": '<tool_call>{"name": "get_weather", "arguments": {"city": "Huế"}}</tool_call>', "wanted": None, "code": "CALL-06", "says": "day"},
        {"answer": '<tool_call>{"name": "stop", "arguments": {"now": true}}</tool_call>', "wanted": None, "code": "CALL-06"},
    ],
    hints=(
        "What is the first thing that can be wrong with the answer, what the next? Check in that order, and stop at the first.",
        "CALL.fullmatch(answer.strip()) is None where the answer is no call; group(1) is the JSON. json.loads raises ValueError, or RecursionError where it is nested too deep.",
        "isinstance(call, dict), set(call) == {'name', 'arguments'}, the name a str, the arguments a dict; then the name, then set(call['arguments']) against the tool's.",
    ),
)
def check_read_call(read_call, answer, wanted, code="", says=""):
    """A right call is read; whatever else a model writes is refused as NotACall, with the reason."""
    from hybridlab.llm.tool_calls import NotACall, Tool

    tools = [Tool(name, "something", arguments) for name, arguments in TOOLS]
    what = {
        "CALL-01": "an answer without a call is not refused as NotACall",
        "CALL-02": "broken JSON is not refused as NotACall",
        "CALL-03": "a call with words around it is not refused",
        "CALL-04": "JSON that is no call is not refused as NotACall",
        "CALL-05": "a tool that was not offered is not refused as NotACall",
        "CALL-06": "arguments that are not the tool's are not refused",
    }
    try:
        got = read_call(answer, tools)
    except NotACall as refused:
        if wanted is not None:
            raise Mistake("CALL-07", "a right call is refused", f"{answer!r}: {refused}", "spaces around the call, the order of its entries, and whatever the values are do not matter") from None
        if says not in str(refused):
            raise Mistake("CALL-08", "the refusal does not say what would be right", f"{str(refused)[:100]!r} does not name {says!r}", "name the tools that there are, or the arguments that the tool takes") from None
        return
    except Exception as other:
        if wanted is not None:
            raise
        raise Mistake(code, what[code], f"{answer!r}: {type(other).__name__}: {other}"[:150], "raise NotACall(...) with what is wrong") from None
    if wanted is None:
        raise Mistake(code, what[code], f"{answer!r} gave {got!r}"[:150], "raise NotACall(...) with what is wrong")
    if not isinstance(got, tuple) or got != wanted:
        raise Mistake("CALL-09", "the call is read wrongly", f"got {got!r}, expected {wanted!r}", "return call['name'], call['arguments']")


# ---------------------------------------------------------------- interleave_halves, and the outcome


@check(
    "hybridlab.llm.gguf_adapter.interleave_halves",
    visible=[{"n_heads": 2, "d_head": 6, "columns": 3}, {"outcome": True}],
    hidden=[{"n_heads": 1, "d_head": 8, "columns": 2}, {"n_heads": 3, "d_head": 6, "columns": 8}, {"n_heads": 5, "d_head": 2, "columns": 1}, {"n_heads": 2, "d_head": 12, "columns": 7}],
    hints=(
        "Number the rows of one head 0 … 5. In which order does the contract want them?",
        "Row 0 of the first half, row 0 of the second half, row 1 of the first, row 1 of the second, …, in each head by itself.",
        "Split the rows into three axes (heads, 2, d/2), exchange the last two of them, and flatten: unflatten, transpose(1, 2), flatten(0, 2).",
    ),
    seconds=90,  # eighteen answers of the engine: 25 s here
)
def check_interleave_halves(interleave_halves, n_heads=0, d_head=0, columns=0, outcome=False):
    """The halves of each head are interleaved; the adapter that your notebook exported answers held-out questions."""
    if outcome:
        return measure_outcome()
    weight = torch.arange(n_heads * d_head * columns).float().view(n_heads * d_head, columns)
    before = weight.clone()
    half = d_head // 2
    order = [head * d_head + i + part * half for head in range(n_heads) for i in range(half) for part in (0, 1)]
    expected = before[order]
    got = interleave_halves(weight, n_heads)
    if not torch.equal(weight, before):
        raise Mistake("WEAVE-06", "the matrix that was given is changed", "weight differs after the call", "build a new one")
    if isinstance(got, torch.Tensor) and got.shape == expected.shape and not torch.equal(got, expected):
        told = f"the rows come in the order {[int(row[0]) // columns for row in got][:12]}, expected {order[:12]}"
        wrong_ways = [
            ("WEAVE-05", "nothing moves", "row i of the second half goes behind row i of the first", before),
            ("WEAVE-01", "the rows go the other way", "that is week 5's rotary_halves: (heads, d/2, 2); here it is (heads, 2, d/2)",
             before.view(n_heads, half, 2, columns).transpose(1, 2).reshape(before.shape)),
            ("WEAVE-02", "all rows are woven as one head", "each head by itself: n_heads is the first axis", before.view(2, -1, columns).transpose(0, 1).reshape(before.shape)),
            ("WEAVE-03", "the second half comes first", "the first half's row stands before the second half's", before.view(n_heads, 2, half, columns).flip(1).transpose(1, 2).reshape(before.shape)),
        ]
        for code, what, hint, wrong in wrong_ways:
            if torch.equal(got, wrong):
                raise Mistake(code, what, told, hint)
    close(got, expected, "WEAVE-09", "the rows are in another order", "print the row numbers of a matrix of 8 rows and 2 heads", rtol=0, atol=0)
    for rows, heads in ((n_heads * d_head, 2 * n_heads * d_head), (3 * n_heads, n_heads), (4, 0)):
        must_raise(ValueError, lambda r=rows, h=heads: interleave_halves(torch.zeros(r, 2), h), "WEAVE-04",
                   f"{rows} rows and {heads} heads do not fit, and it must raise ValueError", "look at rows % (2 * n_heads) first, and at n_heads < 1")
    try:
        interleave_halves(torch.zeros(35, 2), 11)
    except ValueError as error:
        if not ("35" in str(error) and "11" in str(error)):
            raise Mistake("WEAVE-07", "the error does not name the rows and the heads", str(error)[:100], "say how many rows there are, and into how many heads they were to go") from None


def measure_outcome():
    """Ask the exported file eighteen held-out cases, in the engine; no figure that was printed there is believed, and no code of the answer is used."""
    from hybridlab.llm.chatbot import held_out_answer
    from hybridlab.llm.chatbot_data import make_groups
    from hybridlab.llm.embedded import EmbeddedModel
    from hybridlab.llm.gguf import GGUFError, GGUFFile
    from hybridlab.llm.gguf_adapter import AdapterError, require_adapter_fits
    from hybridlab.llm.smollm2 import gguf_path

    path = outcome_file(OUTCOME)
    if path is None:
        return
    if not path.is_file():
        raise Mistake("WEAVE-10", "there is no exported adapter", f"no {OUTCOME} beside the notebook", "run the cells of training and export above")
    try:
        require_adapter_fits(GGUFFile(path), GGUFFile(gguf_path()))
        model = EmbeddedModel([path], threads=1)
    except (GGUFError, AdapterError, ValueError) as error:
        raise Mistake("WEAVE-11", f"{OUTCOME} can't be used", str(error)[:150], "delete it, then run the cells of training and export again") from None
    cases = [case for group in make_groups(4, part="test", seed=2024) for case in group if case.gold or case.ability != "tool"]
    asked = [case for ability in ("answer", "abstain", "tool") for case in [c for c in cases if c.ability == ability][:ASKED]]
    right = sum(held_out_answer(model, case, adapter=0).strip() == case.answer for case in asked)
    if right < TARGET:
        raise Mistake("WEAVE-12", "the exported adapter does not pass what training prepared it for", f"{right} of {len(asked)} held-out cases are right, word for word; the target is {TARGET}",
                      "does the mean of eight end near 0.3 in the curve? Train to the end, then run the cell of the export once more")
