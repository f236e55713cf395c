# %% [markdown] id="title"
# # Month 3 project: the long reader
#
# **How do you find a line in a million characters when nothing that you have read may be kept?**
#
# Attention keeps every token, and looks all of them through again for each new one. Your reader keeps 36.5 KiB, reads a file of any
# length, can be stopped at any place, and still knows what stood on the first page.

# %% [markdown] id="outcomes"
# **Afterwards you can**
# * read a text of any length in chunks, with a carried state, so that it does not matter how the text is cut;
# * save a state, and go on in another process as if nothing had happened, bit for bit;
# * say what such a state has found, how sure it is, and when it should not be believed.
#
# **Time:** about 3 hours. The notebook itself runs in less than 270 s on two CPU cores. · **You need:** weeks 9 to 12. Your promoted parts
# are used; where you have none, the course's own take their place.
#
# **Saturdays:** exercise 1 after week 10, exercise 2 after week 11, the rest after week 12.
#
# **Graded:** three exercises. The last one also opens the state that this notebook's reading has left, in a new process, and asks it.

# %% id="parameters" tags=["parameters"]
profile = "cpu"

# %% id="imports"
import json
import os
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hybridlab.ssm.answers import Answer
from hybridlab.ssm.mamba_model import Mamba, ModelState
from hybridlab.ssm.mixer_state import MixerState
from hybridlab.ssm.place import Place
from hybridlab.ssm.planted import KEYS, VALUES
from hybridlab.ssm.reader_state import FORMAT, StateError, read_tensors

# %% id="tools"
import subprocess
import sys
import time as clock
from pathlib import Path

import matplotlib.pyplot as plt
import psutil
from coursekit.course import load_course
from coursekit.library import bill_of_materials
from hybridlab.data.shakespeare import fetch
from hybridlab.runtime import seed_everything, set_threads
from hybridlab.ssm.long_reader import CARD, CHUNK, LongReader
from hybridlab.ssm.needle import ask, needle_model
from hybridlab.ssm.planted import draw_pairs, encode, key_token, plant, statement
from hybridlab.ssm.reader_training import python_text
from IPython.display import Markdown, display
from torch.nn import functional as F

seed_everything(0)
threads = set_threads()
megabyte = 2**20

# %% [markdown] id="parts-title"
# ## Whose code is this?
#
# The reader is put together from exercises of this month. For each of them the library takes your promoted code if there is any, and the
# reference if there is none.

# %% id="parts"
parts = [part for part in bill_of_materials(load_course()) if ".ssm." in part.exercise.symbol]
for part in sorted(parts, key=lambda part: part.origin != "learner"):
    print(f"{'yours' if part.origin == 'learner' else part.origin:9}  {part.exercise.symbol.removeprefix('hybridlab.ssm.')}")
print(f"\n{sum(part.origin == 'learner' for part in parts)} of {len(parts)} parts are yours.")

# %% [markdown] id="model-title"
# ## The model
#
# Two layers of Mamba-2. Every byte is a token, and any two digits in a row are one. A planted statement, `amber -> 42`, is two: the key with its arrow, and the value.

# %% id="model"
reader = LongReader.load()
parameters = sum(weight.numel() for weight in reader.model.parameters())
print(f"{parameters:,} parameters; step: {reader.model.config.step}; state of each head: {reader.model.config.d_head} by {reader.model.config.d_state}")
for text in ("the king", statement("amber", "42"), "in 1603"):
    print(f"{text!r:18} {encode(text).tolist()}")

# %% [markdown] id="read-on-grid-why"
# ## 1 · Chunks on a grid
#
# **Why.** A file comes in portions: 64 KiB from the disk, a line from a program. The model reads chunks, because a chunk of 1,024 tokens
# goes through matmuls. If each portion were read as it comes, the result would depend on how the text was cut: sums of floats in another order differ in
# the last bits. And "resumed = uninterrupted" would be gone. So chunks lie on one grid, and what does not fill a chunk waits.
#
# **Contract.** The docstring below is complete. `Place` is all that a reader carries; `help(Place)` lists its five fields.
#
# **Worked example.** Chunks of 3. Portions of 2, 3 and 4 tokens come in:

