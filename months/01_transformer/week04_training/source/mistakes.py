"""Answers to week 4's exercises as learners write them: wrong ones with their codes, right ones in another style."""

# ---------------------------------------------------------------------------------------------- random_batch


@mistake("BATCH-04", "targets are the inputs")
def random_batch(tokens, batch_size, time, generator):
    starts = torch.randint(len(tokens) - time, (batch_size, 1), generator=generator)
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    places = starts + torch.arange(time)
    return tokens[places].long(), tokens[places].long()


@mistake("BATCH-04", "targets shifted to the left")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    starts = torch.randint(len(tokens) - time, (batch_size, 1), generator=generator)
    places = starts + torch.arange(time)
    return tokens[places + 1].long(), tokens[places].long()


@mistake("BATCH-06", "starts up to the last token")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    starts = torch.randint(len(tokens), (batch_size,), generator=generator)
    inputs = torch.stack([tokens[s : s + time] for s in starts]).long()
    targets = torch.stack([tokens[s + 1 : s + time + 1] for s in starts]).long()
    return inputs, targets


@mistake("BATCH-06", "one start too few")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    starts = torch.randint(max(1, len(tokens) - time - 1), (batch_size,), generator=generator)
    inputs = torch.stack([tokens[s : s + time] for s in starts]).long()
    targets = torch.stack([tokens[s + 1 : s + time + 1] for s in starts]).long()
    return inputs, targets


@mistake("BATCH-05", "the generator is forgotten")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    places = torch.randint(len(tokens) - time, (batch_size, 1)) + torch.arange(time)
    return tokens[places].long(), tokens[places + 1].long()


@mistake("BATCH-08", "one start for the whole batch")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    s = torch.randint(len(tokens) - time, (), generator=generator)
    return tokens[s : s + time].long().repeat(batch_size, 1), tokens[s + 1 : s + time + 1].long().repeat(batch_size, 1)


@mistake("BATCH-03", "places drawn one by one")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    places = torch.randint(len(tokens) - 1, (batch_size, time), generator=generator)
    return tokens[places].long(), tokens[places + 1].long()


@mistake("BATCH-07", "starts that do not fit are cut down to the last that does")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    starts = torch.randint(len(tokens), (batch_size, 1), generator=generator).clamp(max=len(tokens) - time - 1)
    places = starts + torch.arange(time)
    return tokens[places].long(), tokens[places + 1].long()


@mistake("BATCH-02", "the type of the stored text")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    places = torch.randint(len(tokens) - time, (batch_size, 1), generator=generator) + torch.arange(time)
    return tokens[places], tokens[places + 1]


@mistake("BATCH-01", "time first")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"only {len(tokens)} tokens for time {time}")
    places = torch.randint(len(tokens) - time, (batch_size,), generator=generator) + torch.arange(time)[:, None]
    return tokens[places].long(), tokens[places + 1].long()


@mistake("BATCH-09", "a text that is too short is left to PyTorch")
def random_batch(tokens, batch_size, time, generator):
    places = torch.randint(len(tokens) - time, (batch_size, 1), generator=generator) + torch.arange(time)
    return tokens[places].long(), tokens[places + 1].long()


@correct("windows cut one by one and stacked")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) < time + 1:
        raise ValueError(f"need at least {time + 1} tokens, got {len(tokens)}")
    starts = torch.randint(0, len(tokens) - time, (batch_size,), generator=generator).tolist()
    windows = torch.stack([tokens[s : s + time + 1] for s in starts]).to(torch.int64)
    return windows[:, :-1], windows[:, 1:]


@correct("all windows as a view, some of them picked")
def random_batch(tokens, batch_size, time, generator):
    if len(tokens) <= time:
        raise ValueError(f"{len(tokens)} tokens are too few for time={time}")
    windows = tokens.unfold(0, time + 1, 1)
    picked = windows[torch.randint(windows.shape[0], (batch_size,), generator=generator)].long()
    return picked[:, :time], picked[:, 1:]


# ---------------------------------------------------------------------------------------------- warmup_cosine


