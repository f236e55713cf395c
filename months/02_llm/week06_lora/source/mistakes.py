"""Answers to week 6's exercises as learners write them: wrong ones with their codes, right ones in another style."""

# ---------------------------------------------------------------------------------------------- LoRALinear


@mistake("LORA-06", "the scaling is forgotten")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        weight = self.base.weight
        if not weight.is_floating_point():
            raise ValueError(f"{weight.dtype}")
        if self.kept is None:
            self.kept = weight.clone()
            weight.copy_(weight + self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-06", "scaled by alpha alone")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-01", "B begins at random, too")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.empty(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        nn.init.kaiming_uniform_(self.lora_B, a=math.sqrt(5))

    def forward(self, x):
        y = self.base(x)
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    def merge(self):
        pass

    def unmerge(self):
        pass


@mistake("LORA-02", "A and B both begin at zero")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.zeros(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x):
        y = self.base(x)
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    def merge(self):
        pass

    def unmerge(self):
        pass


@mistake("LORA-04", "the base is not frozen")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x):
        y = self.base(x)
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    def merge(self):
        pass

    def unmerge(self):
        pass


@mistake("LORA-05", "A and B in the base's dtype")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, dtype=base.weight.dtype, device=base.weight.device))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, dtype=base.weight.dtype, device=base.weight.device))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + self.scaling * F.linear(F.linear(self.dropout(x), self.lora_A), self.lora_B)

    @torch.no_grad()
    def merge(self):
        if not self.base.weight.is_floating_point():
            raise ValueError(f"{self.base.weight.dtype}")
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-08", "dropout on the output of the branch")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features, device=base.weight.device, dtype=torch.float32))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank, device=base.weight.device, dtype=torch.float32))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + self.dropout(self.scaling * F.linear(F.linear(x.float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if not self.base.weight.is_floating_point():
            raise ValueError(f"{self.base.weight.dtype}")
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-10", "the scaling is forgotten in merge")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if not self.base.weight.is_floating_point():
            raise ValueError(f"{self.base.weight.dtype}")
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight.copy_(self.base.weight + self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-11", "merged, and the branch is still added")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if not self.base.weight.is_floating_point():
            raise ValueError(f"{self.base.weight.dtype}")
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-12", "merged twice")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if not self.base.weight.is_floating_point():
            raise ValueError(f"{self.base.weight.dtype}")
        self.kept = self.base.weight.clone()
        self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@mistake("LORA-13", "unmerge subtracts")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.merged = False

    def forward(self, x):
        y = self.base(x)
        if self.merged:
            return y
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if not self.base.weight.is_floating_point():
            raise ValueError(f"{self.base.weight.dtype}")
        if not self.merged:
            self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)
            self.merged = True

    @torch.no_grad()
    def unmerge(self):
        if self.merged:
            self.base.weight.copy_(self.base.weight - self.scaling * self.lora_B @ self.lora_A)
            self.merged = False


