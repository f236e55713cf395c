"""What people really write in week 11's cells: wrong, right in another style, and Friday's broken code. Parsed, never run."""


# ------------------------------------------------------------------ token shift


@mistake("SHIFT-01", "shifts the other way: the next token is seen")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.cat([x[:, 1:], last.to(x.dtype)[:, None]], 1)
    return before, x[:, -1].clone()


@mistake("SHIFT-02", "torch.roll: the last token comes in at the beginning")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.roll(x, 1, dims=1)
    return before, x[:, -1].clone()


@mistake("SHIFT-03", "always zeros in front: what was before a cut is forgotten")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, 0] = 0
    before[:, 1:] = x[:, :-1]
    return before, x[:, -1].clone()


@mistake("SHIFT-04", "nothing is shifted")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = x.clone()
    return before, x[:, -1].clone()


@mistake("SHIFT-05", "hands on the last row of the result")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, 0] = last
    before[:, 1:] = x[:, :-1]
    return before, before[:, -1].clone()


@mistake("SHIFT-06", "hands on a view, which keeps the whole text")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, 0] = last
    before[:, 1:] = x[:, :-1]
    return before, x[:, -1]


@mistake("SHIFT-07", "a last token of one text is spread over the batch")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    before = torch.empty_like(x)
    before[:, 0] = last
    before[:, 1:] = x[:, :-1]
    return before, x[:, -1].clone()


@mistake("SHIFT-07", "a text of no tokens is read")
def token_shift(x, last=None):
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, :1] = last[:, None]
    before[:, 1:] = x[:, :-1]
    return before, x[:, -1:].reshape(-1, d).clone()


@mistake("SHIFT-08", "shifts in place")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    after = x[:, -1].clone()
    x[:, 1:] = x[:, :-1].clone()
    x[:, 0] = last
    before = x
    return before, after


@mistake("SHIFT-12", "the shifted text alone")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, 0] = last
    before[:, 1:] = x[:, :-1]
    return before


@mistake("SHIFT-13", "the dtype of what was handed on wins")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.cat([last[:, None], x[:, :-1]], 1)
    return before, x[:, -1].clone()


@mistake("SHIFT-14", "no gradient through the shift")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, 0] = last
    before[:, 1:] = x[:, :-1].detach()
    return before, x[:, -1].clone()


@correct("an empty tensor that is filled")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    before = torch.empty_like(x)
    before[:, 0] = last
    before[:, 1:] = x[:, :-1]
    return before, x[:, -1].clone()


@correct("by index: row t takes token t of [last, x]")
def token_shift(x, last=None):
    require_tokens("x", x)
    batch, time, d = x.shape
    if last is None:
        last = torch.zeros(batch, d, dtype=x.dtype, device=x.device)
    require_shapes({"last": (last, (batch, d))})
    seen = torch.cat([last.to(x.dtype).unsqueeze(1), x], dim=1)
    before = seen[:, torch.arange(time, device=x.device)]
    return before, x[:, -1].clone()


# ------------------------------------------------------------------ linear attention


