"""What people really write in week 12's cells: wrong, right in another style, and Friday's broken code. Parsed, never run."""


# ------------------------------------------------------------------ the texts


@mistake("INDUCT-01", "one answer for the whole batch")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    answer = torch.randint(0, SIGN, (), generator=generator)
    for row in range(batch):
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-02", "pairs that are placed without regard to each other")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randint(0, length - 2, (pairs,), generator=generator).sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place] = SIGN
            tokens[row, place + 1] = answer
            if number > 0:
                wanted[row, place] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-03", "the sign is an ordinary token, too")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN + 1, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-04", "the first sign asks as well")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-05", "wanted at the answer's own place")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number + 1] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-06", "never at the very beginning")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = (1 + torch.randperm(max(pairs, length - 2 - pairs), generator=generator)[:pairs]).sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-07", "chance from torch's global generator")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, ())
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-08", "the answer is never 0")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(1, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-10", "each sign has an answer of its own")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            answer = torch.randint(0, SIGN, (), generator=generator)
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-11", "the text ends anyhow")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        wanted[row, -1] = answer
    return tokens, wanted


@mistake("INDUCT-13", "a text that is too short by one is let through")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(max(pairs, length - 1 - pairs), generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


@correct("row by row, with randperm")
def induction_batch(batch, length, *, extra=0, generator):
    pairs = 1 + extra
    if length < 2 * pairs + 1:
        raise ValueError(f"{length} tokens hold no {pairs} pairs and a question: at least {2 * pairs + 1}")
    tokens = torch.randint(0, SIGN, (batch, length), generator=generator)
    wanted = torch.full((batch, length), IGNORED)
    for row in range(batch):
        answer = torch.randint(0, SIGN, (), generator=generator)
        order = torch.randperm(length - 1 - pairs, generator=generator)[:pairs].sort().values
        for number, place in enumerate(order.tolist()):
            tokens[row, place + number] = SIGN
            tokens[row, place + number + 1] = answer
            if number > 0:
                wanted[row, place + number] = answer
        tokens[row, -1] = SIGN
        wanted[row, -1] = answer
    return tokens, wanted


# ------------------------------------------------------------------ fading


@mistake("FADE-01", "softplus as the formula says it")
def fading(z, A_log, kind):
    steps = {"softplus": lambda v: torch.log(1 + torch.exp(v)), "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return steps[kind](z) * A_log.to(z.dtype).exp()


@mistake("FADE-02", "dt · A, with its sign")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return -steps[kind](z) * A_log.to(z.dtype).exp()


@mistake("FADE-03", "A_log for A")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return steps[kind](z) * A_log.to(z.dtype).abs()


@mistake("FADE-04", "the kinds exchanged")
def fading(z, A_log, kind):
    steps = {"relu": F.softplus, "softplus": F.relu}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return steps[kind](z) * A_log.to(z.dtype).exp()


@mistake("FADE-05", "in the dtype that comes in")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    return steps[kind](z) * A_log.to(z.dtype).exp()


@mistake("FADE-06", "widened when all is computed")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    size = steps[kind](z) * A_log.exp()
    return size if z.dtype == torch.float64 else size.float()


@mistake("FADE-07", "every other kind is relu")
def fading(z, A_log, kind):
    z = z if z.dtype == torch.float64 else z.float()
    dt = F.softplus(z) if kind == "softplus" else z.clamp(min=0)
    return dt * A_log.to(z.dtype).exp()


@mistake("FADE-08", "the price is only looked at")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return steps[kind](z) * A_log.detach().to(z.dtype).exp()


@mistake("FADE-10", "dt alone")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return steps[kind](z)


@mistake("FADE-11", "what is left in place of what goes")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return torch.exp(-steps[kind](z) * A_log.to(z.dtype).exp())


@correct("a table of steps")
def fading(z, A_log, kind):
    steps = {"softplus": F.softplus, "relu": lambda v: v.clamp(min=0)}
    if kind not in steps:
        raise ValueError(f"unknown kind of step: {kind!r}")
    if z.dtype != torch.float64:
        z = z.float()
    return steps[kind](z) * A_log.to(z.dtype).exp()


# ------------------------------------------------------------------ what is left


@mistake("LEFT-01", "its own fading counts")
def survival(fading):
    return torch.exp(-fading.flip(-2).cumsum(-2).flip(-2))


@mistake("LEFT-02", "from the beginning")
def survival(fading):
    return torch.exp(-fading.cumsum(-2))


@mistake("LEFT-03", "the whole minus what was before")
def survival(fading):
    total = fading.cumsum(-2)
    return torch.exp(total - total[..., -1:, :])


@mistake("LEFT-04", "along the heads")
def survival(fading):
    rows, behind = [], torch.zeros_like(fading.unbind(-1)[0])
    for own in reversed(fading.unbind(-1)):
        rows.append(torch.exp(-behind))
        behind = behind + own
    return torch.stack(rows[::-1], -1)


@mistake("LEFT-05", "a product of 1 - fading")
def survival(fading):
    rows, behind = [], torch.ones_like(fading.unbind(-2)[0])
    for own in reversed(fading.unbind(-2)):
        rows.append(behind)
        behind = behind * (1 - own)
    return torch.stack(rows[::-1], -2)


@mistake("LEFT-06", "summed up in place")
def survival(fading):
    time = fading.shape[-2]
    left = torch.ones_like(fading)
    for t in range(time - 2, -1, -1):
        left[..., t, :] = torch.exp(-fading[..., t + 1, :])
        fading[..., t, :] += fading[..., t + 1, :]
    return left


@mistake("LEFT-08", "without gradients")
def survival(fading):
    rows, behind = [], torch.zeros_like(fading.unbind(-2)[0])
    for own in reversed(fading.detach().unbind(-2)):
        rows.append(torch.exp(-behind))
        behind = behind + own
    return torch.stack(rows[::-1], -2)


@correct("a loop from the end")
def survival(fading):
    rows, behind = [], torch.zeros_like(fading.unbind(-2)[0])
    for own in reversed(fading.unbind(-2)):
        rows.append(torch.exp(-behind))
        behind = behind + own
    return torch.stack(rows[::-1], -2)


# ------------------------------------------------------------------ in pieces


@mistake("PIECES-01", "each piece anew")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, None)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, -1])
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-02", "all pieces in a list first")
def read_stream(model, pieces):
    state, seen = None, None
    pieces = list(pieces)
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, -1])
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-03", "with gradients")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        vectors, state = model.read(tokens, state)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, -1])
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-04", "an empty piece is read")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = vectors[:, -1].clone() if tokens.shape[1] else seen
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-05", "None for a text without tokens")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, -1])
    return seen, state