@mistake("LORA-14", "anything is merged")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        self.base = base.requires_grad_(False)
        self.dropout = nn.Dropout(dropout)
        self.scaling = alpha / rank
        self.lora_A = nn.Parameter(torch.empty(rank, base.in_features))
        self.lora_B = nn.Parameter(torch.zeros(base.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.kept = None

    def forward(self, x):
        y = self.base(x)
        if self.kept is not None:
            return y
        return y + (self.scaling * F.linear(F.linear(self.dropout(x).float(), self.lora_A), self.lora_B)).to(y.dtype)

    @torch.no_grad()
    def merge(self):
        if self.kept is None:
            self.kept = self.base.weight.clone()
            self.base.weight.copy_(self.base.weight + self.scaling * self.lora_B @ self.lora_A)

    @torch.no_grad()
    def unmerge(self):
        if self.kept is not None:
            self.base.weight.copy_(self.kept)
            self.kept = None


@correct("matrices with @, a flag beside the copy, the weight's data")
class LoRALinear(nn.Module):
    def __init__(self, base, rank, alpha, dropout=0.0):
        super().__init__()
        for parameter in base.parameters():
            parameter.requires_grad = False
        self.base, self.scaling, self.p = base, alpha / rank, dropout
        bound = 1.0 / math.sqrt(base.in_features)
        start = torch.empty(rank, base.in_features, dtype=torch.float32, device=base.weight.device).uniform_(-bound, bound)
        self.lora_A = nn.Parameter(start)
        self.lora_B = nn.Parameter(torch.zeros((base.out_features, rank), dtype=torch.float32, device=base.weight.device))
        self.merged, self.original = False, None
        self.drop = nn.Dropout(p=dropout)

    def forward(self, x):
        out = self.base(x)
        if not self.merged:
            branch = self.drop(x).to(torch.float32) @ self.lora_A.T @ self.lora_B.T
            out = out + (branch * self.scaling).to(out.dtype)
        return out

    def merge(self):
        if self.merged:
            return
        old = self.base.weight.data
        if not torch.is_floating_point(old):
            raise ValueError(f"cannot merge into {old.dtype}: load the model unquantised")
        self.original = old.clone()
        delta = (self.lora_B.data @ self.lora_A.data) * self.scaling
        self.base.weight.data = (old.to(torch.float32) + delta).to(old.dtype)
        self.merged = True

    def unmerge(self):
        if self.merged:
            self.base.weight.data = self.original
            self.original, self.merged = None, False


# ---------------------------------------------------------------------------------------------- inject_lora


@mistake("INJ-01", "a part of the name is enough")
def inject_lora(model, config):
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and any(t in n for t in config.targets)]
    if not names:
        raise ValueError(f"nothing is named {config.targets}")
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    return names


@mistake("INJ-01", "whatever bears the name, linear or not")
def inject_lora(model, config):
    names = [n for n, m in model.named_modules() if any(n == t or n.endswith("." + t) for t in config.targets)]
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        if not hasattr(layer, "in_features"):
            layer.in_features, layer.out_features = 1, 1
        setattr(model.get_submodule(parent), last, LoRALinear(layer, config.rank, config.alpha, config.dropout))
    return names


@mistake("INJ-02", "only the last part of a name is compared")
def inject_lora(model, config):
    if any(isinstance(m, LoRALinear) for m in model.modules()):
        raise ValueError("adapters already")
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    ends = {n.rpartition(".")[2] for n in linear}
    for t in config.targets:
        if t.rpartition(".")[2] not in ends:
            raise ValueError(f"no linear layer is named {t}")
    names = [n for n in linear if n.rpartition(".")[2] in config.targets]
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    return names


@mistake("INJ-03", "in the order of the targets")
def inject_lora(model, config):
    if any(isinstance(m, LoRALinear) for m in model.modules()):
        raise ValueError("adapters already")
    names = []
    for target in config.targets:
        names += [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and f".{n}".endswith(f".{target}") and n not in names]
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    return names


@mistake("INJ-04", "only the chosen layers are frozen")
def inject_lora(model, config):
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and any(f".{n}".endswith(f".{t}") for t in config.targets)]
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    return names


@mistake("INJ-05", "frozen last, adapters and all")
def inject_lora(model, config):
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and any(f".{n}".endswith(f".{t}") for t in config.targets)]
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    model.requires_grad_(False)
    return names


@mistake("INJ-06", "a target that chooses nothing is passed over")
def inject_lora(model, config):
    if any(isinstance(m, LoRALinear) for m in model.modules()):
        raise ValueError("adapters already")
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and any(f".{n}".endswith(f".{t}") for t in config.targets)]
    if not names:
        raise ValueError(f"nothing is named {config.targets}")
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    return names


@mistake("INJ-07", "frozen before anything is looked at")
def inject_lora(model, config):
    model.requires_grad_(False)
    linear = [n for n, m in model.named_modules() if isinstance(m, nn.Linear)]
    for t in config.targets:
        if not any(f".{n}".endswith(f".{t}") for n in linear):
            raise ValueError(f"no linear layer is named {t}")
    names = [n for n in linear if any(f".{n}".endswith(f".{t}") for t in config.targets)]
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = LoRALinear(model.get_submodule(name), config.rank, config.alpha, config.dropout)
        setattr(model.get_submodule(parent), last, layer)
    return names


