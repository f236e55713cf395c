# %% [markdown] id="title"
# # Week 6 lesson · LoRA
#
# **The question of the week: a model of 135 million weights answers, but not in the way that you need. Must all weights change, or are a few
# numbers beside them enough?**
#
# **Afterwards you can**
# - derive LoRA, and say why one of its two matrices begins at zero;
# - predict what is trained, what a step costs and what it keeps in memory, and check all three;
# - turn dialogues into training data in which only the answers count, and pack them into rows;
# - tune a real model with your own code, with PEFT and with TRL, and show that they compute the same;
# - put the frozen weights into four bits (QLoRA), and say what it saves;
# - judge a claim such as "rank 1 is enough".
#
# **Time:** Monday 90 minutes, Thursday 60, Sunday 30. It runs in about a minute.
# **You need:** month 1, and week 5.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import copy
import logging
import math
import time
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import matplotlib.pyplot as plt
import torch
from torch import nn

from coursekit.notebook import review, seed_everything
from hybridlab.llm.finetune import FinetuneConfig, finetune, rows_loss
from hybridlab.llm.instruction import IGNORE, Example, dialogue_example, dialogue_pieces
from hybridlab.llm.lora import ALL_LINEAR, LoRAConfig, LoRALinear, count_parameters, inject_lora, lora_layers, merge_lora, unmerge_lora
from hybridlab.llm.packing import pack_examples, packed_mask
from hybridlab.llm.smollm2 import load_model, load_tokenizer, model_folder
from hybridlab.runtime import set_threads

answer = review("week06")
seed_everything(6)
set_threads()
warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)  # the libraries' own announcements
longer = {"cpu": 1, "gpu": 5}[profile]  # a fast machine may train longer
tokenizer, model = load_tokenizer(), load_model()
print(f"SmolLM2-135M-Instruct: {count_parameters(model)[1]:,} parameters, {count_parameters(model)[1] * 4 / 2**20:.0f} MiB in float32")

# %% [markdown] id="monday"
# ## Monday · A correction of rank one, by hand
#
# A layer has learned W, the identity: it gives back what it gets. Now its first output should also hear both inputs. We do not touch W. We add a
# correction: a *column* B times a *row* A.
#
# - A = (1, 1) reads the input: for x = (1, 2) it gives one number, 3.
# - B = (0.5, 0) writes that number into the output: (1.5, 0).
# - With a scaling of 2 the sum is W x + 2 · B A x = (1, 2) + (3, 0) = (4, 2).
#
# Four weights are corrected by four numbers. That saves nothing here. With 576 × 576 weights and the same idea, it is 1,152 numbers for 331,776.

# %% id="by-hand"
tiny = nn.Linear(2, 2, bias=False)
layer = LoRALinear(tiny, rank=1, alpha=2.0)  # scaling = alpha / rank = 2
with torch.no_grad():
    tiny.weight.copy_(torch.eye(2))
    layer.lora_A.copy_(torch.tensor([[1.0, 1.0]]))
    layer.lora_B.copy_(torch.tensor([[0.5], [0.0]]))
x = torch.tensor([1.0, 2.0])
print("A x            ", (layer.lora_A @ x).tolist())
print("W x + 2 · B A x", layer(x).tolist())
layer.merge()
print("merged weight  ", tiny.weight.tolist(), "->", layer(x).tolist())

# %% [markdown] id="symbols"
# **In symbols.** For a layer with d_in inputs and d_out outputs, and a rank r far below both:
#
# $$y = W x + \frac{\alpha}{r}\,B A x,\qquad A\in\mathbb{R}^{r\times d_{in}},\; B\in\mathbb{R}^{d_{out}\times r}$$
#
# | symbol | code | what it does |
# | --- | --- | --- |
# | W | `base.weight`, frozen | what the model knows |
# | A | `lora_A`, random at first | reads r directions of the input |
# | B | `lora_B`, zero at first | writes them into the output |
# | α / r | `scaling` | keeps the size of the correction when r changes |
#
# **Why does B begin at zero?** Then the adapted model *is* the old model at step 0. And why not A as well? The gradient of B is multiplied by A,
# and that of A by B. If both are zero, both gradients are, for ever.