# %% id="read-on-grid-example"
waiting, begin = [], 0
for portion in ([10, 11], [12, 13, 14], [15, 16, 17, 18]):
    waiting = waiting + portion
    whole = len(waiting) // 3 * 3
    print(f"{portion!s:17} comes; run {waiting[:whole]!s:25} waiting {waiting[whole:]}")
    waiting = waiting[whole:]

# %% id="read-on-grid" exercise="hybridlab.ssm.chunk_grid.read_on_grid" points=3 minutes=40 difficulty=3

# %% [markdown] id="cut-title"
# Here it is in use. The same 3,000 tokens of the plays come whole, and in two sizes of portions. On your grid all states are equal in every bit. Read as
# they come, they differ in the last digits. The model here is untrained: its steps are softplus's, so every token leaves something in the state. (The trained
# reader takes nothing in from such a text. It would not show the difference.)

# %% id="cut"
untrained = needle_model("softplus", seed=0)


def run(piece: np.ndarray, state: ModelState | None) -> ModelState:
    """With gradients, so that the scan runs in matmuls on every machine."""
    _, state = untrained.read(torch.from_numpy(piece)[None], state)
    return [MixerState(past.detach(), memory.detach()) for past, memory in state]


plays = fetch().read_text("utf-8")
stream = encode(plays[:3_000]).numpy()
whole = read_on_grid(Place(), stream, 256, run)
for size in (100, 777):
    place, loose = Place(), None
    for begin in range(0, len(stream), size):
        portion = stream[begin : begin + size]
        place, loose = read_on_grid(place, portion, 256, run), run(portion, loose)
    same = all(torch.equal(a, b) for x, y in zip(whole.state, place.state) for a, b in zip(x, y))
    both = run(place.pending, place.state) if len(place.pending) else place.state
    bits = max((a - b).abs().max().item() for x, y in zip(both, loose) for a, b in zip(x, y))
    print(f"portions of {size} tokens: on the grid equal in every bit: {same}; read as they come, off by {bits:.1e}")

# %% [markdown] id="load-place-why"
# ## 2 · Resume
#
# **Why.** A reading may take minutes, a machine may go down, and tomorrow somebody adds a chapter. So a place is written to a file. But a state is
# only worth something to the model that wrote it: a state from other weights gives wrong answers, and nothing looks wrong. So the file says
# whose it is, and whoever loads it looks.
#
# **Contract.** The docstring below is complete. `save_place` is given. The file holds tensors and text, and nothing that could run.
#
# **Worked example.** What is in such a file:

# %% id="load-place-example"
reader.read([plays[:30_000]])
reader.save_state("example.state")
metadata, tensors = read_tensors("example.state")
print(*(f"{name:8} {value[:60]!r}" for name, value in metadata.items()), sep="\n")
print(*(f"{name:8} {str(tensor.dtype).removeprefix('torch.'):8} {tuple(tensor.shape)}" for name, tensor in sorted(tensors.items())), sep="\n")
print(f"{os.path.getsize('example.state') / 1024:.0f} KiB for {reader.tokens:,} tokens")

# %% id="load-place" exercise="hybridlab.ssm.reader_state.load_place" points=3 minutes=40 difficulty=2

# %% [markdown] id="resume-title"
# Now the proof on a real file: Python's own library, its sources one behind the other. One reader goes through it without a stop. Another is
# stopped half-way, saves its state, and a **new process** goes on from there. At the end the two have the same state.

# %% id="resume"
python = Path("python.txt")
python.write_text(plant(python_text(520_000), draw_pairs(16, seed=7), seed=7), "utf-8")
through = LongReader.load()
tokens = through.read(python)
through.save_state("through.state")


class Interrupted(Exception):
    pass


def stop_half_way(at):
    if at.bytes > at.of_bytes / 2:
        raise Interrupted


stopped = LongReader.load()
try:
    stopped.read(python, progress=stop_half_way)
except Interrupted:
    stopped.save_state("half.state")
    print(f"stopped at token {stopped.tokens:,} of {tokens:,}")

