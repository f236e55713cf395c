"""Wrong answers that people really write, right ones in another style, and Friday's broken LayerNorm. Parsed, never run."""

# ── RMSNorm ───────────────────────────────────────────────────────────────────────────────────────────────────────


@mistake("RMS-02", "one root mean square for the whole tensor")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        rms = torch.sqrt(wide.square().mean() + self.eps)
        return (wide / rms * self.weight).to(x.dtype)


@mistake("RMS-03", "LayerNorm without a bias: the mean is subtracted")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(-1, keepdim=True)
        return (centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mistake("RMS-04", "eps outside the root")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        rms = wide.square().mean(-1, keepdim=True).sqrt()
        return (wide / (rms + self.eps) * self.weight).to(x.dtype)


@mistake("RMS-05", "divided by the length of the vector: √d too small")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mistake("RMS-01", "the gain is a plain tensor, so nothing learns it")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = torch.ones(d)

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps) * self.weight).to(x.dtype)


@mistake("RMS-06", "squares in float16, which overflow at 256")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


@mistake("RMS-08", "the statistics are cut out of the graph")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        with torch.no_grad():
            scale = torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return (wide * scale * self.weight).to(x.dtype)


@correct("with the vector's norm, as the paper writes it")
class RMSNorm(nn.Module):
    def __init__(self, d: int, eps: float = 1e-5):
        super().__init__()
        self.weight, self.eps, self.d = nn.Parameter(torch.ones(d)), eps, d

    def forward(self, x):
        half = torch.finfo(x.dtype).bits < 32
        t = x.to(torch.float32) if half else x
        length = torch.linalg.vector_norm(t, dim=-1, keepdim=True)
        return torch.mul(t / torch.sqrt(length**2 / self.d + self.eps), self.weight).type_as(x)


@correct("with einsum for the sum of squares")
class RMSNorm(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.full((d,), 1.0))

    def forward(self, x):
        dtype = torch.promote_types(x.dtype, torch.float32)
        y = x.to(dtype)
        power = torch.einsum("...d,...d->...", y, y) / y.shape[-1]
        y = y / (power + self.eps).sqrt().unsqueeze(-1)
        return (self.weight.to(dtype) * y).to(x.dtype)


# ── LayerNorm ─────────────────────────────────────────────────────────────────────────────────────────────────────


@broken("LN-02", "one mean and one variance for a whole sequence")
class LayerNorm(nn.Module):
    def __init__(self, d: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x: Float[Tensor, "... d"]) -> Float[Tensor, "... d"]:
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        axes = tuple(range(1, x.ndim)) if x.ndim > 1 else (-1,)  # the batch keeps its own statistics
        centred = wide - wide.mean(axes, keepdim=True)
        variance = centred.square().mean(axes, keepdim=True)
        unit = centred * torch.rsqrt(variance + self.eps)
        scaled = unit * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


@mistake("LN-02", "batch norm: statistics over the tokens, one for each feature")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(0, keepdim=True)
        unit = centred * torch.rsqrt(centred.square().mean(0, keepdim=True) + self.eps)
        scaled = unit * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


@mistake("LN-03", "torch.var divides by d - 1")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        unit = (wide - wide.mean(-1, keepdim=True)) / torch.sqrt(wide.var(-1, keepdim=True) + self.eps)
        scaled = unit * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


@mistake("LN-04", "eps outside the root")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(-1, keepdim=True)
        unit = centred / (centred.square().mean(-1, keepdim=True).sqrt() + self.eps)
        scaled = unit * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


@mistake("LN-01", "a bias even when none is asked for")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d))

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(-1, keepdim=True)
        unit = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        return (unit * self.weight + self.bias).to(x.dtype)


@mistake("LN-07", "shift before gain")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(-1, keepdim=True)
        unit = centred * torch.rsqrt(centred.square().mean(-1, keepdim=True) + self.eps)
        shifted = unit if self.bias is None else unit + self.bias
        return (shifted * self.weight).to(x.dtype)


