"""What people really write in week 2's cells: wrong, right in another style, and Friday's broken code."""

# ------------------------------------------------------------------ softmax


@mistake("SOFT-02", "exp without subtracting the maximum")
def softmax(scores, dim=-1):
    powers = scores.exp()
    return powers / powers.sum(dim, keepdim=True)


@mistake("SOFT-01", "the sum runs over the whole tensor")
def softmax(scores, dim=-1):
    powers = (scores - scores.amax(dim, keepdim=True)).exp()
    return powers / powers.sum()


@mistake("SOFT-01", "dim is ignored: always the last axis")
def softmax(scores, dim=-1):
    powers = (scores - scores.amax(-1, keepdim=True)).exp()
    return powers / powers.sum(-1, keepdim=True)


@mistake("SOFT-04", "one maximum for the whole tensor")
def softmax(scores, dim=-1):
    powers = (scores - scores.max()).exp()
    return powers / powers.sum(dim, keepdim=True)


@mistake("SOFT-03", "-inf is replaced first, so what was hidden gets a share")
def softmax(scores, dim=-1):
    scores = scores.nan_to_num(neginf=0.0)
    powers = (scores - scores.amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim, keepdim=True)


@mistake("SOFT-05", "the maximum is subtracted in place")
def softmax(scores, dim=-1):
    with torch.no_grad():
        scores -= scores.amax(dim, keepdim=True)
    powers = scores.exp()
    return powers / powers.sum(dim, keepdim=True)


@mistake("SOFT-06", "the normaliser is detached")
def softmax(scores, dim=-1):
    powers = (scores - scores.amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim, keepdim=True).detach()


@mistake("SOFT-07", "always float32")
def softmax(scores, dim=-1):
    powers = (scores.float() - scores.float().amax(dim, keepdim=True)).exp()
    return powers / powers.sum(dim, keepdim=True)


@correct("with logsumexp")
def softmax(scores, dim=-1):
    return (scores - scores.logsumexp(dim, keepdim=True)).exp()


@correct("with max(...).values and broadcasting by unsqueeze")
def softmax(scores, dim=-1):
    largest = scores.max(dim=dim).values.unsqueeze(dim)
    powers = torch.exp(scores - largest)
    total = torch.sum(powers, dim=dim).unsqueeze(dim)
    return torch.div(powers, total)


# ------------------------------------------------------------------ masks


@mistake("MASK-01", "True where it may not look, as nn.MultiheadAttention has it")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    device = device if padding is None else padding.device
    mask = torch.zeros(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        mask = ~torch.ones_like(mask).tril(n_keys - n_queries)
    if padding is not None:
        mask = mask | ~padding[:, None, None, :]
    return mask


@mistake("MASK-02", "a token does not see itself")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    device = device if padding is None else padding.device
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril(n_keys - n_queries - 1)
    return mask if padding is None else mask & padding[:, None, None, :]


@mistake("MASK-03", "the cached keys are forgotten")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    if causal and n_queries > n_keys:
        raise ValueError("more queries than keys")
    device = device if padding is None else padding.device
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril()
    return mask if padding is None else mask & padding[:, None, None, :]


@mistake("MASK-04", "0 and -inf, to be added to the scores")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    mask = torch.full((1, 1, n_queries, n_keys), -torch.inf, device=device)
    mask = mask.triu(n_keys - n_queries + 1) if causal else torch.zeros_like(mask)
    if padding is not None:
        mask = mask.masked_fill(~padding[:, None, None, :], -torch.inf)
    return mask


@mistake("MASK-05", "no axis for the heads")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril(n_keys - n_queries)
    return mask if padding is None else mask & padding[:, None, :]


@mistake("MASK-06", "padding is ignored when causal")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        if n_queries > n_keys:
            raise ValueError("more queries than keys")
        return mask.tril(n_keys - n_queries).expand(1 if padding is None else len(padding), -1, -1, -1)
    return mask if padding is None else mask & padding[:, None, None, :]


@mistake("MASK-07", "padding on the axis of the queries")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    if causal and n_queries > n_keys:
        raise ValueError("more queries than keys")
    device = device if padding is None else padding.device
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril(n_keys - n_queries)
    return mask if padding is None else mask & padding[:, None, -n_queries:, None]


@mistake("MASK-10", "nothing is refused")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    device = device if padding is None else padding.device
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool, device=device)
    if causal:
        mask = mask.tril(n_keys - n_queries)
    return mask if padding is None else mask & padding[:, None, None, :]


