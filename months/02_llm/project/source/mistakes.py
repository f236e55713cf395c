"""Wrong answers that people really write, each with the code it must be answered with, and right ones in another style."""

# ---------------------------------------------------------------- prefix_mask


@mistake("PMSK-01", "numbers instead of booleans")
def prefix_mask(segments):
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    return ((query == key) | ((key == 0) & (query > 0))).tril().float()


@mistake("PMSK-02", "no dimension for the heads")
def prefix_mask(segments):
    query, key = segments[:, :, None], segments[:, None, :]
    return ((query == key) | ((key == 0) & (query > 0))).tril()


@mistake("PMSK-03", "not causal")
def prefix_mask(segments):
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    return (query == key) | ((key == 0) & (query > 0))


@mistake("PMSK-04", "week 6's mask: the common part is just another example")
def prefix_mask(segments):
    return (segments[:, None, :, None] == segments[:, None, None, :]).tril()


@mistake("PMSK-05", "padding sees the common part")
def prefix_mask(segments):
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    return ((query == key) | (key == 0)).tril()


@mistake("PMSK-06", "every question sees all that stands before it")
def prefix_mask(segments):
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    return ((query >= key) & (key >= 0) | (query == key)).tril()


@mistake("PMSK-07", "True for what may not be looked at")
def prefix_mask(segments):
    query, key = segments[:, None, :, None], segments[:, None, None, :]
    return ~((query == key) | ((key == 0) & (query > 0))).tril()


@correct("with broadcasting comparisons of places")
def prefix_mask(segments):
    places = torch.arange(segments.shape[1], device=segments.device)
    backwards = places[:, None] >= places
    same = segments.unsqueeze(2).eq(segments.unsqueeze(1))
    common = segments.gt(0).unsqueeze(2) & segments.eq(0).unsqueeze(1)
    return (backwards & (same | common)).unsqueeze(1)


# ---------------------------------------------------------------- prefix_rows


@mistake("PROW-01", "the first label of a rest is masked in the example itself")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    commons = [common_length(group) for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            example.labels[common] = IGNORE
            example.tokens[common] += 0
            example.labels[0] = -1
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start + 1 : end] = example.labels[common + 1 :]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@mistake("PROW-02", "labels as numbers with a point")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    width = max(common_length(g) + sum(len(e.tokens) - common_length(g) for e in g) for g in groups)
    tokens = torch.full((len(groups), width), pad_token)
    labels = torch.full((len(groups), width), -100.0)
    return PackedRows(tokens, labels, torch.zeros_like(tokens), torch.zeros_like(tokens) - 1)