@mistake("WARM-01", "the warm-up counts from 1")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * (step + 1) / warmup
    if step > total:
        return floor
    t = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-02", "the cosine counts from step 0")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * step / warmup
    if step > total:
        return floor
    t = step / max(1, total)
    return floor + (peak - floor) * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-03", "the floor is forgotten")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * step / warmup
    if step > total:
        return floor
    t = (step - warmup) / max(1, total - warmup)
    return peak * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-02", "the floor is added on top of the peak")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * step / warmup
    if step > total:
        return floor
    t = (step - warmup) / max(1, total - warmup)
    return floor + peak * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-04", "the cosine goes on after the end")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * step / warmup
    t = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-05", "a division by zero when there is nothing but warm-up")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * step / warmup
    t = (step - warmup) / (total - warmup)
    return floor if step > total else floor + (peak - floor) * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-06", "nothing is refused")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < warmup:
        return peak * step / warmup
    if step > total:
        return floor
    t = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * t)) / 2


@mistake("WARM-09", "a straight line down")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError("no such curve")
    if step < warmup:
        return peak * step / warmup
    if step > total:
        return floor
    return peak - (peak - floor) * (step - warmup) / max(1, total - warmup)


@correct("the three pieces as min and max, with a squared cosine")
def warmup_cosine(step, *, warmup, total, peak, floor=0.0):
    for fine in (step >= 0, 0 <= warmup, warmup <= total, 0 <= floor, floor <= peak):
        if not fine:
            raise ValueError(f"no such curve: step {step}, warmup {warmup}, total {total}, peak {peak}, floor {floor}")
    up = 1.0 if warmup == 0 else min(1.0, step / warmup)
    if step <= warmup:
        return peak * up
    t = 1.0 if step >= total else (step - warmup) / (total - warmup)
    return floor + (peak - floor) * math.cos(math.pi / 2 * t) ** 2


# ---------------------------------------------------------------------------------------------- clip_grad_norm


@mistake("CLIP-01", "norms added up without squares")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.norm() for g in gradients), torch.zeros(()))
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@mistake("CLIP-01", "the root is forgotten")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(()))
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@mistake("CLIP-02", "the norm after clipping")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()


@mistake("CLIP-03", "each gradient clipped by itself")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()
    for g in gradients:
        if g.norm() > max_norm:
            g.mul_(max_norm / g.norm())
    return norm


@mistake("CLIP-03", "single numbers cut off")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()
    if norm > max_norm:
        for g in gradients:
            g.clamp_(-max_norm, max_norm)
    return norm


@mistake("CLIP-04", "a generator walked through twice")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    norm = sum((p.grad.square().sum() for p in parameters if p.grad is not None), torch.zeros(())).sqrt()
    if norm > max_norm:
        for p in parameters:
            if p.grad is not None:
                p.grad.mul_(max_norm / norm)
    return norm


@mistake("CLIP-05", "every parameter is thought to have a gradient")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters]
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@mistake("CLIP-05", "torch.stack of nothing")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.norm() for g in gradients]).norm()
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@mistake("CLIP-06", "small gradients are stretched to the limit")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()
    for g in gradients:
        g.mul_(max_norm / norm)
    return norm


@mistake("CLIP-07", "new tensors in .grad")
def clip_grad_norm(parameters, max_norm):
    if max_norm <= 0:
        raise ValueError(f"max_norm is {max_norm}")
    parameters = [p for p in parameters if p.grad is not None]
    norm = sum((p.grad.square().sum() for p in parameters), torch.zeros(())).sqrt()
    for p in parameters:
        if norm > max_norm:
            p.grad = p.grad * (max_norm / norm)
    return norm


@mistake("CLIP-08", "any limit is taken")
def clip_grad_norm(parameters, max_norm):
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = sum((g.square().sum() for g in gradients), torch.zeros(())).sqrt()
    if norm > max_norm:
        for g in gradients:
            g.mul_(max_norm / norm)
    return norm


@correct("norm of the norms, a factor that is cut at one")
def clip_grad_norm(parameters, max_norm):
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive, got {max_norm}")
    grads = [p.grad for p in list(parameters) if p.grad is not None]
    if not grads:
        return torch.tensor(0.0)
    total = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(g) for g in grads]))
    factor = (max_norm / total).clamp(max=1.0)
    for g in grads:
        g *= factor
    return total