@mistake("INJ-08", "adapters upon adapters")
def inject_lora(model, config):
    linear = [n for n, m in model.named_modules() if isinstance(m, (nn.Linear, LoRALinear)) and not n.endswith("base")]
    for t in config.targets:
        if not any(f".{n}".endswith(f".{t}") for n in linear):
            raise ValueError(f"no linear layer is named {t}")
    names = [n for n in linear if any(f".{n}".endswith(f".{t}") for t in config.targets)]
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        layer = model.get_submodule(name)
        while isinstance(layer, LoRALinear):
            layer = layer.base
        setattr(model.get_submodule(parent), last, LoRALinear(layer, config.rank, config.alpha, config.dropout))
    return names


@mistake("INJ-09", "a copy of the layer is wrapped")
def inject_lora(model, config):
    names = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and any(f".{n}".endswith(f".{t}") for t in config.targets)]
    model.requires_grad_(False)
    for name in names:
        parent, _, last = name.rpartition(".")
        old = model.get_submodule(name)
        new = nn.Linear(old.in_features, old.out_features, bias=old.bias is not None)
        new.load_state_dict(old.state_dict())
        setattr(model.get_submodule(parent), last, LoRALinear(new, config.rank, config.alpha, config.dropout))
    return names


@correct("recursion over children, with a plan made first")
def inject_lora(model, config):
    plan = []

    def walk(module, path):
        for last, child in module.named_children():
            name = f"{path}.{last}" if path else last
            if isinstance(child, LoRALinear):
                raise ValueError(f"{name} has an adapter already")
            if isinstance(child, nn.Linear):
                plan.append((name, module, last, child))
            walk(child, name)

    def fits(name, target):
        return name == target or name.endswith("." + target)

    walk(model, "")
    for target in config.targets:
        if not [name for name, *_ in plan if fits(name, target)]:
            raise ValueError(f"{target!r} names no nn.Linear of this model; there are {[name for name, *_ in plan]}")
    for parameter in model.parameters():
        parameter.requires_grad = False
    done = []
    for name, parent, last, child in plan:
        if any(fits(name, target) for target in config.targets):
            parent._modules[last] = LoRALinear(child, rank=config.rank, alpha=config.alpha, dropout=config.dropout)
            done.append(name)
    return done


# ---------------------------------------------------------------------------------------------- dialogue_example


@mistake("DIAL-01", "labels are the tokens")
def dialogue_example(messages, tokenizer, max_time):
    tokens = [t for p in dialogue_pieces(messages, tokenizer) for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor(tokens))


@mistake("DIAL-02", "only the last answer")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    answer = len(pieces[-1].tokens)
    return Example(torch.tensor(tokens), torch.tensor([IGNORE] * (len(tokens) - answer) + tokens[-answer:]))


@mistake("DIAL-03", "shifted already")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    labels = [t if p.is_answer else IGNORE for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor(labels[1:] + [IGNORE]))


@mistake("DIAL-03", "0 in place of -100")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    labels = [t if p.is_answer else 0 for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor(labels))


@mistake("DIAL-04", "the end mark is not learned")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    labels = []
    for p in pieces:
        labels += p.tokens[:-1] + [IGNORE] if p.is_answer else [IGNORE] * len(p.tokens)
    return Example(torch.tensor(tokens), torch.tensor(labels))


@mistake("DIAL-05", "the end is cut off")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    labels = [t if p.is_answer else IGNORE for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens[:max_time]), torch.tensor(labels[:max_time]))


@mistake("DIAL-06", "the beginning is cut off, wherever that is")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    labels = [t if p.is_answer else IGNORE for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens[-max_time:]), torch.tensor(labels[-max_time:]))


@mistake("DIAL-06", "the system message goes with the first exchange")
def dialogue_example(messages, tokenizer, max_time):
    turns = list(messages)
    pieces = dialogue_pieces(turns, tokenizer)
    while (length := sum(len(p.tokens) for p in pieces)) > max_time:
        later = [i for i, m in enumerate(turns) if m["role"] == "user"][1:]
        if not later:
            raise ValueError(f"{length} tokens, max_time {max_time}")
        turns = turns[later[0] :]
        pieces = dialogue_pieces(turns, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor([t if p.is_answer else IGNORE for p in pieces for t in p.tokens]))