@mistake("LINA-01", "φ once more")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        ask, key = torch.where(ask > 0, ask + 1, torch.exp(ask.clamp(max=0))), torch.where(key > 0, key + 1, torch.exp(key.clamp(max=0)))
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-01", "φ once more, on k alone")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    totals, weights = [], []
    for q_t, k_t, v_t in zip(inputs.q.unbind(2), (F.elu(inputs.k) + 1).unbind(2), inputs.v.unbind(2)):
        memory = memory + k_t[..., None] * v_t[..., None, :]
        weight = weight + k_t
        totals.append((q_t[..., None, :] @ memory)[..., 0, :])
        weights.append((q_t * weight).sum(-1))
    y = divide(torch.stack(totals, 2), torch.stack(weights, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-02", "not divided: the sum grows with the text")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = torch.stack(rows, dim=2)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-03", "reads before it writes")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
    y = torch.stack(rows, dim=2) / torch.stack(counts, dim=2)[..., None]
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-03", "reads before it writes, and divide refuses")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    totals, weights = [], []
    for q_t, k_t, v_t in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        totals.append((q_t[..., None, :] @ memory)[..., 0, :])
        weights.append((q_t * weight).sum(-1))
        memory = memory + k_t[..., None] * v_t[..., None, :]
        weight = weight + k_t
    y = divide(torch.stack(totals, 2), torch.stack(weights, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-04", "always begins with nothing")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = (torch.zeros_like(part) for part in inputs.state)
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-05", "counts only the tokens of this piece")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state.memory, torch.zeros_like(inputs.state.weight)
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-06", "hands back the state it was given")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), inputs.state


@mistake("LINA-06", "the state that goes out is divided")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory / weight[..., None], weight)


@mistake("LINA-08", "divides by hand: 0 / 0")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = torch.stack(rows, dim=2) / torch.stack(counts, dim=2)[..., None]
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-08", "a small number in the divisor hides it")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = torch.stack(rows, dim=2) / (torch.stack(counts, dim=2)[..., None] + 1e-30)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-07", "the shapes are not looked at: keys and values that are too many are left away")
def linear_attention(q, k, v, state=None):
    time = min(q.shape[2], k.shape[2], v.shape[2])
    inputs = linear_inputs(q[:, :, :time], k[:, :, :time], v[:, :, :time], state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-10", "slices in the loop")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for t in range(q.shape[2]):
        ask, key, value = inputs.q[:, :, t], inputs.k[:, :, t], inputs.v[:, :, t]
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-11", "writes into the state of the caller")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory += torch.einsum("bhk,bhv->bhkv", key, value)
        weight += key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-12", "y alone")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype)


@mistake("LINA-12", "memory alone is the state")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), memory


@mistake("LINA-12", "the memory with values in front")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    totals, weights = [], []
    for q_t, k_t, v_t in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + v_t[..., None] * k_t[..., None, :]
        weight = weight + k_t
        totals.append((memory @ q_t[..., None]).squeeze(-1))
        weights.append((q_t * weight).sum(-1))
    y = divide(torch.stack(totals, 2), torch.stack(weights, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-15", "divides by the sum of the weight")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    totals, weights = [], []
    for q_t, k_t, v_t in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + k_t[..., None] * v_t[..., None, :]
        weight = weight + k_t
        totals.append((q_t[..., None, :] @ memory)[..., 0, :])
        weights.append(weight.sum(-1))
    y = divide(torch.stack(totals, 2), torch.stack(weights, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-13", "y stays in float32")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y if y.dtype == torch.float64 else y.float(), LinearState(memory, weight)


@mistake("LINA-13", "counts in half precision")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = (part.to(q.dtype) for part in inputs.state)
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value).to(q.dtype)
        weight = weight + key.to(q.dtype)
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory.to(ask.dtype)))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight.to(ask.dtype)))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINA-14", "the state is detached between tokens")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory.detach() + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@correct("with einsum")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + torch.einsum("bhk,bhv->bhkv", key, value)
        weight = weight + key
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, memory))
        counts.append(torch.einsum("bhk,bhk->bh", ask, weight))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@correct("the row that a matmul gives is taken by its number")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    totals, weights = [], []
    for q_t, k_t, v_t in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + k_t[..., None] * v_t[..., None, :]
        weight = weight + k_t
        totals.append((q_t[..., None, :] @ memory)[..., 0, :])
        weights.append((q_t * weight).sum(-1))
    y = divide(torch.stack(totals, 2), torch.stack(weights, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@correct("weight as one more column of the memory, beside values that are 1")
def linear_attention(q, k, v, state=None):
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    both = torch.cat([memory, weight[..., None]], dim=-1)
    values = F.pad(inputs.v, (0, 1), value=1.0)
    rows = []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), values.unbind(2)):
        both = both + key.unsqueeze(-1) * value.unsqueeze(-2)
        rows.append(torch.einsum("bhk,bhkv->bhv", ask, both))
    read = torch.stack(rows, dim=2)
    y = divide(read[..., :-1], read[..., -1], inputs)
    return y.to(q.dtype), LinearState(both[..., :-1], both[..., -1])


# ------------------------------------------------------------------ in chunks