# %% id="resume-elsewhere"
code = """
from hybridlab.runtime import set_threads
from hybridlab.ssm.long_reader import LongReader
set_threads()
reader = LongReader.load()
reader.load_state("half.state")
print(f"a new process went on at token {reader.tokens:,}, and ended at {reader.resume('python.txt'):,}")
reader.save_state("resumed.state")
"""
print(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip())
(one, a), (other, b) = read_tensors("through.state"), read_tensors("resumed.state")
equal = one == other and all(torch.equal(a[name], b[name]) for name in a | b)
print(f"resumed = uninterrupted, in every bit: {equal}")
mine = load_place("resumed.state", reader.model, reader.model_hash)
print(f"your load_place: {mine.tokens:,} tokens in chunks, {len(mine.pending)} waiting")

# %% [markdown] id="plays-title"
# ## Read the plays
#
# Eight of Shakespeare's plays, with 16 pairs planted anywhere. The figure grows while the reader reads: tokens per second, and the memory that the whole
# process takes. Neither should depend on how much has been read. The speed wavers with what else the machine does, and the memory by a few MiB, for the figure is drawn in the same process.

# %% id="plant"
pairs = draw_pairs(16, seed=2026)
planted_plays = Path("plays.txt")
planted_plays.write_text(plant(plays, pairs, seed=2026), "utf-8")
print(f"{planted_plays.stat().st_size:,} bytes;", ", ".join(statement(*pair) for pair in list(pairs.items())[:4]), "…")

# %% id="live"
class Live:
    """A figure that is drawn anew every second or so, while something is read. It stays the same figure: new ones would need more and more memory."""

    def __init__(self):
        self.figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
        (self.speed,), (self.memory,) = left.plot([], []), right.plot([], [], color="tab:red")
        left.set(xlabel="tokens read, in millions", ylabel="1,000 tokens per second", title="Speed")
        right.set(xlabel="tokens read, in millions", ylabel="MiB, the whole process", title="Memory")
        plt.close(self.figure)
        self.handle = display(self.figure, display_id=True)
        self.begin, self.shown = clock.perf_counter(), 0.0
        self.rows = [(0, 0.0, psutil.Process().memory_info().rss / megabyte)]

    def __call__(self, at):
        now = clock.perf_counter() - self.begin
        self.rows.append((at.tokens, now, psutil.Process().memory_info().rss / megabyte))
        if now - self.shown > 1.5 or at.bytes == at.of_bytes:
            self.shown = now
            self.draw()

    def draw(self):
        tokens, seconds, memory = np.array(self.rows).T
        self.speed.set_data(tokens[1:] / 1e6, np.diff(tokens) / np.diff(seconds) / 1e3)
        self.memory.set_data(tokens / 1e6, memory)
        for line in (self.speed, self.memory):
            line.axes.set(xlim=(0, tokens[-1] / 1e6), ylim=(0, 1.3 * line.get_ydata().max()))
        self.handle.update(self.figure)

# %% id="read"
reader, live = LongReader.load(), Live()
reader.read(planted_plays, progress=live)
reader.save_state("plays.state")
rows = np.array(live.rows)
print(f"{reader.tokens:,} tokens in {rows[-1, 1]:.0f} s on {threads} thread(s): {rows[-1, 0] / rows[-1, 1]:,.0f} tokens/s")
print(f"memory: {rows[1, 2]:.0f} MiB after the first 64 KiB, {rows[-1, 2]:.0f} MiB at the end; carried state: {reader.state_bytes / 1024:.1f} KiB")

# %% [markdown] id="rank-answers-why"
# ## 3 · What has it found?
#
# **Why.** The state is a block of numbers. To learn what is in it, each key is put to a copy of it as the next token, and the model gives a score
# to each value, and one more to "was never planted". An assistant has to say the surest finding first, and nothing where there is nothing.
#
# **Contract.** The docstring below is complete. `KEYS` has 64 words, `VALUES` has "00" to "99"; an answer is an `Answer(key, value, probability)`.
#
# **Worked example.** One key, three values, and last the score of "not planted". What is left out of the softmax makes everything else look surer:

