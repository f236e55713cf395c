# %% [markdown] id="title"
# # Week 6 lab · Tune a real model with two percent of its weights
#
# **What you will have built:** the parts of supervised fine-tuning. Two of them change a model: a linear layer with an adapter of low rank,
# and the function that puts it into any network. Three make the data: dialogues with labels in the answers alone, short examples packed into
# rows, the mask that keeps them apart. The last is the loss. The library's `finetune` stands on exactly these six, and so does this
# month's project: a chatbot of your own.
#
# **Time:** about 4 hours: Tuesday 85 minutes, Wednesday 95, Friday 30, the challenge as you like.
# **You need:** month 1, and this week's lesson.
#
# | day | exercises |
# | --- | --- |
# | Tuesday | 1 · a linear layer with an adapter · 2 · adapters into a model |
# | Wednesday | 3 · a dialogue as an example · 4 · packing · 5 · the mask of packed rows |
# | Friday | 6 · a loss that is too good |
#
# Under each exercise is a check cell. It names what is wrong. If you are stuck: `course hint week06 lora-linear` in a terminal
# gives three hints, one after the other, and they cost nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from hybridlab.llm.instruction import IGNORE, Example, Message, dialogue_pieces
from hybridlab.llm.lora import LoRAConfig
from hybridlab.llm.packing import PackedRows
from hybridlab.transformer.losses import cross_entropy

# %% id="tools"
import matplotlib.pyplot as plt

from coursekit.notebook import seed_everything
from hybridlab.llm.smollm2 import load_model, load_tokenizer
from hybridlab.runtime import set_threads
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer

seed_everything(6)
set_threads()
tokenizer = load_tokenizer()
print(f"SmolLM2's tokenizer: {len(tokenizer):,} tokens; an answer ends with {tokenizer.eos_token!r}")

# %% [markdown] id="tuesday"
# ## Tuesday · The adapter
#
# ### Exercise 1 · A linear layer with an adapter
#
# **Why.** Fine-tuning changes every weight a little. LoRA leaves the weights alone and learns the *change*, as a product of two thin
# matrices: B A. One has as many columns as the layer has inputs, the other as many rows as it has outputs, and between them is the rank: 8, say.
#
# **The contract** is the docstring. Four things are easy to get wrong: which of the two begins at zero, the scaling (in `forward` *and* in
# `merge`), the dtype beside a bfloat16 layer, and the way back from `merge`.
#
# **A worked example**, small enough for your head: two inputs, two outputs, rank 1, alpha 2.

# %% id="worked-lora"
W, A, B = torch.eye(2), torch.tensor([[1.0, 1.0]]), torch.tensor([[0.5], [0.0]])
x = torch.tensor([1.0, 2.0])
scaling = 2 / 1  # alpha / rank
print("A x             ", (A @ x).tolist())
print("B (A x)         ", (B @ (A @ x)).tolist())
print("W x + 2 · B A x ", (W @ x + scaling * B @ (A @ x)).tolist())
print("merged: W + 2·BA", (W + scaling * B @ A).tolist(), "-> the same:", ((W + scaling * B @ A) @ x).tolist())

# %% id="lora-linear" exercise="hybridlab.llm.lora.LoRALinear" points=4 minutes=50 difficulty=3

# %% [markdown] id="after-lora"
# If the check does not pass: begin with `__init__` and `forward`, in float32, and let `merge` and `unmerge` wait. The next cell compares your
# layer with PEFT's formula and shows what merging does in bfloat16: why is W + D − D not W?

# %% id="see-lora"
layer = LoRALinear(nn.Linear(64, 64, bias=False).to(torch.bfloat16), rank=8, alpha=16)
with torch.no_grad():
    layer.lora_B.normal_()
W = layer.base.weight.detach().clone()
D = layer.scaling * layer.lora_B.detach() @ layer.lora_A.detach()
there_and_back = ((W + D).to(torch.bfloat16) - D).to(torch.bfloat16)
print(f"W + D − D differs from W in {(there_and_back != W).float().mean():.0%} of the weights")
layer.merge(), layer.unmerge()
print(f"your merge and unmerge:     {(layer.base.weight != W).float().mean():.0%}")

# %% [markdown] id="inject-why"
# ### Exercise 2 · Adapters into a model
#
# **Why.** Nobody rewrites a model for LoRA. The adapters are put around layers that are there already, chosen by the ends of their names,
# and everything else is frozen. PEFT does the same: `target_modules=["q_proj", "v_proj"]`.
#
# **A worked example** of the rule. Which names does the target `v_proj` choose?