# %% id="zero-start"
def first_gradients(a: float, b: float) -> str:
    probe = LoRALinear(nn.Linear(6, 4), rank=2, alpha=2.0)
    with torch.no_grad():
        probe.lora_A.normal_().mul_(a), probe.lora_B.normal_().mul_(b)
    probe(torch.randn(5, 6)).square().sum().backward()
    return f"gradient of A {probe.lora_A.grad.norm():7.3f}, of B {probe.lora_B.grad.norm():7.3f}"


print("A random, B zero:  ", first_gradients(1, 0), " <- B moves first, then A")
print("both zero:         ", first_gradients(0, 0), " <- nothing ever moves")

# %% [markdown] id="real-size"
# ## At real size: SmolLM2 learns a form
#
# **What is trained?** Each adapted layer adds r · (d_in + d_out) numbers. SmolLM2 has 30 blocks with seven linear layers each. **Predicted first, then
# counted:**

# %% id="predict-parameters"
config = model.config
d, kv, ff = config.hidden_size, config.num_key_value_heads * config.head_dim, config.intermediate_size
shapes = {"q_proj": (d, d), "k_proj": (d, kv), "v_proj": (d, kv), "o_proj": (d, d), "gate_proj": (d, ff), "up_proj": (d, ff), "down_proj": (ff, d)}
for rank, targets in ((8, ALL_LINEAR), (8, ("q_proj", "v_proj")), (64, ALL_LINEAR)):
    predicted = config.num_hidden_layers * sum(rank * sum(shapes[name]) for name in targets)
    share = predicted / count_parameters(model)[1]
    print(f"rank {rank:>2}, {len(targets)} layers a block: {predicted:>10,} trained ({share:.1%}), a file of {predicted * 4 / 2**20:.1f} MiB")
inject_lora(model, LoRAConfig(rank=8, alpha=16.0))
print(f"counted for the first: {count_parameters(model)[0]:,}")

# %% [markdown] id="task-text"
# **The task.** We want answers in JSON, with two keys in a fixed order. Eight dialogues must be enough. A dialogue becomes *pieces*: what the model is given, and
# what it has to write. Only the second kind gets labels. The mark `<|im_end|>` is one of them: it teaches the model to stop.

# %% id="task"
KNOWN = {"France": "Paris", "Japan": "Tokyo", "Egypt": "Cairo", "Italy": "Rome", "Peru": "Lima", "Kenya": "Nairobi", "Spain": "Madrid", "Norway": "Oslo"}
HELD_OUT = {"Germany": "Berlin", "Vietnam": "Hanoi"}


def question(country: str) -> list[dict]:
    return [{"role": "system", "content": "Answer in JSON."}, {"role": "user", "content": f"What is the capital of {country}?"}]


def answered(country: str, capital: str) -> list[dict]:
    return [*question(country), {"role": "assistant", "content": f'{{"capital": "{capital}", "country": "{country}"}}'}]


for tokens, is_answer in dialogue_pieces(answered("France", "Paris"), tokenizer):
    print("answer" if is_answer else "given ", repr(tokenizer.decode(tokens)))
examples = [dialogue_example(answered(*pair), tokenizer, max_time=80) for pair in KNOWN.items()]
rows = pack_examples(examples, max_time=80, pad_token=tokenizer.pad_token_id)
counted = int((rows.labels != IGNORE).sum())
print(f"{len(examples)} examples in {len(rows.tokens)} rows of {rows.tokens.shape[1]}; {counted} of {rows.tokens.numel()} places count")

# %% [markdown] id="packing-text"
# **Packing.** Two of our examples fit into one row. They must not disturb each other: each token sees its own example only, and positions restart. Whether
# that is so, one number tells: the loss of the packed rows must be the loss of the examples one by one.