@mistake("DIAL-08", "too long is too long: the example is passed on as it is")
def dialogue_example(messages, tokenizer, max_time):
    start = 1 if messages[0]["role"] == "system" else 0
    system, turns = list(messages[:start]), list(messages[start:])
    pieces = dialogue_pieces(system + turns, tokenizer)
    while sum(len(p.tokens) for p in pieces) > max_time:
        later = [i for i, m in enumerate(turns) if m["role"] == "user"][1:]
        if not later:
            break
        turns = turns[later[0] :]
        pieces = dialogue_pieces(system + turns, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor([t if p.is_answer else IGNORE for p in pieces for t in p.tokens]))


@mistake("DIAL-11", "exactly full is thought to be too long")
def dialogue_example(messages, tokenizer, max_time):
    start = 1 if messages[0]["role"] == "system" else 0
    system, turns = list(messages[:start]), list(messages[start:])
    pieces = dialogue_pieces(system + turns, tokenizer)
    while (length := sum(len(p.tokens) for p in pieces)) >= max_time:
        later = [i for i, m in enumerate(turns) if m["role"] == "user"][1:]
        if not later and length > max_time:
            raise ValueError(f"{length} tokens, max_time {max_time}")
        if not later:
            break
        turns = turns[later[0] :]
        pieces = dialogue_pieces(system + turns, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor([t if p.is_answer else IGNORE for p in pieces for t in p.tokens]))


@mistake("DIAL-10", "the messages themselves are made shorter")
def dialogue_example(messages, tokenizer, max_time):
    start = 1 if messages[0]["role"] == "system" else 0
    pieces = dialogue_pieces(messages, tokenizer)
    while (length := sum(len(p.tokens) for p in pieces)) > max_time:
        users = [i for i, m in enumerate(messages) if m["role"] == "user"]
        if len(users) < 2:
            raise ValueError(f"{length} tokens, max_time {max_time}")
        del messages[start : users[1]]
        pieces = dialogue_pieces(messages, tokenizer)
    tokens = [t for p in pieces for t in p.tokens]
    return Example(torch.tensor(tokens), torch.tensor([t if p.is_answer else IGNORE for p in pieces for t in p.tokens]))


@mistake("DIAL-12", "lists in place of tensors")
def dialogue_example(messages, tokenizer, max_time):
    pieces = dialogue_pieces(messages, tokenizer)
    return Example([t for p in pieces for t in p.tokens], [t if p.is_answer else IGNORE for p in pieces for t in p.tokens])


@correct("the first length that fits, with tensors joined and masked")
def dialogue_example(messages, tokenizer, max_time):
    head = [m for m in messages[:1] if m["role"] == "system"]
    begins = [i for i, m in enumerate(messages) if m["role"] == "user"]
    begins[0] = len(head)
    for begin in begins:
        pieces = dialogue_pieces([*head, *messages[begin:]], tokenizer)
        length = sum(len(tokens) for tokens, _ in pieces)
        if length <= max_time:
            tokens = torch.cat([torch.tensor(tokens, dtype=torch.long) for tokens, _ in pieces])
            learn = torch.cat([torch.full((len(tokens),), is_answer) for tokens, is_answer in pieces])
            return Example(tokens, tokens.masked_fill(~learn, IGNORE))
    raise ValueError(f"the last exchange needs {length} tokens, more than max_time={max_time}")


# ---------------------------------------------------------------------------------------------- pack_examples


