# %% [markdown] id="title"
# # Month 2 project: a chatbot of one's own
#
# **Can four minutes of training on a laptop teach a language model to answer from what it is given, to keep silent, and to call a tool?**
#
# SmolLM2 writes fluently and invents the rest. Here you tune it on conversations that were made for the purpose, measure it on others that it has
# never seen, and put the result into a file of a few megabytes that llama.cpp, and the assistant, load beside the model.

# %% [markdown] id="outcomes"
# **Afterwards you can**
# * make training data for an ability that you want, and keep a test apart that shares nothing with it;
# * fine-tune within a budget of minutes, and show what changed in a table of before and after;
# * export an adapter for another engine, and prove that it is the same adapter there.
#
# **Time:** about 4 hours. The notebook itself runs in less than 300 s on two CPU cores. · **You need:** weeks 5 to 7. Your promoted parts
# are used; where you have none, the course's own take their place.
#
# **Graded:** four exercises. The last one also asks the adapter that this notebook has exported: it loads your file in a new process. What
# is printed here counts for nothing.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.packing import PackedRows
from hybridlab.llm.shared_prefix import common_length
from hybridlab.llm.tool_calls import CALL, NotACall, Tool

# %% id="tools"
import dataclasses
import time as clock
import zlib
from itertools import islice
from pathlib import Path

import matplotlib.pyplot as plt
from coursekit.course import load_course
from coursekit.library import bill_of_materials
from coursekit.paths import REPO
from hybridlab.llm.chatbot import GROUPS, chatbot_card, chatbot_lora, chatbot_plan, training_rows
from hybridlab.llm.chatbot_data import make_groups
from hybridlab.llm.chatbot_scores import score, table
from hybridlab.llm.embedded import EmbeddedModel
from hybridlab.llm.expert import save_expert
from hybridlab.llm.finetune import finetune, rows_loss
from hybridlab.llm.gguf_adapter import save_gguf_adapter
from hybridlab.llm.grounded_prompt import grounded_messages
from hybridlab.llm.instruction import dialogue_example, dialogue_pieces
from hybridlab.llm.lora import count_parameters, inject_lora
from hybridlab.llm.smollm2 import load_model, load_tokenizer
from hybridlab.runtime import seed_everything, set_threads

seed_everything(0)
threads = set_threads()

# %% [markdown] id="parts-title"
# ## Whose code is this?
#
# What is tuned below goes through exercises of this month. For each of them the library takes your promoted code if there is any, and the
# reference if there is none.

# %% id="parts"
used = (".instruction.", ".lora.", ".finetune.", ".shared_prefix.", ".gguf_adapter.", ".tool_calls.", ".llama.", ".losses.")
parts = [part for part in bill_of_materials(load_course()) if any(room in part.exercise.symbol for room in used)]
for part in sorted(parts, key=lambda part: part.origin != "learner"):
    print(f"{'yours' if part.origin == 'learner' else part.origin:9}  {part.exercise.symbol.removeprefix('hybridlab.')}")
print(f"\n{sum(part.origin == 'learner' for part in parts)} of {len(parts)} parts are yours.")

# %% [markdown] id="data-title"
# ## The task
#
# Three abilities: to answer from numbered sources, word for word and with the source's number; to say that the sources do not tell; to call a tool. A
# generator with a seed writes the conversations. They come in groups: the same sources, several questions.

# %% id="data"
def show(case, answer=None):
    print(f"  {case.ability:8}{case.prompt[-1]['content'].splitlines()[-1]}\n{'':10}→ {case.answer if answer is None else answer}")

groups = make_groups(GROUPS if profile == "cpu" else 2000, part="train")
print(groups[0][0].prompt[-1]["content"].rpartition("\n\n")[0], "\n")
for case in groups[0]:
    show(case)
calls = next(group for group in groups if group[0].ability == "tool")
print("\n" + calls[0].prompt[0]["content"], "\n")
for case in calls[:2]:
    show(case)

