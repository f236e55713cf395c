"""Answers to week 5's exercises as learners write them: wrong ones with their codes, right ones in another style."""

# ---------------------------------------------------------------------------------------------- train_bpe


@mistake("BPE-02", "every word counts once")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    texts, merges = [list(w) for w in words], []
    while len(merges) < n_merges:
        counts = Counter(pair for text in texts for pair in pairwise(text))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        texts = [merge_pair(text, best, 256 + len(merges)) for text in texts]
        merges.append(best)
    return merges


@mistake("BPE-03", "Counter.most_common: the first that was seen")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in pairwise(text):
                counts[pair] += words[word]
        if not counts:
            break
        best = counts.most_common(1)[0][0]
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
        merges.append(best)
    return merges


@mistake("BPE-03", "max over (frequency, pair)")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in pairwise(text):
                counts[pair] += words[word]
        if not counts:
            break
        best = max(counts, key=lambda pair: (counts[pair], pair))
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
        merges.append(best)
    return merges


@mistake("BPE-04", "counted once, then read off")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    counts = Counter()
    for word, times in words.items():
        for pair in pairwise(word):
            counts[pair] += times
    return sorted(counts, key=lambda pair: (-counts[pair], pair))[:n_merges]


@mistake("BPE-05", "the first merge makes token 257")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in pairwise(text):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(best)
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
    return merges


@mistake("BPE-06", "str.count counts no overlaps")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in set(pairwise(text)):
                counts[pair] += words[word] * (len(text) - len(merge_pair(text, pair, -1)))
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
        merges.append(best)
    return merges


@mistake("BPE-07", "the caller's words are merged away")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    merges = []
    while len(merges) < n_merges:
        counts = Counter()
        for word, times in words.items():
            for pair in pairwise(word):
                counts[pair] += times
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        new = {merge_pair(w, best, 256 + len(merges)): n for w, n in words.items()}
        words.clear()
        words.update(new)
        merges.append(best)
    return merges


@mistake("BPE-10", "a pair that occurs once is not worth a merge")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError("negative")
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in pairwise(text):
                counts[pair] += words[word]
        if not counts or max(counts.values()) < 2:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
        merges.append(best)
    return merges


@mistake("BPE-08", "a negative number is no error")
def train_bpe(words, n_merges):
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in pairwise(text):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
        merges.append(best)
    return merges


@correct("everything counted anew for each merge")
def train_bpe(words, n_merges):
    if n_merges < 0:
        raise ValueError(f"n_merges={n_merges} is negative")
    texts, merges = {w: w for w in words}, []
    while len(merges) < n_merges:
        counts = Counter()
        for word, text in texts.items():
            for pair in pairwise(text):
                counts[pair] += words[word]
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], pair))
        texts = {w: merge_pair(t, best, 256 + len(merges)) for w, t in texts.items()}
        merges.append(best)
    return merges


# ---------------------------------------------------------------------------------------------- whole_characters


@mistake("STREAM-01", "what is no character yet is ignored")
def whole_characters(waiting):
    return waiting.decode("utf-8", errors="ignore"), b""


@mistake("STREAM-02", "everything is decoded at once")
def whole_characters(waiting):
    return waiting.decode("utf-8", errors="replace"), b""


@mistake("STREAM-03", "the longest beginning that decodes; all behind it waits")
def whole_characters(waiting):
    for cut in range(len(waiting), 0, -1):
        try:
            return waiting[:cut].decode(), waiting[cut:]
        except UnicodeDecodeError:
            pass
    return "", waiting


@mistake("STREAM-04", "the last character always waits")
def whole_characters(waiting):
    start = len(waiting)
    while start > 0:
        start -= 1
        if waiting[start] & 0xC0 != 0x80:
            break
    if start < len(waiting) and waiting[start] < 0x80:
        start = len(waiting)
    return waiting[:start].decode("utf-8", errors="replace"), waiting[start:]