@mistake("PROW-03", "each example whole, one behind the other")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    for group in groups:
        common_length(group)
    width = max(sum(len(e.tokens) for e in g) for g in groups)
    rows = PackedRows(*(torch.full((len(groups), width), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, group in enumerate(groups):
        start = 0
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens)
            rows.tokens[row, start:end] = example.tokens
            rows.labels[row, start + 1 : end] = example.labels[1:]
            rows.positions[row, start:end] = torch.arange(end - start)
            rows.segments[row, start:end] = segment
            start = end
    return rows


@mistake("PROW-04", "the token itself is the label, in the questions too")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    commons = [common_length(group) for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start:end] = example.tokens[common:]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@mistake("PROW-04", "the first token of a rest keeps its label")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    commons = [common_length(group) for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start:end] = example.labels[common:]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@mistake("PROW-05", "labels shifted by one, as if the loss did not do that")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    commons = [common_length(group) for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            answer = (example.labels != IGNORE).nonzero()[:, 0]
            rows.labels[row, start - common + answer[1:]] = example.labels[answer[1:]]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@mistake("PROW-06", "positions that simply count through the row")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    commons = [common_length(group) for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start + 1 : end] = example.labels[common + 1 :]
            rows.segments[row, start:end] = segment
            start = end
        rows.positions[row, :start] = torch.arange(start)
    return rows


@mistake("PROW-07", "the first example has the common part's segment")
def prefix_rows(groups, pad_token=0):
    if not groups:
        raise ValueError("the training set is empty")
    commons = [common_length(group) for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start + 1 : end] = example.labels[common + 1 :]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@mistake("PROW-08", "nothing is refused")
def prefix_rows(groups, pad_token=0):
    commons = [common_length(group) if group else 0 for group in groups]
    lengths = [c + sum(len(e.tokens) - c for e in g) for c, g in zip(commons, groups)]
    rows = PackedRows(*(torch.full((len(groups), max(lengths, default=0)), fill, dtype=torch.int64) for fill in (pad_token, IGNORE, 0, -1)))
    for row, (common, group) in enumerate(zip(commons, groups)):
        if group:
            rows.tokens[row, :common] = group[0].tokens[:common]
        rows.positions[row, :common] = torch.arange(common)
        rows.segments[row, :common] = 0
        start = common
        for segment, example in enumerate(group, 1):
            end = start + len(example.tokens) - common
            rows.tokens[row, start:end] = example.tokens[common:]
            rows.labels[row, start + 1 : end] = example.labels[common + 1 :]
            rows.positions[row, start:end] = torch.arange(common, len(example.tokens))
            rows.segments[row, start:end] = segment
            start = end
    return rows


@correct("pieces that are joined, then padded")
def prefix_rows(groups, pad_token=0):
    if len(groups) == 0:
        raise ValueError("the training set is empty: no groups")
    made = []
    for group in groups:
        n = common_length(group)
        tokens = [group[0].tokens[:n]] + [e.tokens[n:] for e in group]
        labels = [torch.full((n,), IGNORE)] + [torch.cat([torch.tensor([IGNORE]), e.labels[n + 1 :]]) for e in group]
        positions = [torch.arange(n)] + [torch.arange(n, len(e.tokens)) for e in group]
        segments = [torch.full((len(part),), number) for number, part in enumerate(tokens)]
        made.append([torch.cat(parts) for parts in (tokens, labels, positions, segments)])
    width = max(len(row[0]) for row in made)
    fills = (pad_token, IGNORE, 0, -1)
    padded = [[torch.nn.functional.pad(part, (0, width - len(part)), value=fill) for part, fill in zip(row, fills)] for row in made]
    return PackedRows(*(torch.stack(parts) for parts in zip(*padded)))


# ---------------------------------------------------------------- read_call


@mistake("CALL-01", "an answer without a call gives None")
def read_call(answer, tools):
    found = CALL.fullmatch(answer.strip())
    if not found:
        return None
    call = json.loads(found.group(1))
    return call["name"], call["arguments"]


@mistake("CALL-02", "broken JSON is let through as its own error")
def read_call(answer, tools):
    found = CALL.fullmatch(answer.strip())
    if not found:
        raise NotACall("no call")
    call = json.loads(found.group(1))
    known = {tool.name: tool for tool in tools}
    if call["name"] not in known or set(call["arguments"]) != set(known[call["name"]].arguments):
        raise NotACall(f"choose from {known}")
    return call["name"], call["arguments"]


@mistake("CALL-02", "JSON that is nested too deep is let through as its own error")
def read_call(answer, tools):
    found = CALL.fullmatch(answer.strip())
    if not found:
        raise NotACall("no call")
    try:
        call = json.loads(found.group(1))
    except ValueError:
        raise NotACall("no JSON") from None
    known = {tool.name: tool for tool in tools}
    if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict) or not isinstance(call["name"], str):
        raise NotACall("not a call")
    if call["name"] not in known or set(call["arguments"]) != set(known[call["name"]].arguments):
        raise NotACall(f"choose from {known}")
    return call["name"], call["arguments"]


@mistake("CALL-03", "a call is looked for anywhere in the answer")
def read_call(answer, tools):
    found = CALL.search(answer)
    if not found:
        raise NotACall("no call")
    try:
        call = json.loads(found.group(1))
    except ValueError:
        raise NotACall("no JSON") from None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
        raise NotACall("not a call")
    known = {tool.name: tool for tool in tools}
    if call["name"] not in known or set(call["arguments"]) != set(known[call["name"]].arguments):
        raise NotACall(f"choose from {known}")
    return call["name"], call["arguments"]


@mistake("CALL-04", "any JSON is taken for a call")
def read_call(answer, tools):
    found = CALL.fullmatch(answer.strip())
    if not found:
        raise NotACall("no call")
    try:
        call = json.loads(found.group(1))
    except ValueError:
        raise NotACall("no JSON") from None
    known = {tool.name: tool for tool in tools}
    if call["name"] not in known or set(call["arguments"]) != set(known[call["name"]].arguments):
        raise NotACall(f"choose from {known}")
    return call["name"], call["arguments"]


@mistake("CALL-05", "the name is not compared with the tools")
def read_call(answer, tools):
    found = CALL.fullmatch(answer.strip())
    if not found:
        raise NotACall("no call")
    try:
        call = json.loads(found.group(1))
    except ValueError:
        raise NotACall("no JSON") from None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
        raise NotACall("not a call")
    return call["name"], call["arguments"]


@mistake("CALL-06", "the arguments are not compared with the tool's")
def read_call(answer, tools):
    found = CALL.fullmatch(answer.strip())
    if not found:
        raise NotACall("no call")
    try:
        call = json.loads(found.group(1))
    except ValueError:
        raise NotACall("no JSON") from None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
        raise NotACall("not a call")
    known = {tool.name: tool for tool in tools}
    if call["name"] not in known:
        raise NotACall(f"choose from {known}")
    return call["name"], call["arguments"]


@mistake("CALL-07", "no space may stand around the call")
def read_call(answer, tools):
    found = CALL.fullmatch(answer)
    if not found:
        raise NotACall("no call")
    try:
        call = json.loads(found.group(1))
    except ValueError:
        raise NotACall("no JSON") from None
    if not isinstance(call, dict) or set(call) != {"name", "arguments"} or not isinstance(call["arguments"], dict):
        raise NotACall("not a call")
    known = {tool.name: tool for tool in tools}
    if call["name"] not in known or set(call["arguments"]) != set(known[call["name"]].arguments):
        raise NotACall(f"choose from {known}")
    return call["name"], call["arguments"]


@mistake("CALL-08", "refused without saying what would be right")
def read_call(answer, tools):
    try:
        call = json.loads(CALL.fullmatch(answer.strip()).group(1))
        name, arguments = call.pop("name"), dict(**call.pop("arguments"))
        if call or set(arguments) != set({tool.name: tool for tool in tools}[name].arguments):
            raise ValueError
    except (ValueError, AttributeError, KeyError, TypeError):
        raise NotACall("this is no call") from None
    return name, arguments


@correct("one thing after the other, with early refusals")
def read_call(answer, tools):
    text = answer.strip()
    if not (text.startswith("<tool_call>") and text.endswith("</tool_call>")):
        raise NotACall("the marks are missing")
    try:
        call = json.loads(text[len("<tool_call>") : -len("</tool_call>")])
    except (json.JSONDecodeError, RecursionError) as error:
        raise NotACall(f"no JSON: {error}") from error
    if type(call) is not dict or sorted(call) != ["arguments", "name"] or type(call["arguments"]) is not dict:
        raise NotACall("it needs a name and arguments, and nothing else")
    for tool in tools:
        if tool.name == call["name"]:
            if sorted(tool.arguments) != sorted(call["arguments"]):
                raise NotACall(f"{tool.name} takes {tool.arguments}")
            return tool.name, call["arguments"]
    raise NotACall(f"known: {[tool.name for tool in tools]}")


# ---------------------------------------------------------------- interleave_halves


@mistake("WEAVE-01", "the other direction")
def interleave_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("rows and heads do not fit")
    return weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2)


@mistake("WEAVE-02", "all rows as one head")
def interleave_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("rows and heads do not fit")
    return weight.unflatten(0, (2, -1)).transpose(0, 1).flatten(0, 1)


@mistake("WEAVE-03", "the second half first")
def interleave_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("rows and heads do not fit")
    return weight.unflatten(0, (n_heads, 2, -1)).flip(1).transpose(1, 2).flatten(0, 2)


@mistake("WEAVE-04", "what does not fit is not refused as a ValueError")
def interleave_halves(weight, n_heads):
    return weight.reshape(n_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


@mistake("WEAVE-05", "nothing moves: the axes are never exchanged")
def interleave_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("rows and heads do not fit")
    return weight.unflatten(0, (n_heads, 2, -1)).flatten(0, 2)


@mistake("WEAVE-06", "the rows are exchanged in the matrix that was given")
def interleave_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("rows and heads do not fit")
    weight.copy_(weight.clone().unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2))
    return weight


@mistake("WEAVE-07", "the error names neither rows nor heads")
def interleave_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("rows and heads do not fit")
    return weight.unflatten(0, (n_heads, 2, -1)).transpose(1, 2).flatten(0, 2)


@correct("with strided writes")
def interleave_halves(weight, n_heads):
    if n_heads <= 0 or weight.shape[0] % (n_heads * 2) != 0:
        raise ValueError(f"{weight.shape[0]} rows, {n_heads} heads")
    out = torch.empty_like(weight)
    size = weight.shape[0] // n_heads
    for head in range(n_heads):
        ours = weight[head * size : (head + 1) * size]
        out[head * size : (head + 1) * size : 2] = ours[: size // 2]
        out[head * size + 1 : (head + 1) * size : 2] = ours[size // 2 :]
    return out