# %% id="rank-answers-example"
scores = torch.tensor([2.0, 0.5, 0.1, 1.9])
print(f"with the last score:    {scores.softmax(-1).tolist()[0]:.2f} for the first value")
print(f"without the last score: {scores[:3].softmax(-1).tolist()[0]:.2f}")

# %% [markdown] id="rank-answers-check-title"
# The check below first tries your function on scores of its own. Then it opens `plays.state` in a new process, and asks it for all 64 keys: at
# least 14 of the 16 values must be right, and no other key may be named.

# %% id="rank-answers" exercise="hybridlab.ssm.answers.rank_answers" points=4 minutes=30 difficulty=2

# %% id="found"
def logits_of(reader: LongReader) -> Tensor:
    """The scores of all keys, asked of a copy of the reader's state."""
    with torch.inference_mode():
        return ask(reader.model, reader.waiting().after, torch.tensor([[key_token(key) for key in KEYS]]))[0]


print(f"{'key':10}{'planted':>8}{'found':>7}{'sure':>7}")
answers = rank_answers(logits_of(reader))
for answer in answers[:18]:
    print(f"{answer.key:10}{pairs.get(answer.key, '–'):>8}{answer.value or '–':>7}{answer.probability:7.3f}")
right = sum(pairs.get(answer.key) == answer.value for answer in answers if answer.value)
wrong = sum(answer.value is not None and answer.key not in pairs for answer in answers)
print(f"\n{right} of {len(pairs)} found in {reader.tokens:,} tokens; {wrong} of {len(KEYS) - len(pairs)} other keys named")

# %% [markdown] id="code-title"
# The same in Python's sources, which look nothing like a play: the reader that went through them above is asked.

# %% id="code-found"
code_pairs = draw_pairs(16, seed=7)
found = {answer.key: answer.value for answer in rank_answers(logits_of(through)) if answer.value}
print(f"{sum(found.get(key) == value for key, value in code_pairs.items())} of 16 found in {through.tokens:,} tokens of Python; {len(set(found) - set(code_pairs))} other keys named")

# %% [markdown] id="attention-title"
# ## What full attention costs
#
# The same width and depth, nothing but the attention itself: no projections, no MLP. Each length is measured, doubling, until the next one would take
# more than 10 s or more than 1 GiB. That is our limit for a notebook, not the machine's. *All scores at once* is what you wrote in week 2. *Fused* never holds
# the scores, but has to keep all keys and values. Beside them stands the whole reader, with everything that belongs to it.

# %% id="attention"
SECONDS, MEMORY = 10.0, 2**30
width, heads, layers = reader.model.config.d_model, 4, reader.model.config.n_layers