# ---------------------------------------------------------------------------------------------- train_step


@mistake("STEP-02", "accumulation that forgets to divide")
def train_step(model, batches, optimizer, *, max_grad_norm):
    optimizer.zero_grad()
    total = 0.0
    for inputs, targets in batches:
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        total += loss.item() / len(batches)
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@mistake("STEP-03", "divided by the number of micro-batches, whatever their size")
def train_step(model, batches, optimizer, *, max_grad_norm):
    optimizer.zero_grad()
    total = 0.0
    for inputs, targets in batches:
        loss = cross_entropy(model(inputs), targets) / len(batches)
        loss.backward()
        total += loss.item()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@mistake("STEP-03", "weighed by rows: ignored targets are counted too")
def train_step(model, batches, optimizer, *, max_grad_norm):
    rows = sum(len(inputs) for inputs, _ in batches)
    optimizer.zero_grad()
    total = 0.0
    for inputs, targets in batches:
        loss = cross_entropy(model(inputs), targets) * len(inputs) / rows
        loss.backward()
        total += loss.item()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@mistake("STEP-01", "zero_grad is forgotten")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    total = 0.0
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets) * count / sum(counts)
        loss.backward()
        total += loss.item()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@mistake("STEP-01", "zero_grad inside the loop")
def train_step(model, batches, optimizer, *, max_grad_norm):
    total = 0.0
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        total += loss.item() / len(batches)
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@mistake("STEP-04", "clipped after the step")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    total = 0.0
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets) * count / sum(counts)
        loss.backward()
        total += loss.item()
    if not math.isfinite(total):
        raise FloatingPointError(f"loss {total}")
    optimizer.step()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    return total, norm


@mistake("STEP-04", "clipped after each micro-batch")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    total = 0.0
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets) * count / sum(counts)
        loss.backward()
        norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
        total += loss.item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@mistake("STEP-05", "a step for each micro-batch")
def train_step(model, batches, optimizer, *, max_grad_norm):
    losses = []
    for inputs, targets in batches:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses) / len(losses), norm


@mistake("STEP-06", "micro-batches glued to one big batch")
def train_step(model, batches, optimizer, *, max_grad_norm):
    optimizer.zero_grad()
    inputs = torch.cat([i for i, _ in batches])
    targets = torch.cat([t for _, t in batches])
    loss = cross_entropy(model(inputs), targets)
    loss.backward()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return loss.item(), norm


@mistake("STEP-06", "one backward for the sum of all losses")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    loss = sum(cross_entropy(model(i), t) * n / sum(counts) for (i, t), n in zip(batches, counts))
    loss.backward()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return loss.item(), norm


@mistake("STEP-07", "the step is made whatever the norm is")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    total = 0.0
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets) * count / sum(counts)
        loss.backward()
        total += loss.item()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    optimizer.step()
    return total, norm


@mistake("STEP-07", "only the loss is looked at")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    total = 0.0
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets) * count / sum(counts)
        loss.backward()
        total += loss.item()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(total):
        raise FloatingPointError(f"loss {total}")
    optimizer.step()
    return total, norm


@mistake("STEP-08", "the loss of the last micro-batch")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets)
        (loss * count / sum(counts)).backward()
    norm = clip_grad_norm(model.parameters(), max_grad_norm).item()
    if not math.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return loss.item(), norm


@mistake("STEP-08", "tensors in place of floats")
def train_step(model, batches, optimizer, *, max_grad_norm):
    counts = [int((targets != -100).sum()) for _, targets in batches]
    optimizer.zero_grad()
    total = 0.0
    for (inputs, targets), count in zip(batches, counts):
        loss = cross_entropy(model(inputs), targets) * count / sum(counts)
        loss.backward()
        total = total + loss
    norm = clip_grad_norm(model.parameters(), max_grad_norm)
    if not torch.isfinite(norm):
        raise FloatingPointError(f"gradient norm {norm}")
    optimizer.step()
    return total, norm