@mistake("MASK-11", "always on the CPU")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    if causal and n_queries > n_keys:
        raise ValueError("more queries than keys")
    if padding is not None and padding.shape[-1] != n_keys:
        raise ValueError("padding has the wrong length")
    mask = torch.ones(1, 1, n_queries, n_keys, dtype=torch.bool)
    if causal:
        mask = mask.tril(n_keys - n_queries)
    return mask if padding is None else mask & padding[:, None, None, :]


@correct("by comparing positions")
def attention_mask(n_queries, n_keys, *, causal, padding=None, device=None):
    if causal and n_keys < n_queries:
        raise ValueError(f"{n_queries} queries but only {n_keys} keys")
    if padding is not None:
        if padding.size(-1) != n_keys:
            raise ValueError(f"padding covers {padding.size(-1)} keys, expected {n_keys}")
        device = padding.device
    keys = torch.arange(n_keys, device=device)
    queries = torch.arange(n_queries, device=device) + (n_keys - n_queries)
    allowed = keys[None, :] <= queries[:, None] if causal else torch.ones(n_queries, n_keys, dtype=torch.bool, device=device)
    allowed = allowed.reshape(1, 1, n_queries, n_keys)
    if padding is not None:
        allowed = torch.logical_and(allowed, padding.reshape(-1, 1, 1, n_keys))
    return allowed


# ------------------------------------------------------------------ attention


@mistake("ATTN-01", "no scale")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30)
    return softmax(scores) @ v


@mistake("ATTN-02", "divided by d_head, not by its root")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1]
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30)
    return softmax(scores) @ v


@mistake("ATTN-03", "softmax over the queries")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30)
    return softmax(scores, dim=-2) @ v


@mistake("ATTN-04", "fills where the mask is True")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(mask, -1e30)
    out = softmax(scores) @ v
    return out if mask is None else out.masked_fill(mask.all(-1, keepdim=True), 0.0)


@mistake("ATTN-05", "the result of masked_fill is thrown away")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores.masked_fill(~mask, -1e30)
    return softmax(scores) @ v


@mistake("ATTN-06", "-inf in a row that is masked whole")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return softmax(scores) @ v


@mistake("ATTN-07", "repeat in place of repeat_interleave")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat(1, groups, 1, 1), v.repeat(1, groups, 1, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -1e30)
    return softmax(scores) @ v


@mistake("ATTN-08", "weights set to zero after softmax")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    weights = softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5)
    if mask is not None:
        weights = weights * mask
    return weights @ v


@mistake("ATTN-10", "-inf is added, and NaN put right afterwards: backward still meets it")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores + torch.zeros_like(scores).masked_fill(~mask, -torch.inf)
    return softmax(scores).nan_to_num() @ v


@mistake("ATTN-11", "a low finite number, and the row that sees nothing is averaged")
def scaled_dot_product_attention(q, k, v, mask=None):
    if q.shape[1] % k.shape[1]:
        raise ValueError("heads")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError("mask")
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    return softmax(scores) @ v


@mistake("ATTN-15", "nothing is refused")
def scaled_dot_product_attention(q, k, v, mask=None):
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    out = softmax(scores) @ v
    return out if mask is None else out.masked_fill(~mask.any(-1, keepdim=True), 0.0)


