# %% [markdown] id="title"
# # Week 8 lab · An inference engine, written by you
#
# **What you will have built:** what an engine decides and keeps track of while a model writes for many people at once. How many bytes a conversation takes; who owns
# which block of the cache; where a token lies; who may run in the next step; which tokens a grammar allows; and how much of a guess is kept. In the library these
# are `hybridlab.llm.kv_memory`, `.paged_cache`, `.scheduler`, `.constrained` and `.speculative`. At the end, SmolLM2 runs on them.
#
# | day | exercise | minutes | points |
# | --- | --- | --- | --- |
# | Tue | 1 `kv_cache_bytes` | 15 | 2 |
# | Tue | 2 `BlockPool` | 45 | 4 |
# | Tue | 3 `cache_slots` | 30 | 3 |
# | Wed | 4 `plan_step` | 45 | 4 |
# | Wed | 5 `token_mask` | 30 | 3 |
# | Fri | 6 `accept_draft`: find the bug | 35 | 4 |
#
# **Time:** about 3½ hours. Run from top to bottom, the solved notebook takes less than a minute. **Needs:** month 1's attention and cache, and this week's lesson.
#
# A check that fails names the mistake it saw. `course hint week08 block-pool` gives a hint: there are three for each exercise, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
from collections import Counter, deque
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybridlab.llm.automaton import Automaton
from hybridlab.llm.request import OutOfBlocks, StepPlan
from hybridlab.transformer.config import TransformerConfig

# %% id="setup"
import matplotlib.pyplot as plt
from coursekit.notebook import compare, seed_everything
from hybridlab.runtime import set_threads

seed_everything(8)
set_threads()
torch.set_printoptions(precision=3, sci_mode=False, linewidth=110)

# %% [markdown] id="bytes-why"
# ## Tuesday · 1. `kv_cache_bytes`: what a conversation takes
#
# **Why.** The weights are there once, whoever asks. The KV cache is there once *for each person*. So its size decides how many people a machine can answer at the same time.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `config` | the model's shape: `n_layers`, `n_kv_heads`, `d_head` count here |
# | `lengths` | tokens of each sequence; may be empty |
# | a token | a key and a value in each layer, for each **key/value** head, `d_head` numbers of `dtype` (float32 if not given) |
# | `block_size` | memory comes in blocks of so many tokens (1 if not given); **each** sequence is rounded up to whole blocks |
# | result | bytes, an `int` |
# | `ValueError` | `block_size` below 1, a negative length |
#
# **Worked example.** Two sequences of 5 and 1 tokens in blocks of 4, in a model of 2 layers, 3 key/value heads, 8 numbers a head, in bfloat16 (2 bytes):

# %% id="bytes-example"
a_token = 2 * 2 * 3 * 8 * 2  # key and value, layers, heads, numbers, bytes
print(f"a token {a_token} bytes; blocks {2} + {1}; {(2 + 1) * 4 * a_token} bytes. Rounding the sum of 6 tokens would give {2 * 4 * a_token}: too few.")

# %% id="kv-cache-bytes" exercise="hybridlab.llm.kv_memory.kv_cache_bytes" points=2 minutes=15 difficulty=1

# %% [markdown] id="bytes-next"
# If the check fails: count one token of one layer on paper, and then multiply. Two models, one conversation of 4,096 tokens each:

# %% id="bytes-use"
for name, shape in {"SmolLM2-135M": (9, 3, 30, 576), "Llama-3-8B": (32, 8, 32, 4096)}.items():
    heads, kv_heads, layers, width = shape
    config = TransformerConfig.llama(49_152, d_model=width, n_layers=layers, n_heads=heads, n_kv_heads=kv_heads)
    print(f"{name:14s} {kv_cache_bytes(config, [1], dtype=torch.bfloat16):>9,} bytes a token, {kv_cache_bytes(config, [4096], dtype=torch.bfloat16) / 2**20:6.1f} MiB for 4,096 tokens in bfloat16")