@correct("gradients of sums, divided at the end")
def train_step(model, batches, optimizer, *, max_grad_norm):
    optimizer.zero_grad(set_to_none=True)
    loss_sum, n_tokens = 0.0, 0
    for inputs, targets in batches:
        n = int(targets.ne(-100).sum())
        total = cross_entropy(model(inputs), targets) * n
        total.backward()
        loss_sum, n_tokens = loss_sum + float(total), n_tokens + n
    for p in model.parameters():
        if p.grad is not None:
            p.grad /= n_tokens
    norm = float(clip_grad_norm(list(model.parameters()), max_grad_norm))
    if math.isnan(norm) or math.isinf(norm):
        raise FloatingPointError("no finite gradient")
    optimizer.step()
    return loss_sum / n_tokens, norm


# ---------------------------------------------------------------------------------------------- KVCache


@broken("KV-02", "len counts the appends, not the tokens")
class KVCache:
    """Keys and values of one attention layer, for up to `max_time` tokens.

    `append(k, v)` stores the keys and values of `time` new tokens behind those already there, and returns those of
    all tokens so far, oldest first. `time` may be any number from 1: a whole prompt at once, then token by token.
    `len(cache)` is the number of tokens in it, and so the position of the next token.

    The memory is taken once, in `__init__`: `append` copies the new tokens into it and returns views of the filled
    part, without a copy of the old ones. The cache has its own `dtype`, whatever k and v come in.

    Raises:
        ValueError: an `append` would go beyond `max_time`. The cache stays as it was.
    """

    def __init__(
        self,
        batch: int,
        n_kv_heads: int,
        max_time: int,
        d_head: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self) -> int:
        return self.length

    def append(
        self,
        k: Float[Tensor, "batch kv_heads time d_head"],
        v: Float[Tensor, "batch kv_heads time d_head"],
    ) -> tuple[Float[Tensor, "batch kv_heads all_time d_head"], Float[Tensor, "batch kv_heads all_time d_head"]]:
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(
                f"the cache holds {self.keys.shape[2]} tokens: {self.length} are there, {k.shape[2]} more do not fit"
            )
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length += 1
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-01", "the whole buffer is returned")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys, self.values


@mistake("KV-02", "each append overwrites the first places")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, : k.shape[2]] = k
        self.values[:, :, : v.shape[2]] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-02", "the length becomes that of the last append")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = k.shape[2]
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-02", "len is the room, not what is in it")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.keys.shape[2]

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-03", "keys and values share one buffer's name")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = self.keys
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-04", "a full cache is left to PyTorch")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        end = self.length + k.shape[2]
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-05", "torch.cat at every append")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.max_time = max_time
        self.keys = torch.zeros(batch, n_kv_heads, 0, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)

    def __len__(self):
        return self.keys.shape[2]

    def append(self, k, v):
        if len(self) + k.shape[2] > self.max_time:
            raise ValueError("full")
        self.keys = torch.cat([self.keys, k.to(self.keys.dtype)], dim=2)
        self.values = torch.cat([self.values, v.to(self.values.dtype)], dim=2)
        return self.keys, self.values


@mistake("KV-06", "the length belongs to the class")
class KVCache:
    tokens = [0]

    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.tokens[0] = 0

    def __len__(self):
        return self.tokens[0]

    def append(self, k, v):
        start = self.tokens[0]
        end = start + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.tokens[0] = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-07", "dtype is forgotten")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        end = self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


@mistake("KV-08", "only the new tokens come back")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.keys = torch.zeros(batch, n_kv_heads, max_time, d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0

    def __len__(self):
        return self.length

    def append(self, k, v):
        start, end = self.length, self.length + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError("full")
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        return self.keys[:, :, start:end], self.values[:, :, start:end]


@correct("one buffer for both, written with narrow and copy_")
class KVCache:
    def __init__(self, batch, n_kv_heads, max_time, d_head, dtype=torch.float32, device="cpu"):
        self.both = torch.empty((2, batch, n_kv_heads, max_time, d_head), dtype=dtype, device=device)
        self.filled = 0

    def __len__(self):
        return self.filled

    def append(self, k, v):
        new = k.size(2)
        room = self.both.size(3) - self.filled
        if new > room:
            raise ValueError(f"{new} tokens, room for {room}")
        for buffer, part in zip(self.both, (k, v)):
            buffer.narrow(2, self.filled, new).copy_(part)
        self.filled += new
        return tuple(buffer.narrow(2, 0, self.filled) for buffer in self.both)


# ---------------------------------------------------------------------------------------------- filter_logits


@mistake("TEMP-01", "multiplied by the temperature")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits * temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TEMP-02", "temperature after the filters")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits / temperature


@mistake("TOPK-01", "only what is above the k-th")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        kth = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits <= kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TOPK-02", "topk of more than there is")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(top_k).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TOPK-03", "exactly k places of topk")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        best = logits.topk(min(top_k, logits.shape[-1]))
        logits = torch.full_like(logits, float("-inf")).scatter(-1, best.indices, best.values)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TOPP-01", "the token that crosses p is dropped, all but the first")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        drop = ordered.softmax(-1).cumsum(-1) > top_p
        drop[..., 0] = False
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TOPP-02", "the mask stays in sorted order")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        p = logits.sort(descending=True).values.softmax(-1)
        logits = logits.masked_fill(p.cumsum(-1) - p >= top_p, float("-inf"))
    return logits