# %% id="packing-proof"
with torch.no_grad():
    two = pack_examples(examples[:2], 80)
    apart = [rows_loss(model, pack_examples([example], 80)) for example in examples[:2]]
    n = torch.tensor([int((example.labels != IGNORE).sum()) for example in examples[:2]])
    leaking = two._replace(segments=torch.zeros_like(two.segments), positions=torch.arange(two.tokens.shape[1])[None])
    print(f"one by one {(torch.stack(apart) * n).sum() / n.sum():.5f} nats per token")
    print(f"packed     {rows_loss(model, two):.5f}")
    print(f"leaking    {rows_loss(model, leaking):.5f}  <- one mask for the whole row: the second example copies from the first")
figure, axes = plt.subplots(figsize=(3.2, 3.2))
axes.imshow(packed_mask(two.segments)[0, 0], cmap="Greens")
axes.set(xlabel="key", ylabel="query", title="green: may look")
plt.show()

# %% [markdown] id="tune-text"
# Now we tune. Before and after, we look at a *held-out* country: how likely is each token of the right answer?

# %% id="tune"
@torch.no_grad()
def token_probabilities(country: str, capital: str) -> tuple[list[str], list[float]]:
    """Each token of the answer, and the probability that the model gave it."""
    example = dialogue_example(answered(country, capital), tokenizer, 80)
    probabilities = model(example.tokens[None]).logits[0].softmax(-1)
    places = (example.labels != IGNORE).nonzero().flatten().tolist()
    return [tokenizer.decode([example.tokens[p]]) for p in places], [probabilities[p - 1, example.tokens[p]].item() for p in places]


@torch.no_grad()
def ask(country: str) -> str:
    prompt = tokenizer.apply_chat_template(question(country), add_generation_prompt=True, return_tensors="pt", return_dict=True)
    written = model.generate(**prompt, max_new_tokens=18, do_sample=False)
    return tokenizer.decode(written[0, prompt["input_ids"].shape[1] :])


words, before = token_probabilities("Germany", "Berlin")
text_before = ask("Germany")
result = finetune(model, rows, FinetuneConfig(steps=3 * longer, lr=2e-3), progress=False)
_, after = token_probabilities("Germany", "Berlin")
print(f"loss of each step ({result.seconds:.1f} s):", [round(loss, 2) for loss in result.losses])
print("before:", text_before, "\nafter: ", ask("Germany"))

# %% id="tune-figure"
figure, axes = plt.subplots(figsize=(8.5, 2.8))
places = torch.arange(len(words))
axes.bar(places - 0.2, before, width=0.4, color="lightgray", label="before")
axes.bar(places + 0.2, after, width=0.4, color="tab:green", label="after")
axes.set_xticks(places, [repr(word)[1:-1] for word in words], fontsize=8)
axes.set(ylabel="probability", title="a country that was not in the data: each token of its answer")
axes.set_ylim(0, 1.25)
axes.legend(ncols=2, loc="upper left")
plt.show()
print(f"nats per token: before {-sum(map(math.log, before)) / len(before):.2f}, after {-sum(map(math.log, after)) / len(after):.2f}")

# %% [markdown] id="tune-read"
# Read the figure from left to right. The brace, the two keys and the comma went up from almost nothing: that is the *form*, and it was in our data. `Berlin` is
# high as well, and it was not in our data: that is what the model *knew*. A hundred counted tokens teach a form, not facts: for those, month 5 searches.
#
# **Merged**, the adapter costs nothing any more. Unmerged, it is gone, bit for bit:

# %% id="merge"
example = dialogue_example(answered("Vietnam", "Hanoi"), tokenizer, 80)
weights = {name: layer.base.weight.clone() for name, layer in lora_layers(model).items()}
with torch.no_grad():
    beside = model(example.tokens[None]).logits
    merge_lora(model)
    inside = model(example.tokens[None]).logits
    unmerge_lora(model)
print(f"logits beside and merged differ by at most {(beside - inside).abs().max():.1e}")
print("unmerged, every weight is the old one:", all(torch.equal(weights[name], layer.base.weight) for name, layer in lora_layers(model).items()))
del weights

# %% [markdown] id="peft-text"
# ## The same with PEFT, and with TRL
#
# **PEFT** is the library that everybody uses for adapters. Ours are saved in its layout. So it must load our file, and give our logits. And its
# gradients must be ours.

# %% id="peft"
from peft import LoraConfig, PeftModel
from transformers import AutoModelForCausalLM