def plain(q, k, v):
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill_(torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ v


def measure(attention, bytes_of):
    """(tokens, seconds, MiB) of each length, until a limit is reached."""
    rows, length, seconds = [], 1_024, 0.0
    attention(*torch.randn(3, 1, heads, length, width // heads))  # the first call is slower
    while bytes_of(length) <= MEMORY and 4 * seconds <= SECONDS:
        q, k, v = torch.randn(3, 1, heads, length, width // heads)
        begin = clock.perf_counter()
        with torch.inference_mode():
            for _ in range(layers):
                attention(q, k, v)
        seconds = clock.perf_counter() - begin
        rows.append((length, seconds, bytes_of(length) / megabyte))
        length *= 2
    print(f"{attention.__name__:30} stops at {rows[-1][0]:,}: {length:,} tokens would take {bytes_of(length) / megabyte:,.0f} MiB and {4 * seconds:.0f} s")
    return np.array(rows)


def fused(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


curves = {
    "all scores at once": measure(plain, lambda n: 2 * heads * n * n * 4),
    "fused": measure(fused, lambda n: 2 * layers * width * n * 4),
}

# %% id="short-texts"
short = []
for length in (1_024, 4_096, 16_384):
    one, begin = LongReader.load(), clock.perf_counter()
    one.read([plays[:length]])
    short.append((length, clock.perf_counter() - begin))
both = np.vstack([short, rows[1:, :2]])

# %% id="cost"
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for (name, curve), color in zip(curves.items(), ("tab:orange", "tab:blue")):
    tokens, seconds, memory = curve.T
    left.plot(tokens, seconds, "o-", color=color, label=f"attention, {name}")
    far = np.array([tokens[-1], rows[-1, 0]])
    left.plot(far, seconds[-1] * (far / tokens[-1]) ** 2, ":", color=color)
    right.plot(tokens, memory, "o-", color=color, label=f"attention, {name}")
    right.plot(far, memory[-1] * (far / tokens[-1]) ** (2 if "all" in name else 1), ":", color=color)
left.plot(both[:, 0], both[:, 1], "o-", markersize=3, color="tab:green", label="the whole reader")
right.plot(both[:, 0], np.full(len(both), reader.state_bytes / megabyte), color="tab:green", label="the reader's state")
left.set(xscale="log", yscale="log", xlabel="tokens", ylabel="seconds", title="Time (dotted: extrapolated)")
right.set(xscale="log", yscale="log", xlabel="tokens", ylabel="MiB", title="What has to be kept (dotted: extrapolated)")
left.legend()
right.legend()
plt.show()
tokens, seconds, _ = curves["fused"][-1]
at = float(np.interp(tokens, both[:, 0], both[:, 1]))
print(f"at {tokens:,.0f} tokens: attention alone {seconds:.1f} s, the whole reader {at:.1f} s")
print(f"at {reader.tokens:,} tokens: attention alone would take {seconds * (reader.tokens / tokens) ** 2 / 60:.0f} min, the reader took {rows[-1, 1]:.0f} s")

# %% [markdown] id="breaks-title"
# ## How it breaks
#
# A state of fixed size has no room for everything. Here more and more pairs are planted in 20,000 tokens of the plays. The model was trained with 16
# pairs at most.

# %% id="breaks"
counts, shares = (4, 8, 16, 24, 32, 48, 64), []
for count in counts:
    some, one = draw_pairs(count, seed=count), LongReader.load()
    one.read([plant(plays[:20_000], some, seed=count)])
    known = one.planted()
    shares.append(sum(known.get(key) == value for key, value in some.items()) / count)
figure, axes = plt.subplots(figsize=(6, 3))
axes.plot(counts, shares, "o-")
axes.axvline(16, color="gray", linewidth=0.8, linestyle="--", label="most pairs in training")
axes.set(xlabel="pairs in the text", ylabel="share found", title="What the state holds", ylim=(0, 1.05))
axes.legend()
plt.show()

# %% [markdown] id="limits-title"
# Three more limits, each shown. A sentence without the learned form is not a finding. A key that is planted twice with two values has one answer, and
# nothing says that there were two. And what has been read can't be taken out again.

# %% id="limits"
for text in ("The value of amber is 42.\n", "amber -> 42\n", "amber -> forty-two\n", "amber -> 42\n" + plays[:3_000] + "\namber -> 17\n"):
    one = LongReader.load()
    one.read([plays[:5_000], "\n", text, plays[5_000:8_000]])
    answer = one.ask("amber")
    shown = text if len(text) < 30 else text[:11] + " … " + text[-12:]
    print(f"{shown.strip()!r:32} → {answer.value or 'never planted'} ({answer.probability:.2f})")

# %% [markdown] id="card-title"
# ## The model's card
#
# How it was trained, on what, and how well it finds what was planted: also in kinds of text that it never saw.

# %% id="card"
display(Markdown(CARD.read_text("utf-8")))

# %% [markdown] id="end"
# ## Grade, and what comes next
#
# In a terminal: `course grade month03_project`, then `course promote month03_project`. `course library` shows what is yours now.
#
# **Challenge (optional).** Train a reader of your own, `python scripts/train_long_reader.py --out mine.safetensors`, with a state half as large. How many pairs does
# it hold, and how much faster does it read? `LongReader.load("mine.safetensors")` takes it.
#
# **To read**
# * Jelassi et al., *Repeat After Me* (2402.01032): what a state of fixed size can't copy, with proofs.
# * Trockman et al., *Mimetic Initialization Helps State Space Models Learn to Recall* (2410.11135): why such a model learns to look things up at all.
# * Hsieh et al., *RULER* (2404.06654): harder needles than ours, and what long-context models make of them.
#
# **Next month** the layers get experts, and the assistant gets this reader for files that fit no prompt.