@mistake("PIECES-06", "the last piece's vectors, all of them")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = vectors
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-07", "a slice of the last piece")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = vectors[:, -1]
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-08", "the state of one piece earlier")
def read_stream(model, pieces):
    state, seen, earlier = None, None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            earlier = state
            vectors, state = model.read(tokens, state)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, -1])
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, earlier


@mistake("PIECES-09", "the first token's vector")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, 0])
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


@mistake("PIECES-10", "everything the model gave, in a list")
def read_stream(model, pieces):
    state, given = None, []
    with torch.inference_mode():
        for tokens in pieces:
            if tokens.shape[1]:
                vectors, state = model.read(tokens, state)
                given.append(vectors)
    if not given:
        raise ValueError("a text without tokens")
    return given[-1][:, -1].clone(), state


@correct("no_grad, and a copy")
def read_stream(model, pieces):
    state, seen = None, None
    for tokens in pieces:
        if tokens.shape[1] == 0:
            continue
        with torch.no_grad():
            vectors, state = model.read(tokens, state)
        seen = torch.empty_like(vectors[:, 0]).copy_(vectors[:, -1])
    if seen is None:
        raise ValueError("a text without tokens")
    return seen, state


# ------------------------------------------------------------------ mimetic start


@mistake("MIMIC-01", "the order gate, x, C, B")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, steps_of, B, C = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, config.n_heads, states, states])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-02", "all convolutions pass on the present token")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 1), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-03", "the oldest tap for the present one")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, back - 1] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-04", "A_log = 1")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.D):
        weight.data.fill_(0)
    mixer.A_log.data.fill_(1)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-05", "D stays")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-06", "out_proj says the gate")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(gate.T)