# %% id="worked-inject"
for name in ("layers.0.self_attn.v_proj", "layers.0.self_attn.kv_proj", "v_proj", "v_proj.norm"):
    chosen = name == "v_proj" or name.endswith(".v_proj")
    print(f"{name:<28} {'chosen' if chosen else 'not chosen'}")

# %% id="inject-lora" exercise="hybridlab.llm.lora.inject_lora" points=3 minutes=35 difficulty=2

# %% [markdown] id="after-inject"
# If the check does not pass: print the list of the chosen names before you replace anything. The next cell adapts a small Llama in
# your own `MiniTransformer`'s shape, and counts what is left to train.

# %% id="see-inject"
for rank, targets in ((8, ("q_proj", "v_proj")), (8, ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")), (64, ("q_proj", "v_proj"))):
    mini = MiniTransformer(TransformerConfig.llama(75, d_model=256, n_layers=4, n_heads=4))
    names = inject_lora(mini, LoRAConfig(rank=rank, targets=targets))
    trainable = sum(p.numel() for p in mini.parameters() if p.requires_grad)
    everything = sum(p.numel() for p in mini.parameters())
    print(f"rank {rank:>2}, {len(names):>2} layers: {trainable:>7,} of {everything:,} parameters are trained ({trainable / everything:.1%})")

# %% [markdown] id="wednesday"
# ## Wednesday · The data
#
# ### Exercise 3 · A dialogue as an example
#
# **Why.** The model should learn to *answer*, not to ask. So only the answers' tokens have labels; all the rest is -100, and no loss counts
# it. Two details decide whether the result is any good. The mark that ends an answer must be learned, or the model never stops. And a dialogue that is
# too long must not lose its answer, nor half of its question: it loses whole exchanges, from its beginning.
#
# You return `Example(tokens, labels)`, two tensors.
#
# **A worked example**: the pieces of a dialogue, as `dialogue_pieces` gives them.

# %% id="worked-dialogue"
dialogue = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 2 + 3?"},
    {"role": "assistant", "content": "5"},
    {"role": "user", "content": "And 4 + 4?"},
    {"role": "assistant", "content": "8"},
]
for tokens, is_answer in dialogue_pieces(dialogue, tokenizer):
    print(f"{'answer' if is_answer else 'given':>6}  {len(tokens):>2} tokens  {tokenizer.decode(tokens)!r}")

# %% id="dialogue-example" exercise="hybridlab.llm.instruction.dialogue_example" points=3 minutes=40 difficulty=3

# %% [markdown] id="after-dialogue"
# If the check does not pass: leave the length aside at first, and get the labels right. The next cell shows your example: each token is a
# bar, high where it is learned.

# %% id="see-dialogue"
figure, axes = plt.subplots(2, 1, figsize=(9, 3.4), layout="constrained")
for ax, max_time in zip(axes, (100, 32)):
    example = dialogue_example(dialogue, tokenizer, max_time)
    learned = example.labels != IGNORE
    ax.bar(range(len(learned)), learned.float() * 0.9 + 0.1, color=["tab:green" if l else "lightgray" for l in learned])
    ax.set_xticks(range(len(learned)), [repr(tokenizer.decode([t]))[1:-1] for t in example.tokens.tolist()], rotation=90, fontsize=7)
    ax.set(yticks=[], title=f"max_time {max_time}: {len(learned)} tokens, {int(learned.sum())} of them learned (green)")
plt.show()

# %% [markdown] id="pack-why"
# ### Exercise 4 · Packing
#
# **Why.** Examples differ in length. Filled up to the longest, most of a batch may be padding, and padding costs as much as text.
# Packing puts several examples into one row. Each must stay as it would be alone: so positions restart, and the first token of an
# example is predicted by nobody.
#
# You return `PackedRows(tokens, labels, positions, segments)`, four tensors of shape `(rows, time)`.
#
# **A worked example**: five examples with 6, 5, 4, 5 and 3 tokens, rows of 10. Where does first-fit put them?

# %% id="worked-pack"
used, rows = [], []
for number, length in enumerate((6, 5, 4, 5, 3)):
    row = next((r for r in range(len(used)) if used[r] + length <= 10), len(used))
    if row == len(used):
        used.append(0), rows.append([])
    used[row] += length
    rows[row].append(number)
    print(f"example {number} ({length} tokens) -> row {row}, which then has {used[row]}")

# %% id="pack-examples" exercise="hybridlab.llm.packing.pack_examples" points=3 minutes=40 difficulty=3

# %% [markdown] id="after-pack"
# If the check does not pass: print the four tensors for three tiny examples, one below the other.
#
# ### Exercise 5 · The mask of packed rows
#
# **Why.** Two examples in a row must not see each other: otherwise the second one learns to copy from the first. One Bool matrix says who may
# look at whom; True = may look, as in week 2.
#
# **A worked example**: the row's segments are 0, 0, 1, 1, and one place of padding.

# %% id="worked-mask"
segments = [0, 0, 1, 1, -1]
for query in range(5):
    print(f"query {query}:", ["x" if key <= query and segments[key] == segments[query] else "·" for key in range(5)])

# %% id="packed-mask" exercise="hybridlab.llm.packing.packed_mask" points=1 minutes=15 difficulty=2

# %% [markdown] id="after-mask"
# If the check does not pass: print your mask for `torch.tensor([[0, 0, 1, 1, -1]])` and compare it with the table above. Your mask and your positions,
# drawn for real examples:

# %% id="see-pack"
questions = ["Say yes.", "What is the capital of Norway?", "Name the months of the year, one after the other, and then say whether you like them.", "Say no."]
examples = [
    dialogue_example([{"role": "system", "content": "Hi."}, {"role": "user", "content": q}, {"role": "assistant", "content": "Yes."}], tokenizer, 64)
    for q in questions
]
packed = pack_examples(examples, 128)
figure, axes = plt.subplots(1, len(packed.tokens) + 1, figsize=(10, 3.2), layout="constrained")
for row, ax in enumerate(axes[:-1]):
    ax.imshow(packed_mask(packed.segments)[row, 0], cmap="Greens")
    ax.set(xlabel="key", ylabel="query", title=f"row {row}: who sees whom")
axes[-1].plot(packed.positions.T, drawstyle="steps")
axes[-1].set(xlabel="place in the row", ylabel="position", title="positions restart")
plt.show()
padded = len(examples) * max(len(e.tokens) for e in examples)
print(f"{sum(len(e.tokens) for e in examples)} tokens: padded {padded} places, packed {packed.tokens.numel()}")

# %% [markdown] id="friday"
# ## Friday · Find the bug
#
# ### Exercise 6 · A loss that is too good
#
# **Why.** The loss is the last part. It takes the hidden states of the model's last layer, and calls the head only where a label counts: SmolLM2's
# head has 49,152 rows, so this saves a fifth of the work.
#
# | what is asked | |
# | --- | --- |
# | `hidden` | `(batch, time, d_model)`: what the last layer gives for each token |
# | `head` | turns `(n, d_model)` into logits `(n, vocab)`; called once, with no other hidden states than those that a counted label needs, row by row |
# | `labels` | `(batch, time)`: which token *stands* at each place, -100 where it does not count. A label at place 0 never counts: nothing stands before it |
# | result | the mean cross-entropy of the counted labels, in nats, computed in float32 whatever the head gives |
# | `ValueError` | no label counts |
#
# **The symptom.** The function below runs, and the model trains: the loss falls to almost nothing, faster than any loss should. But when the
# model is asked to go on, it says the same thing over and over.
#
# **How to work.** Run the cell, then the cell after its check, which draws the symptom. Ask yourself: at the place where the model reads a token,
# what does the loss ask it for? Change as little as you can.

# %% id="answer-loss" exercise="hybridlab.llm.finetune.answer_loss" points=3 minutes=30 difficulty=3

# %% [markdown] id="symptom-text"
# **The symptom, drawn.** A tiny Transformer learns to count: 3 4 5 6 … It trains with the loss above, and then writes on by itself.

# %% id="symptom"
torch.manual_seed(0)
body, losses = MiniTransformer(TransformerConfig.llama(20, d_model=32, n_layers=1, n_heads=2, max_time=16, tie_embeddings=False)), []
head, body.lm_head = body.lm_head, nn.Identity()  # the last hidden states and the head apart
optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=1e-2)
for _ in range(120):
    tokens = (torch.randint(20, (16, 1)) + torch.arange(10)) % 20
    loss = answer_loss(body(tokens), head, tokens)
    optimizer.zero_grad(), loss.backward(), optimizer.step()
    losses.append(loss.item())