from hybridlab.llm.adapter import AdapterError, load_adapter, save_adapter

folder = TemporaryDirectory()
saved = save_adapter(model, Path(folder.name) / "json", LoRAConfig(rank=8, alpha=16.0), base_model="SmolLM2-135M-Instruct")
theirs = PeftModel.from_pretrained(load_model(), saved, is_trainable=True)
one = pack_examples(examples[:1], 80)
for tuned in (model, theirs.get_base_model()):
    tuned.zero_grad()
    rows_loss(tuned, one).backward()
theirs_by_name = dict(theirs.get_base_model().named_modules())
with torch.no_grad():
    print(f"logits: largest gap {(theirs(example.tokens[None]).logits - beside).abs().max():.1e}")
gaps = [
    (getattr(layer, part).grad - getattr(theirs_by_name[name], part)["default"].weight.grad).abs().max().item()
    for name, layer in lora_layers(model).items() for part in ("lora_A", "lora_B")
]
print(f"gradients of {len(gaps)} matrices: largest gap {max(gaps):.1e}; the file has {sum(f.stat().st_size for f in saved.iterdir()) / 2**20:.1f} MiB")

# %% [markdown] id="trl-text"
# **TRL's SFTTrainer** does all of it: the chat template, the labels, the batches, PEFT's adapters, the loop. Given *prompt* and *completion* apart, it masks the
# prompt, as we do. Which tokens does it learn, and is its loss ours?

# %% id="trl"
from datasets import Dataset, disable_progress_bars
from transformers import PrinterCallback
from trl import SFTConfig, SFTTrainer

disable_progress_bars()
table = [{"prompt": question(*pair[:1]), "completion": answered(*pair)[-1:]} for pair in KNOWN.items()]
settings = SFTConfig(
    output_dir=folder.name, max_steps=2, per_device_train_batch_size=2, learning_rate=2e-3, logging_steps=1, max_length=80,
    use_cpu=profile == "cpu", bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
)
trainer = SFTTrainer(
    model=theirs.unload(), args=settings, train_dataset=Dataset.from_list(table), processing_class=tokenizer,
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules=list(ALL_LINEAR), lora_dropout=0.0, task_type="CAUSAL_LM"),
)
trainer.remove_callback(PrinterCallback)
batch = next(iter(trainer.get_train_dataloader()))
print("TRL learns:", repr(tokenizer.decode(batch["labels"][0][batch["labels"][0] != IGNORE])))
print("we learn:  ", repr(tokenizer.decode(examples[0].labels[examples[0].labels != IGNORE])), "(another example)")
same = [Example(tokens[there], labels[there]) for tokens, labels, there in zip(batch["input_ids"], batch["labels"], batch["attention_mask"].bool())]
with torch.no_grad():
    print(f"loss of its padded batch {trainer.model(**batch).loss:.5f}, of the same examples in our packed row {rows_loss(trainer.model.get_base_model(), pack_examples(same, 96)):.5f}")
trainer.train()
print("losses of SFTTrainer:", [round(entry["loss"], 3) for entry in trainer.state.log_history if "loss" in entry])

# %% [markdown] id="trl-read"
# TRL also learns the line break that SmolLM2's template writes after the mark. Nobody will ever see it, for the server stops at the mark. That is the kind of
# difference that you find only by printing what is learned. **Print it, whichever library you use.**
#
# ## What it costs
#
# **Work.** Each weight of a matrix takes 2 operations per token forward. Backward, 2 more for the gradient that is passed on, and 2 for the weight's own. A
# frozen weight needs no gradient of its own. So full fine-tuning takes 6 operations per weight and token, LoRA 4 and a little. We measure on the
# first 2 of SmolLM2's 30 blocks. The head counts only for the places with a label.

# %% id="cost"
from torch.utils.flop_counter import FlopCounterMode
from transformers import BitsAndBytesConfig


def first_blocks(**settings):
    return AutoModelForCausalLM.from_pretrained(model_folder(), num_hidden_layers=2, local_files_only=True, dtype=torch.float32, **settings)