@mistake("STREAM-05", "decode without errors=")
def whole_characters(waiting):
    cut = len(waiting)
    for n in (1, 2, 3):
        if len(waiting) >= n and 0xC2 <= waiting[-n] < 0xF5:
            need = 2 + (waiting[-n] >= 0xE0) + (waiting[-n] >= 0xF0)
            cut -= n if n < need else 0
            break
    return waiting[:cut].decode(), waiting[cut:]


@correct("from the last lead byte, with the lengths of UTF-8")
def whole_characters(waiting):
    for n in range(1, min(3, len(waiting)) + 1):
        tail = waiting[-n:]
        if tail[0] >= 0x80 and tail[0] < 0xC0:
            continue
        for more in (b"\x80", b"\x80\x80", b"\x80\x80\x80", b"\xbf", b"\xbf\x80", b"\xbf\x80\x80", b"\x90\x80\x80"):
            try:
                if len((tail + more).decode()) == 1:
                    return waiting[:-n].decode("utf-8", "replace"), tail
            except UnicodeDecodeError:
                pass
        break
    return waiting.decode("utf-8", "replace"), b""


# ---------------------------------------------------------------------------------------------- encode_chat


@mistake("CHAT-01", "no default system message")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    tokens = []
    for m in messages:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"] + "\n" + m["content"]), tokenizer.special[END], *tokenizer.encode("\n")]
    if add_generation_prompt:
        tokens += [tokenizer.special[START], *tokenizer.encode("assistant\n")]
    return tokens


@mistake("CHAT-02", "the answer is always begun")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}] + list(messages)
    tokens = []
    for m in messages:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"] + "\n" + m["content"]), tokenizer.special[END], *tokenizer.encode("\n")]
    return tokens + [tokenizer.special[START], *tokenizer.encode("assistant\n")]


@mistake("CHAT-03", "one string, encoded as text")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}] + list(messages)
    text = "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages)
    return tokenizer.encode(text + (f"{START}assistant\n" if add_generation_prompt else ""))


@mistake("CHAT-04", "no newline behind the end of a turn")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}] + list(messages)
    tokens = []
    for m in messages:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"] + "\n" + m["content"]), tokenizer.special[END]]
    if add_generation_prompt:
        tokens += [tokenizer.special[START], *tokenizer.encode("assistant\n")]
    return tokens


@mistake("CHAT-05", "the system message is inserted into the caller's list")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    if messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": DEFAULT_SYSTEM})
    tokens = []
    for m in messages:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"] + "\n" + m["content"]), tokenizer.special[END], *tokenizer.encode("\n")]
    if add_generation_prompt:
        tokens += [tokenizer.special[START], *tokenizer.encode("assistant\n")]
    return tokens


@mistake("CHAT-06", "one string, split at the special tokens")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}] + list(messages)
    text = "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages) + (f"{START}assistant\n" if add_generation_prompt else "")
    tokens = []
    while text:
        place, name = min((text.find(name) if name in text else len(text), name) for name in (START, END))
        if place:
            tokens += tokenizer.encode(text[:place])
        if place < len(text):
            tokens.append(tokenizer.special[name])
        text = text[place + len(name) :]
    return tokens


@mistake("CHAT-07", "an empty conversation begins an answer")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    tokens = []
    if not messages or messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}] + list(messages)
    for m in messages:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"] + "\n" + m["content"]), tokenizer.special[END], *tokenizer.encode("\n")]
    if add_generation_prompt:
        tokens += [tokenizer.special[START], *tokenizer.encode("assistant\n")]
    return tokens


@mistake("CHAT-08", "the default system message always comes first")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    tokens = []
    for m in [{"role": "system", "content": DEFAULT_SYSTEM}, *messages]:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"] + "\n" + m["content"]), tokenizer.special[END], *tokenizer.encode("\n")]
    if add_generation_prompt:
        tokens += [tokenizer.special[START], *tokenizer.encode("assistant\n")]
    return tokens


@mistake("CHAT-10", "role, newline and content one by one")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    if not messages:
        raise ValueError("empty")
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": DEFAULT_SYSTEM}] + list(messages)
    tokens = []
    for m in messages:
        tokens += [tokenizer.special[START], *tokenizer.encode(m["role"]), *tokenizer.encode("\n"), *tokenizer.encode(m["content"])]
        tokens += [tokenizer.special[END], *tokenizer.encode("\n")]
    if add_generation_prompt:
        tokens += [tokenizer.special[START], *tokenizer.encode("assistant\n")]
    return tokens