written = [3, 4, 5]
with torch.no_grad():
    while len(written) < 12:
        written.append(head(body(torch.tensor([written]))[0, -1]).argmax().item())
figure, axes = plt.subplots(figsize=(6.5, 2.6))
axes.plot(losses)
axes.set(xlabel="step", ylabel="loss, nats", title=f"given 3 4 5, it writes {' '.join(map(str, written[3:]))}")
plt.show()

# %% [markdown] id="challenge-text"
# ## Challenge (optional) · Rows with less air
#
# First-fit takes the examples as they come, and leaves gaps. You may take them in another order. Write `tight_rows`: it gets the lengths of
# the examples, and returns rows of their numbers, each row with at most `max_time` tokens in it. The fewer rows, the better.
#
# Ideas to begin with: the longest first; the row that will be the *fullest* in place of the first one. No packing can do with fewer rows than
# the sum of the lengths divided by `max_time`. The cell below checks that no example is lost, and prints how much air is left of first-fit's.

# %% id="challenge"
def tight_rows(lengths: list[int], max_time: int) -> list[list[int]]:
    """Rows of example numbers; the lengths of each row add up to at most max_time."""
    rows, used = [], []
    for number, length in enumerate(lengths):  # replace this by something better
        row = next((r for r in range(len(rows)) if used[r] + length <= max_time), len(rows))
        if row == len(rows):
            rows.append([]), used.append(0)
        rows[row].append(number)
        used[row] += length
    return rows