@mistake("PACK-01", "only the last row is looked at")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [[]], [0]
    for number, e in enumerate(examples):
        if len(e.tokens) > max_time:
            raise ValueError(f"example {number} has {len(e.tokens)} tokens")
        if used[-1] + len(e.tokens) > max_time:
            rows.append([])
            used.append(0)
        rows[-1].append(e)
        used[-1] += len(e.tokens)
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-01", "the longest examples first")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for number, e in sorted(enumerate(examples), key=lambda item: -len(item[1].tokens)):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-02", "positions that run on")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for number, e in enumerate(examples):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(start, end), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-03", "the first token of an example is learned")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for number, e in enumerate(examples):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start:end] = e.tokens, e.labels
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-04", "segments are the examples' numbers in the whole set")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for number, e in enumerate(examples):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append((number, e))
        used[r] += n
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for number, e in members:
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), number
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-05", "padding is learned as token 0")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for number, e in enumerate(examples):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, pad_token, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            labels[r, start] = IGNORE
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-06", "every row as long as max_time")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for number, e in enumerate(examples):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    tokens, labels, positions, segments = (torch.full((len(rows), max_time), fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-08", "an example that is too long gets a row of its own")
def pack_examples(examples, max_time, pad_token=0):
    if not examples:
        raise ValueError("the training set is empty")
    rows, used = [], []
    for e in examples:
        n = len(e.tokens)
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    shape = (len(rows), max(used))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@mistake("PACK-07", "an empty set gives empty rows")
def pack_examples(examples, max_time, pad_token=0):
    rows, used = [], []
    for number, e in enumerate(examples):
        n = len(e.tokens)
        if n > max_time:
            raise ValueError(f"example {number} has {n} tokens")
        r = next((r for r in range(len(rows)) if used[r] + n <= max_time), len(rows))
        if r == len(rows):
            rows.append([])
            used.append(0)
        rows[r].append(e)
        used[r] += n
    shape = (len(rows), max(used, default=0))
    tokens, labels, positions, segments = (torch.full(shape, fill) for fill in (pad_token, IGNORE, 0, -1))
    for r, members in enumerate(rows):
        start = 0
        for s, e in enumerate(members):
            end = start + len(e.tokens)
            tokens[r, start:end], labels[r, start + 1 : end] = e.tokens, e.labels[1:]
            positions[r, start:end], segments[r, start:end] = torch.arange(end - start), s
            start = end
    return PackedRows(tokens, labels, positions, segments)


@correct("rows grow as lists of tensors, and pad_sequence fills them up")
def pack_examples(examples, max_time, pad_token=0):
    if len(examples) == 0:
        raise ValueError("the training set is empty")
    rows = []
    for i, (tokens, labels) in enumerate(examples):
        n = tokens.shape[0]
        if n > max_time:
            raise ValueError(f"example {i} is {n} tokens long, more than {max_time}")
        fitting = [row for row in rows if sum(len(t) for t, *_ in row) + n <= max_time]
        if fitting:
            row = fitting[0]
        else:
            row = []
            rows.append(row)
        labels = labels.clone()
        labels[0] = IGNORE
        row.append((tokens, labels, torch.arange(n), torch.full((n,), len(row))))
    parts = []
    for which, fill in enumerate((pad_token, IGNORE, 0, -1)):
        joined = [torch.cat([member[which] for member in row]) for row in rows]
        parts.append(nn.utils.rnn.pad_sequence(joined, batch_first=True, padding_value=fill))
    return PackedRows(*parts)


# ---------------------------------------------------------------------------------------------- packed_mask


@mistake("PMASK-01", "not causal")
def packed_mask(segments):
    return segments[:, None, :, None] == segments[:, None, None, :]


@mistake("PMASK-02", "causal, and nothing else")
def packed_mask(segments):
    rows, time = segments.shape
    return torch.ones(rows, 1, time, time, dtype=torch.bool, device=segments.device).tril()


@mistake("PMASK-03", "a token does not see itself")
def packed_mask(segments):
    return (segments[:, None, :, None] == segments[:, None, None, :]).tril(-1)


@mistake("PMASK-04", "padding sees nothing at all")
def packed_mask(segments):
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return same.tril() & (segments >= 0)[:, None, :, None]


@mistake("PMASK-05", "no axis for the heads")
def packed_mask(segments):
    return (segments[:, :, None] == segments[:, None, :]).tril()


@mistake("PMASK-06", "True = hidden")
def packed_mask(segments):
    return ~(segments[:, None, :, None] == segments[:, None, None, :]).tril()


