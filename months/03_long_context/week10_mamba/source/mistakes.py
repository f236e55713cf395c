"""What people really write in week 10's cells: wrong, right in another style, and Friday's broken code. Parsed, never run."""


# ------------------------------------------------------------------ the loop


@mistake("SSCAN-01", "B x without dt")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = inputs.x.unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-02", "Euler's decay: 1 + dt A")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (1 + step.unsqueeze(2) * inputs.A) + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-03", "reads before it writes")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-04", "always begins with zeros")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = torch.zeros_like(inputs.state)
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-05", "writes with C, reads with B")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.C.unbind(1), inputs.B.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-06", "hands back the state it was given")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), inputs.state


@mistake("SSCAN-07", "checks nothing: shapes are spread, a negative step grows")
def selective_scan(x, dt, A, B, C, state=None):
    wide = torch.promote_types(x.dtype, torch.float32)
    state = x.new_zeros(x.shape[0], *A.shape) if state is None else state
    inputs = ScanInputs(*(part.to(wide) for part in (x, dt, A, B, C, state)))
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-08", "never looks at what comes out")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    return y.to(x.dtype), memory


@mistake("SSCAN-08", "looks at the state alone")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(memory, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-10", "slices in the loop")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    rows = []
    for t in range(x.shape[1]):
        step, b, c = inputs.dt[:, t], inputs.B[:, t], inputs.C[:, t]
        u = step * inputs.x[:, t]
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-12", "y alone")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype)


@mistake("SSCAN-13", "y in float32")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.float() if x.dtype == torch.bfloat16 else y, memory


@mistake("SSCAN-13", "the state in half precision")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory.to(x.dtype)


@mistake("SSCAN-14", "the state is detached between tokens, as in truncated backpropagation")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory.detach() * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


@mistake("SSCAN-02", "A is given its minus a second time")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    h = inputs.state
    ys = []
    for x_t, dt_t, B_t, C_t in zip(inputs.x.unbind(1), inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        h = torch.exp(-dt_t[..., None] * inputs.A) * h + (dt_t * x_t)[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    y = torch.stack(ys, 1).to(x.dtype)
    require_finite(y, h, inputs)
    return y, h


@mistake("SSCAN-15", "zero-order hold for B, as in week 9")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    h = inputs.state
    ys = []
    for x_t, dt_t, B_t, C_t in zip(inputs.x.unbind(1), inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        h = torch.exp(dt_t[..., None] * inputs.A) * h + torch.expm1(dt_t[..., None] * inputs.A) / inputs.A * x_t[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    y = torch.stack(ys, 1).to(x.dtype)
    require_finite(y, h, inputs)
    return y, h


@mistake("SSCAN-13", "reads what was given, not what selective_inputs gives")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    h = inputs.state
    ys = []
    for x_t, dt_t, B_t, C_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1)):
        h = torch.exp(dt_t[..., None] * inputs.A) * h + (dt_t * x_t)[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    y = torch.stack(ys, 1).to(x.dtype)
    require_finite(y, h, inputs)
    return y, h


@mistake("SSCAN-11", "moves the state where it lies")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    h = inputs.state
    ys = []
    for x_t, dt_t, B_t, C_t in zip(inputs.x.unbind(1), inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        h *= torch.exp(dt_t[..., None] * inputs.A)
        h += (dt_t * x_t)[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    y = torch.stack(ys, 1).to(x.dtype)
    require_finite(y, h, inputs)
    return y, h


@correct("reads out by a product, and takes its only column")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    h = inputs.state
    ys = []
    for x_t, dt_t, B_t, C_t in zip(inputs.x.unbind(1), inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        h = torch.exp(dt_t[..., None] * inputs.A) * h + (dt_t * x_t)[..., None] * B_t[:, None]
        ys.append((h @ C_t[:, :, None])[..., 0])
    y = torch.stack(ys, 1).to(x.dtype)
    require_finite(y, h, inputs)
    return y, h


@correct("with einsum")
def selective_scan(x, dt, A, B, C, state=None):
    inputs = selective_inputs(x, dt, A, B, C, state)
    memory = inputs.state
    enters = (inputs.dt * inputs.x).unbind(1)
    rows = []
    for u, step, b, c in zip(enters, inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        memory = memory * (step.unsqueeze(2) * inputs.A).exp() + torch.einsum("bd,bn->bdn", u, b)
        rows.append(torch.einsum("bdn,bn->bd", memory, c))
    y = torch.stack(rows, dim=1)
    require_finite(y, memory, inputs)
    return y.to(x.dtype), memory


# ------------------------------------------------------------------ the convolution


@mistake("CAUSAL-01", "the first weight for the present token")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.flip(1).unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, padded.narrow(1, time, width - 1).clone()


@mistake("CAUSAL-02", "what is missing is filled up behind")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((x, past.to(x.dtype)), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, torch.cat((past.to(x.dtype), x), dim=1)[:, time:].clone()


@mistake("CAUSAL-03", "begins anew with every call")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((torch.zeros_like(past).to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, padded.narrow(1, time, width - 1).clone()


@mistake("CAUSAL-04", "the new past comes from x alone")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, torch.nn.functional.pad(x, (0, 0, width - 1, 0))[:, time:].clone()


@mistake("CAUSAL-05", "a view of all that was read")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, padded[:, time:]


@mistake("CAUSAL-06", "no bias")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    return y, padded.narrow(1, time, width - 1).clone()


@mistake("CAUSAL-07", "looks at no shape")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, padded.narrow(1, time, width - 1).clone()


@mistake("CAUSAL-08", "the past are the outputs")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, torch.cat((past, y), dim=1)[:, time:].clone()


@mistake("CAUSAL-12", "y alone")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y


@mistake("CAUSAL-13", "a past in float32 makes all float32")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past, x), dim=1)
    y = 0
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, padded.narrow(1, time, width - 1).clone()


@mistake("CAUSAL-04", "the last inputs of x alone")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if time < 1:
        raise ValueError(f"x has no tokens: {tuple(x.shape)}")
    if weight.shape[0] != d:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit x {tuple(x.shape)}")
    if bias is not None and bias.shape != (d,):
        raise ValueError(f"bias {tuple(bias.shape)} does not fit x {tuple(x.shape)}")
    if past is None:
        past = x.new_zeros(batch, width - 1, d)
    elif past.shape != (batch, width - 1, d):
        raise ValueError(f"past {tuple(past.shape)} does not fit x {tuple(x.shape)}, weight {tuple(weight.shape)}")
    both = torch.cat([past.to(x.dtype), x], 1)
    y = sum(weight[:, k] * both[:, k : k + time] for k in range(width))
    if bias is not None:
        y = y + bias
    return y, x[:, -(width - 1) :].clone() if width > 1 else x[:, :0]


@mistake("CAUSAL-14", "counts the past from the end, where -0 is the beginning")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if time < 1:
        raise ValueError(f"x has no tokens: {tuple(x.shape)}")
    if weight.shape[0] != d:
        raise ValueError(f"weight {tuple(weight.shape)} does not fit x {tuple(x.shape)}")
    if bias is not None and bias.shape != (d,):
        raise ValueError(f"bias {tuple(bias.shape)} does not fit x {tuple(x.shape)}")
    if past is None:
        past = x.new_zeros(batch, width - 1, d)
    elif past.shape != (batch, width - 1, d):
        raise ValueError(f"past {tuple(past.shape)} does not fit x {tuple(x.shape)}, weight {tuple(weight.shape)}")
    both = torch.cat([past.to(x.dtype), x], 1)
    y = sum(weight[:, k] * both[:, k : k + time] for k in range(width))
    if bias is not None:
        y = y + bias
    return y, both[:, -(width - 1) :].clone()


@correct("tap by tap, with narrow")
def causal_conv(x, weight, bias=None, past=None):
    batch, time, d = x.shape
    width = weight.shape[1]
    if past is None:
        past = torch.zeros(batch, width - 1, d, dtype=x.dtype, device=x.device)
    fits = weight.shape[0] == d and past.shape == (batch, width - 1, d) and (bias is None or bias.shape == (d,))
    if time == 0 or not fits:
        raise ValueError(f"x {tuple(x.shape)}, weight {tuple(weight.shape)}, past {tuple(past.shape)} do not fit")
    padded = torch.cat((past.to(x.dtype), x), dim=1)
    y = torch.zeros_like(x)
    for k, tap in enumerate(weight.unbind(1)):
        y = y + tap * padded.narrow(1, k, time)
    if bias is not None:
        y = y + bias
    return y, padded.narrow(1, time, width - 1).clone()


# ------------------------------------------------------------------ two levels


@mistake("TWO-01", "no loop over the chunks: each begins with nothing")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = gained
    start = torch.stack(starts, 1)
    start = torch.cat((start[:, :1], torch.zeros_like(start[:, 1:])), 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-02", "step 3 left away")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-03", "the age of the chunk before the token")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        ages.append(since)
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-05", "what does not fill a chunk can't be reshaped")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return part.reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-05", "y keeps the tokens that were filled in")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-06", "always begins with zeros")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = torch.zeros_like(given.state), []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-07", "believes every chunk")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    chunk = max(1, chunk)
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-08", "never looks at what comes out")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    return y.to(x.dtype), memory


@mistake("TWO-10", "the loop over chunks outside, that over tokens inside")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    memory, rows = given.state, []
    for u_t, step_t, b_t, c_t in zip((given.x * given.dt).unbind(1), given.dt.unbind(1), given.B.unbind(1), given.C.unbind(1)):
        memory = memory * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, None]
        rows.append(torch.einsum("bdn,bn->bd", memory, c_t))
    y = torch.stack(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory
    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-12", "y alone")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype)


@mistake("TWO-13", "the state in half precision")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory.to(x.dtype)


@mistake("TWO-14", "hands on the last chunk's own end")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), local[:, -1]


@mistake("TWO-15", "slices in the loop")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for t in range(chunk):
        u_t, step_t, b_t, c_t = u[:, :, t], step[:, :, t], b[:, :, t], c[:, :, t]
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-16", "no gradient from chunk to chunk")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = (lost * memory).detach() + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-18", "notes the state after it has moved on")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    inputs = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, d_inner = inputs.x.shape
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0, 0, n * chunk - time))
        return t.reshape(batch, n, chunk, t.shape[-1])

    X, D, Bc, Cc = cut(inputs.x), cut(inputs.dt), cut(inputs.B), cut(inputs.C)
    h = torch.zeros(batch, n, d_inner, A.shape[1], dtype=inputs.x.dtype, device=x.device)
    ys = []
    for x_t, d_t, B_t, C_t in zip(X.unbind(2), D.unbind(2), Bc.unbind(2), Cc.unbind(2)):
        h = torch.exp(d_t[..., None] * inputs.A) * h + (d_t * x_t)[..., None] * B_t[:, :, None]
        ys.append((h * C_t[:, :, None]).sum(-1))
    y = torch.stack(ys, 2)
    total = torch.exp(D.sum(2)[..., None] * inputs.A)
    state, begins = inputs.state, []
    for decay, end in zip(total.unbind(1), h.unbind(1)):
        state = decay * state + end
        begins.append(state)
    begin = torch.stack(begins, 1)
    run = D.cumsum(2)
    extra = [(torch.exp(s[..., None] * inputs.A) * begin * C_t[:, :, None]).sum(-1) for s, C_t in zip(run.unbind(2), Cc.unbind(2))]
    y = (y + torch.stack(extra, 2)).reshape(batch, n * chunk, d_inner)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("TWO-17", "fills up with the last token")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    inputs = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, d_inner = inputs.x.shape
    n = -(-time // chunk)

    def cut(t):
        t = torch.cat([t, t[:, -1:].expand(-1, n * chunk - time, -1)], 1)
        return t.reshape(batch, n, chunk, t.shape[-1])

    X, D, Bc, Cc = cut(inputs.x), cut(inputs.dt), cut(inputs.B), cut(inputs.C)
    h = torch.zeros(batch, n, d_inner, A.shape[1], dtype=inputs.x.dtype, device=x.device)
    ys = []
    for x_t, d_t, B_t, C_t in zip(X.unbind(2), D.unbind(2), Bc.unbind(2), Cc.unbind(2)):
        h = torch.exp(d_t[..., None] * inputs.A) * h + (d_t * x_t)[..., None] * B_t[:, :, None]
        ys.append((h * C_t[:, :, None]).sum(-1))
    y = torch.stack(ys, 2)
    total = torch.exp(D.sum(2)[..., None] * inputs.A)
    state, begins = inputs.state, []
    for decay, end in zip(total.unbind(1), h.unbind(1)):
        begins.append(state)
        state = decay * state + end
    begin = torch.stack(begins, 1)
    run = D.cumsum(2)
    extra = [(torch.exp(s[..., None] * inputs.A) * begin * C_t[:, :, None]).sum(-1) for s, C_t in zip(run.unbind(2), Cc.unbind(2))]
    y = (y + torch.stack(extra, 2)).reshape(batch, n * chunk, d_inner)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("TWO-11", "moves the state where it lies")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    inputs = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, d_inner = inputs.x.shape
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0, 0, n * chunk - time))
        return t.reshape(batch, n, chunk, t.shape[-1])

    X, D, Bc, Cc = cut(inputs.x), cut(inputs.dt), cut(inputs.B), cut(inputs.C)
    h = torch.zeros(batch, n, d_inner, A.shape[1], dtype=inputs.x.dtype, device=x.device)
    ys = []
    for x_t, d_t, B_t, C_t in zip(X.unbind(2), D.unbind(2), Bc.unbind(2), Cc.unbind(2)):
        h = torch.exp(d_t[..., None] * inputs.A) * h + (d_t * x_t)[..., None] * B_t[:, :, None]
        ys.append((h * C_t[:, :, None]).sum(-1))
    y = torch.stack(ys, 2)
    total = torch.exp(D.sum(2)[..., None] * inputs.A)
    state, begins = inputs.state, []
    for decay, end in zip(total.unbind(1), h.unbind(1)):
        begins.append(state.clone())
        state *= decay
        state += end
    begin = torch.stack(begins, 1)
    run = D.cumsum(2)
    extra = [(torch.exp(s[..., None] * inputs.A) * begin * C_t[:, :, None]).sum(-1) for s, C_t in zip(run.unbind(2), Cc.unbind(2))]
    y = (y + torch.stack(extra, 2)).reshape(batch, n * chunk, d_inner)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("TWO-10", "the chunk is ignored: one loop over all tokens")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    inputs = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    h = inputs.state
    ys = []
    for x_t, dt_t, B_t, C_t in zip(inputs.x.unbind(1), inputs.dt.unbind(1), inputs.B.unbind(1), inputs.C.unbind(1)):
        h = torch.exp(dt_t[..., None] * inputs.A) * h + (dt_t * x_t)[..., None] * B_t[:, None]
        ys.append((h * C_t[:, None]).sum(-1))
    y = torch.stack(ys, 1).to(x.dtype)
    require_finite(y, h, inputs)
    return y, h


@correct("reads out by a product, and takes its only column")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    inputs = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, d_inner = inputs.x.shape
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0, 0, n * chunk - time))
        return t.reshape(batch, n, chunk, t.shape[-1])

    X, D, Bc, Cc = cut(inputs.x), cut(inputs.dt), cut(inputs.B), cut(inputs.C)
    h = torch.zeros(batch, n, d_inner, A.shape[1], dtype=inputs.x.dtype, device=x.device)
    ys = []
    for x_t, d_t, B_t, C_t in zip(X.unbind(2), D.unbind(2), Bc.unbind(2), Cc.unbind(2)):
        h = torch.exp(d_t[..., None] * inputs.A) * h + (d_t * x_t)[..., None] * B_t[:, :, None]
        ys.append((h @ C_t[..., None])[..., 0])
    y = torch.stack(ys, 2)
    total = torch.exp(D.sum(2)[..., None] * inputs.A)
    state, begins = inputs.state, []
    for decay, end in zip(total.unbind(1), h.unbind(1)):
        begins.append(state)
        state = decay * state + end
    begin = torch.stack(begins, 1)
    run = D.cumsum(2)
    extra = [(torch.exp(s[..., None] * inputs.A) * begin * C_t[:, :, None]).sum(-1) for s, C_t in zip(run.unbind(2), Cc.unbind(2))]
    y = (y + torch.stack(extra, 2)).reshape(batch, n * chunk, d_inner)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@correct("with the age of the chunk carried along, and einsum")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    batch, time, channels = x.shape
    missing = -time % chunk

    def cut(part):
        empty = part.new_zeros(batch, missing, part.shape[2])
        return torch.cat((part, empty), 1).reshape(batch, -1, chunk, part.shape[2])

    u, step, b, c = cut(given.x * given.dt), cut(given.dt), cut(given.B), cut(given.C)
    local = torch.zeros(batch, u.shape[1], channels, A.shape[1], dtype=u.dtype, device=u.device)
    outputs, since = [], torch.zeros_like(step[:, :, 0])
    ages = []
    for u_t, step_t, b_t, c_t in zip(u.unbind(2), step.unbind(2), b.unbind(2), c.unbind(2)):
        local = local * torch.exp(step_t[..., None] * given.A) + u_t[..., None] * b_t[:, :, None]
        since = since + step_t
        outputs.append(torch.einsum("bkdn,bkn->bkd", local, c_t))
        ages.append(since)
    memory, starts = given.state, []
    for lost, gained in zip(torch.exp(since[..., None] * given.A).unbind(1), local.unbind(1)):
        starts.append(memory)
        memory = lost * memory + gained
    start = torch.stack(starts, 1)
    for t, (age, c_t) in enumerate(zip(ages, c.unbind(2))):
        outputs[t] = outputs[t] + torch.einsum("bkdn,bkdn,bkn->bkd", torch.exp(age[..., None] * given.A), start, c_t)
    y = torch.stack(outputs, 2).reshape(batch, -1, channels)[:, :time]
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("TWO-04", "in closed form: divided by the running product of decays")
def chunked_scan(x, dt, A, B, C, state=None, chunk=32):
    given = selective_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    memory, rows = given.state, []
    for x_c, dt_c, B_c, C_c in zip(*(part.split(chunk, 1) for part in given[:2] + given[3:5])):
        log_decay = (dt_c[..., None] * given.A).cumsum(1)
        enters = (dt_c * x_c)[..., None] * B_c[:, :, None]
        states = torch.exp(log_decay) * (memory[:, None] + (enters / torch.exp(log_decay)).cumsum(1))
        rows.append(torch.einsum("btdn,btn->btd", states, C_c))
        memory = states.unbind(1)[-1]
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


# ------------------------------------------------------------------ segment sums


@mistake("SEGS-01", "begins with step j itself")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    sums = total[..., :, None] - (total - steps.clamp(min=FORGOTTEN))[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-02", "zeros above the diagonal")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, 0.0)


@mistake("SEGS-02", "the diagonal is masked, too, and one above it is not")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(2)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-03", "rows and columns exchanged")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf).mT


@mistake("SEGS-04", "a plain running sum")
def segment_sum(steps):
    total = steps.cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-04", "clamped where a step still leaves something")
def segment_sum(steps):
    total = steps.clamp(min=-20.0).cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-06", "0 times infinity")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums + mask * -torch.inf


@mistake("SEGS-07", "for one row only")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).flatten().cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-09", "the running sum of the first axis")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(0)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-10", "clamps what it was given")
def segment_sum(steps):
    total = steps.clamp_(min=-1e-3).cumsum(-1)
    sums = total[..., :, None] - total[..., None, :]
    mask = torch.ones(sums.shape[-2:], dtype=torch.bool).triu(1)
    return sums.masked_fill(mask, -torch.inf)


@mistake("SEGS-03", "column minus row")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    S = total[..., None, :] - total[..., :, None]
    time = steps.shape[-1]
    above = torch.ones(time, time, dtype=torch.bool, device=steps.device).triu(1)
    return S.masked_fill(above, -torch.inf)


@mistake("SEGS-08", "a token does not see itself")
def segment_sum(steps):
    total = steps.clamp(min=FORGOTTEN).cumsum(-1)
    S = total[..., :, None] - total[..., None, :]
    time = steps.shape[-1]
    above = torch.ones(time, time, dtype=torch.bool, device=steps.device).triu(0)
    return S.masked_fill(above, -torch.inf)


@mistake("SEGS-10", "clamps a step that is far from the border, in place")
def segment_sum(steps):
    total = steps.clamp_(min=FORGOTTEN).cumsum(-1)
    S = total[..., :, None] - total[..., None, :]
    time = steps.shape[-1]
    above = torch.ones(time, time, dtype=torch.bool, device=steps.device).triu(1)
    return S.masked_fill(above, -torch.inf)


@correct("the masked sum of the paper's code")
def segment_sum(steps):
    time = steps.shape[-1]
    place = torch.arange(time, device=steps.device)
    behind = place[:, None] > place[None, :]
    spread = steps.clamp(min=-88.0)[..., :, None].expand(*steps.shape, time)
    sums = torch.where(behind, spread, torch.zeros_like(spread)).cumsum(-2)
    return torch.where(place[:, None] >= place[None, :], sums, torch.full_like(sums, -torch.inf))


# ------------------------------------------------------------------ SSD


@mistake("SSD-01", "the groups dealt out like cards")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat(1, 1, heads_per_group, 1) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-14", "a chunk knows the one before it, and no other")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-02", "what stood there before is not read")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        rows.append(inside)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-03", "x in place of dt x")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-04", "the mask as a quotient of running products")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        p = torch.exp((given.dt * given.A).clamp(min=-1e6).split(chunk, 1)[len(rows)].cumsum(1)).transpose(1, 2)
        mask = torch.tril(p[..., :, None] / p[..., None, :])
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-05", "all chunks must be full")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    value.unflatten(1, (-1, chunk))
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-06", "always begins with zeros")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = torch.zeros_like(given.state), []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-07", "believes every chunk")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    chunk = max(chunk, 1)
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-08", "looks at the state alone")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(memory, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-21", "reads the state without the token's own decay")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums - a))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-10", "token by token")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(1, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-12", "y alone")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype)