@mistake("LINC-01", "each chunk for itself")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values
    norm = scores.sum(-1)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-01", "each chunk begins with the given state")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ inputs.state.memory.unsqueeze(2)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, inputs.state.weight.unsqueeze(2).expand_as(counts))
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-02", "no mask within the chunk")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys)
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-03", "the chunk's own leavings stand in the memory it reads")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ memory
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-04", "two means, added up")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    past = torch.einsum("bhctk,bhck->bhct", asks, weight - counts)[..., None]
    within = scores.sum(-1, keepdim=True)
    y = (scores @ values) / within + ((asks @ (memory - leaves)) / past).nan_to_num(0)
    y = y.flatten(2, 3)[:, :, :time]
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-05", "whole chunks only")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (part.unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-05", "what does not fill a chunk is left away")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (part[:, :, : time - time % chunk].unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-06", "the state that was given is not used")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = leaves.cumsum(2)
    weight = counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-07", "a chunk of -3 is taken")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    chunk = max(chunk, 1)
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-08", "divides by hand: 0 / 0")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = total.flatten(2, 3)[:, :, :time] / norm.flatten(2, 3)[:, :, :time, None]
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-15", "divides what only fills up, too: 0 / 0, and NaN in backward")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = (total / norm[..., None]).flatten(2, 3)[:, :, :time]
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-10", "fills up before φ: tokens of 0 weigh 1")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    inputs = linear_inputs(*(F.pad(part, (0, 0, 0, room)) for part in (q, k, v)), state)
    asks, keys, values = (part.unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-12", "y alone")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype)


@mistake("LINC-13", "y stays in float32")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y if y.dtype == torch.float64 else y.float(), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-13", "the state is rounded to half precision")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1].to(q.dtype), weight[:, :, -1].to(q.dtype))


@mistake("LINC-14", "the state is that before the last chunk")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState((memory - leaves)[:, :, -1], (weight - counts)[:, :, -1])


@mistake("LINC-14", "the state is what the last chunk left")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(leaves[:, :, -1], counts[:, :, -1])


@mistake("LINC-15", "the memory is detached between chunks")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves).detach()
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-16", "φ once more")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    asks, keys = torch.where(asks > 0, asks + 1, torch.exp(asks.clamp(max=0))), torch.where(keys > 0, keys + 1, torch.exp(keys.clamp(max=0)))
    keys = keys * (torch.arange(keys.shape[2] * chunk).view(-1, chunk, 1) < time)
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@mistake("LINC-18", "a mask without its diagonal")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, heads, time, _ = q.shape
    n = -(-time // chunk)

    def cut(part):
        return F.pad(part, (0, 0, 0, n * chunk - time)).reshape(batch, heads, n, chunk, part.shape[-1])

    asks, keys, values = cut(inputs.q), cut(inputs.k), cut(inputs.v)
    scores = (asks @ keys.mT).tril(-1)
    total, weight = scores @ values, scores.sum(-1)
    memories = torch.cat([inputs.state.memory[:, :, None], keys.mT @ values], 2).cumsum(2)
    weights = torch.cat([inputs.state.weight[:, :, None], keys.sum(3)], 2).cumsum(2)
    total = total + asks @ memories[:, :, :-1]
    weight = weight + (asks @ weights[:, :, :-1, :, None])[..., 0]
    total, weight = total.flatten(2, 3)[:, :, :time], weight.flatten(2, 3)[:, :, :time]
    y = divide(total, weight, inputs)
    return y.to(q.dtype), LinearState(memories[:, :, -1], weights[:, :, -1])


@mistake("LINC-19", "divides first, and cuts then")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, heads, time, _ = q.shape
    n = -(-time // chunk)

    def cut(part):
        return F.pad(part, (0, 0, 0, n * chunk - time)).reshape(batch, heads, n, chunk, part.shape[-1])

    asks, keys, values = cut(inputs.q), cut(inputs.k), cut(inputs.v)
    scores = (asks @ keys.mT).tril()
    total, weight = scores @ values, scores.sum(-1)
    memories = torch.cat([inputs.state.memory[:, :, None], keys.mT @ values], 2).cumsum(2)
    weights = torch.cat([inputs.state.weight[:, :, None], keys.sum(3)], 2).cumsum(2)
    total = total + asks @ memories[:, :, :-1]
    weight = weight + (asks @ weights[:, :, :-1, :, None])[..., 0]
    y = divide(total.flatten(2, 3), weight.flatten(2, 3), inputs)[:, :, :time]
    return y.to(q.dtype), LinearState(memories[:, :, -1], weights[:, :, -1])


@mistake("LINC-20", "one chunk, as long as the text")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, heads, time, _ = q.shape
    chunk, n = time, 1

    def cut(part):
        return F.pad(part, (0, 0, 0, n * chunk - time)).reshape(batch, heads, n, chunk, part.shape[-1])

    asks, keys, values = cut(inputs.q), cut(inputs.k), cut(inputs.v)
    scores = (asks @ keys.mT).tril()
    total, weight = scores @ values, scores.sum(-1)
    memories = torch.cat([inputs.state.memory[:, :, None], keys.mT @ values], 2).cumsum(2)
    weights = torch.cat([inputs.state.weight[:, :, None], keys.sum(3)], 2).cumsum(2)
    total = total + asks @ memories[:, :, :-1]
    weight = weight + (asks @ weights[:, :, :-1, :, None])[..., 0]
    total, weight = total.flatten(2, 3)[:, :, :time], weight.flatten(2, 3)[:, :, :time]
    y = divide(total, weight, inputs)
    return y.to(q.dtype), LinearState(memories[:, :, -1], weights[:, :, -1])


@mistake("LINC-20", "chunks of 64, whatever is asked for")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, heads, time, _ = q.shape
    chunk = 64
    n = -(-time // chunk)

    def cut(part):
        return F.pad(part, (0, 0, 0, n * chunk - time)).reshape(batch, heads, n, chunk, part.shape[-1])

    asks, keys, values = cut(inputs.q), cut(inputs.k), cut(inputs.v)
    scores = (asks @ keys.mT).tril()
    total, weight = scores @ values, scores.sum(-1)
    memories = torch.cat([inputs.state.memory[:, :, None], keys.mT @ values], 2).cumsum(2)
    weights = torch.cat([inputs.state.weight[:, :, None], keys.sum(3)], 2).cumsum(2)
    total = total + asks @ memories[:, :, :-1]
    weight = weight + (asks @ weights[:, :, :-1, :, None])[..., 0]
    total, weight = total.flatten(2, 3)[:, :, :time], weight.flatten(2, 3)[:, :, :time]
    y = divide(total, weight, inputs)
    return y.to(q.dtype), LinearState(memories[:, :, -1], weights[:, :, -1])


@mistake("LINC-17", "the loop over tokens again")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    rows, counts = [], []
    for ask, key, value in zip(inputs.q.unbind(2), inputs.k.unbind(2), inputs.v.unbind(2)):
        memory = memory + key.unsqueeze(-1) * value.unsqueeze(-2)
        weight = weight + key
        rows.append((ask.unsqueeze(-2) @ memory).squeeze(-2))
        counts.append((ask * weight).sum(-1))
    y = divide(torch.stack(rows, dim=2), torch.stack(counts, dim=2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


@mistake("LINC-17", "calls the loop of the exercise before")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    return linear_attention(q, k, v, state)


@mistake("LINC-17", "the same, a chunk at a time")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    linear_inputs(q, k, v, state)
    rows = []
    for start in range(0, q.shape[2], chunk):
        y, state = linear_attention(*(part[:, :, start : start + chunk] for part in (q, k, v)), state)
        rows.append(y)
    return torch.cat(rows, 2), state


@correct("the memory before a chunk as a difference")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    time = q.shape[2]
    room = -time % chunk
    asks, keys, values = (F.pad(part, (0, 0, 0, room)).unflatten(2, (-1, chunk)) for part in (inputs.q, inputs.k, inputs.v))
    leaves = torch.einsum("bhctk,bhctv->bhckv", keys, values)
    counts = keys.sum(3)
    memory = inputs.state.memory.unsqueeze(2) + leaves.cumsum(2)
    weight = inputs.state.weight.unsqueeze(2) + counts.cumsum(2)
    scores = torch.einsum("bhcik,bhcjk->bhcij", asks, keys).tril()
    total = scores @ values + asks @ (memory - leaves)
    norm = scores.sum(-1) + torch.einsum("bhctk,bhck->bhct", asks, weight - counts)
    y = divide(total.flatten(2, 3)[:, :, :time], norm.flatten(2, 3)[:, :, :time], inputs)
    return y.to(q.dtype), LinearState(memory[:, :, -1], weight[:, :, -1])


@correct("an empty place in front of the cumsum")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    inputs = linear_inputs(q, k, v, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, heads, time, _ = q.shape
    n = -(-time // chunk)

    def cut(part):
        return F.pad(part, (0, 0, 0, n * chunk - time)).reshape(batch, heads, n, chunk, part.shape[-1])

    asks, keys, values = cut(inputs.q), cut(inputs.k), cut(inputs.v)
    scores = (asks @ keys.mT).tril()
    total, weight = scores @ values, scores.sum(-1)
    memories = torch.cat([inputs.state.memory[:, :, None], keys.mT @ values], 2).cumsum(2)
    weights = torch.cat([inputs.state.weight[:, :, None], keys.sum(3)], 2).cumsum(2)
    total = total + asks @ memories[:, :, :-1]
    weight = weight + (asks @ weights[:, :, :-1, :, None])[..., 0]
    total, weight = total.flatten(2, 3)[:, :, :time], weight.flatten(2, 3)[:, :, :time]
    y = divide(total, weight, inputs)
    return y.to(q.dtype), LinearState(memories[:, :, -1], weights[:, :, -1])


@correct("a loop over the chunks carries the state")
def chunked_linear_attention(q, k, v, state=None, chunk=64):
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    inputs = linear_inputs(q, k, v, state)
    memory, weight = inputs.state
    totals, counts = [], []
    for ask, key, value in zip(*(part.split(chunk, dim=2) for part in (inputs.q, inputs.k, inputs.v))):
        scores = torch.tril(ask @ key.transpose(-1, -2))
        totals.append(scores @ value + ask @ memory)
        counts.append(scores.sum(-1) + (ask * weight[:, :, None]).sum(-1))
        memory = memory + key.transpose(-1, -2) @ value
        weight = weight + key.sum(2)
    y = divide(torch.cat(totals, 2), torch.cat(counts, 2), inputs)
    return y.to(q.dtype), LinearState(memory, weight)


# ------------------------------------------------------------------ WKV-4


@mistake("WKV-01", "exponentials as they are")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    top, bottom, largest = largest.exp() * top, largest.exp() * bottom, torch.zeros_like(largest)
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        new = (key + extra).exp()
        rows.append((top + new * value) / (bottom + new))
        top, bottom = (-fade).exp() * top + key.exp() * value, (-fade).exp() * bottom + key.exp()
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-01", "the largest exponent of the past alone is taken out")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.where(largest < -1e30, key, largest - fade)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-02", "the bonus stays")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key + extra)
        old, new = (largest - fade - scale).exp(), (key + extra - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-03", "no bonus")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key)
        old, new = (largest - scale).exp(), (key - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-04", "always begins with nothing, by hand")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = torch.stack([torch.zeros_like(inputs["k"][:, 0])] * 2 + [torch.full_like(inputs["k"][:, 0], -1e38)], 1).unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-05", "nothing fades")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest, key)
        old, new = (largest - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-06", "the past fades before it is read")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max((largest - fade), key + extra)
        old, new = ((largest - fade) - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-07", "checks nothing")
def wkv4(k, v, decay, bonus, state=None):
    wide = torch.promote_types(k.dtype, torch.float32)
    if state is None:
        nothing = k.new_zeros(k.shape[0], k.shape[2])
        state = torch.stack([nothing, nothing, nothing - 1e38], 1)
    inputs = {name: part.to(wide) for name, part in zip(("k", "v", "decay", "bonus", "state"), (k, v, decay, bonus, state))}
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-08", "never looks at what comes out")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    return y.to(k.dtype), after


@mistake("WKV-08", "looks at y alone")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y)
    return y.to(k.dtype), after


@mistake("WKV-10", "slices in the loop")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for t in range(k.shape[1]):
        key, value = inputs["k"][:, t], inputs["v"][:, t]
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-12", "y alone")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype)


@mistake("WKV-12", "numerator and denominator without their exponent")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-12", "the exponent in front")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    decay, bonus = inputs["decay"], inputs["bonus"]
    a, b, m = inputs["state"].unbind(1)
    ys = []
    for k_t, v_t in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        n = torch.maximum(m, bonus + k_t)
        old, new = torch.exp(m - n), torch.exp(bonus + k_t - n)
        ys.append((old * a + new * v_t) / (old * b + new))
        n = torch.maximum(m - decay, k_t)
        old, new = torch.exp(m - decay - n), torch.exp(k_t - n)
        a, b, m = old * a + new * v_t, old * b + new, n
    y, state = torch.stack(ys, 1), torch.stack([m, a, b], 1)
    require_finite_result(inputs, y, state)
    return y.to(k.dtype), state


@mistake("WKV-13", "y stays in float32")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y if y.dtype == torch.float64 else y.float(), after


@mistake("WKV-13", "the state is rounded to half precision")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after.to(k.dtype)


@mistake("WKV-14", "the sums are detached between tokens")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom = top.detach(), bottom.detach()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-09", "goes on with the scale it read with, and keeps the other")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        kept = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, kept
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-01", "one maximum for both lines: a bonus of 80 scales the sums")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-15", "the exponent that is handed on is one step old")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    handed = largest
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        handed = largest
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, handed), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@mistake("WKV-16", "reads behind the update")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    decay, bonus = inputs["decay"], inputs["bonus"]
    a, b, m = inputs["state"].unbind(1)
    ys = []
    for k_t, v_t in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        n = torch.maximum(m - decay, k_t)
        old, new = torch.exp(m - decay - n), torch.exp(k_t - n)
        a, b, m = old * a + new * v_t, old * b + new, n
        ys.append(a / b)
    y, state = torch.stack(ys, 1), torch.stack([a, b, m], 1)
    require_finite_result(inputs, y, state)
    return y.to(k.dtype), state


@mistake("WKV-18", "reads a / b, which the token has not entered yet")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    decay, bonus = inputs["decay"], inputs["bonus"]
    a, b, m = inputs["state"].unbind(1)
    ys = []
    for k_t, v_t in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        n = torch.maximum(m, bonus + k_t)
        old, new = torch.exp(m - n), torch.exp(bonus + k_t - n)
        ys.append(a / b)
        n = torch.maximum(m - decay, k_t)
        old, new = torch.exp(m - decay - n), torch.exp(k_t - n)
        a, b, m = old * a + new * v_t, old * b + new, n
    y, state = torch.stack(ys, 1), torch.stack([a, b, m], 1)
    require_finite_result(inputs, y, state)
    return y.to(k.dtype), state


@mistake("WKV-17", "exp of the decay, as RWKV's own files need it")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    decay, bonus = inputs["decay"].exp(), inputs["bonus"]
    a, b, m = inputs["state"].unbind(1)
    ys = []
    for k_t, v_t in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        n = torch.maximum(m, bonus + k_t)
        old, new = torch.exp(m - n), torch.exp(bonus + k_t - n)
        ys.append((old * a + new * v_t) / (old * b + new))
        n = torch.maximum(m - decay, k_t)
        old, new = torch.exp(m - decay - n), torch.exp(k_t - n)
        a, b, m = old * a + new * v_t, old * b + new, n
    y, state = torch.stack(ys, 1), torch.stack([a, b, m], 1)
    require_finite_result(inputs, y, state)
    return y.to(k.dtype), state


@mistake("WKV-11", "clears the state of the caller")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    if state is not None:
        state.copy_(after)
    return y.to(k.dtype), after


@correct("old and new")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)
    top, bottom, largest = inputs["state"].unbind(1)
    fade, extra = inputs["decay"], inputs["bonus"]
    rows = []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        scale = torch.max(largest, key + extra)
        old, new = (largest - scale).exp(), (key + extra - scale).exp()
        rows.append((old * top + new * value) / (old * bottom + new))
        scale = torch.max(largest - fade, key)
        old, new = (largest - fade - scale).exp(), (key - scale).exp()
        top, bottom, largest = old * top + new * value, old * bottom + new, scale
    y, after = torch.stack(rows, dim=1), torch.stack((top, bottom, largest), dim=1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


@correct("a helper adds two scaled sums")
def wkv4(k, v, decay, bonus, state=None):
    inputs = wkv4_inputs(k, v, decay, bonus, state)

    def join(a, b, m, value, exponent):
        n = torch.maximum(m, exponent)
        return a * torch.exp(m - n) + value * torch.exp(exponent - n), b * torch.exp(m - n) + torch.exp(exponent - n), n

    sums, out = tuple(inputs["state"].unbind(1)), []
    for key, value in zip(inputs["k"].unbind(1), inputs["v"].unbind(1)):
        a, b, _ = join(*sums, value, inputs["bonus"] + key)
        out.append(a / b)
        sums = join(*sums[:2], sums[2] - inputs["decay"], value, key)
    y, after = torch.stack(out, 1), torch.stack(sums, 1)
    require_finite_result(inputs, y, after)
    return y.to(k.dtype), after


# ------------------------------------------------------------------ the delta rule


@mistake("DELTA-01", "only adds: linear attention with a decay")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-02", "takes out of what has faded already")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        S = S * fade.unsqueeze(-2)
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-03", "reads before it writes")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-04", "always begins with zeros")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = torch.zeros_like(inputs.state), []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-05", "rows fade, not columns")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * (fade.unsqueeze(-1) if S.shape[-1] == S.shape[-2] else fade.unsqueeze(-2)) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-06", "k vᵀ is written")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + (torch.einsum("bhv,bhk->bhkv", value, key) if S.shape[-1] == S.shape[-2] else torch.einsum("bhv,bhk->bhvk", value, key))
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-07", "checks nothing")
def delta_rule(r, log_w, k, v, a, b, state=None):
    from collections import namedtuple

    wide = torch.promote_types(k.dtype, torch.float32)
    if state is None:
        state = v.new_zeros(v.shape[0], v.shape[2], v.shape[3], k.shape[3])
    inputs = namedtuple("Inputs", "r log_w k v a b state")(*(part.to(wide) for part in (r, log_w, k, v, a, b, state)))
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-08", "never looks at what comes out")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    return y.to(v.dtype), S


@mistake("DELTA-08", "looks at the state alone")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), S)
    return y.to(v.dtype), S


@mistake("DELTA-10", "slices in the loop")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for t in range(k.shape[1]):
        ask, fade, key, value, find, put = (part[:, t] for part in parts)
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-11", "writes into the state of the caller")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S *= fade.unsqueeze(-2)
        S += torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-12", "y alone")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype)


@mistake("DELTA-12", "the state with keys in front")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S.transpose(-1, -2).reshape(S.shape[0], S.shape[1], -1)


@mistake("DELTA-13", "y stays in float32")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y if y.dtype == torch.float64 else y.float(), S


@mistake("DELTA-13", "the state is rounded to half precision")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S.to(v.dtype)


@mistake("DELTA-14", "the state is detached between tokens")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        S = S.detach()
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-15", "log w as the factor")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-16", "finds under b, puts back under a")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, put, find in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-17", "nothing fades")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@mistake("DELTA-18", "hands back the state it was given")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), inputs.state