@correct("a list of pieces, text or special, and one pass over it")
def encode_chat(messages, tokenizer, add_generation_prompt=True):
    turns = [(message["role"], message["content"]) for message in messages]
    if not turns:
        raise ValueError("no messages: nothing to answer")
    if turns[0][0] != "system":
        turns = [("system", DEFAULT_SYSTEM)] + turns
    pieces = []
    for role, content in turns:
        pieces += [(True, START), (False, f"{role}\n{content}"), (True, END), (False, "\n")]
    if add_generation_prompt:
        pieces += [(True, START), (False, "assistant\n")]
    out = []
    for is_special, text in pieces:
        out.extend([tokenizer.special[text]] if is_special else tokenizer.encode(text))
    return out


# ---------------------------------------------------------------------------------------------- dequantize_q4_1


@mistake("DEQ-01", "the halves of a byte are neighbours")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view("<f2").astype(np.float32).T[..., None]
    q = np.stack([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=-1).reshape(len(blocks), 32)
    return d * q.astype(np.float32) + m


@mistake("DEQ-02", "the high half first")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view("<f2").astype(np.float32).T[..., None]
    q = np.concatenate([blocks[:, 4:] >> 4, blocks[:, 4:] & 15], axis=1)
    return d * q.astype(np.float32) + m


@mistake("DEQ-03", "minus 8, as in Q4_0")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view("<f2").astype(np.float32).T[..., None]
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return d * (q.astype(np.float32) - 8) + m


@mistake("DEQ-04", "all in float16")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view("<f2").T[..., None]
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return (d * q.astype(np.float16) + m).astype(np.float32)


@mistake("DEQ-04", "float64 comes out")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view("<f2").astype(np.float64).T[..., None]
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return d * q + m


@mistake("DEQ-05", "the bytes are shifted in place")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view("<f2").astype(np.float32).T[..., None]
    low = blocks[:, 4:] & 15
    high = blocks[:, 4:]
    high >>= 4
    return d * np.concatenate([low, high], axis=1).astype(np.float32) + m


@mistake("DEQ-06", "the minimum is read before the scale")
def dequantize_q4_1(blocks):
    m, d = blocks[:, :4].copy().view("<f2").astype(np.float32).T[..., None]
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return d * q.astype(np.float32) + m


@mistake("DEQ-06", "big-endian scales")
def dequantize_q4_1(blocks):
    d, m = blocks[:, :4].copy().view(">f2").astype(np.float32).T[..., None]
    q = np.concatenate([blocks[:, 4:] & 15, blocks[:, 4:] >> 4], axis=1)
    return d * q.astype(np.float32) + m


@correct("a structured dtype, and the two halves written into their places")
def dequantize_q4_1(blocks):
    kind = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])
    rows = np.ascontiguousarray(blocks).view(kind)[:, 0]
    out = np.empty((len(blocks), 32), np.float32)
    out[:, :16] = rows["q"] % 16
    out[:, 16:] = rows["q"] // 16
    out *= rows["d"].astype(np.float32)[:, None]
    out += rows["m"].astype(np.float32)[:, None]
    return out


# ---------------------------------------------------------------------------------------------- rotary_halves


@mistake("HALF-01", "the file's permutation once more")
def rotary_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("does not fit")
    return weight.reshape(n_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


@mistake("HALF-02", "all heads as one")
def rotary_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("does not fit")
    return torch.cat([weight[0::2], weight[1::2]])


@mistake("HALF-03", "the odd rows first")
def rotary_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("does not fit")
    heads = weight.unflatten(0, (n_heads, -1))
    return torch.cat([heads[:, 1::2], heads[:, 0::2]], dim=1).flatten(0, 1)


@mistake("HALF-04", "nothing is refused")
def rotary_halves(weight, n_heads):
    d = weight.shape[0] // max(1, n_heads)
    order = [h * d + i for h in range(n_heads) for i in [*range(0, d, 2), *range(1, d, 2)]]
    return weight[order]


@mistake("HALF-06", "the rows are written back into the file's matrix")
def rotary_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads):
        raise ValueError("does not fit")
    weight[:] = weight.unflatten(0, (n_heads, -1, 2)).transpose(1, 2).flatten(0, 2).clone()
    return weight