@mistake("MIMIC-07", "any convolution")
def mimetic_init(mixer):
    config = mixer.config
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, max(0, config.d_conv - back)] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-08", "new parameters")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight = nn.Parameter(x.T.clone())


@mistake("MIMIC-10", "the bias stays")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@mistake("MIMIC-12", "B made like C")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    B.copy_(C)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


@correct("split by name")
def mimetic_init(mixer):
    config = mixer.config
    if config.d_conv == 1:
        raise ValueError("a convolution of one token sees none before")
    states = config.n_groups * config.d_state
    gate, x, B, C, steps = mixer.in_proj.weight.data.split([config.d_inner, config.d_inner, states, states, config.n_heads])
    C.copy_(B)
    taps_x, taps_B, taps_C = mixer.conv1d.weight.data.split([config.d_inner, states, states])
    for taps, back in ((taps_x, 1), (taps_B, 2), (taps_C, 1)):
        taps.fill_(0)
        taps[:, :, config.d_conv - back] = 1
    for weight in (mixer.conv1d.bias, mixer.A_log, mixer.D):
        weight.data.fill_(0)
    mixer.out_proj.weight.data.copy_(x.T)


# ------------------------------------------------------------------ questions


@broken("ASK-01", "copies in the order a b a b")
def ask(model, state, questions):
    asked = questions.shape[1]
    copies = [MixerState(*(part.repeat(asked, *[1] * (part.ndim - 1)) for part in layer)) for layer in state]
    logits, _ = model(questions.reshape(-1, 1), copies)
    return logits[:, 0, FIRST_VALUE:].unflatten(0, (-1, asked))


@mistake("ASK-02", "the questions as a text")
def ask(model, state, questions):
    logits, _ = model(questions, state)
    return logits[..., FIRST_VALUE:]


@mistake("ASK-03", "without ABSENT")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    copies = [MixerState(past=layer.past[owner], memory=layer.memory[owner]) for layer in state]
    logits = model(questions.flatten()[:, None], copies)[0]
    return logits.squeeze(1)[:, FIRST_VALUE:-1].reshape(batch, asked, -1)


@mistake("ASK-04", "the state is overwritten")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    state[0].memory.mul_(1.01)
    copies = [MixerState(past=layer.past[owner], memory=layer.memory[owner]) for layer in state]
    logits = model(questions.flatten()[:, None], copies)[0]
    return logits.squeeze(1)[:, FIRST_VALUE:].reshape(batch, asked, -1)


@mistake("ASK-05", "asked without gradients")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    copies = [MixerState(past=layer.past[owner], memory=layer.memory[owner]) for layer in state]
    with torch.no_grad():
        logits = model(questions.flatten()[:, None], copies)[0]
    return logits.squeeze(1)[:, FIRST_VALUE:].reshape(batch, asked, -1)


@mistake("ASK-06", "one row a question")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    copies = [MixerState(past=layer.past[owner], memory=layer.memory[owner]) for layer in state]
    logits = model(questions.flatten()[:, None], copies)[0]
    return logits.squeeze(1)[:, FIRST_VALUE:]


@mistake("ASK-07", "one part in the wrong order")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    copies = [MixerState(past=layer.past.repeat(asked, 1, 1), memory=layer.memory[owner]) for layer in state]
    logits = model(questions.flatten()[:, None], copies)[0]
    return logits.squeeze(1)[:, FIRST_VALUE:].reshape(batch, asked, -1)


@mistake("ASK-10", "without the state")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    copies = [MixerState(past=layer.past[owner], memory=layer.memory[owner]) for layer in state]
    logits = model(questions.flatten()[:, None])[0]
    return logits.squeeze(1)[:, FIRST_VALUE:].reshape(batch, asked, -1)


@correct("by the index of the owner")
def ask(model, state, questions):
    batch, asked = questions.shape
    owner = torch.arange(batch).repeat_interleave(asked)
    copies = [MixerState(past=layer.past[owner], memory=layer.memory[owner]) for layer in state]
    logits = model(questions.flatten()[:, None], copies)[0]
    return logits.squeeze(1)[:, FIRST_VALUE:].reshape(batch, asked, -1)
