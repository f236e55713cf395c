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
# **Time:** about 4 hours. The notebook itself runs in less than 450 s on two CPU cores. · **You need:** weeks 5 to 7 (week 8's grammar is
# given). Your promoted parts are used; where you have none, the course's own take their place.
#
# **Graded:** four exercises. The third one, `interleave_halves`, also loads the `chatbot.gguf` that this notebook has exported, in a new process, and asks it: at
# least 8 of 18 held-out cases must be right, word for word. What is printed here counts for nothing.

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
from pathlib import Path

import matplotlib.pyplot as plt
from coursekit.course import load_course
from coursekit.library import bill_of_materials
from coursekit.paths import REPO
from hybridlab.llm.chatbot import GROUPS, chatbot_card, chatbot_lora, chatbot_plan, held_out_answer
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
from hybridlab.llm.span_grammar import span_grammar
from hybridlab.runtime import seed_everything, set_threads

seed_everything(0)
threads = set_threads()
device = "cuda" if profile == "gpu" else "cpu"

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
# Three abilities: to answer from numbered sources, with the words that tell it and their source's number; to say that the sources do not tell; to call
# a tool. The sources are short passages that were written for this, with questions in other words than theirs, and some made facts about things of
# one kind. They come in groups: the same sources, several questions.
#
# Four choices make it learnable in minutes. The answer is a *span*: a few neighbouring words, *copied*. Looking for what stood there before is what attention
# heads do anyway, and what answers stands next to the words that the question shares with it.
# Only one in five of the questions about sources has no answer: "I found nothing" is
# easily learned, and a model that reads it often says it always. A tool's description shares a word with each request for it. And for as many requests
# no tool fits, most of them meant for another tool.

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
# The test has its own passages, names, values and ways to ask. About half of its questions about made facts are about attributes that training never mentions, and
# half of its tools are new. Otherwise we would measure memory. Before and after, the engine follows a grammar (week 8). With sources it writes words of one sentence
# and its source's number, or that it found nothing; with tools a call of one that was offered, or that none fits. The choice is the model's.

# %% id="before"
held_out = [case for group in make_groups(3, part="test") for case in group]
words = [set(" ".join(m["content"] for case in part for m in case.messages if m["role"] != "system").split()) for part in (held_out, [c for g in groups for c in g])]
print(f"{len(held_out)} held-out cases; {len(words[0] - words[1])} of their {len(words[0])} different words never occur in training")

def ask(model, adapter=None):
    """What the model says to each held-out case, and the scores."""
    began = clock.perf_counter()
    said = [held_out_answer(model, case, adapter) for case in held_out]
    print(f"asked in {clock.perf_counter() - began:.0f} s\n")
    return said, score(held_out, lambda case, answers=iter(said): next(answers))

base = EmbeddedModel(threads=threads)
said_before, before = ask(base)
print(table({"before": before}))

# %% id="before-examples"
for case, said in list(zip(held_out, said_before))[:4]:
    show(case, said.replace("\n", " "))

# %% [markdown] id="prefix-mask-why"
# ## 1 · Read the sources once
#
# **Why.** The questions of a group begin with the same 80 to 460 tokens. Packed as in week 6, those would be read again for each question, and the
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
# **Why.** Now the rows themselves. Two things are easy to get wrong. A question's positions go on where the common part ends, whatever stands between in
# the row. And no label may stand on a rest's first token: what stands before it in the row is another one's answer, which can't predict it.
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
# LoRA of rank 8 on the upper twenty of the thirty blocks: the backward pass ends at the lowest adapter, so the blocks below cost only the forward pass.
# Each group is one step. If you stop the cell (■) and run it again, it goes on where it was.

# %% id="train"
seed_everything(0)
lora, plan = chatbot_lora(), chatbot_plan(len(groups))
inject_lora(model, lora)
unfinished = Path(f"run-{zlib.crc32(repr((lora, plan)).encode()):08x}.pt")  # another plan, another run
model.to(device)
run = finetune(model, PackedRows(*(part.to(device) for part in rows)), plan, mask=prefix_mask, checkpoint=unfinished)
model.cpu()
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
# The cell below exports with the library's part: the reference, until yours is promoted.
#
# **Worked example.** Two heads of six rows:

# %% id="interleave-halves-example"
print("rows before   0 1 2 3 4 5   6 7 8 9 10 11\nrows after    0 3 1 4 2 5   6 9 7 10 8 11")

