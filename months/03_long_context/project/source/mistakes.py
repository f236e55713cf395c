"""Wrong answers that people really write, each with the code it must be answered with, and right ones in another style."""

# ---------------------------------------------------------------- read_on_grid


@mistake("GRID-01", "each portion is read as it comes")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    state = place.state
    for start in range(0, len(tokens), chunk):
        state = run(tokens[start : start + chunk], state)
    return place._replace(state=state, tokens=place.tokens + len(tokens))


@mistake("GRID-02", "the new tokens stand in front of those that wait")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([tokens, place.pending]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return place._replace(state=state, pending=waiting[whole:].copy(), tokens=place.tokens + whole)


@mistake("GRID-03", "each chunk begins with the state of the place")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], place.state)
    return place._replace(state=state, pending=waiting[whole:].copy(), tokens=place.tokens + whole)


@mistake("GRID-03", "the new state stays in a variable")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return place._replace(pending=waiting[whole:].copy(), tokens=place.tokens + whole)


@mistake("GRID-04", "one chunk a portion at most")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting = np.concatenate([place.pending, tokens])
    if len(waiting) < chunk:
        return place._replace(pending=waiting)
    state = run(waiting[:chunk], place.state)
    return place._replace(state=state, pending=waiting[chunk:].copy(), tokens=place.tokens + chunk)


@mistake("GRID-05", "what is left is thrown away")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return place._replace(state=state, pending=np.empty(0, np.int64), tokens=place.tokens + whole)


@mistake("GRID-06", "the tokens that wait are counted")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return place._replace(state=state, pending=waiting[whole:].copy(), tokens=place.tokens + len(tokens))


@mistake("GRID-08", "a new place, without rest and source")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return Place(state, waiting[whole:].copy(), tokens=place.tokens + whole)


@mistake("GRID-09", "a chunk of 0 tokens is accepted")
def read_on_grid(place, tokens, chunk, run):
    waiting, state, done = np.concatenate([place.pending, tokens]), place.state, 0
    while chunk > 0 and len(waiting) >= chunk:
        state, waiting, done = run(waiting[:chunk], state), waiting[chunk:], done + chunk
    return place._replace(state=state, pending=waiting.copy(), tokens=place.tokens + done)


@mistake("GRID-10", "a slice waits, and keeps the whole portion in memory")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state = np.concatenate([place.pending, tokens]), place.state
    whole = len(waiting) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(waiting[start : start + chunk], state)
    return place._replace(state=state, pending=waiting[whole:], tokens=place.tokens + whole)


@mistake("GRID-11", "what waited is forgotten")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    state, whole = place.state, len(tokens) // chunk * chunk
    for start in range(0, whole, chunk):
        state = run(tokens[start : start + chunk], state)
    return place._replace(state=state, pending=tokens[whole:].copy(), tokens=place.tokens + whole)


@mistake("GRID-12", "a chunk that is exactly full waits for one more token")
def read_on_grid(place, tokens, chunk, run):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: a chunk holds at least one token")
    waiting, state, done = np.concatenate([place.pending, tokens]), place.state, 0
    while len(waiting) - done > chunk:
        state = run(waiting[done : done + chunk], state)
        done += chunk
    return place._replace(state=state, pending=waiting[done:].copy(), tokens=place.tokens + done)


@correct("with a list, chunk after chunk")
def read_on_grid(place, tokens, chunk, run):
    if not chunk >= 1:
        raise ValueError(f"{chunk} tokens are no chunk")
    waiting = list(place.pending) + list(tokens)
    state, done = place.state, 0
    while len(waiting) - done >= chunk:
        state = run(np.array(waiting[done : done + chunk], dtype=np.int64), state)
        done += chunk
    return Place(state, np.array(waiting[done:], dtype=np.int64), place.rest, place.tokens + done, place.source)


# ---------------------------------------------------------------- load_place


@mistake("STATE-02", "memory and past are swapped")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    try:
        state = [MixerState(tensors[f"{i}.memory"], tensors[f"{i}.past"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-03", "the waiting tokens stay a tensor")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"], bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-04", "the metadata stay text")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, metadata["tokens"], metadata["source"])


@mistake("STATE-05", "whose state it is is not asked")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors.get("pending", torch.zeros(0, dtype=torch.int64)).numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-05", "the same, and a missing tensor is refused")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-06", "the format is not looked at")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
    return Place(state, tensors["pending"].numpy(), bytes(tensors["rest"].tolist()), int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-06", "the same, and the model is looked at")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-07", "a NaN comes back in silence")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-08", "a missing tensor is a KeyError")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
    pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-09", "only what is too large is looked for among the tokens")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by model {metadata['model'][:12]}, and this is {hashed[:12]}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if (pending >= model.config.vocab_size).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-10", "the message does not say which file")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise StateError(f"wrong format {metadata.get('format')!r}")
    if metadata["model"] != hashed:
        raise StateError("another model")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{error} is missing") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError("not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError("unknown tokens")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@mistake("STATE-11", "the model is looked at before the format")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)
    if metadata["model"] != hashed:
        raise StateError(f"{path} was written by another one")
    if metadata.get("format") != FORMAT:
        raise StateError(f"{path} has the format {metadata.get('format')!r}")
    try:
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(model.layers))] if "0.past" in tensors else None
        pending, rest = tensors["pending"].numpy(), bytes(tensors["rest"].tolist())
    except KeyError as error:
        raise StateError(f"{path} lacks {error}") from None
    if not all(part.isfinite().all() for layer in state or [] for part in layer):
        raise StateError(f"{path} has numbers that are not finite")
    if ((pending < 0) | (pending >= model.config.vocab_size)).any():
        raise StateError(f"{path} has tokens that the model does not know")
    return Place(state, pending, rest, int(metadata["tokens"]), json.loads(metadata["source"]))