def measure(small, rows) -> tuple[float, float, float]:
    """(operations, seconds of CPU time, MiB of weights, gradients and moments) of one training step."""
    optimizer = torch.optim.AdamW([p for p in small.parameters() if p.requires_grad], lr=1e-4)
    rows_loss(small, rows).backward(), optimizer.step()  # the first step makes the moments
    kept = sum(p.nbytes + (p.grad.nbytes if p.grad is not None else 0) for p in small.parameters())
    kept += sum(t.nbytes for state in optimizer.state.values() for t in state.values() if t.ndim)
    with FlopCounterMode(display=False) as counter:
        begin = time.process_time()
        optimizer.zero_grad(), rows_loss(small, rows).backward(), optimizer.step()
    return counter.get_total_flops(), time.process_time() - begin, kept / 2**20


eighty = pack_examples(examples[:2], 80)
whole, adapted = first_blocks(), first_blocks()
inject_lora(adapted, LoRAConfig(rank=8, alpha=16.0))
quantised = first_blocks(quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True))
inject_lora(quantised, LoRAConfig(rank=8, alpha=16.0))
costs = {name: measure(small, eighty) for name, small in (("full", whole), ("LoRA", adapted), ("QLoRA", quantised))}

# %% id="cost-table"
places, labels = eighty.tokens.numel(), int((eighty.labels[:, 1:] != IGNORE).sum())
inner = sum(m.weight.numel() for n, m in whole.named_modules() if isinstance(m, nn.Linear) and n != "lm_head")
head, small_ones = whole.lm_head.weight.numel(), count_parameters(adapted)[0]
attention = 6 * 4 * places**2 * d  # forward: scores and mixing, over the whole square
predicted = {"full": 6 * (inner * places + head * labels) + 3 * attention, "LoRA": 4 * (inner * places + head * labels) + 6 * small_ones * places + 3 * attention}
for name, (flops, seconds, mib) in costs.items():
    expected = f"predicted {predicted[name] / 1e9:5.1f} billion operations, counted {flops / 1e9:5.1f}" if name in predicted else " " * 55
    print(f"{name:>5}: {expected}; {seconds:.2f} s of CPU time; {mib:5.0f} MiB of weights, gradients, moments")
linear = {name: sum(m.weight.nbytes for n, m in small.named_modules() if isinstance(m, nn.Linear) and n != "lm_head" and "lora" not in n) / 2**20 for name, small in (("LoRA", adapted), ("QLoRA", quantised))}
print(f"the two blocks' matrices alone: {linear['LoRA']:.1f} MiB in float32, {linear['QLoRA']:.1f} MiB in NF4: {linear['LoRA'] / linear['QLoRA']:.1f} times less")

# %% [markdown] id="cost-read"
# **Memory** is the larger gain. Full fine-tuning keeps four numbers per weight: the weight, its gradient, and AdamW's two moments. LoRA keeps one, and
# four for the small matrices.
#
# **QLoRA** (arXiv 2305.14314) goes on from there. What is frozen need not be stored exactly. Four bits a weight (the data type NF4, which week 7 builds) shrink the
# matrices to an eighth; for each product they are unpacked again. The small matrices stay in float32, and the gradient flows through the unpacked
# weights. Our own `LoRALinear` does it unchanged: its base is bitsandbytes' `Linear4bit`. The paper reports more than 780 GB for the full fine-tuning of a model
# of 65 billion weights, and less than 48 GB with QLoRA.
#
# On our small model the table of words is most of what is left: bitsandbytes does not quantise embeddings. In a model of 65 billion weights it is next to nothing.

# %% id="cost-figure"
figure, (left, right) = plt.subplots(1, 2, figsize=(8.5, 2.6), layout="constrained")
for ax, which, unit in ((left, 2, "MiB of weights, gradients, moments"), (right, 1, "CPU seconds for a step of 80 tokens")):
    ax.barh(list(costs), [cost[which] for cost in costs.values()], color=["lightgray", "tab:green", "tab:blue"])
    ax.set(xlabel=unit)
    ax.invert_yaxis()
plt.show()
del whole, quantised, theirs, trainer