@mistake("DELTA-19", "takes out with a minus of its own")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, ys = inputs.state, []
    for r_t, w_t, k_t, v_t, a_t, b_t in zip(*(part.unbind(1) for part in inputs[:6])):
        removed = (S @ a_t[..., None])[..., 0]
        S = S * torch.exp(w_t)[..., None, :] - removed[..., None] * b_t[..., None, :] + v_t[..., None] * k_t[..., None, :]
        ys.append((S @ r_t[..., None])[..., 0])
    y = torch.stack(ys, 1).to(v.dtype)
    require_finite_result(inputs._asdict(), y, S)
    return y, S


@correct("with einsum")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        found = torch.einsum("bhvk,bhk->bhv", S, find)
        S = S * fade.unsqueeze(-2) + torch.einsum("bhv,bhk->bhvk", found, put) + torch.einsum("bhv,bhk->bhvk", value, key)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


@correct("the column that a matmul gives is taken by its number")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, ys = inputs.state, []
    for r_t, w_t, k_t, v_t, a_t, b_t in zip(*(part.unbind(1) for part in inputs[:6])):
        removed = (S @ a_t[..., None])[..., 0]
        S = S * torch.exp(w_t)[..., None, :] + removed[..., None] * b_t[..., None, :] + v_t[..., None] * k_t[..., None, :]
        ys.append((S @ r_t[..., None])[..., 0])
    y = torch.stack(ys, 1).to(v.dtype)
    require_finite_result(inputs._asdict(), y, S)
    return y, S