@correct("einsum over (kv, group), weights zeroed where the mask hides")
def scaled_dot_product_attention(q, k, v, mask=None):
    batch, heads, queries, d_head = q.shape
    kv_heads, keys = k.shape[1], k.shape[2]
    if heads % kv_heads != 0:
        raise ValueError(f"heads={heads} is no multiple of kv_heads={kv_heads}")
    if mask is not None and mask.dtype is not torch.bool:
        raise ValueError(f"expected a Bool mask, got {mask.dtype}")
    grouped = q.reshape(batch, kv_heads, heads // kv_heads, queries, d_head)
    scores = torch.einsum("bghqd,bgkd->bghqk", grouped, k) / d_head**0.5
    scores = scores.reshape(batch, heads, queries, keys)
    if mask is not None:
        scores = torch.where(mask, scores, torch.full_like(scores, torch.finfo(scores.dtype).min))
    weights = softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask
    weights = weights.reshape(batch, kv_heads, heads // kv_heads, queries, keys)
    return torch.einsum("bghqk,bgkd->bghqd", weights, v).reshape(batch, heads, queries, -1)


@correct("-inf and nan_to_num: masked_fill keeps the NaN from the gradients")
def scaled_dot_product_attention(q, k, v, mask=None):
    if q.shape[1] % k.shape[1]:
        raise ValueError("the query heads can't be shared out evenly")
    if mask is not None and mask.dtype != torch.bool:
        raise ValueError("the mask must be Bool")
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    return softmax(scores).nan_to_num() @ v


@correct("one head after the other")
def scaled_dot_product_attention(q, k, v, mask=None):
    heads, kv_heads = q.shape[1], k.shape[1]
    if heads % kv_heads:
        raise ValueError(f"{heads} heads, {kv_heads} key/value heads")
    if mask is not None:
        if mask.dtype != torch.bool:
            raise ValueError(f"mask is {mask.dtype}")
        mask = mask.expand(q.shape[0], heads, q.shape[2], k.shape[2])
    outs = []
    for h in range(heads):
        g = h // (heads // kv_heads)
        scores = torch.matmul(q[:, h], k[:, g].mT) / (q.shape[-1] ** 0.5)
        if mask is not None:
            scores = scores.masked_fill(mask[:, h].logical_not(), -1e30)
        out = torch.matmul(softmax(scores, -1), v[:, g])
        if mask is not None:
            out = out * mask[:, h].any(-1, keepdim=True).to(out.dtype)
        outs.append(out)
    return torch.stack(outs, dim=1)


# ------------------------------------------------------------------ positions


@mistake("SIN-01", "all sines, then all cosines")
def sinusoidal_positions(time, d_model):
    angles = torch.arange(time)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.cat((angles.sin(), angles.cos()), dim=-1)


@mistake("SIN-02", "cosine first")
def sinusoidal_positions(time, d_model):
    angles = torch.arange(time)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.stack((angles.cos(), angles.sin()), dim=-1).flatten(1)


@mistake("SIN-03", "the exponent is i / d_model")
def sinusoidal_positions(time, d_model):
    angles = torch.arange(time)[:, None] / 10_000 ** (torch.arange(d_model // 2) / d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@mistake("SIN-04", "positions from 1")
def sinusoidal_positions(time, d_model):
    angles = torch.arange(1, time + 1)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@mistake("SIN-06", "an odd width gets one column too many")
def sinusoidal_positions(time, d_model):
    angles = torch.arange(time)[:, None] / 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@mistake("SIN-07", "multiplied in place of divided")
def sinusoidal_positions(time, d_model):
    angles = torch.arange(time)[:, None] * 10_000 ** (torch.arange(0, d_model, 2) / d_model)
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


@correct("exp of a log, and slices")
def sinusoidal_positions(time, d_model):
    import math

    if d_model % 2 == 1:
        raise ValueError(f"d_model={d_model} is odd")
    table = torch.empty(time, d_model)
    frequencies = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(10_000.0) / d_model))
    angles = torch.outer(torch.arange(time, dtype=torch.float32), frequencies)
    table[:, 0::2] = torch.sin(angles)
    table[:, 1::2] = torch.cos(angles)
    return table


@mistake("ROPE-01", "neighbours are paired, as in the paper")
def apply_rotary(x, cos, sin):
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).flatten(-2)


@mistake("ROPE-01", "neighbours are paired, and the result is put together in halves")
def apply_rotary(x, cos, sin):
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x[..., ::2], x[..., 1::2]
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@mistake("ROPE-02", "turned backwards")
def apply_rotary(x, cos, sin):
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos + b * sin, b * cos - a * sin), dim=-1)


@mistake("ROPE-03", "sine and cosine swapped")
def apply_rotary(x, cos, sin):
    sin, cos = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@mistake("ROPE-04", "the new first half makes the second")