# %% id="export"
exported = save_gguf_adapter(model, "chatbot.gguf")
print(f"{exported}: {exported.stat().st_size / 1e6:.1f} MB, beside a model of 93 MB")

# %% id="interleave-halves" exercise="hybridlab.llm.gguf_adapter.interleave_halves" points=3 minutes=25 difficulty=2

# %% [markdown] id="same-title"
# Is it the same adapter there? The engine computes with 4-bit weights and 8-bit activations, so some noise is expected: as much as the model
# has without an adapter. We compare the log-probabilities of the ten likeliest next tokens.

# %% id="same"
tuned, plain = EmbeddedModel([exported], threads=threads), load_model()
prompts = [dialogue_pieces(case.messages, tokenizer) for case in held_out[:2]]
prompts = [pieces[0].tokens + pieces[1].tokens[:k] for pieces in prompts for k in (0, 3)]
noise = {"without adapter": [], "with adapter": [], "for scale: engine without, torch with it": []}
with torch.no_grad():
    for prompt in prompts:
        here = [m(torch.tensor([prompt])).logits[0, -1].log_softmax(-1) for m in (plain, model)]
        there = [tuned.next_tokens(prompt, adapter=adapter, k=10) for adapter in (None, 0)]
        for values, log_p, told in zip(noise.values(), (here[0], here[1], here[1]), (there[0], there[1], there[0])):
            values.append(sum(abs(log_p[token].item() - value) for token, value in told.items()) / len(told))
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
# The same held-out cases, in the engine, with your adapter. An answer counts where it holds the wanted words and names the source that tells it; a call where
# nothing in it differs. Below the table are two cases of each ability, with what was wanted where the answer is another.

# %% id="after"
said_after, after = ask(tuned, adapter=0)
print(table({"before": before, "after": after}))

# %% id="after-examples"
for ability in ("answer", "abstain", "tool"):
    asked = [(case, said) for case, said in zip(held_out, said_after) if case.ability == ability and (case.gold or ability == "abstain")]
    for case, said in asked[:2]:
        show(case, said)
        print(f"{'':10}{'✓' if said.strip() == case.answer else '✗ wanted: ' + case.answer}")

# %% [markdown] id="recorded-title"
# A handful of cases says little: six right of six may as well be four. The table below is of a new draw, 144 cases, and of the expert in the folder `expert` of this project, which was trained by this very plan (`python scripts/make_chatbot.py`).

# %% id="recorded"
recorded = json.loads((REPO / "months/02_llm/project/recorded.json").read_text())
print(recorded["table"])

# %% [markdown] id="recorded-read"
# **Read it honestly.** Within the grammar alone no answer is word for word right; one in five holds the wanted words, next to others. After training four of ten
# hold them and name their source. Where the sources do not tell, the model says so in half of the cases, and of the 26 times that it says so, it is right 19 times.
# Seven of ten calls are exactly right. This has a price: of ten requests that no tool fits, two are called all the same, where the untuned model, which hardly
# ever calls, is hardly ever wrong. Among 36 cases of a kind, a share is certain to about 0.16 either way.

# %% [markdown] id="chat-title"
# ## Talk to it
#
# Put your own sources and questions here. (The last question is not answered by these, and the chatbot that we trained did not notice.) In a terminal, `python -m hybridlab.llm.chatbot --adapter chatbot.gguf --sources notes.txt` asks about the
# paragraphs of a file, and without `--sources` there is no grammar: it was tuned for sources and tools, and it shows.

# %% id="chat"
sources = ["The tea house by the lake opens at 9:30. Dogs are welcome on the terrace.", "Boats are rented by Marie Lindqvist for 12 EUR an hour."]
for question in ("When does the tea house open?", "Who rents out the boats?", "Is there a playground?"):
    print(f"{question}\n  → ", end="")
    asked = grounded_messages(question, sources, "en")
    tuned.answer(asked, adapter=0, max_tokens=64, grammar=span_grammar(sources), piece=lambda text: print(text, end="", flush=True))
    print()

# %% [markdown] id="expert-title"
# ## An expert for the assistant
#
# The assistant loads adapters from the folder `experts` in its data folder (`workspace/assistant/experts`), each with a card that says what it is for and
# which base model it belongs to. With one, English questions about documents are answered by it, in words of the documents alone. The cell below writes the pair beside this notebook. Copy both files there, start the assistant, and `/v1/system` names your expert.

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