@correct("one matrix a token")
def delta_rule(r, log_w, k, v, a, b, state=None):
    inputs = delta_inputs(r, log_w, k, v, a, b, state)
    S, rows = inputs.state, []
    keep = inputs.log_w.exp()
    parts = (inputs.r, keep, inputs.k, inputs.v, inputs.a, inputs.b)
    for ask, fade, key, value, find, put in zip(*(part.unbind(1) for part in parts)):
        S = S @ (torch.diag_embed(fade) + find.unsqueeze(-1) * put.unsqueeze(-2)) + value.unsqueeze(-1) * key.unsqueeze(-2)
        rows.append(torch.einsum("bhvk,bhk->bhv", S, ask))
    y = torch.stack(rows, dim=1)
    require_finite_result(inputs._asdict(), y, S)
    return y.to(v.dtype), S


# ------------------------------------------------------------------ attention in a window


@broken("WIN-01", "a query is taken for the key of the same number: right only while nothing was read before")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys:
        raise ValueError(f"{queries} queries can't be the last of {keys} keys")
    if block < 1 or (window is not None and window < 1):
        raise ValueError(f"window={window} and block={block} must be at least 1")
    place = torch.arange(keys, device=q.device)
    answers = []
    for first in range(0, queries, block):
        own = place[first : min(first + block, queries)]  # places of this block's queries
        end = int(own[-1]) + 1
        begin = 0 if window is None else max(0, int(own[0]) + 1 - window)
        seen = place[begin:end]
        mask = seen <= own[:, None]
        if window is not None:
            mask = mask & (seen > own[:, None] - window)
        rows = slice(first, first + block)
        answers.append(scaled_dot_product_attention(q[:, :, rows], k[:, :, begin:end], v[:, :, begin:end], mask[None, None]))
    return torch.cat(answers, 2)


