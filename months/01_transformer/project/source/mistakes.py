"""Wrong answers that people really write, each with the code it must be answered with, and right ones in another style."""

# ---------------------------------------------------------------- training_flops


@mistake("COST-01", "one operation for each weight")
def training_flops(config, batch_size, time):
    d = config.d_model
    attention = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head
    mlp = (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    weights = config.n_layers * (attention + mlp) + d * config.vocab_size
    return 3 * (weights + 2 * config.n_layers * time * d) * batch_size * time


@mistake("COST-02", "forward alone")
def training_flops(config, batch_size, time):
    d = config.d_model
    attention = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head
    mlp = (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    weights = config.n_layers * (attention + mlp) + d * config.vocab_size
    return 2 * (weights + 2 * config.n_layers * time * d) * batch_size * time


@mistake("COST-03", "the well-known 6 · parameters · tokens")
def training_flops(config, batch_size, time):
    d = config.d_model
    attention = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head
    mlp = (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    return 6 * (config.n_layers * (attention + mlp) + d * config.vocab_size) * batch_size * time


@mistake("COST-04", "four square matrices in attention, whatever n_kv_heads says")
def training_flops(config, batch_size, time):
    d = config.d_model
    mlp = (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    weights = config.n_layers * (4 * d * d + mlp) + d * config.vocab_size
    return 6 * (weights + 2 * config.n_layers * time * d) * batch_size * time


@mistake("COST-05", "the layers alone, without lm_head")
def training_flops(config, batch_size, time):
    d = config.d_model
    layer = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head
    layer += (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    return 6 * config.n_layers * (layer + 2 * time * d) * batch_size * time


@mistake("COST-06", "two matrices in every MLP")
def training_flops(config, batch_size, time):
    d = config.d_model
    layer = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head + 2 * d * config.d_ff
    weights = config.n_layers * layer + d * config.vocab_size
    return 6 * (weights + 2 * config.n_layers * time * d) * batch_size * time


@mistake("COST-07", "a float")
def training_flops(config, batch_size, time):
    d = config.d_model
    layer = 2 * d * d + 2 * d * config.n_kv_heads * config.d_head
    layer += (3 if config.mlp == "swiglu" else 2) * d * config.d_ff
    forward = 2.0 * (config.n_layers * (layer + 2 * time * d) + d * config.vocab_size)
    return 3 * forward * batch_size * time


@correct("product by product, as a list of shapes")
def training_flops(config, batch_size, time):
    tokens = batch_size * time
    kv = config.n_kv_heads * config.d_head
    shapes = [(config.d_model, config.d_model), (config.d_model, kv), (config.d_model, kv), (config.d_model, config.d_model)]
    shapes += [(config.d_model, config.d_ff)] * {"gelu": 1, "swiglu": 2}[config.mlp] + [(config.d_ff, config.d_model)]
    per_layer = sum(2 * tokens * rows * columns for rows, columns in shapes)
    scores = batch_size * config.n_heads * (2 * time * time * config.d_head)
    head = 2 * tokens * config.d_model * config.vocab_size
    forward = config.n_layers * (per_layer + 2 * scores) + head
    return forward + 2 * forward


# ---------------------------------------------------------------- orthogonalize


@mistake("MUON-01", "the norm is divided out in place")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    x = matrices
    x /= torch.linalg.matrix_norm(x, keepdim=True) + 1e-7
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


@mistake("MUON-02", "transposed, and never back")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    x = matrices.mT if matrices.shape[-2] > matrices.shape[-1] else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


@mistake("MUON-03", "nothing is divided first")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


@mistake("MUON-03", "a zero gradient is divided by zero")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


@mistake("MUON-04", "one norm for a whole stack")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


@mistake("MUON-05", "range from one")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(1, steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x.mT if tall else x


@mistake("MUON-06", "each row gets length one")
def orthogonalize(matrices, steps=5):
    return matrices / (matrices.norm(dim=-1, keepdim=True) + 1e-7)


@mistake("MUON-08", "never transposed: the larger square")
def orthogonalize(matrices, steps=5):
    a, b, c = QUINTIC
    x = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


@mistake("MUON-09", "the coefficients of the third and the fifth power are swapped")
def orthogonalize(matrices, steps=5):
    a, c, b = QUINTIC
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
        x = x / (1 + x.abs().amax())
    return x.mT if tall else x


@correct("by recursion, from the right for tall matrices")
def orthogonalize(matrices, steps=5):
    def rounds(x, left):
        if left == 0:
            return x
        a, b, c = QUINTIC
        if x.shape[-2] <= x.shape[-1]:
            gram = torch.einsum("...ij,...kj->...ik", x, x)
            y = b * gram + c * torch.einsum("...ij,...jk->...ik", gram, gram)
            return rounds(a * x + torch.einsum("...ij,...jk->...ik", y, x), left - 1)
        gram = torch.einsum("...ji,...jk->...ik", x, x)
        y = b * gram + c * torch.einsum("...ij,...jk->...ik", gram, gram)
        return rounds(a * x + torch.einsum("...ij,...jk->...ik", x, y), left - 1)

    length = matrices.square().sum(dim=(-2, -1), keepdim=True).sqrt()
    return rounds(matrices.div(length.add(1e-7)), steps)


# ---------------------------------------------------------------- text_loss


@mistake("EVAL-01", "dropout stays on")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, time):
            targets = tokens[start + 1 : start + time + 1]
            logits = model(tokens[None, start : start + len(targets)])
            total += cross_entropy(logits, targets[None]).item() * len(targets)
    return total / (len(tokens) - 1)


@mistake("EVAL-02", "gradients are recorded")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    batches = list(zip(tokens[:full].view(-1, time).split(batch_size), tokens[1 : full + 1].view(-1, time).split(batch_size)))
    batches += [(tokens[None, full:-1], tokens[None, full + 1 :])]
    total = sum(cross_entropy(model(x), y).item() * y.numel() for x, y in batches if y.numel())
    model.train(was)
    return total / (len(tokens) - 1)


@mistake("EVAL-03", "left in eval mode")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    model.eval()
    full = (len(tokens) - 1) // time * time
    batches = list(zip(tokens[:full].view(-1, time).split(batch_size), tokens[1 : full + 1].view(-1, time).split(batch_size)))
    batches += [(tokens[None, full:-1], tokens[None, full + 1 :])]
    with torch.no_grad():
        total = sum(cross_entropy(model(x), y).item() * y.numel() for x, y in batches if y.numel())
    return total / (len(tokens) - 1)


@mistake("EVAL-04", "the last, shorter window is left out")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    total = 0.0
    with torch.no_grad():
        for x, y in zip(tokens[:full].view(-1, time).split(batch_size), tokens[1 : full + 1].view(-1, time).split(batch_size)):
            total += cross_entropy(model(x), y).item() * y.numel()
    model.train(was)
    return total / full


@mistake("EVAL-05", "all windows at once")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    total = 0.0
    with torch.no_grad():
        for x, y in ((tokens[:full].view(-1, time), tokens[1 : full + 1].view(-1, time)), (tokens[None, full:-1], tokens[None, full + 1 :])):
            if y.numel():
                total += cross_entropy(model(x), y).item() * y.numel()
    model.train(was)
    return total / (len(tokens) - 1)


@mistake("EVAL-06", "the mean of the batches' means")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    batches = list(zip(tokens[:full].view(-1, time).split(batch_size), tokens[1 : full + 1].view(-1, time).split(batch_size)))
    batches += [(tokens[None, full:-1], tokens[None, full + 1 :])]
    with torch.no_grad():
        losses = [cross_entropy(model(x), y).item() for x, y in batches if y.numel()]
    model.train(was)
    return sum(losses) / len(losses)


@mistake("EVAL-06", "the mean of the windows' means")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    batches = list(zip(tokens[:full].view(-1, time).split(batch_size), tokens[1 : full + 1].view(-1, time).split(batch_size)))
    batches += [(tokens[None, full:-1], tokens[None, full + 1 :])]
    losses = []
    with torch.no_grad():
        for x, y in batches:
            if y.numel():
                logits = model(x)
                losses += [cross_entropy(row, targets).item() for row, targets in zip(logits, y)]
    model.train(was)
    return sum(losses) / len(losses)


@mistake("EVAL-07", "an empty text has loss zero")
def text_loss(model, tokens, *, time, batch_size=64):
    was = model.training
    model.eval()
    total = 0.0
    with torch.no_grad():
        for start in range(0, len(tokens) - 1, time):
            targets = tokens[start + 1 : start + time + 1]
            total += cross_entropy(model(tokens[None, start : start + len(targets)]), targets[None]).item() * len(targets)
    model.train(was)
    return total / max(1, len(tokens) - 1)


@mistake("EVAL-08", "a tensor comes back")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    batches = list(zip(tokens[:full].view(-1, time).split(batch_size), tokens[1 : full + 1].view(-1, time).split(batch_size)))
    batches += [(tokens[None, full:-1], tokens[None, full + 1 :])]
    with torch.no_grad():
        total = sum(cross_entropy(model(x), y) * y.numel() for x, y in batches if y.numel())
    model.train(was)
    return total / (len(tokens) - 1)


@mistake("EVAL-09", "the model is asked for what it has just seen")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"at least two tokens are needed, got {len(tokens)}")
    was = model.training
    model.eval()
    full = (len(tokens) - 1) // time * time
    batches = [(x, x) for x in tokens[:full].view(-1, time).split(batch_size)] + [(tokens[None, full:-1], tokens[None, full:-1])]
    with torch.no_grad():
        total = sum(cross_entropy(model(x), y).item() * y.numel() for x, y in batches if y.numel())
    model.train(was)
    return total / (len(tokens) - 1)


@correct("windows as a list, stacked batch by batch; each target's log-probability looked up")
def text_loss(model, tokens, *, time, batch_size=64):
    if len(tokens) < 2:
        raise ValueError(f"nothing to predict in {len(tokens)} tokens")
    mode = model.training
    windows = [tokens[start : start + time + 1] for start in range(0, len(tokens) - 1, time)]
    last = windows.pop() if len(windows[-1]) < time + 1 else None
    groups = [torch.stack(windows[i : i + batch_size]) for i in range(0, len(windows), batch_size)]
    if last is not None:
        groups.append(last.unsqueeze(0))
    nats = 0.0
    try:
        model.eval()
        with torch.inference_mode():
            for group in groups:
                logits = model(group[:, :-1]).double()
                chosen = logits.gather(-1, group[:, 1:, None]).squeeze(-1)
                nats += (logits.logsumexp(-1) - chosen).sum().item()
    finally:
        model.train(mode)
    return nats / (len(tokens) - 1)


# ---------------------------------------------------------------- mini_gpt


@mistake("RECIPE-01", "only the model's shape")
def mini_gpt(vocab_size):
    return TransformerConfig.llama(vocab_size, qk_norm=True, max_time=64)


@mistake("RECIPE-02", "the vocabulary of this text, written in")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(65, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=600, batch_size=12, time=64, warmup=30, floor=0.0), adamw_lr=0.02)


@mistake("RECIPE-03", "twice as wide")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, d_model=256, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=150, batch_size=12, time=64, warmup=10, floor=0.0), adamw_lr=0.02)


@mistake("RECIPE-04", "nanoGPT's number of updates")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=2000, batch_size=12, time=64, warmup=100, floor=0.0), adamw_lr=0.02)