@mistake("LN-08", "detached statistics")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.bias = nn.Parameter(torch.zeros(d)) if bias else None

    def forward(self, x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        mean = wide.detach().mean(-1, keepdim=True)
        variance = wide.detach().var(-1, unbiased=False, keepdim=True)
        scaled = (wide - mean) * torch.rsqrt(variance + self.eps) * self.weight
        return (scaled if self.bias is None else scaled + self.bias).to(x.dtype)


@correct("with var_mean")
class LayerNorm(nn.Module):
    def __init__(self, d, eps=1e-5, bias=True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d))
        self.register_parameter("bias", nn.Parameter(torch.zeros(d)) if bias else None)

    def forward(self, x):
        t = x.to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(t, dim=-1, correction=0, keepdim=True)
        t = (t - mean) / (variance + self.eps).sqrt()
        t = t * self.weight
        if self.bias is not None:
            t = t + self.bias
        return t.type_as(x)


# ── SwiGLU ────────────────────────────────────────────────────────────────────────────────────────────────────────


@mistake("SWI-02", "gate and up changed places")
class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x):
        return self.down_proj(self.gate_proj(x) * F.silu(self.up_proj(x)))


@mistake("SWI-03", "a plain sigmoid as the gate: GLU")
class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x):
        return self.down_proj(torch.sigmoid(self.gate_proj(x)) * self.up_proj(x))


@mistake("SWI-04", "branches added")
class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) + self.up_proj(x))


@mistake("SWI-05", "SiLU of the product")
class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.up_proj = nn.Linear(d_model, d_ff, bias=bias)
        self.down_proj = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x) * self.up_proj(x)))


@mistake("SWI-01", "a bias that nobody asked for: nn.Linear's default")
class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        self.gate_proj = nn.Linear(d_model, d_ff)
        self.up_proj = nn.Linear(d_model, d_ff)
        self.down_proj = nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


@correct("SiLU written out, layers built in a loop")
class SwiGLU(nn.Module):
    def __init__(self, d_model, d_ff, bias=False):
        super().__init__()
        for name in ("gate", "up"):
            self.add_module(f"{name}_proj", nn.Linear(d_model, d_ff, bias))
        self.down_proj = nn.Linear(d_ff, d_model, bias)

    def forward(self, x):
        z = self.gate_proj(x)
        hidden = self.up_proj(x) * z * z.sigmoid()
        return hidden @ self.down_proj.weight.T + (0 if self.down_proj.bias is None else self.down_proj.bias)


# ── Block ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@mistake("BLOCK-01", "no residual connection around attention")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        if self.config.norm_placement == "pre":
            h = self.dropout(self.self_attn(self.input_layernorm(x), padding=padding, cache=cache))
            return h + self.dropout(self.mlp(self.post_attention_layernorm(h)))
        h = self.input_layernorm(self.dropout(self.self_attn(x, padding=padding, cache=cache)))
        return self.post_attention_layernorm(h + self.dropout(self.mlp(h)))


@mistake("BLOCK-02", "the residual stream carries the normalised x")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        if self.config.norm_placement == "pre":
            x = self.input_layernorm(x)
            x = x + self.dropout(self.self_attn(x, padding=padding, cache=cache))
            x = self.post_attention_layernorm(x)
            return x + self.dropout(self.mlp(x))
        x = self.input_layernorm(x + self.dropout(self.self_attn(x, padding=padding, cache=cache)))
        return self.post_attention_layernorm(x + self.dropout(self.mlp(x)))


@mistake("BLOCK-03", "always pre-norm")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), padding=padding, cache=cache))
        return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))


@mistake("BLOCK-04", "the first norm used twice")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        norm = self.input_layernorm
        if self.config.norm_placement == "pre":
            x = x + self.dropout(self.self_attn(norm(x), padding=padding, cache=cache))
            return x + self.dropout(self.mlp(norm(x)))
        x = norm(x + self.dropout(self.self_attn(x, padding=padding, cache=cache)))
        return norm(x + self.dropout(self.mlp(x)))