# %% [markdown] id="test-title"
# The test has its own names, values, sentences and ways to ask. About half of its questions are about attributes that training never mentions, and
# all of its tools are new. Otherwise we would measure memory.

# %% id="before"
held_out = [case for group in make_groups(5, part="test") for case in group]
words = [set(" ".join(m["content"] for case in part for m in case.messages if m["role"] != "system").split()) for part in (held_out, [c for g in groups for c in g])]
print(f"{len(held_out)} held-out cases; {len(words[0] - words[1])} of their {len(words[0])} different words never occur in training")
base = EmbeddedModel(threads=threads)
began = clock.perf_counter()
before = score(held_out, lambda case: base.answer(case.prompt, max_tokens=48))
print(f"asked in {clock.perf_counter() - began:.0f} s\n\n{table({'before': before})}")

# %% id="before-examples"
for case in held_out[:4]:
    show(case, base.answer(case.prompt, max_tokens=48).replace("\n", " "))

# %% [markdown] id="prefix-mask-why"
# ## 1 · Read the sources once
#
# **Why.** The questions of a group begin with the same two hundred tokens. Packed as in week 6, those would be read again for each question, and the
# time is short. Instead they stand once in the row, and every question may look at them:
#
# ```
# row       sources …  question 1 answer 1  question 2 answer 2
# segment   0 0 0 0 0  1 1 1 1 1 1 1 1 1 1  2 2 2 2 2 2 2 2 2 2
# ```
#
# **Contract.** The docstring below is complete.
#
# **Worked example.** For the row 0 0 1 2 -1 the mask is:

# %% id="prefix-mask-example"
print("        0  0  1  2 -1     (what is looked at)")
for name, row in zip(("0", "0", "1", "2", "-1"), ("x....", "xx...", "xxx..", "xx.x.", "....x")):
    print(f"   {name:>3}  " + "  ".join(row))

# %% id="prefix-mask" exercise="hybridlab.llm.shared_prefix.prefix_mask" points=2 minutes=25 difficulty=2

# %% [markdown] id="prefix-rows-why"
# ## 2 · Rows with a common beginning
#
# **Why.** Now the rows themselves. Two things are easy to get wrong: a question's positions go on where the common part ends, whatever stands between in
# the row; and the first token of a question stands behind another one's answer, which can't predict it.
#
# **Contract.** The docstring below is complete. `common_length(group)` is given.
#
# **Worked example.** A group of two examples, of which three tokens are common:

# %% id="prefix-rows-example"
first = Example(torch.tensor([5, 6, 7, 8, 9]), torch.tensor([-100, -100, -100, -100, 9]))
second = Example(torch.tensor([5, 6, 7, 4, 3, 2]), torch.tensor([-100, -100, -100, -100, 3, 2]))
print("common:", common_length([first, second]))
print("tokens    5 6 7  8 9  4 3 2\nlabels    · · ·  · 9  · 3 2      (·: -100)\npositions 0 1 2  3 4  3 4 5\nsegments  0 0 0  1 1  2 2 2")

# %% id="prefix-rows" exercise="hybridlab.llm.shared_prefix.prefix_rows" points=3 minutes=45 difficulty=3

# %% [markdown] id="saved-title"
# What it saves, and that it changes nothing: the loss of one group in one row, beside the mean over its answers one by one.

# %% id="saved"
tokenizer, model = load_tokenizer(), load_model()
examples = [[dialogue_example(case.messages, tokenizer, 1200) for case in group] for group in groups]
rows = prefix_rows(examples)
alone, shared = sum(len(e.tokens) for group in examples for e in group), int((rows.segments >= 0).sum())
print(f"{alone:,} tokens one by one, {shared:,} in rows with a common beginning: {alone / shared:.1f} times fewer")
group = min(examples, key=lambda group: sum(len(e.tokens) for e in group))
with torch.no_grad():
    together = rows_loss(model, prefix_rows([group]), prefix_mask).item()
    counts = [int((e.labels != IGNORE).sum()) for e in group]
    apart = sum(rows_loss(model, prefix_rows([[e]]), prefix_mask).item() * n for e, n in zip(group, counts)) / sum(counts)