@mistake("RECIPE-05", "a constant rate")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=600, batch_size=12, time=64, warmup=30, floor=1.0), adamw_lr=0.02)


@mistake("RECIPE-05", "half the run is warm-up")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=600, batch_size=12, time=64, warmup=300, floor=0.0), adamw_lr=0.02)


@mistake("RECIPE-06", "windows longer than the model")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=300, batch_size=12, time=128, warmup=30, floor=0.0), adamw_lr=0.02)


@mistake("RECIPE-08", "Llama's default length, and short windows")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, qk_norm=True)
    return Recipe(model, TrainConfig(steps=600, batch_size=12, time=64, warmup=30, floor=0.0), adamw_lr=0.02)


@mistake("RECIPE-07", "a fine-tuning rate: hardly anything moves")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=600, batch_size=12, time=64, warmup=30, floor=0.0), lr=2e-5, adamw_lr=2e-5)


@mistake("RECIPE-07", "a rate of one: the loss rises")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64, qk_norm=True)
    return Recipe(model, TrainConfig(steps=600, batch_size=12, time=64, warmup=30, floor=0.0), lr=2.0, adamw_lr=1.0)


@correct("the steps computed from the budget, larger batches, grouped heads")
def mini_gpt(vocab_size):
    from dataclasses import replace

    model = TransformerConfig.llama(vocab_size, d_model=120, n_layers=5, n_heads=6, n_kv_heads=3, max_time=64, qk_norm=True)
    first = Recipe(model, TrainConfig(steps=100, batch_size=16, time=64, warmup=20, floor=0.05), lr=0.03, adamw_lr=0.01)
    steps = BUDGET_FLOPS * 100 // first.flops
    return replace(first, training=replace(first.training, steps=steps))