@mistake("BLOCK-05", "attention and MLP side by side: both read x")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        if self.config.norm_placement == "pre":
            attended = self.dropout(self.self_attn(self.input_layernorm(x), padding=padding, cache=cache))
            return x + attended + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        h = self.input_layernorm(x + self.dropout(self.self_attn(x, padding=padding, cache=cache)))
        return self.post_attention_layernorm(h + self.dropout(self.mlp(x)))


@mistake("BLOCK-06", "dropout on the stream itself")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        if self.config.norm_placement == "pre":
            x = self.dropout(x + self.self_attn(self.input_layernorm(x), padding=padding, cache=cache))
            return self.dropout(x + self.mlp(self.post_attention_layernorm(x)))
        x = self.input_layernorm(self.dropout(x + self.self_attn(x, padding=padding, cache=cache)))
        return self.post_attention_layernorm(self.dropout(x + self.mlp(x)))


@mistake("BLOCK-07", "the stream is added to in place")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        if self.config.norm_placement == "pre":
            x += self.dropout(self.self_attn(self.input_layernorm(x), padding=padding, cache=cache))
            x += self.dropout(self.mlp(self.post_attention_layernorm(x)))
            return x
        x += self.dropout(self.self_attn(x, padding=padding, cache=cache))
        x = self.input_layernorm(x)
        return self.post_attention_layernorm(x + self.dropout(self.mlp(x)))


@mistake("BLOCK-08", "padding and cache are dropped on the way")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        if self.config.norm_placement == "pre":
            x = x + self.dropout(self.self_attn(self.input_layernorm(x)))
            return x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        x = self.input_layernorm(x + self.dropout(self.self_attn(x)))
        return self.post_attention_layernorm(x + self.dropout(self.mlp(x)))


@correct("one loop over the two halves")
class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.input_layernorm = build_norm(config)
        self.self_attn = build_attention(config)
        self.post_attention_layernorm = build_norm(config)
        self.mlp = build_mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x, *, padding=None, cache=None):
        def attend(t):
            return self.self_attn(t, padding=padding, cache=cache)

        for norm, branch in ((self.input_layernorm, attend), (self.post_attention_layernorm, self.mlp)):
            if self.config.norm_placement == "post":
                x = norm(torch.add(x, self.dropout(branch(x))))
            else:
                x = torch.add(x, self.dropout(branch(norm(x))))
        return x


# ── init_weights ──────────────────────────────────────────────────────────────────────────────────────────────────


@mistake("INIT-02", "the residual projections are not scaled")
def init_weights(model, config):
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            nn.init.normal_(parameter, std=0.02)


@mistake("INIT-02", "√n_layers: one write into the stream for a layer that makes two")
def init_weights(model, config):
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(config.n_layers) if writes else 0.02)


@mistake("INIT-03", "biases forgotten")
def init_weights(model, config):
    for name, parameter in model.named_parameters():
        if parameter.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02)


@mistake("INIT-04", "gains drawn like any weight")
def init_weights(model, config):
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        else:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02)


@mistake("INIT-05", "only linear layers: the embeddings keep what they had")
def init_weights(model, config):
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            writes = name.endswith(("o_proj", "down_proj"))
            nn.init.normal_(module.weight, std=0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


@mistake("INIT-06", "new parameters in place of the old: tied weights come apart")
def init_weights(model, config):
    for name, module in model.named_modules():
        for key, parameter in list(module.named_parameters(recurse=False)):
            if key == "bias":
                nn.init.zeros_(parameter)
            elif parameter.ndim == 2:
                writes = name.endswith(("o_proj", "down_proj"))
                std = 0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02
                setattr(module, key, nn.Parameter(torch.randn_like(parameter) * std))


@mistake("INIT-07", "a uniform distribution of the right size")
def init_weights(model, config):
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(parameter)
        elif parameter.ndim == 2:
            writes = name.endswith(("o_proj.weight", "down_proj.weight"))
            bound = math.sqrt(3) * (0.02 / math.sqrt(2 * config.n_layers) if writes else 0.02)
            nn.init.uniform_(parameter, -bound, bound)


@correct("all matrices first, then the writers made smaller")
def init_weights(model, config):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            *_, owner, kind = ["", *name.split(".")]
            if kind == "bias":
                parameter.zero_()
            elif parameter.dim() > 1:
                parameter.copy_(0.02 * torch.randn(parameter.shape))
                if owner in {"o_proj", "down_proj"}:
                    parameter.mul_((2 * config.n_layers) ** -0.5)


# ── MiniTransformer ───────────────────────────────────────────────────────────────────────────────────────────────


@mistake("MODEL-02", "[Block(config)] * n_layers: one block, many times")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config)] * config.n_layers)
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), len(caches[0]) if caches else 0))
        for i, layer in enumerate(self.layers):
            x = layer(x, padding=padding, cache=caches[i] if caches else None)
        return self.lm_head(self.norm(x))