print(f"loss of one group: {together:.5f} nats per answer token together, {apart:.5f} apart")

# %% [markdown] id="train-title"
# ## Train
#
# LoRA of rank 8 on the upper twenty of the thirty blocks: the way back ends at the lowest adapter, so what lies below costs nothing on the way
# back. Each group is one step. If you stop the cell (■) and run it again, it goes on where it was.

# %% id="train"
seed_everything(0)
lora, plan = chatbot_lora(), chatbot_plan(len(groups))
inject_lora(model, lora)
unfinished = Path(f"run-{zlib.crc32(repr((lora, plan)).encode()):08x}.pt")  # another plan, another run
run = finetune(model, rows, plan, mask=prefix_mask, checkpoint=unfinished)
trained, total = count_parameters(model)
print(f"{run.step} steps, {shared:,} tokens in {run.seconds:.0f} s on {threads} thread(s); {trained:,} of {total:,} weights trained")

# %% id="curve"
smooth = torch.tensor(run.losses).unfold(0, min(8, len(run.losses)), 1).mean(1)
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(range(1, len(run.losses) + 1), run.losses, ".", color="lightgray", label="one group")
axes.plot(range(len(run.losses) - len(smooth) + 1, len(run.losses) + 1), smooth, label="mean of eight")
axes.set(xlabel="step", ylabel="loss, nats per answer token", title="The answers become predictable", ylim=(0, None))
axes.legend()
plt.show()

# %% [markdown] id="interleave-halves-why"
# ## 3 · Out of torch
#
# **Why.** Nobody wants to keep 540 MB of float32 for a chatbot. llama.cpp runs the model in 4 bits and adds your adapter as a GGUF file. There is one
# trap: a GGUF file keeps the rows of q and k in another order, because its rotary positions turn *neighbours* (week 5 undid that). B adds to these rows, so
# its rows must be in the same order. Without it the answers look almost right, which is the worst kind of wrong.
#
# **Contract.** The docstring below is complete.
#
# **Worked example.** Two heads of four rows:

# %% id="interleave-halves-example"
print("rows before   0 1 2 3   4 5 6 7\nrows after    0 2 1 3   4 6 5 7")

# %% id="export"
exported = save_gguf_adapter(model, "chatbot.gguf")
print(f"{exported}: {exported.stat().st_size / 1e6:.1f} MB, beside a model of 93 MB")

# %% id="interleave-halves" exercise="hybridlab.llm.gguf_adapter.interleave_halves" points=3 minutes=25 difficulty=2

# %% [markdown] id="same-title"
# Is it the same adapter there? The engine computes with 4-bit weights and 8-bit activations, so some noise is expected: as much as the model
# has without an adapter. We compare the log-probabilities of the ten likeliest next tokens.