@mistake("TOPP-03", "the sum up to and with the token must stay below p")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        drop = ordered.softmax(-1).cumsum(-1) > top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TOPP-04", "top-p looks at the logits before top-k")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    result = logits
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        result = result.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        result = result.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return result


@mistake("TOPP-05", "rounding with p = 1")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("TOPP-06", "the mask shifted by one, with > in place of >=")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        drop = ordered.softmax(-1).cumsum(-1) > top_p
        drop[..., 1:] = drop[..., :-1].clone()
        drop[..., 0] = False
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("SAMP-01", "0 in place of minus infinity")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits = logits / temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, 0.0)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), 0.0)
    return logits


@mistake("SAMP-02", "in place")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    logits /= temperature
    if top_k is not None:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits.masked_fill_(logits < kth, float("-inf"))
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits.masked_fill_(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("SAMP-03", "nothing is refused")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    logits = logits / temperature
    if top_k:
        kth = logits.topk(min(top_k, logits.shape[-1])).values[..., -1:]
        logits = logits.masked_fill(logits < kth, float("-inf"))
    if top_p and top_p < 1:
        ordered, order = logits.sort(descending=True)
        p = ordered.softmax(-1)
        drop = p.cumsum(-1) - p >= top_p
        logits = logits.masked_fill(drop.scatter(-1, order, drop), float("-inf"))
    return logits


@mistake("SAMP-04", "probabilities come back")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if temperature <= 0 or (top_k is not None and top_k < 1) or (top_p is not None and not 0 < top_p <= 1):
        raise ValueError("nonsense")
    p = (logits / temperature).softmax(-1)
    if top_k is not None:
        kth = p.topk(min(top_k, p.shape[-1])).values[..., -1:]
        p = p * (p >= kth)
    if top_p is not None and top_p < 1:
        ordered, order = p.sort(descending=True)
        keep = ordered.cumsum(-1) - ordered < top_p
        p = p * keep.scatter(-1, order, keep)
    return p / p.sum(-1, keepdim=True)


@correct("ranks of the tokens, and the threshold as a logit")
def filter_logits(logits, *, temperature=1.0, top_k=None, top_p=None):
    if not temperature > 0:
        raise ValueError(f"temperature {temperature}")
    if top_k is not None and top_k <= 0:
        raise ValueError(f"top_k {top_k}")
    if top_p is not None and (top_p <= 0 or top_p > 1):
        raise ValueError(f"top_p {top_p}")
    scaled = logits / temperature
    ordered, _ = torch.sort(scaled, dim=-1, descending=True)
    if top_k is not None:
        k = min(top_k, scaled.shape[-1])
        scaled = torch.where(scaled >= ordered[..., k - 1, None], scaled, -torch.inf)
    if top_p is not None and top_p != 1:
        ordered, places = torch.sort(scaled, dim=-1, descending=True)
        cumulative = torch.softmax(ordered, dim=-1).cumsum(dim=-1)
        before = torch.cat([torch.zeros_like(cumulative[..., :1]), cumulative[..., :-1]], dim=-1)
        keep = torch.zeros_like(scaled, dtype=torch.bool).scatter(-1, places, before < top_p)
        scaled = torch.where(keep, scaled, -torch.inf)
    return scaled