def apply_rotary(x, cos, sin):
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    a = a * cos - b * sin
    b = b * cos + a * sin
    return torch.cat((a, b), dim=-1)


@mistake("ROPE-05", "bfloat16 comes back as float32")
def apply_rotary(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@mistake("ROPE-06", "turned in place")
def apply_rotary(x, cos, sin):
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    new = a * cos - b * sin
    with torch.no_grad():
        b.mul_(cos).add_(a * sin)
        a.copy_(new)
    return x


@mistake("ROPE-07", "a width that does not fit is broadcast or fails far from here")
def apply_rotary(x, cos, sin):
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)


@correct("x * cos + rotate_half(x) * sin, as transformers has it")
def apply_rotary(x, cos, sin):
    if 2 * cos.size(-1) != x.size(-1):
        raise ValueError(f"cos has width {cos.size(-1)}, expected {x.size(-1) // 2}")
    both_cos = torch.cat((cos, cos), dim=-1).to(x.dtype)
    both_sin = torch.cat((sin, sin), dim=-1).to(x.dtype)
    first, second = x.chunk(2, dim=-1)
    rotated_half = torch.cat((-second, first), dim=-1)
    return x * both_cos + rotated_half * both_sin


@correct("with complex numbers")
def apply_rotary(x, cos, sin):
    half = x.shape[-1] // 2
    if cos.shape[-1] != half:
        raise ValueError(f"cos must be {half} wide, got {cos.shape[-1]}")
    wide = x.double()
    z = torch.complex(wide[..., :half].contiguous(), wide[..., half:].contiguous())
    z = z * torch.complex(cos.double(), sin.double())
    return torch.cat((z.real, z.imag), dim=-1).to(x.dtype)


# ------------------------------------------------------------------ many heads