@correct("AdamW with Llama's shape: allowed by the budget, if not the best")
def mini_gpt(vocab_size):
    model = TransformerConfig.llama(vocab_size, n_kv_heads=4, max_time=64)
    return Recipe(model, TrainConfig(steps=650, batch_size=12, time=64, warmup=30, floor=0.0), optimizer="adamw", lr=4e-3)


# ---------------------------------------------------------------- load_gpt


@mistake("GPT-01", "the model alone")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model.eval()


@mistake("GPT-02", "the shape of the course's model, whatever the file says")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig.llama(state["config"]["vocab_size"], max_time=64, qk_norm=True))
    return model.eval(), CharacterVocabulary(state["characters"])


@mistake("GPT-03", "a new model, whose weights nobody loaded")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    return model.eval(), CharacterVocabulary(state["characters"])


@mistake("GPT-04", "still in training mode")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model, CharacterVocabulary(state["characters"])


@mistake("GPT-05", "the characters sorted again")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model.eval(), CharacterVocabulary.of(state["characters"])


@mistake("GPT-06", "an old tutorial's torch.load, which runs what it finds")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=False)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model.eval(), CharacterVocabulary(state["characters"])


@mistake("GPT-09", "the device is left to the file")
def load_gpt(path):
    state = torch.load(path, weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model.eval(), CharacterVocabulary(state["characters"])


@mistake("GPT-07", "strict=False, so that it always works")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} holds no model")
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"], strict=False)
    return model.eval(), CharacterVocabulary(state["characters"])


@mistake("GPT-08", "no look at the format")
def load_gpt(path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = MiniTransformer(TransformerConfig(**state["config"]))
    model.load_state_dict(state["weights"])
    return model.eval(), CharacterVocabulary(state["characters"])


@correct("field by field, with the weights copied one by one")
def load_gpt(path):
    with open(path, "rb") as file:
        found = torch.load(file, map_location=torch.device("cpu"), weights_only=True)
    if type(found) is not dict or "format" not in found or found["format"] != FORMAT:
        raise ValueError(f"not a saved model: {path}")
    fields, weights = found["config"], found["weights"]
    model = MiniTransformer(TransformerConfig(**fields))
    own = model.state_dict()
    if own.keys() != weights.keys():
        raise ValueError(f"the weights in {path} do not fit its shape")
    with torch.no_grad():
        for name, weight in weights.items():
            own[name].copy_(weight)
    model.train(False)
    return model, CharacterVocabulary(characters=found["characters"])