@correct("one error after another, the names looked up first")
def load_place(path, model, hashed):
    metadata, tensors = read_tensors(path)

    def refuse(unless, why):
        if not unless:
            raise StateError(f"{path}: {why}; read the text again")

    refuse(metadata.get("format", None) == FORMAT, f"format {metadata.get('format', None)}, this library has {FORMAT}")
    refuse(metadata["model"] == hashed, f"its model is {metadata['model']}, this one is {hashed}")
    started = "0.past" in tensors
    names = [f"{number}.{part}" for number in range(len(model.layers)) for part in ("past", "memory")] if started else []
    for name in [*names, "pending", "rest"]:
        refuse(name in tensors, f"without {name}")
    for name in names:
        refuse(not (tensors[name].isnan() | tensors[name].isinf()).any().item(), f"{name} is not finite")
    waiting = tensors["pending"]
    refuse(all(0 <= token < model.config.vocab_size for token in waiting.tolist()), "unknown tokens")
    layers = [MixerState(past=tensors[a], memory=tensors[b]) for a, b in zip(names[::2], names[1::2], strict=True)]
    return Place(
        state=layers if started else None,
        pending=np.array(waiting.tolist(), dtype=np.int64),
        rest=tensors["rest"].numpy().tobytes(),
        tokens=int(metadata["tokens"]),
        source=json.loads(metadata["source"]),
    )


# ---------------------------------------------------------------- rank_answers


@mistake("RANK-01", "only what was found comes back")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1).max(-1)
    rows = zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)
    found = [Answer(key, VALUES[i], p) for key, i, p in rows if i < len(VALUES)]
    return sorted(found, key=lambda answer: -answer.probability)


@mistake("RANK-02", "the best value always, as if every key had been planted")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1)[:, :-1].max(-1)
    rows = zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)
    return sorted((Answer(key, VALUES[i], p) for key, i, p in rows), key=lambda answer: -answer.probability)


@mistake("RANK-03", "softmax over the values alone")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    among = logits[:, :-1].softmax(-1).max(-1).values.tolist()
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, logits.argmax(-1).tolist(), among, strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@mistake("RANK-04", "softmax over the keys")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    index = logits.argmax(-1)
    chosen = logits.softmax(0).gather(1, index[:, None])[:, 0]
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, index.tolist(), chosen.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@mistake("RANK-04", "softmax over the keys, and the largest of that")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(0).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@mistake("RANK-05", "by certainty alone: a certain nothing stands at the top")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: -answer.probability)


@mistake("RANK-06", "the least certain first")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, answer.probability if answer.value is not None else 0))


@mistake("RANK-11", "sorted upwards, and turned round")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    found = sorted((answer for answer in answers if answer.value is not None), key=lambda answer: answer.probability)
    return found[::-1] + [answer for answer in answers if answer.value is None]


@mistake("RANK-07", "exp without subtracting the largest score")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    e = logits.exp()
    index, values = logits.argmax(-1), (e / e.sum(-1, keepdim=True)).amax(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, index.tolist(), values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@mistake("RANK-07", "the same, and the largest of NaN is taken for the answer")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    e = logits.exp()
    best = (e / e.sum(-1, keepdim=True)).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@mistake("RANK-08", "a NaN has an answer too")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1):
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices.tolist(), best.values.tolist(), strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@mistake("RANK-09", "tensors of one number in the place of floats")
def rank_answers(logits):
    if logits.shape != (len(KEYS), len(VALUES) + 1) or not torch.isfinite(logits).all():
        raise ValueError(f"bad scores of shape {tuple(logits.shape)}")
    best = logits.softmax(-1).max(-1)
    answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, best.indices, best.values, strict=True)]
    return sorted(answers, key=lambda answer: (answer.value is None, -answer.probability if answer.value is not None else 0))


@correct("two lists, key by key, with logsumexp")
def rank_answers(logits):
    if list(logits.shape) != [len(KEYS), len(VALUES) + 1]:
        raise ValueError(f"shape {list(logits.shape)}")
    if logits.isnan().any() or logits.isinf().any():
        raise ValueError("a score is no number")
    found, missing = [], []
    for key, scores in zip(KEYS, logits.double().unbind(0), strict=True):
        index = int(scores.argmax())
        p = (scores[index] - scores.logsumexp(0)).exp().item()
        if index == len(VALUES):
            missing.append(Answer(key, None, p))
        else:
            found.append(Answer(key, VALUES[index], p))
    found.sort(key=lambda answer: answer.probability, reverse=True)
    return found + missing