# %% [markdown] id="pool-why"
# ## Tuesday · 2. `BlockPool`: who owns which block
#
# **Why.** Nobody knows how long an answer gets. A cache that reserves one piece of memory for the longest possible answer wastes most of it. A *paged* cache hands out small blocks when they are needed, as an
# operating system does with pages. The pool keeps the books. A block may have **several** users: four answers to one question share the question's blocks.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `BlockPool(n_blocks)` | blocks 0 … n_blocks - 1, all free; `ValueError` if fewer than 1 |
# | `n_free` | how many blocks nobody uses (attribute or property) |
# | `users(block)` | how many use it; 0 if it is free or not of this pool |
# | `allocate(n)` | a list of n different blocks that were free, each with one user now; `OutOfBlocks` (given) if fewer are free, with both numbers in its text; `ValueError` if n is negative |
# | `share(blocks)` | one user more for each. A block that stands there twice gains two. `ValueError` if one has no user |
# | `release(blocks)` | one user less for each; without users a block is free again. A block that stands there twice loses two. `ValueError` if one has too few users |
# | where it raises | **nothing** has changed |
#
# **Worked example**, the books of a pool of three:

# %% id="pool-example"
print("allocate(2)      -> [0, 1]; users 1 1 0, one is free")
print("share([0])       -> users 2 1 0")
print("release([0, 1])  -> users 1 0 0: block 1 is free again, block 0 still has a user")
print("allocate(3)      -> OutOfBlocks: 3 are asked for, 2 are free. users 1 0 0 as before")

# %% id="block-pool" exercise="hybridlab.llm.paged_cache.BlockPool" points=4 minutes=45 difficulty=3

# %% [markdown] id="pool-next"
# If the check fails: first look whether you change something before you are sure that all of it can be done. What sharing is worth, with a question of 100 tokens and four answers of 20, in blocks of 16:

# %% id="pool-use"
pool = BlockPool(100)
question = pool.allocate(100 // 16)  # its full blocks; the last, half full, is each answer's own
for _ in range(4):
    pool.share(question)
    pool.allocate(-(-(100 % 16 + 20) // 16))
print(f"{100 - pool.n_free} blocks in use; without sharing {4 * -(-120 // 16)}")

# %% [markdown] id="slots-why"
# ## Tuesday · 3. `cache_slots`: where a token lies
#
# **Why.** Attention wants the keys of positions 0, 1, 2 … in a row. In the pool they lie wherever a block was free. The *block table* of a sequence says where: this function turns tables into slots for a whole
# batch, and one `index_select` then gathers the keys.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `tables` | for each sequence its blocks, in order; there may be more than it needs yet |
# | `lengths` | tokens of each sequence, 1 or more |
# | slot of position `p` | `table[p // block_size] * block_size + p % block_size` |
# | result | `(slots, filled)`, both `(batch, longest length)`: int64, and Bool |
# | shorter rows | slot 0 and `filled` False behind their end |
# | `ValueError` | a length below 1; a table with too few blocks for its length; more or fewer tables than lengths |
#
# **Worked example.** Five tokens in blocks of two; the table is [7, 2, 4]:

# %% id="slots-example"
for p in range(5):
    print(f"position {p}: block {[7, 2, 4][p // 2]}, offset {p % 2}, slot {[7, 2, 4][p // 2] * 2 + p % 2}")

# %% id="cache-slots" exercise="hybridlab.llm.paged_cache.cache_slots" points=3 minutes=30 difficulty=2

# %% [markdown] id="slots-next"
# If the check fails: print your slots beside the ones above. Here three sequences lie scattered over one pool; each colour is one sequence.

# %% id="slots-use"
tables, lengths = [[7, 2, 4], [0, 5], [3, 6]], [11, 5, 8]
slots, filled = cache_slots(tables, lengths, 4)
owner = torch.full((9 * 4,), torch.nan)
for row in range(3):
    owner[slots[row][filled[row]]] = row
figure, axis = plt.subplots(figsize=(8, 1.2), layout="constrained")
axis.imshow(owner[None], aspect="auto", cmap="Set2", extent=(0, 36, 0, 1))
axis.set(yticks=[], xticks=range(0, 37, 4), xlabel="slot; a block is 4 slots wide", title="white: no token there")
print(f"{int(filled.sum())} tokens in {sum(map(len, tables))} blocks of 4; {sum(map(len, tables)) * 4 - int(filled.sum())} slots wait for the next tokens")

# %% [markdown] id="plan-why"
# ## Wednesday · 4. `plan_step`: who may run now
#
# **Why.** A batch that waits for its longest answer leaves most of its places empty. Continuous batching decides anew at *every* token: whoever is done makes room at once, and whoever waits comes in. But a
# running sequence needs a new block now and then, and there may be none left: then somebody has to go back.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `running` | tokens in the cache of each running sequence, the longest-running first |
# | `waiting` | prompt lengths in the queue, the longest-waiting first |
# | this step | each running sequence gets one token. It needs a free block if its tokens are a multiple of `block_size` |
# | 1. preempt | while the running ones need more blocks than are free, the **last** goes back: its blocks (tokens / block_size, rounded up) become free, and it needs none |
# | 2. admit | only if nobody went back, and in order: while fewer than `max_batch` run and the free blocks that the running ones leave hold prompt **and one token more**, in whole blocks |
# | | (the token more: so that its own first token does not send it back in the very next step) |
# | | the first that does not fit ends it: nobody overtakes |
# | result | `StepPlan(admit, preempt)`, given; the lists stay unchanged |
#
# **Worked example**, blocks of four:

# %% id="plan-example"
print("running [8, 5], 3 free: the first needs a block, so 2 are left. A prompt of 7 needs 8 slots, 2 blocks: let in.   StepPlan(1, 0)")
print("             a prompt of 8 needs 9 slots, 3 blocks: it has to wait, and all behind it, however short.           StepPlan(0, 0)")
print("running [8, 5, 4], 0 free: two blocks are needed. The last goes back, 1 block is free; the first takes it.      StepPlan(0, 1)")

# %% id="plan-step" exercise="hybridlab.llm.scheduler.plan_step" points=4 minutes=45 difficulty=3

# %% [markdown] id="plan-next"
# If the check fails: do the third line of the example by hand, block by block. Forty requests of very different lengths, on your scheduler alone (no model):

# %% id="plan-use"
generator = torch.Generator().manual_seed(1)
requests = [(int(p), int(a)) for p, a in torch.randint(4, 60, (40, 2), generator=generator)]
waiting, running, occupancy = [[p, p + a] for p, a in requests], [], []
while waiting or running:
    held = sum(-(-tokens // 8) for tokens, _ in running)
    plan = plan_step([t for t, _ in running], [t for t, _ in waiting], n_free=60 - held, block_size=8, max_batch=12)
    for _ in range(plan.preempt):
        waiting.insert(0, running.pop())
    running = [[t + 1, end] for t, end in running] + [waiting.pop(0) for _ in range(plan.admit)]
    running = [one for one in running if one[0] < one[1]]
    occupancy.append(len(running))
static = sum(max(a for _, a in requests[i : i + 12]) for i in range(0, 40, 12))
figure, axis = plt.subplots(figsize=(7, 2.2), layout="constrained")
axis.step(range(len(occupancy)), occupancy, where="post")
axis.set(xlabel="step", ylabel="sequences running", title="twelve places, filled again as soon as the blocks allow")
print(f"{len(occupancy)} steps; batches of 12 that wait for their longest answer, even with memory without limit: {static} steps")

# %% [markdown] id="mask-why"
# ## Wednesday · 5. `token_mask`: nothing but valid JSON
#
# **Why.** A model that is asked for JSON mostly gives JSON. A program wants it always. So before each token, all tokens that would break the grammar are taken away. The grammar is an *automaton* over bytes (given);
# tokens are several bytes long, and have to be walked.
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `automaton.step(state, byte)` | the next state, or None where no text goes on so |
# | `automaton.accepts(state)` | whether the text may end here |
# | `pieces[t]` | the bytes of token t; special tokens have none |
# | allowed | a token all of whose bytes can be read one after the other, from `state` on; the text need not end there |
# | a token without bytes | not allowed |
# | `end_token` | allowed if and only if `accepts(state)`, whatever its bytes |
# | result | Bool, one entry a token |
# | `ValueError` | `end_token` is no place in `pieces` |
#
# **Worked example.** The grammar knows `true` and `[1]`, and nothing was written yet:

# %% id="mask-example"
from hybridlab.llm.automaton import Choice, text

automaton = Automaton(Choice((text("true"), text("[1]"))))
for piece in (b"t", b"tru", b"true!", b"[", b"[1", b"1"):
    place = automaton.start
    for letter in piece:
        place = None if place is None else automaton.step(place, letter)
    print(f"{piece!s:9} {'not allowed' if place is None else 'allowed'}")

# %% id="token-mask" exercise="hybridlab.llm.constrained.token_mask" points=3 minutes=30 difficulty=2

# %% [markdown] id="mask-next"
# If the check fails: which state does your loop stand in when it comes to the *second* token? What your mask does to a model that knows nothing (random logits):

# %% id="mask-use"
from hybridlab.llm.json_schema import schema_pattern

schema = {"type": "object", "properties": {"ok": {"type": "boolean"}, "n": {"type": "integer"}}, "required": ["ok", "n"]}
automaton = Automaton(schema_pattern(schema))
letters = [bytes([byte]) for byte in range(32, 127)] + [b""]
state, written = automaton.start, b""
generator = torch.Generator().manual_seed(3)
while True:
    allowed = token_mask(automaton, state, letters, end_token=95)
    token = int(torch.randn(96, generator=generator).masked_fill(~allowed, -torch.inf).argmax())
    if token == 95:
        break
    written, state = written + letters[token], automaton.step(state, letters[token][0])
print("random letters under the mask:", written.decode())

# %% [markdown] id="friday-why"
# ## Friday · 6. `accept_draft`: working-looking code with a bug
#
# A draft writes four tokens ahead, and the model reads them in one pass. A rule keeps as many of them as may be kept, so that the text is *distributed as if the model had written it alone*. A colleague's version passed
# their test: with greedy decoding the text is identical, word for word. **Symptom:** when tokens are drawn, not picked, the text gets duller. Common words come more often than the model says, and rare
# ones less. Run the cell and the figure below it, **find the bug and mend it.**
#
# **What is asked**
#
# | | |
# | --- | --- |
# | `drafted` | n tokens; `draft_probs` (n, vocab): q, the distributions that they were drawn from, so q(x) > 0 for every drafted token x |
# | `target_probs` | (n + 1, vocab): p, what the model says at the same places, and at the one behind |
# | token x of the draft | is kept with probability min(1, p(x) / q(x)) |
# | the first that is not kept | ends it; in its place a token drawn from max(0, p - q), made to add up to 1 |
# | all kept | one more token, drawn from the last row of `target_probs` |
# | result | kept tokens and the one that follows, int64; the inputs stay unchanged; all randomness from `generator` |
# | `ValueError` | different vocabularies; `target_probs` without exactly one row more than the draft has tokens |
#
# **Worked example.** Two words. The draft says q = (0.9, 0.1), the model p = (0.5, 0.5):

# %% id="friday-example"
kept = 0.9 * (0.5 / 0.9), 0.1 * 1
print(f"drafted and kept: word 0 in {kept[0]:.0%} of all cases, word 1 in {kept[1]:.0%}")
print(f"not kept: {1 - sum(kept):.0%}. p - q = (-0.4, 0.4), so all of these become word 1: {kept[0]:.0%} and {kept[1] + 1 - sum(kept):.0%}, which is p")

# %% id="accept-draft" exercise="hybridlab.llm.speculative.accept_draft" points=4 minutes=35 difficulty=3

# %% id="friday-figure"
generator = torch.Generator().manual_seed(8)
p, q = torch.tensor([0.45, 0.25, 0.15, 0.1, 0.05]), torch.tensor([0.1, 0.1, 0.2, 0.3, 0.3])
counts = torch.zeros(5)
for _ in range(4000):
    drafted = torch.multinomial(q, 1, generator=generator)
    counts[accept_draft(drafted, q[None], torch.stack([p, p]), generator)[0]] += 1
figure, axis = plt.subplots(figsize=(6, 2.6), layout="constrained")
for shift, values, label in ((-0.27, q, "the draft's q"), (0, p, "the model's p"), (0.27, counts / counts.sum(), "what came out")):
    axis.bar(torch.arange(5) + shift, values, width=0.25, label=label)
axis.set(xlabel="word", ylabel="probability", title="what comes out must be p")
axis.legend(fontsize=8)
print(f"largest difference from p: {(counts / counts.sum() - p).abs().max():.3f} (chance alone: about 0.02)")

# %% [markdown] id="friday-next"
# Once mended, the green bars are as high as the orange ones. If they are not: take the worked example, follow the cases that are not kept, and add up where they go. With greedy decoding p is 1 at one word, and then
# p and max(0, p - q) are the same: that is why the test was passed.

# %% [markdown] id="challenge"
# ## Challenge (optional, no points): the mask, faster
#
# `token_mask` walks every token from its first byte. A vocabulary of 49,152 tokens has 11,000 that begin with the same byte, a space, and walks that byte 11,000 times. Write `faster` so that it gives the same mask in less
# time. You may prepare something from `pieces` once, outside (`prepare`, not timed). **Three times as fast is good.**
#
# A hint: sort the pieces. Or build a tree of them, and walk the tree.

# %% id="challenge-code"
def prepare(pieces):
    """Whatever `faster` can use for every state; made once."""
    return pieces  # replace this line


def faster(automaton, state, prepared, end_token):
    """The same as token_mask(automaton, state, pieces, end_token)."""
    return token_mask(automaton, state, prepared, end_token)  # replace this line

# %% id="challenge-ratio"
generator = torch.Generator().manual_seed(5)
letters, sizes = torch.randint(97, 102, (4000, 8), generator=generator), torch.randint(1, 9, (4000,), generator=generator)
pieces = [b" " + bytes(row[:size].tolist()) for row, size in zip(letters, sizes)] + [b"{", b'"', b'": ', b"1", b""]
automaton = Automaton(schema_pattern({"type": "string", "maxLength": 30}))
inside = automaton.step(automaton.start, ord('"'))
prepared = prepare(pieces)
same = torch.equal(faster(automaton, inside, prepared, len(pieces) - 1), token_mask(automaton, inside, pieces, len(pieces) - 1))
print("the same mask:", same)
ratio = compare(lambda: faster(automaton, inside, prepared, len(pieces) - 1), lambda: token_mask(automaton, inside, pieces, len(pieces) - 1))

# %% [markdown] id="bigger"
# ## Grade, promote, see it run
#
# | | |
# | --- | --- |
# | `course grade week08` | points for each exercise, with hidden cases too |
# | `course promote week08` | what has passed becomes the library: the list below then says `learner` |
# | `course progress` | where you stand |
#
# Inside the bigger model: five people ask SmolLM2 at the same time. Your pool keeps the books, your slots gather the keys, your scheduler decides.

# %% id="bigger-model"
from hybridlab.exercise import REGISTRY
from hybridlab.llm.chat_template import encode_chat
from hybridlab.llm.continuous_batching import ContinuousBatching
from hybridlab.llm.llama import load_folder
from hybridlab.llm.request import Request
from hybridlab.llm.smollm2 import model_folder
from hybridlab.llm.tokenizer import BytePairTokenizer
import hybridlab.llm.constrained
import hybridlab.llm.kv_memory
import hybridlab.llm.speculative

model = load_folder(model_folder(), max_time=512)
tokenizer = BytePairTokenizer.from_json(model_folder() / "tokenizer.json")
questions = ("What is the capital of France?", "Name three colours.", "Who wrote Hamlet?", "Give me a greeting.", "What is a cache?")
requests = [Request(encode_chat([{"role": "user", "content": q}], tokenizer), 16, stop=tokenizer.special["<|im_end|>"]) for q in questions]
served = ContinuousBatching(model, n_blocks=24, max_batch=4).serve(requests)
for question, answer in zip(questions, served.answers):
    print(f"{question:32s} {tokenizer.decode(answer)}")
print(f"{sum(map(len, served.answers))} tokens in {len(served.steps)} steps, at most {max(step.decoded for step in served.steps)} sequences at once")
for symbol, entry in REGISTRY.items():
    if symbol.startswith(("hybridlab.llm.kv_", "hybridlab.llm.paged", "hybridlab.llm.sched", "hybridlab.llm.constrained", "hybridlab.llm.spec")):
        print(f"{symbol.removeprefix('hybridlab.llm.'):30s} {entry.origin}")

# %% [markdown] id="finish"
# ## What to read, what comes next
#
# - [PagedAttention](https://arxiv.org/abs/2309.06180), section 4: your exercises 2, 3 and 4, as vLLM has them.
# - [Speculative decoding](https://arxiv.org/abs/2211.17192), section 2.3 and appendix A.1: why exercise 6 gives p.
# - [Guided generation](https://arxiv.org/abs/2307.09702), section 4: how exercise 5 becomes a look-up.
#
# **Next:** the month's project. SmolLM2 can be tuned, made small, and served: make a chatbot of your own out of it.