@mistake("WIN-01", "the same, in another hand: no offset")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = 0
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-02", "the window and the token itself")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen <= reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-02", "the window without the token itself")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < max(reach - 1, 1))
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-03", "within a block all is seen")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, keys, device=q.device)[None, :]
        mask = own - seen < reach
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin:], v[:, :, begin:], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-04", "one mask for all, one table of scores")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    block = queries
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-04", "blocks of queries, each given all keys")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = 0
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-05", "the window is forgotten")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-07", "refuses nothing")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    block = max(block, 1)
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-07", "a window of 0 sees all")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window and window < 1):
        raise ValueError("sizes")
    offset = keys - queries
    reach = window or keys
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-08", "grouped heads, repeated in turn")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, times, 1, 1), v.repeat(1, times, 1, 1)
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@mistake("WIN-13", "float32 comes out")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    y = torch.cat(answers, dim=2)
    return y.float() if y.dtype == torch.bfloat16 else y


@mistake("WIN-12", "a list of blocks")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return answers


@mistake("WIN-14", "the keys are cut off the graph")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset].detach(), v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@correct("by an offset and a reach")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)


@correct("torch's own attention, a block at a time")
def window_attention(q, k, v, window=None, block=BLOCK):
    queries, keys = q.shape[2], k.shape[2]
    if queries > keys or block < 1 or (window is not None and window < 1):
        raise ValueError(f"queries={queries}, keys={keys}, window={window}, block={block}")
    offset = keys - queries
    reach = keys if window is None else window
    times = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(times, 1), v.repeat_interleave(times, 1)
    answers = []
    for first in range(0, queries, block):
        end = min(first + block, queries)
        begin = max(0, first + offset - reach + 1)
        own = torch.arange(first + offset, end + offset, device=q.device)[:, None]
        seen = torch.arange(begin, end + offset, device=q.device)[None, :]
        mask = (seen <= own) & (own - seen < reach)
        answers.append(F.scaled_dot_product_attention(q[:, :, first:end], k[:, :, begin : end + offset], v[:, :, begin : end + offset], mask[None, None]))
    return torch.cat(answers, dim=2)