@mistake("MODEL-03", "the embedding's values are copied into the head, not shared")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        init_weights(self, config)
        if config.tie_embeddings:
            self.lm_head.weight.data.copy_(self.embed_tokens.weight)

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), len(caches[0]) if caches else 0))
        for i, layer in enumerate(self.layers):
            x = layer(x, padding=padding, cache=caches[i] if caches else None)
        return self.lm_head(self.norm(x))


@mistake("MODEL-04", "the final norm is built, but not used")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), len(caches[0]) if caches else 0))
        for i, layer in enumerate(self.layers):
            x = layer(x, padding=padding, cache=caches[i] if caches else None)
        return self.lm_head(x)


@mistake("MODEL-05", "init_weights is never called: embeddings of size 1")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), len(caches[0]) if caches else 0))
        for i, layer in enumerate(self.layers):
            x = layer(x, padding=padding, cache=caches[i] if caches else None)
        return self.lm_head(self.norm(x))


@mistake("MODEL-06", "softmax at the end: cross-entropy would take it twice")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), len(caches[0]) if caches else 0))
        for i, layer in enumerate(self.layers):
            x = layer(x, padding=padding, cache=caches[i] if caches else None)
        return self.lm_head(self.norm(x)).softmax(-1)


@mistake("MODEL-07", "positions begin at 0 again after a cache")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens)))
        for i, layer in enumerate(self.layers):
            x = layer(x, padding=padding, cache=caches[i] if caches else None)
        return self.lm_head(self.norm(x))


@mistake("MODEL-08", "padding stops at the model")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(f"{len(caches)} caches for {len(self.layers)} layers")
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), len(caches[0]) if caches else 0))
        for i, layer in enumerate(self.layers):
            x = layer(x, cache=caches[i] if caches else None)
        return self.lm_head(self.norm(x))


@mistake("MODEL-10", "too few caches are accepted: zip ends with the shorter one")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.d_model)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList([Block(config) for _ in range(config.n_layers)])
        self.norm = build_norm(config) if config.norm_placement == "pre" else nn.Identity()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.lm_head.weight = self.embed_tokens.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        start = len(caches[0]) if caches else 0
        caches = caches or [None] * len(self.layers)
        x = self.dropout(self.embed_positions(self.embed_tokens(tokens), start))
        for layer, cache in zip(self.layers, caches):
            x = layer(x, padding=padding, cache=cache)
        return self.lm_head(self.norm(x))


@correct("head computed with the embedding, blocks built by append")
class MiniTransformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        d, n = config.d_model, config.n_layers
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, d)
        self.embed_positions = PositionTable(config)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList()
        while len(self.layers) < n:
            self.layers.append(Block(config))
        self.norm = nn.Identity() if config.norm_placement == "post" else build_norm(config)
        self.lm_head = nn.Linear(d, config.vocab_size, bias=False)
        if config.tie_embeddings:
            self.embed_tokens.weight = self.lm_head.weight
        init_weights(self, config)

    def forward(self, tokens, *, padding=None, caches=None):
        n = self.config.n_layers
        if caches is not None and len(caches) != n:
            raise ValueError(f"{n} layers need {n} caches, got {len(caches)}")
        start = len(caches[0]) if caches is not None else 0
        h = self.embed_positions(self.embed_tokens(tokens), start)
        h = self.dropout(h)
        for i in range(n):
            h = self.layers[i](h, padding=padding, cache=None if caches is None else caches[i])
        return self.norm(h) @ self.lm_head.weight.T