# %% id="challenge-ratio"
lengths = (20 + 236 * torch.rand(600, generator=torch.Generator().manual_seed(0)) ** 2).int().tolist()
empty = {}
for name, rows in (("yours", tight_rows(lengths, 256)), ("first-fit", pack_examples([Example(torch.zeros(n), torch.zeros(n)) for n in lengths], 256).tokens)):
    empty[name] = len(rows) * 256 - sum(lengths)
    print(f"{name:>9}: {len(rows)} rows, {empty[name]:,} empty places ({empty[name] / (len(rows) * 256):.1%})")
mine = tight_rows(lengths, 256)
assert sorted(number for row in mine for number in row) == list(range(len(lengths))), "an example is lost, or there twice"
assert all(sum(lengths[number] for number in row) <= 256 for row in mine), "a row is too long"
ratio = empty["first-fit"] / max(1, empty["yours"])
print(f"at least {math.ceil(sum(lengths) / 256)} rows are needed; first-fit leaves {ratio:.2f} times as much air as you")

# %% [markdown] id="grade"
# ## Grade, promote, see it run
#
# In a terminal:
#
# ```
# course grade week06
# course promote week06
# ```
#
# `grade` runs all checks, with hidden cases, and shows your points. `promote` puts your code into the library. From then on the
# library's `finetune` runs on it. The next cells say which parts are yours, and tune a real model: SmolLM2, which answers in
# sentences, shall answer in JSON.

# %% id="see-it-run"
from hybridlab.exercise import REGISTRY
from hybridlab.llm import finetune as tuning
from hybridlab.llm import instruction, lora, packing

for symbol, entry in REGISTRY.items():
    if symbol.startswith(("hybridlab.llm.lora.", "hybridlab.llm.instruction.", "hybridlab.llm.packing.", "hybridlab.llm.finetune.")):
        print(f"{entry.origin:>10}  {symbol}")

# %% id="task"
def question(country: str) -> list[Message]:
    return [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": f"What is the capital of {country}?"}]


def answered(country: str, capital: str) -> list[Message]:
    return [*question(country), {"role": "assistant", "content": f'{{"capital": "{capital}", "country": "{country}"}}'}]


KNOWN = {"France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo", "Italy": "Rome", "Peru": "Lima", "Kenya": "Nairobi"}
examples = [instruction.dialogue_example(answered(*pair), tokenizer, 80) for pair in KNOWN.items()]
rows = packing.pack_examples(examples, 80, pad_token=tokenizer.pad_token_id)
print(f"{len(examples)} dialogues of about {len(examples[0].tokens)} tokens in {len(rows.tokens)} rows")

# %% id="tune"
@torch.no_grad()
def ask(model, country: str) -> str:
    prompt = tokenizer.apply_chat_template(question(country), add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**prompt, max_new_tokens=18, do_sample=False)
    return tokenizer.decode(written[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)


model = load_model()
lora.inject_lora(model, LoRAConfig(rank=8, alpha=16))
result = tuning.finetune(model, rows, tuning.FinetuneConfig(steps=5, lr=2e-3), progress=False)
trainable, everything = lora.count_parameters(model)
print(f"{trainable:,} of {everything:,} parameters trained ({trainable / everything:.1%}), {result.seconds:.0f} s, loss {result.losses[0]:.2f} → {result.losses[-1]:.2f}")
lora.merge_lora(model)
print("Germany, which was not in the data, with merged adapters:", ask(model, "Germany"))

# %% [markdown] id="next"
# ## What to read, what comes next
#
# - **PEFT's `tuners/lora/layer.py`** (github.com/huggingface/peft): your `LoRALinear` with all the options that people asked for. You will find your way.
# - **TRL's documentation of SFTTrainer**: `assistant_only_loss`, `packing`, `padding_free`: this week's words, as switches.
# - **Efficient Sequence Packing without Cross-contamination** (arXiv 2107.02027): better packings, and what leaking costs.
#
# **Next:** week 7 makes the frozen weights themselves smaller. The project of this month tunes SmolLM2 into a chatbot with your functions.