@mistake("SSD-13", "the state in half precision")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory.to(x.dtype)


@mistake("SSD-09", "what a chunk leaves does not decay")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.ones_like(sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-15", "attention of B on C")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    query, key = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-16", "masked behind exp: right forward, NaN backward")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        s = sums.transpose(1, 2)
        mask = torch.exp(s[..., :, None] - s[..., None, :]).tril()
        mask = torch.where(torch.ones_like(mask, dtype=torch.bool).tril(), mask, torch.zeros_like(mask))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-17", "a running sum that a reset leaves without digits")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = given.dt * given.A
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


@mistake("SSD-15", "B reads and C writes in step 1 alone")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Bc, Cc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-18", "chunks by their numbers")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    decays = torch.exp(run[:, :, -1])
    for i in range(n):
        begins.append(state)
        state = decays[:, i, :, None, None] * state + left[:, i]
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-19", "masked attention, rows for columns")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhji,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-19", "the mask alone, rows for columns")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L.mT * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-20", "the token's own step counts in what it leaves")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run + steps)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-22", "notes the state after it has moved on")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        state = decay[..., None, None] * state + new
        begins.append(state)
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-23", "the chunk is ignored: all pairs of tokens at once")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    chunk, n = time, 1

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-13", "multiplies what was given, and widens afterwards")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut((dt[..., None] * x).to(inputs.x.dtype))
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@mistake("SSD-11", "moves the state where it lies")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnigs,bnjgs->bngij", Cc, Bc).repeat_interleave(per, 2)
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state.clone())
        state *= decay[..., None, None]
        state += new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@correct("with an axis of heads for the scores, and einsum all along")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    inputs = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk} is below 1")
    batch, time, heads, d_head = x.shape
    groups = B.shape[2]
    n = -(-time // chunk)

    def cut(t):
        t = F.pad(t, (0, 0) * (t.dim() - 2) + (0, n * chunk - time))
        return t.reshape(batch, n, chunk, *t.shape[2:])

    steps = cut(inputs.dt * inputs.A).clamp(min=FORGOTTEN)
    dx = cut(inputs.dt[..., None] * inputs.x)
    Bc, Cc = cut(inputs.B), cut(inputs.C)
    per = heads // groups
    L = torch.exp(segment_sum(steps.transpose(2, 3)))
    scores = torch.einsum("bnihs,bnjhs->bnhij", Cc.repeat_interleave(per, 3), Bc.repeat_interleave(per, 3))
    y = torch.einsum("bnhij,bnjhp->bnihp", L * scores, dx)
    Bh, Ch = Bc.repeat_interleave(per, 3), Cc.repeat_interleave(per, 3)
    run = steps.cumsum(2)
    behind = torch.exp(run[:, :, -1:] - run)
    left = torch.einsum("bnch,bnchp,bnchs->bnhps", behind, dx, Bh)
    state, begins = inputs.state, []
    for decay, new in zip(torch.exp(run[:, :, -1]).unbind(1), left.unbind(1)):
        begins.append(state)
        state = decay[..., None, None] * state + new
    begin = torch.stack(begins, 1)
    y = y + torch.einsum("bnch,bnhps,bnchs->bnchp", torch.exp(run), begin, Ch)
    y = y.reshape(batch, n * chunk, heads, d_head)[:, :time].to(x.dtype)
    require_finite(y, state, inputs)
    return y, state


@correct("one chunk after the other, with einsum")
def ssd(x, dt, A, B, C, state=None, chunk=64):
    given = ssd_inputs(x, dt, A, B, C, state)
    if chunk < 1:
        raise ValueError(f"chunk={chunk}")
    heads_per_group = x.shape[2] // B.shape[2]
    log_decay = (given.dt * given.A).clamp(min=FORGOTTEN)
    value = given.dt[..., None] * given.x
    key, query = (part.repeat_interleave(heads_per_group, 2) for part in (given.B, given.C))
    memory, rows = given.state, []
    for v, a, k, q in zip(*(part.split(chunk, 1) for part in (value, log_decay, key, query))):
        sums = a.cumsum(1)
        mask = torch.exp(segment_sum(a.transpose(1, 2)))
        inside = torch.einsum("blhn,bshn,bhls,bshp->blhp", q, k, mask, v)
        before = torch.einsum("blhn,bhpn,blh->blhp", q, memory, torch.exp(sums))
        rows.append(inside + before)
        whole = a.sum(1)
        kept = torch.exp(whole[:, None] - sums)
        memory = torch.exp(whole)[..., None, None] * memory + torch.einsum("blhp,blh,blhn->bhpn", v, kept, k)
    y = torch.cat(rows, 1)
    require_finite(y, memory, given)
    return y.to(x.dtype), memory


# ------------------------------------------------------------------ the mixer


@broken("MIXER-01", "the past is taken from x when x has been through the convolution")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        width, d_state = self.config.d_conv, self.config.d_state
        x, gate = self.in_proj(u).chunk(2, dim=-1)
        past = x.new_zeros(len(x), width - 1, x.shape[-1]) if state is None else state.past
        memory = None if state is None else state.memory
        x, _ = causal_conv(x, self.conv1d.weight[:, 0], self.conv1d.bias, past)
        x = F.silu(x)
        low, B, C = self.x_proj(x).split([self.config.dt_rank, d_state, d_state], dim=-1)
        # in float32 at least: a bfloat16 step loses the text
        wide = torch.promote_types(low.dtype, torch.float32)
        weight, bias = self.dt_proj.weight.to(wide), self.dt_proj.bias.to(wide)
        dt = step_size(F.linear(low.to(wide), weight, bias), self.config.step)
        y, memory = run_selective_scan(x, dt, -torch.exp(self.A_log.to(wide)), B, C, memory)
        y = y + self.D * x
        # the last inputs of the convolution, for the next piece
        past = torch.cat([past, x], dim=1)[:, x.shape[1] :]
        return self.out_proj(y * F.silu(gate)), MixerState(past, memory)


# ------------------------------------------------------------------ the mixer's other mistakes


@mistake("MIXER-02", "the gate is the first half")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        gate, raw = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-03", "the convolution begins anew with every piece")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-04", "no D")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj(y * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-05", "D times what came in")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + raw * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-06", "no SiLU behind the convolution")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = mixed
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-08", "the scan begins anew with every piece")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :])
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-09", "A is exp(A_log), and its sign is made up for in the step")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).abs()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-11", "dt in the model's dtype")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = self.dt_proj(chosen[..., :rank])
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step).to(u.dtype), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-12", "the result alone")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out