# %% id="same"
tuned = EmbeddedModel([exported], threads=threads)
prompts = [dialogue_pieces(case.messages, tokenizer) for case in held_out[:3]]
prompts = [pieces[0].tokens + pieces[1].tokens[:k] for pieces in prompts for k in (0, 3)]
noise = {"without adapter": [], "with adapter": [], "the wrong way (base against tuned)": []}
for prompt in prompts:
    with torch.no_grad():
        log_p = model(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    for name, there in (("with adapter", tuned.next_tokens(prompt, adapter=0, k=10)), ("the wrong way (base against tuned)", tuned.next_tokens(prompt, k=10))):
        noise[name].append(sum(abs(log_p[token].item() - value) for token, value in there.items()) / len(there))
plain = load_model()
for prompt in prompts:
    with torch.no_grad():
        log_p = plain(torch.tensor([prompt])).logits[0, -1].log_softmax(-1)
    there = tuned.next_tokens(prompt, k=10)
    noise["without adapter"].append(sum(abs(log_p[token].item() - value) for token, value in there.items()) / len(there))
for name, values in noise.items():
    print(f"{sum(values) / len(values):.3f} nats   {name}")

# %% [markdown] id="read-call-why"
# ## 4 · Read a call
#
# **Why.** A tool call is text until somebody reads it. What a model writes is not to be trusted: half a JSON, a tool that nobody offered, an argument
# too many. Whatever is not exactly a call must be refused, with a reason that can be shown to the model or to a person.
#
# **Contract.** The docstring below is complete. `CALL`, `NotACall` and `Tool` are imported at the top; `help(Tool)` shows its fields.
#
# **Worked example.** A call that can be read:

# %% id="read-call-example"
answer = '<tool_call>{"name": "get_weather", "arguments": {"city": "Huế", "day": "Monday"}}</tool_call>'
print(CALL.fullmatch(answer).group(1))

# %% id="read-call" exercise="hybridlab.llm.tool_calls.read_call" points=2 minutes=30 difficulty=2

# %% [markdown] id="after-title"
# ## Before and after
#
# The same held-out cases, in the engine, with your adapter.

# %% id="after"
began = clock.perf_counter()
after = score(held_out, lambda case: tuned.answer(case.prompt, adapter=0, max_tokens=64))
print(f"asked in {clock.perf_counter() - began:.0f} s\n\n{table({'before': before, 'after': after})}")

# %% id="after-examples"
for case in [*held_out[:4], *islice((c for c in held_out if c.ability == "tool"), 2)]:
    show(case, tuned.answer(case.prompt, adapter=0, max_tokens=64))

# %% [markdown] id="recorded-title"
# Twenty cases say little: with so few, a share of one half may as well be a third or two thirds. The table below is of other cases and of the expert
# in the folder `expert` of this project. `python scripts/make_chatbot.py --measure --groups 40` asks it more of them.

# %% id="recorded"
recorded = json.loads((REPO / "months/02_llm/project/recorded.json").read_text())
print(recorded["table"])

# %% [markdown] id="chat-title"
# ## Talk to it
#
# Put your own sources and questions here. In a terminal, `python -m hybridlab.llm.chatbot --adapter chatbot.gguf --sources notes.txt` asks about the
# paragraphs of a file, and without `--sources` it is plain conversation.

# %% id="chat"
sources = ["The tea house by the lake opens at 9:30. Dogs are welcome on the terrace.", "Boats are rented by Marie Lindqvist for 12 EUR an hour."]
for question in ("When does the tea house open?", "Who rents out the boats?", "Is there a playground?"):
    print(f"{question}\n  → ", end="")
    tuned.answer(grounded_messages(question, sources, "en"), adapter=0, max_tokens=64, piece=lambda text: print(text, end="", flush=True))
    print()

# %% [markdown] id="expert-title"
# ## An expert for the assistant
#
# The assistant loads adapters from the folder `experts` in its data folder (`workspace/assistant/experts`), each with a card that says what it is for and
# which base model it belongs to. The cell below writes the pair beside this notebook. Copy both files there, start the assistant, and `/v1/system` names your expert.

# %% id="expert"
expert = save_expert(model, "experts", chatbot_card(f"month 2's project: {run.step} groups of generated questions, LoRA rank {lora.rank}, lr {plan.lr:g}"))
print(expert.path, "\n", json.dumps(dataclasses.asdict(expert.card), indent=1, ensure_ascii=False))

# %% [markdown] id="end"
# ## Grade, and what comes next
#
# In a terminal: `course grade month02_project`, then `course promote month02_project`. `course library` shows what is yours now.
#
# **Challenge (optional).** Make the chatbot better within the same four minutes: more ways to ask, other sources, another rank, blocks or rate. Change one thing at a
# time, and look at the recorded table for what is within the noise.
#
# **To read**
# * Dettmers et al., *QLoRA* (2305.14314), section 5: why few good conversations beat many.
# * Es et al., *RAGAS* (2309.15217): how answers from sources are judged without a gold answer.
# * Schick et al., *Toolformer* (2302.04761): a model that makes its own training data for calls.
#
# **Next month** the model reads texts that no context holds.