@mistake("PMASK-06", "triu in place of tril")
def packed_mask(segments):
    return (segments[:, None, :, None] == segments[:, None, None, :]).triu()


@correct("two conditions with places of their own")
def packed_mask(segments):
    places = torch.arange(segments.shape[1], device=segments.device)
    causal = places[None, :] <= places[:, None]
    same = segments.unsqueeze(2).eq(segments.unsqueeze(1))
    return torch.logical_and(same, causal).unsqueeze(1)


# ---------------------------------------------------------------------------------------------- answer_loss


@broken("ALOSS-01", "both are cut on the same side, so that each place predicts itself")
def answer_loss(hidden, head, labels):
    # the first label is predicted by nothing: leave it out
    states, wanted = hidden[:, 1:], labels[:, 1:]
    counted = wanted != IGNORE
    if not counted.any():
        raise ValueError("every label is masked (-100): there is no answer to learn; look at how the labels were made")
    return cross_entropy(head(states[counted]).float(), wanted[counted])


@mistake("ALOSS-01", "not shifted at all")
def answer_loss(hidden, head, labels):
    counted = labels != IGNORE
    if not counted[:, 1:].any():
        raise ValueError("every label is masked")
    return cross_entropy(head(hidden[counted]).float(), labels[counted])


@mistake("ALOSS-02", "shifted the other way")
def answer_loss(hidden, head, labels):
    states, wanted = hidden[:, 1:], labels[:, :-1]
    counted = wanted != IGNORE
    if not counted.any():
        raise ValueError("every label is masked")
    return cross_entropy(head(states[counted]).float(), wanted[counted])


@mistake("ALOSS-03", "the mean of the rows' means")
def answer_loss(hidden, head, labels):
    losses = []
    for states, wanted in zip(hidden[:, :-1], labels[:, 1:]):
        counted = wanted != IGNORE
        if counted.any():
            losses.append(cross_entropy(head(states[counted]).float(), wanted[counted]))
    if not losses:
        raise ValueError("every label is masked")
    return torch.stack(losses).mean()


@mistake("ALOSS-03", "the sum over the answers, divided by all places")
def answer_loss(hidden, head, labels):
    states, wanted = hidden[:, :-1], labels[:, 1:]
    counted = wanted != IGNORE
    if not counted.any():
        raise ValueError("every label is masked")
    return cross_entropy(head(states[counted]).float(), wanted[counted]) * counted.sum() / counted.numel()


@mistake("ALOSS-04", "the head runs everywhere")
def answer_loss(hidden, head, labels):
    if not (labels[:, 1:] != IGNORE).any():
        raise ValueError("every label is masked")
    return cross_entropy(head(hidden)[:, :-1].float(), labels[:, 1:])


@mistake("ALOSS-05", "nothing to learn is a loss of 0")
def answer_loss(hidden, head, labels):
    states, wanted = hidden[:, :-1], labels[:, 1:]
    counted = wanted != IGNORE
    return cross_entropy(head(states[counted]).float(), wanted[counted])


@mistake("ALOSS-06", "in the head's own precision")
def answer_loss(hidden, head, labels):
    states, wanted = hidden[:, :-1], labels[:, 1:]
    counted = wanted != IGNORE
    if not counted.any():
        raise ValueError("every label is masked")
    return cross_entropy(head(states[counted]), wanted[counted])


@mistake("ALOSS-07", "masked labels become token 0")
def answer_loss(hidden, head, labels):
    wanted = labels[:, 1:]
    if (wanted == IGNORE).all():
        raise ValueError("every label is masked")
    return cross_entropy(head(hidden[:, :-1]).float(), wanted.clamp(min=0))


@correct("the places by nonzero, PyTorch's cross-entropy")
def answer_loss(hidden, head, labels):
    rows, places = (labels[:, 1:] != IGNORE).nonzero(as_tuple=True)
    if rows.numel() == 0:
        raise ValueError("no label counts: every answer is masked")
    logits = head(hidden[rows, places])
    return F.cross_entropy(logits.to(torch.float32), labels[rows, places + 1])
