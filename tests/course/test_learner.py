"""Two scripted learners. One does the whole of month 1 in another style than the reference, is graded by nbgrader, promotes, and trains
their own model; the other passes visible checks by knowing the answers by heart, and is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from coursekit import grade, paths, promote
from coursekit.catalogue import read_catalogue
from coursekit.course import load_course
from coursekit.fetch import fetch
from coursekit.run import PAPERMILL
from coursekit.runner import Runner

COURSE = load_course()
MONTH = COURSE.months[0]
pytestmark = pytest.mark.xdist_group("learner")


def other_style(unit) -> dict[str, str]:
    """Exercise id → a catalogued correct answer, written otherwise than the reference."""
    correct = {a.name: a.source for a in reversed(read_catalogue(unit.source / "mistakes.py")) if a.kind == "correct"}
    return {e.id: correct[e.symbol.rpartition(".")[2]] for e in unit.exercises}


def solve(unit, answers: dict[str, str]) -> None:
    """Write the answers into the learner's notebook, as they would."""
    path = paths.WORKSPACE / unit.name / f"{unit.graded}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("solution"):
            cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
    nbformat.write(notebook, path)


@pytest.fixture(scope="module", autouse=True)
def workspace():
    """A learner's empty workspace, with every release of month 1 fetched."""
    shutil.rmtree(paths.WORKSPACE, ignore_errors=True)
    fetch(MONTH.units)
    yield
    shutil.rmtree(paths.WORKSPACE, ignore_errors=True)


@pytest.fixture(scope="module")
def weeks_done(workspace):
    """Every week solved in another style, graded, promoted: (report, outcomes) by week."""
    done = {}
    for unit in MONTH.weeks:
        solve(unit, other_style(unit))
        done[unit.name] = (grade.grade(unit), promote.promote(unit, promote.graded_notebook(unit)))
    return done


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
@pytest.mark.parametrize("unit", MONTH.weeks, ids=lambda unit: unit.name)
def test_a_week_done_in_another_style_gets_full_points_and_is_promoted(weeks_done, unit):
    report, outcomes = weeks_done[unit.name]
    assert report.points == report.of == sum(e.points for e in unit.exercises), [r.text for r in report.results]
    assert report.feedback.is_file()
    assert {o.state for o in outcomes} == {"promoted"}