@broken("MHA-01", "the heads are joined without bringing them beside d_head")
class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own d_head = d_model / n_heads features.

    `n_kv_heads` (default: n_heads) key and value heads are shared by groups of query heads. `rope_theta` turns queries
    and keys by their positions (None: no rotation). `qk_norm` is a factory d_head -> module, applied to every head of
    q (as `q_norm`) and k (as `k_norm`) before the rotation.

    Submodules: q_proj, k_proj, v_proj, o_proj, each an nn.Linear with or without `bias`.
    Raises: ValueError if d_model is not a multiple of n_heads, or n_heads not one of n_kv_heads.
    Source: Attention Is All You Need, arXiv 1706.03762, section 3.2.2; names as in transformers' LlamaAttention.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        n_kv_heads: int | None = None,
        *,
        bias: bool = False,
        rope_theta: float | None = None,
        qk_norm: Callable[[int], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if d_model % n_heads:
            raise ValueError(f"d_model {d_model} can't be split evenly among {n_heads} heads")
        if n_heads % n_kv_heads:
            raise ValueError(f"{n_heads} heads can't share {n_kv_heads} key/value heads evenly")
        self.d_head = d_model // n_heads
        self.rope_theta = rope_theta
        self.q_proj = nn.Linear(d_model, n_heads * self.d_head, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(n_heads * self.d_head, d_model, bias=bias)
        self.q_norm = qk_norm(self.d_head) if qk_norm else nn.Identity()
        self.k_norm = qk_norm(self.d_head) if qk_norm else nn.Identity()

    def forward(
        self,
        x: Float[Tensor, "batch time d_model"],
        *,
        causal: bool = True,
        padding: Bool[Tensor, "batch keys"] | None = None,
        cache=None,
    ) -> Float[Tensor, "batch time d_model"]:
        """Attend within x, and to the tokens that wait in `cache`.

        `len(cache)` is the number of tokens already in it, so the position of x's first token; `cache.append(k, v)`
        takes this call's (rotated) keys and values, each (batch, n_kv_heads, time, d_head), and returns all of them.
        `padding` is True at real tokens, over all keys: those of the cache, then those of x.
        """
        time = x.shape[1]
        q, k, v = (
            proj(x).unflatten(-1, (-1, self.d_head)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = 0 if cache is None else len(cache)
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.reshape(x.shape[0], time, -1))


@mistake("MHA-02", "split by view alone")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, self.n_heads, time, self.d_head)
        k = self.k_proj(x).view(batch, self.n_kv_heads, time, self.d_head)
        v = self.v_proj(x).view(batch, self.n_kv_heads, time, self.d_head)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-03", "a key and a value head for every query head")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-06", "the values are rotated too")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k, v = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin), apply_rotary(v, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-07", "rotated first, normalised after")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-10", "the padding goes nowhere")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-14", "an empty cache is falsy")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-15", "every piece of a cached sequence begins at position 0")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            cos, sin = rotary_angles(torch.arange(time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@mistake("MHA-16", "keys and values are shared out before they are stored")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        k, v = (y.repeat_interleave(self.n_heads // self.n_kv_heads, dim=1) for y in (k, v))
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))


@correct("one method for the three projections, heads joined by cat")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        if n_kv_heads is None:
            n_kv_heads = n_heads
        if d_model % n_heads != 0:
            raise ValueError(f"d_model={d_model} is not divisible by n_heads={n_heads}")
        if n_heads % n_kv_heads != 0:
            raise ValueError(f"n_heads={n_heads} is not divisible by n_kv_heads={n_kv_heads}")
        self.sizes = {"q": n_heads, "k": n_kv_heads, "v": n_kv_heads}
        self.width = d_model // n_heads
        for name, heads in self.sizes.items():
            self.add_module(f"{name}_proj", nn.Linear(d_model, heads * self.width, bias=bias))
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        self.theta = rope_theta
        self.q_norm = self.k_norm = None
        if qk_norm is not None:
            self.q_norm = qk_norm(self.width)
            self.k_norm = qk_norm(self.width)

    def heads_of(self, name, x, cos_sin):
        flat = getattr(self, f"{name}_proj")(x)
        batch, time, _ = flat.shape
        y = torch.permute(flat.reshape(batch, time, self.sizes[name], self.width), (0, 2, 1, 3))
        norm = getattr(self, f"{name}_norm", None)
        y = y if norm is None else norm(y)
        return y if cos_sin is None or name == "v" else apply_rotary(y, *cos_sin)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        seen = len(cache) if cache is not None else 0
        places = torch.arange(x.shape[1], device=x.device) + seen
        cos_sin = None if self.theta is None else rotary_angles(places, self.width, self.theta)
        q, k, v = [self.heads_of(name, x, cos_sin) for name in "qkv"]
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(x.shape[1], k.shape[-2], causal=causal, padding=padding, device=x.device)
        y = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(torch.cat(y.unbind(dim=1), dim=-1))


@correct("views and reshapes")
class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, n_kv_heads=None, *, bias=False, rope_theta=None, qk_norm=None):
        super().__init__()
        n_kv_heads = n_kv_heads or n_heads
        if d_model % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"{d_model} features, {n_heads} heads and {n_kv_heads} key/value heads do not fit")
        self.n_heads, self.n_kv_heads, self.d_head, self.rope_theta = n_heads, n_kv_heads, d_model // n_heads, rope_theta
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.v_proj = nn.Linear(d_model, n_kv_heads * self.d_head, bias=bias)
        self.o_proj = nn.Linear(d_model, d_model, bias=bias)
        if qk_norm is not None:
            self.q_norm, self.k_norm = qk_norm(self.d_head), qk_norm(self.d_head)

    def forward(self, x, *, causal=True, padding=None, cache=None):
        batch, time, d_model = x.shape
        q = self.q_proj(x).view(batch, time, self.n_heads, self.d_head).transpose(1, 2)
        k = self.k_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        v = self.v_proj(x).view(batch, time, self.n_kv_heads, self.d_head).transpose(1, 2)
        if hasattr(self, "q_norm"):
            q, k = self.q_norm(q), self.k_norm(k)
        if self.rope_theta is not None:
            start = len(cache) if cache is not None else 0
            cos, sin = rotary_angles(torch.arange(start, start + time, device=x.device), self.d_head, self.rope_theta)
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        if cache is not None:
            k, v = cache.append(k, v)
        mask = attention_mask(time, k.shape[2], causal=causal, padding=padding, device=x.device)
        out = scaled_dot_product_attention(q, k, v, mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, time, d_model))