# %% [markdown] id="breaks-text"
# ## How it breaks
#
# Most failures of fine-tuning make no noise: a loss falls, and the model gets worse. What can be noticed should be said in a sentence. Four ways to go wrong, and what
# the library says:

# %% id="breaks"
from transformers import LlamaConfig


def mishap(what: str, call) -> None:
    try:
        call()
    except (ValueError, FloatingPointError) as error:
        print(f"{what}:\n    {type(error).__name__}: {str(error).replace(folder.name, '…')}\n")


masked = pack_examples([Example(e.tokens, torch.full_like(e.labels, IGNORE)) for e in examples[:1]], 80)
mishap("an empty training set", lambda: pack_examples([], 80))
mishap("labels that mask all", lambda: finetune(adapted, masked, FinetuneConfig(steps=1), progress=False))
mishap("a learning rate of 1e9", lambda: finetune(adapted, eighty, FinetuneConfig(steps=4, lr=1e9, warmup=0), progress=False))
narrow = LlamaConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=30, num_attention_heads=4, vocab_size=99)
other = AutoModelForCausalLM.from_config(narrow)
mishap("an adapter for other shapes", lambda: load_adapter(other, saved))

# %% [markdown] id="breaks-read"
# The quiet ones stay your work: a label at the wrong place (Friday's bug), another template than at inference, a held-out question in the data.
#
# ## Thursday · The paper: which rank is enough?
#
# **LoRA** (Hu and others, arXiv 2106.09685). **The claim** (section 7.2, table 6): GPT-3's accuracy hardly depends on the rank. Already rank 1 suffices for W_q
# and W_v together. And (figure 3) the strongest direction that rank 8 finds is also one of rank 64's.
#
# **Ours, in small.** A MiniTransformer learns Shakespeare. Then the task changes: EVERYTHING IN CAPITALS. We adapt it with ranks 1 to 64, the last as large as the model is
# wide. Alpha and learning rate are the same for all ranks: the scaling alpha / rank is there for that. Full fine-tuning, with its best rate of a small scan, is the yardstick: we print which
# share of its gain each adapter reaches.

# %% id="paper-base"
from hybridlab.data.shakespeare import load_shakespeare
from hybridlab.transformer.batching import random_batch
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.model import MiniTransformer
from hybridlab.transformer.training import TrainConfig, evaluate, fixed_batches, train

set_threads(1)  # models as small as this one run faster on one core
corpus = load_shakespeare()
vocabulary = corpus.vocabulary
capitals = vocabulary.encode(vocabulary.decode(corpus.train[:200_000]).upper())
judged = fixed_batches(vocabulary.encode(vocabulary.decode(corpus.validation[:20_000]).upper()), 8, 12, 64)