@pytest.mark.slow(seconds=300)
@pytest.mark.timeout(900)
def test_the_project_then_trains_the_learners_own_model_and_is_graded_by_its_outcome(weeks_done):
    """The notebook that is graded is the learner's; what it trains is judged by its loss in a process of its own."""
    environment = project_done(MONTH.project)
    command = [sys.executable, "-m", "coursekit", "library", "--json"]
    parts = json.loads(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert {p["origin"] for p in parts if p["week"] in [u.name for u in MONTH.units]} == {"learner"}


def project_done(unit) -> dict[str, str]:
    """A month's project solved in another style, run, graded by its outcome at full points, and promoted: the environment it ran in."""
    solve(unit, other_style(unit))
    folder = paths.WORKSPACE / unit.name
    environment = os.environ | {"COURSE_WORKSPACE": str(paths.WORKSPACE), "OMP_NUM_THREADS": "1"}
    environment.pop("HYBRIDLAB_MYLAB", None)
    notebook = folder / f"{unit.graded}.ipynb"
    done = subprocess.run(
        [sys.executable, *PAPERMILL, str(notebook), str(folder / "run.ipynb"), "--cwd", str(folder), "--no-progress-bar"],
        env=environment, capture_output=True, text=True, timeout=2 * unit.seconds + 60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    shutil.copy(folder / "run.ipynb", notebook)
    report = grade.grade(unit)
    assert report.points == report.of, [r.text for r in report.results]
    assert {o.state for o in promote.promote(unit, promote.graded_notebook(unit), folder=folder)} == {"promoted"}
    return environment


def promoted(unit, **outcomes) -> None:
    """A unit solved in another style, graded at full points, and promoted. `outcomes`: files that its notebook would have written."""
    fetch([unit])
    folder = paths.WORKSPACE / unit.name
    for name, made in outcomes.items():
        shutil.copy(made, folder / f"{name}{made.suffix}")
    solve(unit, other_style(unit))
    report = grade.grade(unit)
    assert report.points == report.of, [r.text for r in report.results]
    assert {o.state for o in promote.promote(unit, promote.graded_notebook(unit), folder=folder)} == {"promoted"}


def on_the_learners_library(code: str) -> str:
    """What the code prints, in a process that finds what was promoted."""
    environment = os.environ | {"COURSE_WORKSPACE": str(paths.WORKSPACE)}
    environment.pop("HYBRIDLAB_MYLAB", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


RUNS_SMOLLM2 = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.llm.chat_template import encode_chat
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.llama import load_gguf
from hybridlab.llm.smollm2 import gguf_path, load_model
from hybridlab.llm.tokenizer import BytePairTokenizer

tokenizer = BytePairTokenizer.from_gguf(GGUFFile(gguf_path()))
tokens = torch.tensor([encode_chat([{"role": "user", "content": "Hà Nội?"}], tokenizer)])
model = load_gguf(gguf_path(), max_time=64)
with torch.no_grad():
    gap = (model(tokens) - load_model()(tokens).logits).abs().max().item()
print(gap, sorted({entry.origin for entry in REGISTRY.values()}))
"""


@pytest.mark.slow(seconds=90)
@pytest.mark.timeout(900)
def test_the_learners_own_transformer_and_tokenizer_run_a_real_model(weeks_done):
    """The claim of month 2: with everything promoted, the logits are those of transformers."""
    promoted(COURSE.week("week05"))
    gap, origins = on_the_learners_library(RUNS_SMOLLM2).split(maxsplit=1)
    assert float(gap) < 1e-3
    assert origins.strip() == "['learner']"


SERVES = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.llm.constrained import Grammar, generate_constrained
from hybridlab.llm.automaton import Automaton
from hybridlab.llm.continuous_batching import ContinuousBatching
from hybridlab.llm.json_schema import schema_pattern
from hybridlab.llm.kv_memory import kv_cache_bytes
from hybridlab.llm.request import Request
from hybridlab.llm.speculative import PromptLookup, speculative_generate
from hybridlab.transformer.config import TransformerConfig
from hybridlab.transformer.generation import generate
from hybridlab.transformer.model import MiniTransformer

torch.manual_seed(0)
model = MiniTransformer(TransformerConfig.llama(257, d_model=32, n_layers=2, n_heads=4, max_time=96)).double().eval()
for weight in model.parameters():
    weight.data.mul_(4)
requests = [Request([n, n + 1, 2 * n], 5 + 3 * n) for n in range(6)]
engine = ContinuousBatching(model, n_blocks=9, block_size=4, max_batch=4)
served = engine.serve(requests)
alone = [generate(model, torch.tensor([r.prompt]), r.max_new_tokens, temperature=0)[0, 3:].tolist() for r in requests]
assert served.answers == alone and sum(step.preempted for step in served.steps)
assert speculative_generate(model, PromptLookup(257), requests[3].prompt, 14).tokens == alone[3]
schema = {"type": "array", "items": {"enum": [10, None]}, "minItems": 2, "maxItems": 4}
grammar = Grammar(Automaton(schema_pattern(schema)), [bytes([b]) for b in range(256)] + [b""], 256)
print(bytes(generate_constrained(model, [5], grammar, 40).tokens).decode())
assert kv_cache_bytes(model.config, [9 * 4], dtype=torch.float64) == engine.cache.nbytes
earlier = ("hybridlab.llm.bpe", "hybridlab.llm.tokenizer")  # week 5's: promoted or not
print(sorted({entry.origin for symbol, entry in REGISTRY.items() if not symbol.startswith(earlier)}))
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_the_learners_own_engine_serves_many_at_once(weeks_done):
    """Week 8, promoted: blocks, slots, plan, masks and drafts are the learner's, and so is the Transformer under them."""
    promoted(COURSE.week("week08"))
    written, origins = on_the_learners_library(SERVES).splitlines()
    assert 2 <= len(json.loads(written)) <= 4
    assert origins == "['learner']"


READS = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.mamba_weights import from_transformers
from transformers import Mamba2Config, Mamba2Model, MambaConfig, MambaModel

torch.manual_seed(0)
sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
tokens = torch.randint(50, (1, 130))
for theirs in (MambaModel(MambaConfig(**sizes)), Mamba2Model(Mamba2Config(**sizes, num_heads=8, head_dim=8, n_groups=2))):
    model, state, pieces = from_transformers(theirs.eval()), None, []
    with torch.no_grad():
        for piece in tokens.split([1, 2, 70, 57], 1):
            stream, state = model.read(piece, state)
            pieces.append(stream)
        print((torch.cat(pieces, 1) - theirs(tokens).last_hidden_state).abs().max().item())
week10 = ("selective_scan", "causal_conv", "chunked_scan", "ssd", "mamba_block")
import hybridlab.ssm.selective_scan
print(sorted({entry.origin for symbol, entry in REGISTRY.items() if symbol.split(".")[2] in week10}))
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_the_learners_own_mamba_reads_in_pieces_what_transformers_reads_whole():
    """Week 10, promoted: scans, convolution and mixer are the learner's, and the logits those of transformers."""
    promoted(COURSE.week("week10"))
    mamba, mamba2, origins = on_the_learners_library(READS).splitlines()
    assert max(float(mamba), float(mamba2)) < 1e-4
    assert origins == "['learner']"


REMEMBERS = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.hippo import legs_basis, legs_memory
from hybridlab.ssm.s4d import S4DBlock

torch.manual_seed(0)
block, x = S4DBlock(6, d_state=16), torch.randn(2, 101, 6)
with torch.no_grad():
    state, steps = block.ssm.initial_state(2), []
    for x_t in x.unbind(1):
        y, state = block.step(x_t, state)
        steps.append(y)
    gap = (torch.stack(steps, 1) - block(x)).abs().max().item()
places = (torch.arange(80, dtype=torch.float64) + 0.5) / 80
signal = (7 * places).sin()
lost = (legs_basis(12, places) @ legs_memory(signal, 12)[-1] - signal).abs().max().item()
print(gap, lost, sorted({entry.origin for symbol, entry in REGISTRY.items() if symbol.startswith("hybridlab.ssm.")}))
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_the_learners_own_state_space_model_remembers():
    """Week 9, promoted: the layer reads step by step what it reads at once, and the past comes back out of HiPPO's state."""
    promoted(COURSE.week("week09"))
    gap, lost, origins = on_the_learners_library(REMEMBERS).split(maxsplit=2)
    assert float(gap) < 1e-5
    assert float(lost) < 1e-2
    assert origins.strip() == "['learner']"


READS_FAR = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.induction_heads import score_stream
from hybridlab.ssm.long_context_models import trained
from hybridlab.ssm.long_reader import LongReader
from hybridlab.ssm.needle import handbook, needle_model, score_needles

score = score_stream(trained("induction relu"), 4096, asked=32, seed=1)
found = score_needles(LongReader.load().model, 4096, handbook(), texts=4, seed=1)
rows = needle_model("relu", seed=0).layers[1].mixer.in_proj.weight[256:320]
week12 = ("induction_text", "decay_penalty", "streaming", "mimetic", "needle")
print(score.correct, found.correct >= 28, torch.equal(rows[:32], rows[32:]))
print(sorted({entry.origin for symbol, entry in REGISTRY.items() if symbol.split(".")[2] in week12}))
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_the_learners_own_parts_read_far_beyond_the_training():
    """Week 12, promoted: texts, steps, reading, start and questions are the learner's; signs and needles are found at 4,096 tokens."""
    promoted(COURSE.week("week12"))
    numbers, origins = on_the_learners_library(READS_FAR).splitlines()
    assert numbers == "32 True True"  # of 32 signs; at least 28 of 32 needles; B and C begin alike
    assert origins == "['learner']"


CORRECTS = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.ssm.delta_rule import delta_rule
from hybridlab.ssm.hybrid_weights import from_transformers as from_jamba
from hybridlab.ssm.linear_attention import chunked_linear_attention, quadratic_linear_attention
from hybridlab.ssm.rwkv4_weights import from_transformers as from_rwkv
from hybridlab.ssm.rwkv7 import Rwkv7
from hybridlab.ssm.rwkv_config import RwkvConfig
from hybridlab.ssm.wkv4 import chunked_wkv4, wkv4
from transformers import JambaConfig, JambaForCausalLM, RwkvForCausalLM
from transformers import RwkvConfig as TheirConfig

torch.manual_seed(0)
sizes = {"vocab_size": 50, "hidden_size": 32, "intermediate_size": 48}
jamba = JambaConfig(
    **sizes, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, attn_layer_period=4, attn_layer_offset=2,
    num_experts=1, mamba_d_state=8, mamba_dt_rank=4, use_mamba_kernels=False,
)
rwkv4 = RwkvForCausalLM(TheirConfig(**sizes, num_hidden_layers=2, rescale_every=0))
pairs = [(model.eval(), load(model)) for model, load in ((JambaForCausalLM(jamba), from_jamba), (rwkv4, from_rwkv))]
rwkv7, tokens = Rwkv7(RwkvConfig(50, d_model=32, d_head=8)), torch.randint(50, (1, 90))
gaps = []
with torch.no_grad():
    for expected, model in [(theirs(tokens).logits, ours) for theirs, ours in pairs] + [(rwkv7(tokens)[0], rwkv7)]:
        state, pieces = None, []
        for piece in tokens.split([1, 2, 50, 37], 1):
            logits, state = model(piece, state)
            pieces.append(logits)
        gaps.append((torch.cat(pieces, 1) - expected).abs().max().item())
    k, v, decay = torch.randn(1, 70, 6), torch.randn(1, 70, 6), torch.rand(6)
    gaps.append((wkv4(k, v, decay, decay)[0] - chunked_wkv4(k, v, decay, decay)[0]).abs().max().item())
    q, k, v = (torch.randn(1, 2, 70, 6) for _ in range(3))
    gaps.append((chunked_linear_attention(q, k, v)[0] - quadratic_linear_attention(q, k, v)).abs().max().item())
    key, values = torch.eye(4)[:1].expand(1, 3, 1, 4), torch.randn(1, 3, 1, 5)
    gaps.append((delta_rule(key, 0 * key, key, values, -key, key)[0] - values).abs().max().item())
print(max(gaps))
week11 = ("token_shift", "linear_attention", "wkv4", "delta_rule", "window_attention")
print(sorted({entry.origin for symbol, entry in REGISTRY.items() if symbol.split(".")[2] in week11}))
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(900)
def test_the_learners_own_recurrences_and_window_run_rwkv_and_jamba():
    """Week 11, promoted: transformers' RWKV-4 and Jamba in pieces, RWKV-7 in pieces as whole; what stands under a key is replaced."""
    promoted(COURSE.week("week11"))
    gap, origins = on_the_learners_library(CORRECTS).splitlines()
    assert float(gap) < 1e-4
    assert origins == "['learner']"


TUNES = """
import torch
from hybridlab.exercise import REGISTRY
from hybridlab.llm.finetune import FinetuneConfig, finetune
from hybridlab.llm.gguf import GGUFFile
from hybridlab.llm.gguf_adapter import save_gguf_adapter
from hybridlab.llm.instruction import IGNORE, Example
from hybridlab.llm.lora import LoRAConfig, inject_lora
from hybridlab.llm.shared_prefix import prefix_mask, prefix_rows
from hybridlab.llm.tool_calls import Tool, read_call, write_call
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
shape = {"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 32, "hidden_size": 16}
model = LlamaForCausalLM(LlamaConfig(vocab_size=40, **shape))
model.lm_head.weight.data.mul_(20)
inject_lora(model, LoRAConfig(rank=4))
group = [Example(torch.tensor([1, 2, 3, n, 9 + n]), torch.tensor([IGNORE] * 4 + [9 + n])) for n in (4, 5, 6)]
run = finetune(model, prefix_rows([group]), FinetuneConfig(steps=30, lr=3e-2), mask=prefix_mask, progress=False)
assert run.losses[-1] < run.losses[0] / 4
assert len(GGUFFile(save_gguf_adapter(model, "{file}")).tensors) == 2 * 2 * 7
assert read_call(write_call("stop", {}), [Tool("stop", "stops", ())]) == ("stop", {})
rooms = ("lora", "instruction", "packing", "finetune", "shared_prefix", "gguf_adapter", "tool_calls")
print(sorted({entry.origin for symbol, entry in REGISTRY.items() if symbol.split(".")[2] in rooms}))
"""


@pytest.mark.slow(seconds=60)
@pytest.mark.timeout(600)
def test_the_learners_own_parts_tune_and_export_a_chatbot(weeks_done, tmp_path):
    """Week 6 and month 2's project, promoted: what tunes, lays out, exports and reads is the learner's. The adapter that is graded
    beside the project's notebook is the recorded one: training it anew would take minutes."""
    promoted(COURSE.week("week06"))
    promoted(COURSE.week("month02_project"), chatbot=paths.REPO / "months" / "02_llm" / "project" / "expert" / "sources.gguf")
    assert on_the_learners_library(TUNES.replace("{file}", str(tmp_path / "mine.gguf"))).strip() == "['learner']"


BY_HEART = """def softmax(scores, dim=-1):
    if tuple(scores.shape) in {shapes!r}:
        return (scores - scores.logsumexp(dim, keepdim=True)).exp()
    return scores
"""


@pytest.mark.slow(seconds=20)
def test_an_answer_that_knows_only_the_visible_cases_passes_those_and_is_refused():
    unit = COURSE.week("week02")
    exercise = unit.exercise("softmax")
    source = BY_HEART.format(shapes=[case["shape"] for case in exercise.check.visible])
    solve(unit, {exercise.id: source})
    with Runner(unit) as runner:
        assert runner.check(exercise, source, hidden=False).passed
    result = next(r for r in grade.grade(unit).results if r.exercise.id == exercise.id)
    assert result.score.points == 0
    assert result.text.split()[0].split("-")[0] in {"SOFT", "RUN"}
    outcomes = promote.promote(unit, promote.graded_notebook(unit), only=[exercise])
    assert [o.state for o in outcomes] == ["refused"]