@correct("an index of rows")
def rotary_halves(weight, n_heads):
    if n_heads < 1 or weight.shape[0] % (2 * n_heads) != 0:
        raise ValueError(f"{weight.shape[0]} rows and {n_heads} heads")
    rows = torch.arange(weight.shape[0]).view(n_heads, -1)
    return weight[torch.cat([rows[:, 0::2], rows[:, 1::2]], dim=1).flatten()]


# ---------------------------------------------------------------------------------------------- merge_word


@broken("MERGE-01", "the heap gives the leftmost pair, not the one that was learned first")
def merge_word(tokens: Sequence[int], merges: Mapping[tuple[int, int], int]) -> list[int]:
    """Merge a word's tokens as far as the learned merges go.

    `merges` maps each pair that may be merged to the token that it becomes. Again and again, of all neighbours that may be
    merged, those are merged whose new token is the lowest (it was learned first); of several such places the leftmost.
    A merge can make new pairs possible. It ends when no neighbours can be merged. `tokens` itself stays as it is.

    A word of n tokens takes about n · log n steps, so that a "word" of 100,000 letters is no trap.

    Source: Sennrich et al., 1508.07909, section 3.2; the queue is that of Hugging Face's `tokenizers`.
    """
    tokens, end = list(tokens), len(tokens)
    after = [place + 1 for place in range(end)]  # the living neighbours of each place
    before = [place - 1 for place in range(end)]
    heap = [(place, merges[pair]) for place, pair in enumerate(pairwise(tokens)) if pair in merges]
    heapq.heapify(heap)
    while heap:
        left, new = heapq.heappop(heap)
        right = after[left]
        if right >= end or merges.get((tokens[left], tokens[right])) != new:
            continue  # an old entry: one of the two was merged with another neighbour since
        tokens[left], tokens[right] = new, -1
        after[left] = after[right]
        if after[left] < end:
            before[after[left]] = left
        for first, second in ((before[left], left), (left, after[left])):
            if first >= 0 and second < end and (tokens[first], tokens[second]) in merges:
                heapq.heappush(heap, (first, merges[tokens[first], tokens[second]]))
    return [token for token in tokens if token >= 0]


@mistake("MERGE-02", "equal places from the right")
def merge_word(tokens, merges):
    tokens = list(tokens)
    while True:
        places = [(merges[pair], -i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]
        if not places:
            return tokens
        new, i = min(places)
        tokens[-i : -i + 2] = [new]


@mistake("MERGE-03", "the latest merge first")
def merge_word(tokens, merges):
    tokens = list(tokens)
    while True:
        places = [(-merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]
        if not places:
            return tokens
        new, i = min(places)
        tokens[i : i + 2] = [-new]


@mistake("MERGE-04", "one round over the pairs that stand there at the beginning")
def merge_word(tokens, merges):
    tokens = list(tokens)
    for pair, new in sorted(((p, merges[p]) for p in set(pairwise(tokens)) if p in merges), key=lambda e: e[1]):
        tokens = list(merge_pair(tokens, pair, new))
    return tokens


@mistake("MERGE-05", "the word is merged in place")
def merge_word(tokens, merges):
    tokens = tokens if isinstance(tokens, list) else list(tokens)
    while True:
        places = [(merges[pair], i) for i, pair in enumerate(pairwise(tokens)) if pair in merges]
        if not places:
            return tokens
        new, i = min(places)
        tokens[i : i + 2] = [new]


@correct("the lowest pair found anew each time, merged everywhere at once")
def merge_word(tokens, merges):
    word = tuple(tokens)
    while True:
        known = [pair for pair in set(pairwise(word)) if pair in merges]
        if not known:
            return list(word)
        first = min(known, key=merges.get)
        word = merge_pair(word, first, merges[first])