def train_on(text, mini, steps: int, lr: float) -> None:
    optimizer = torch.optim.AdamW([p for p in mini.parameters() if p.requires_grad], lr=lr, betas=(0.9, 0.95), weight_decay=0.0)
    plan = TrainConfig(steps=steps, batch_size=8, warmup=steps // 10, eval_every=steps, eval_batches=1)
    train(mini, text, corpus.validation, optimizer, plan, progress=False)


torch.manual_seed(0)
shape = TransformerConfig.llama(len(vocabulary), d_model=64, n_layers=2, n_heads=4, n_kv_heads=4, max_time=64, tie_embeddings=False)
learned = MiniTransformer(shape)
train_on(corpus.train, learned, 110 * longer, 8e-3)
start = evaluate(learned, judged)
print(f"on capitals, before any adaptation: {start:.3f} nats per character")

# %% id="paper-runs"
RANKS, STEPS = (1, 2, 4, 8, 64), 25 * longer
LAYERS = {"q, v": (("q_proj", "v_proj"), RANKS), "all seven": (ALL_LINEAR, (1, 64))}


def adapted_run(rank: int, targets: tuple[str, ...]) -> tuple[float, MiniTransformer]:
    mini = copy.deepcopy(learned)
    torch.manual_seed(rank)
    inject_lora(mini, LoRAConfig(rank=rank, alpha=16.0, targets=targets))
    train_on(capitals, mini, STEPS, 1e-2)
    return evaluate(mini, judged), mini


fully = copy.deepcopy(learned)
train_on(capitals, fully, STEPS, 1e-2)
full = evaluate(fully, judged)
runs = {(name, rank): adapted_run(rank, targets) for name, (targets, ranks) in LAYERS.items() for rank in ranks}
print(f"full fine-tuning: {full:.3f} nats, {count_parameters(fully)[0]:,} numbers trained")

# %% id="paper-table"
PAPER = {  # table 6: validation accuracy of GPT-3 175B, in percent; WikiSQL ±0.5, MultiNLI ±0.1
    "WikiSQL, W_q and W_v": (73.4, 73.3, 73.7, 73.8, 73.5),
    "MultiNLI, W_q and W_v": (91.3, 91.4, 91.3, 91.6, 91.4),
}
print(" " * 30 + "".join(f"{'r = ' + str(rank):>9}" for rank in RANKS))
for name, accuracies in PAPER.items():
    print(f"paper, {name:<23}" + "".join(f"{value:9.1f}" for value in accuracies) + "  % right")
for name in LAYERS:
    gain = [100 * (start - runs[name, rank][0]) / (start - full) if (name, rank) in runs else math.nan for rank in RANKS]
    trained = [f"{count_parameters(runs[name, rank][1])[0]:,}" if (name, rank) in runs else "" for rank in RANKS]
    print(f"ours, {name:<24}" + "".join(f"{value:9.0f}" if value == value else " " * 9 for value in gain) + "  % of full fine-tuning's gain")
    print(f"{'      numbers trained':<30}" + "".join(f"{count:>9}" for count in trained))

# %% [markdown] id="subspace-text"
# **And the directions?** We ask as the paper does (equation 4): take the strongest i directions that A reads at rank 8, and the strongest j at rank 64. How much of
# the one lies in the other? 1 is all of it. Directions drawn at random would give about max(i, j) / 64 in our width.

# %% id="subspace"
def directions(mini: MiniTransformer, name: str) -> torch.Tensor:
    """The directions that A reads, the strongest first, as columns."""
    return torch.linalg.svd(lora_layers(mini)[name].lora_A.detach(), full_matrices=False).Vh.T


def overlap(eight: torch.Tensor, wide: torch.Tensor, i: int, j: int) -> float:
    return ((eight[:, :i].T @ wide[:, :j]).square().sum() / min(i, j)).item()


figure, axes = plt.subplots(1, 3, figsize=(10, 2.9), layout="constrained")
random_wide, random_eight = (torch.linalg.qr(torch.randn(64, n)).Q for n in (64, 8))
cases = {"layer 1, q_proj": "layers.1.self_attn.q_proj", "layer 1, v_proj": "layers.1.self_attn.v_proj", "random": None}
for ax, (title, name) in zip(axes, cases.items()):
    pair = (directions(runs["q, v", 8][1], name), directions(runs["q, v", 64][1], name)) if name else (random_eight, random_wide)
    grid = torch.tensor([[overlap(*pair, i, j) for j in range(1, 17)] for i in range(1, 9)])
    picture = ax.imshow(grid, vmin=0, vmax=1, extent=(0.5, 16.5, 8.5, 0.5), cmap="viridis")
    ax.set_title(f"{title}\ni = j = 1: {grid[0, 0]:.2f}", fontsize=10)
    ax.set(xlabel="j, rank 64", ylabel="i, rank 8")
figure.colorbar(picture, ax=axes, label="overlap")
plt.show()

# %% [markdown] id="paper-verdict"
# **What we may say.** Here, too, the rank hardly matters: rank 1 reaches most of what rank 64 reaches, with a sixty-fourth of the numbers. Which *layers* are adapted matters
# more: all seven at rank 1 beat q and v at rank 64. The strongest direction of rank 8 is one of rank 64's far beyond chance. And even the change that *full* fine-tuning makes, which nothing
# held to a low rank, lies mostly within a few directions:

# %% id="full-rank"
name = "layers.1.self_attn.v_proj"
change = fully.get_submodule(name).weight.detach() - learned.get_submodule(name).weight.detach()
values = torch.linalg.svdvals(change)
energy = values.square().cumsum(0) / values.square().sum()
figure, axes = plt.subplots(figsize=(6, 2.6), layout="constrained")
axes.plot(range(1, 65), energy, marker=".")
axes.set(xlabel="rank", ylabel="share of ‖ΔW‖²", title="full fine-tuning's own change of v_proj, by rank")
axes.set_ylim(0, 1.02)
plt.show()
print("share within rank 1, 2, 4, 8:", [f"{energy[r - 1]:.0%}" for r in (1, 2, 4, 8)])

# %% [markdown] id="paper-limits"
# **What we may not say.** Not "as good as full fine-tuning": a part of the gain is missing at every rank. Capitals are nearly new to this model, and under LoRA their
# embeddings stay frozen. The paper's tasks lie nearer to what GPT-3 knew. One seed, one task, twenty-five steps: its numbers are the ones to remember.

# %% [markdown] id="where"
# ## Where this sits
#
# | here | in our system | in systems in use |
# | --- | --- | --- |
# | `LoRALinear`, `inject_lora` | this month's project; month 4's experts: one adapter for each skill | PEFT; llama.cpp and vLLM serve many adapters beside one model |
# | adapters as a file of some MiB | the assistant's `experts/` folder | the hub's adapter repositories |
# | labels in the answers, packing | the project's data | TRL, Axolotl, torchtune: the same three tensors |
# | NF4 under LoRA | week 7 builds it | bitsandbytes; QLoRA on a single GPU |
# | merging | export for the engine | what you do before you quantise and ship |
#
# **Which layers, rank, alpha?** Start with all seven, rank 8 or 16, alpha twice the rank, and ten times the learning rate of full fine-tuning. Then look at held-out answers, not
# at the loss.

# %% [markdown] id="sunday"
# ## Sunday · Review
#
# Put your answer in the place of `...` and run the cell. Calculate on paper first.
#
# **1.** Llama 3 8B: a layer with 4,096 inputs and 4,096 outputs, rank 16. How many numbers does its adapter train?

# %% id="q1"
answer("q1", ...)

# %% [markdown] id="q2-text"
# **2.** W is the identity (2 × 2), A = (1, 0), B = (0, 1)ᵀ, alpha 4, rank 1. What is the *second* number of the output for x = (3, 5)?

# %% id="q2"
answer("q2", ...)

# %% [markdown] id="q3-text"
# **3.** Which matrix begins at zero: `"A"`, `"B"`, `"both"` or `"neither"`?

# %% id="q3"
answer("q3", ...)

# %% [markdown] id="q4-text"
# **4.** A row holds three examples of 5, 7 and 4 tokens. Which position has the row's last token?

# %% id="q4"
answer("q4", ...)

# %% [markdown] id="q5-text"
# **5.** A frozen matrix of 1,000,000 weights, 100 tokens. How many operations do forward and backward take in it?

# %% id="q5"
answer("q5", ...)

# %% [markdown] id="q6-text"
# **6.** The loss falls to 0.01 within twenty steps, and the model repeats its last token for ever. What is wrong: `"rank"`, `"labels not shifted"` or
# `"learning rate"`?

# %% id="q6"
answer("q6", ...)

# %% [markdown] id="q7-text"
# **7.** Full fine-tuning of 1 billion weights in float32 with AdamW: how many GB (10⁹ bytes) of weights, gradients and moments?

# %% id="q7"
answer("q7", ...)

# %% [markdown] id="q8-text"
# **8.** Packed rows have the shape (4, 256). Which shape has their mask?

# %% id="q8"
answer("q8", ...)

# %% [markdown] id="reading"
# ## What to read, what comes next
#
# - **LoRA** (arXiv 2106.09685), section 7: short, and now you can check each sentence of it.
# - **QLoRA** (arXiv 2305.14314), section 3: NF4, double quantisation, and what is computed in which precision.
# - **LoRA Without Regret** (thinkingmachines.ai/blog/lora): when LoRA equals full fine-tuning, and when it does not.
#
# **Next:** the lab. You write the adapter, put it into a model, make the data, and find out why a loss was too good.