@mistake("MIXER-11", "projected in the model's dtype, widened afterwards")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = self.dt_proj(chosen[..., :rank]).to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-11", "the step in the model's dtype, widened afterwards")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step).to(u.dtype).to(wide), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@mistake("MIXER-01", "the last inputs of this piece alone")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, _ = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        past = raw[:, -(self.config.d_conv - 1) :]
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)


@correct("by slices, with names for each stage")
class MambaMixer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        d_inner, d_state, rank = config.d_inner, config.d_state, config.dt_rank
        self.in_proj = nn.Linear(config.d_model, 2 * d_inner, bias=False)
        self.conv1d = nn.Conv1d(d_inner, d_inner, config.d_conv, groups=d_inner)
        self.x_proj = nn.Linear(d_inner, rank + 2 * d_state, bias=False)
        self.dt_proj = nn.Linear(rank, d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(rank**-0.5), rank**-0.5)
        self.dt_proj.bias = nn.Parameter(step_bias(d_inner, config.step))
        self.A_log = nn.Parameter(torch.arange(1.0, d_state + 1).log().repeat(d_inner, 1))
        self.D = nn.Parameter(torch.ones(d_inner))
        self.out_proj = nn.Linear(d_inner, config.d_model, bias=False)

    def forward(self, u, state=None):
        before = state if state is not None else MixerState(None, None)
        inner = self.config.d_inner
        both = self.in_proj(u)
        raw, gate = both[..., :inner], both[..., inner:]
        mixed, past = causal_conv(raw, self.conv1d.weight.squeeze(1), self.conv1d.bias, before.past)
        seen = F.silu(mixed)
        chosen = self.x_proj(seen)
        rank, n = self.config.dt_rank, self.config.d_state
        wide = torch.float64 if u.dtype == torch.float64 else torch.float32
        z = chosen[..., :rank].to(wide) @ self.dt_proj.weight.to(wide).T + self.dt_proj.bias.to(wide)
        A = -self.A_log.to(wide).exp()
        y, memory = run_selective_scan(seen, step_size(z, self.config.step), A, chosen[..., rank : rank + n], chosen[..., rank + n :], before.memory)
        out = self.out_proj((y + seen * self.D) * F.silu(gate))
        return out, MixerState(past=past, memory=memory)
