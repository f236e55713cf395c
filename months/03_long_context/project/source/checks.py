"""The checks of month 3's project. Three judge code; the last one also opens the state that the notebook's reading has left."""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from coursekit.checks import Mistake, check, close, must_raise, outcome_file
from safetensors.torch import load_file, save_file

OUTCOME = "plays.state"
PAIRS, SEED = 16, 2026  # what the notebook plants, see its cell `plant`
TOKENS = 500_000  # at least so many must have been read
GOAL = 14  # of 16 planted pairs


# ---------------------------------------------------------------- read_on_grid


class Recorder:
    """In the place of the model: notes what it is given; its state is a number that depends on all tokens before."""

    def __init__(self):
        self.pieces, self.states, self.given = [], [], []

    def __call__(self, piece, state):
        self.given.append(np.array(piece, copy=True))
        self.states.append(state)
        self.pieces.append(len(self.given))
        return ["state", len(self.given), hash((str(state), self.given[-1].tobytes()))]


@check(
    "hybridlab.ssm.chunk_grid.read_on_grid",
    visible=[{"seed": 0, "chunk": 4, "portions": [3, 2, 9]}, {"seed": 1, "chunk": 3, "portions": [3, 0, 7]}],
    hidden=[
        {"seed": 11, "chunk": 5, "portions": [5, 0, 1, 23, 1]},
        {"seed": 12, "chunk": 1, "portions": [2, 0, 3]},
        {"seed": 13, "chunk": 64, "portions": [1] * 70},
        {"seed": 14, "chunk": 8, "portions": [0, 0]},
        {"seed": 15, "chunk": 16, "portions": [20_000, 7]},
        {"seed": 16, "chunk": 7, "portions": [4, 3, 7, 14, 6], "begun": True},
    ],
    hints=(
        "Seven tokens wait, four more come, and a chunk has five. Which pieces are run now, and what waits then?",
        "Put the waiting tokens in front of the new ones. How many of them make whole chunks? Only those are run, one chunk after another.",
        "waiting = np.concatenate([place.pending, tokens]); whole = len(waiting) // chunk * chunk; for start in range(0, whole, chunk): "
        "state = run(waiting[start : start + chunk], state); then place._replace(...) with waiting[whole:].copy().",
    ),
)
def check_read_on_grid(read_on_grid, seed, chunk, portions, begun=False):
    """The same pieces are run with the same states, however a text is cut, and no more than a chunk is held."""
    from hybridlab.ssm.place import Place

    for bad in (0, -2):
        must_raise(ValueError, lambda: read_on_grid(Place(), np.arange(3), bad, Recorder()), "GRID-09", f"chunk={bad} is accepted",
                   "raise ValueError: a chunk holds at least one token")
    tokens = np.random.default_rng(seed).integers(0, 400, sum(portions))
    source = {"file": {"size": 9}, "decoder": {}}
    place = Place(["before"], np.array([1, 2, 3]), b"am", 70, source) if begun else Place(rest=b"am", source=source)
    first, stream = place, np.concatenate([place.pending, tokens])
    run, taken = Recorder(), len(place.pending)
    for cut, portion in zip(np.cumsum(portions), portions, strict=True):
        before = place.pending.tolist(), place.tokens, place.rest
        given, done = tokens[cut - portion : cut], len(run.given)
        got = read_on_grid(place, given, chunk, run)
        if (place.pending.tolist(), place.tokens, place.rest) != before or given.tolist() != tokens[cut - portion : cut].tolist():
            raise Mistake("GRID-07", "what was handed in has been changed", f"{len(before[0])} tokens waited before, now {len(place.pending)}",
                          "build new arrays, and give back place._replace(...)")
        if not isinstance(got, Place):
            raise Mistake("GRID-08", "it does not give a Place", f"got {type(got).__name__}", "place._replace(...) makes a changed copy")
        taken += portion
        judge_pieces(run, done, first, stream, chunk, taken // chunk)
        judge_count(run, got, len(before[0]), taken, chunk)
        judge_place(got, run, first, stream, chunk, taken)
        place = got


def judge_pieces(run, done, first, stream, chunk, whole):
    for number in range(done, len(run.given)):
        piece, state = run.given[number], run.states[number]
        if len(piece) != chunk:
            raise Mistake("GRID-01", "a piece is run that is no whole chunk", f"{len(piece)} tokens, and a chunk has {chunk}", "what does not fill a chunk waits in pending")
        if number >= whole:
            raise Mistake("GRID-01", "a chunk is run that has not come yet", f"{number + 1} chunks run, {whole} have come", "run as many as are whole")
        right = stream[number * chunk : (number + 1) * chunk]
        if piece.tolist() != right.tolist():
            raise Mistake("GRID-02", "a piece has the wrong tokens", f"chunk {number}: got {piece.tolist()[:8]}, expected {right.tolist()[:8]}",
                          "the waiting tokens come first, then the new ones; and each chunk begins where the last one ended")
        expected = first.state if number == 0 else ["state", number]
        if (state if number == 0 else list(state or [])[:2]) != expected:
            raise Mistake("GRID-03", "a chunk is run with the wrong state", f"chunk {number} (counted from 0) got {named(state, first)}, expected {named(expected, first)}",
                          "each run gets the state that the run before gave, the first one place.state")


def named(state, first):
    """A state of the recorder in words: which chunk it stands behind."""
    if isinstance(state, list) and state[:1] == ["state"] and len(state) > 1:
        return f"the state behind chunk {state[1] - 1}"
    return "the state of the place" if state is not None and state == first.state else f"{state!r:.60}"


def judge_count(run, got, waited, taken, chunk):
    """As many chunks as are whole have been run. If not: are tokens lost, is the last chunk exactly full, or is there no loop?"""
    done, whole = len(run.given), taken // chunk
    if done == whole:
        return
    evidence = f"{done} of {whole} chunks of {chunk} tokens were run"
    if waited and done * chunk + len(got.pending) == taken - waited:
        raise Mistake("GRID-11", "the tokens that waited are lost", f"{waited} waited when the portion came; {evidence}", "np.concatenate([place.pending, tokens]): what waited comes first")
    if taken % chunk == 0 and done == whole - 1:
        raise Mistake("GRID-12", "a chunk that is exactly full is left waiting", f"{evidence}, and {len(got.pending)} tokens wait", "exactly `chunk` tokens are a whole chunk, and are run too")
    raise Mistake("GRID-04", "whole chunks are left waiting", evidence, "one portion may hold many chunks: a loop, not an if")


def judge_place(got, run, first, stream, chunk, taken):
    whole = taken // chunk
    left = stream[whole * chunk : taken]
    if np.asarray(got.pending).tolist() != left.tolist():
        raise Mistake("GRID-05", "the wrong tokens wait", f"{len(got.pending)} wait, {len(left)} should", "pending holds what is behind the last whole chunk")
    if got.tokens != first.tokens + whole * chunk:
        raise Mistake("GRID-06", "the tokens are counted wrongly", f"{got.tokens}, expected {first.tokens + whole * chunk}",
                      "place.tokens + the tokens that were run; those that wait do not count yet")
    last = first.state if whole == 0 else ["state", whole]
    if (got.state if whole == 0 else list(got.state or [])[:2]) != last:
        raise Mistake("GRID-03", "the state in the place is not that of the last chunk", f"got {named(got.state, first)}, expected {named(last, first)}", "state=… in place._replace")
    if got.rest != first.rest or got.source != first.source:
        raise Mistake("GRID-08", "rest or source is lost", f"rest {got.rest!r}, source {got.source!r:.40}", "place._replace keeps what it is not given")
    base = got.pending
    while getattr(base, "base", None) is not None:
        base = base.base
    if base.nbytes > 8 * chunk:
        raise Mistake("GRID-10", "all of the tokens stay in memory", f"{got.pending.nbytes} bytes wait, and their array holds on to {base.nbytes:,}",
                      "a slice of an array keeps the whole array: .copy()")


# ---------------------------------------------------------------- load_place


def small_model(seed, layers=2):
    from hybridlab.ssm.mamba_config import MambaConfig
    from hybridlab.ssm.mamba_model import Mamba

    torch.manual_seed(seed)
    return Mamba(MambaConfig(20, d_model=8, d_head=8, d_state=4, n_layers=layers, step="relu"))


def place_of(seed, kind, layers):
    """A place as it may be saved: before any chunk, behind some, or in the middle of a file."""
    from hybridlab.ssm.mixer_state import MixerState
    from hybridlab.ssm.place import Place

    generator = torch.Generator().manual_seed(seed)
    state = [MixerState(torch.randn(1, 3, 24, generator=generator), torch.randn(1, 2, 8, 4, generator=generator)) for _ in range(layers)]
    source = {"file": {"size": 99, "head": "ab"}, "decoder": {"encoding": "utf-8", "taken": 65536, "waiting": "c3", "flag": 0}}
    pending = np.random.default_rng(seed).integers(0, 20, 7)
    return {
        "nothing": Place(None, np.empty(0, np.int64)),
        "short": Place(None, pending, b"amb", 0, None),
        "read": Place(state, pending, b"", 4096, None),
        "interrupted": Place(state, pending, b"\xc3", 123_904, source),
    }[kind]


@check(
    "hybridlab.ssm.reader_state.load_place",
    visible=[{"seed": 0, "kind": "read"}, {"seed": 1, "kind": "nothing"}],
    hidden=[
        {"seed": 21, "kind": "interrupted"},
        {"seed": 22, "kind": "short"},
        {"seed": 23, "kind": "nothing"},
        {"seed": 24, "kind": "read", "layers": 3},
    ],
    hints=(
        "What could be wrong with a file that somebody hands you? Go through the list under Raises: each line is one `if`.",
        "metadata.get('format') is None where there is no format. A missing tensor is a KeyError: turn it into a StateError. "
        "torch.isfinite(part).all() is False where there is a NaN.",
        "state = [MixerState(tensors[f'{i}.past'], tensors[f'{i}.memory']) for i in range(len(model.layers))] if '0.past' in tensors "
        "else None; pending = tensors['pending'].numpy(); rest = bytes(tensors['rest'].tolist()); json.loads(metadata['source']).",
    ),
)
def check_load_place(load_place, seed, kind, layers=2):
    """What was saved comes back whole, and a state of another model, another version or with a NaN in it is refused by name."""
    from hybridlab.ssm import reader_state

    model = small_model(seed, layers)
    hashed = reader_state.model_hash(model)
    right = place_of(seed, kind, layers)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "reader.state"
        reader_state.save_place(right, hashed, path)
        judge_loaded(load_place(path, model, hashed), right)
        refuse(load_place, path, model, hashed, right)


def judge_loaded(got, right):
    from hybridlab.ssm.place import Place

    if not isinstance(got, Place):
        raise Mistake("STATE-01", "it does not give a Place", f"got {type(got).__name__}", "return Place(state, pending, rest, tokens, source)")
    if right.state is None:
        if got.state is not None:
            raise Mistake("STATE-02", "a state comes out of nothing", f"no chunk had been read, and state is {got.state!r:.60}", "None where there is no '0.past'")
    else:
        if not isinstance(got.state, list) or len(got.state) != len(right.state):
            count = len(got.state) if isinstance(got.state, list) else type(got.state).__name__
            raise Mistake("STATE-02", "the state has not one entry for each layer", f"got {count}, expected {len(right.state)}", "for i in range(len(model.layers))")
        for i, (mine, theirs) in enumerate(zip(got.state, right.state, strict=True)):
            if not all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True)) or not hasattr(mine, "memory"):
                raise Mistake("STATE-02", "the state is not what was saved", f"layer {i} differs", "MixerState(past, memory), layer by layer")
    if not isinstance(got.pending, np.ndarray) or got.pending.tolist() != right.pending.tolist():
        raise Mistake("STATE-03", "the waiting tokens are not what was saved", f"got {type(got.pending).__name__} {list(got.pending)[:8]}", "tensors['pending'].numpy()")
    if not isinstance(got.rest, bytes) or got.rest != right.rest:
        raise Mistake("STATE-03", "the undecided bytes are not what was saved", f"got {got.rest!r:.60}, expected {right.rest!r}", "bytes(tensors['rest'].tolist())")
    if type(got.tokens) is not int or got.tokens != right.tokens:
        raise Mistake("STATE-04", "the count of tokens is not what was saved", f"got {got.tokens!r}, expected {right.tokens}", "metadata is text: int(...)")
    if got.source != right.source:
        raise Mistake("STATE-04", "the place in the file is not what was saved", f"got {got.source!r:.60}", "metadata is text: json.loads(...)")


def refuse(load_place, path, model, hashed, right):
    """One thing after another goes wrong with the file."""
    from hybridlab.ssm.reader_state import FORMAT, StateError, read_tensors

    metadata, tensors = read_tensors(path)
    memory = "1.memory"

    def refused(code, what, hint, words, tensors=tensors, **changed):
        told = {name: value for name, value in (metadata | changed).items() if value is not None}
        save_file(tensors, path, told)
        said = str(must_raise(StateError, lambda: load_place(path, model, hashed), code, f"{what} is accepted", hint))
        if path.name not in said:
            raise Mistake("STATE-10", "the message does not say which file", said[:120], "put the path into each message")
        if not any(word in said for word in words):
            said = said.replace(str(path), path.name)[:120]
            raise Mistake("STATE-11", "another error is named than the one that comes first", f"{what}: expected a message with {words[0]!r}, got {said!r}", "the order under Raises")

    hint = "compare metadata.get('format') with FORMAT, before everything else"
    version, other = FORMAT[:-1] + "0", "f" * 64
    refused("STATE-06", "a state of another version", hint, (version, "format"), format=version)
    refused("STATE-06", "a file without a format", hint, ("None", "format"), format=None)
    refused("STATE-06", "a state of another version (and of another model)", hint, (version,), format=version, model="0" * 64)
    foreign = {name: tensor for name, tensor in tensors.items() if name != "pending"}
    hint, of_models = "compare metadata['model'] with hashed", ("model", other[:6], hashed[:6])
    refused("STATE-05", "the state of another model", hint, of_models, model=other)
    refused("STATE-05", "the state of another model (without its waiting tokens)", hint, of_models, tensors=foreign, model=other)
    refused("STATE-08", "a file without its waiting tokens", "turn the KeyError into a StateError", ("pending",), tensors=foreign)
    for strange in (20, -1):
        more = torch.cat([tensors["pending"], torch.tensor([strange])])
        hint = "compare with 0 and with model.config.vocab_size"
        refused("STATE-09", f"a waiting token {strange} (the model knows 0 to 19)", hint, (path.name,), tensors=tensors | {"pending": more})
    if right.state is None:
        return
    lacks = {name: tensor for name, tensor in tensors.items() if name != memory}
    refused("STATE-08", "a file without the memory of a layer", "turn the KeyError into a StateError", (memory,), tensors=lacks)
    for part in (memory, "0.past"):
        for number in (float("nan"), float("-inf")):
            bad = tensors[part].clone()
            bad.view(-1)[-1] = number
            refused("STATE-07", f"a state with {number} in it", "look at past and memory of all layers with torch.isfinite", (path.name,), tensors=tensors | {part: bad})


# ---------------------------------------------------------------- rank_answers, and the outcome


@check(
    "hybridlab.ssm.answers.rank_answers",
    visible=[{"seed": 0}, {"outcome": True}],
    hidden=[{"seed": 31, "scale": 1e4}, {"seed": 32, "kind": "ties"}, {"seed": 33, "kind": "none"}, {"seed": 34, "kind": "all"}],
    hints=(
        "Which of the 101 scores of a key means that it was never planted, and does it belong into the softmax?",
        "logits.softmax(-1).max(-1) gives probability and index at once. [*VALUES, None][index] is the value.",
        "answers = [Answer(key, [*VALUES, None][i], p) for key, i, p in zip(KEYS, indices.tolist(), probabilities.tolist())]; then sorted(...) with a key "
        "that puts value None last, and among the found ones -probability first. Python's sort keeps the order of what is equal.",
    ),
)
def check_rank_answers(rank_answers, seed=0, scale=3.0, kind="mixed", outcome=False):
    """The found keys stand first, the most certain at the top; and the state that your reader has left answers what was planted."""
    if outcome:
        return measure_outcome()
    from hybridlab.ssm.planted import KEYS, VALUES

    logits = scale * torch.randn(len(KEYS), len(VALUES) + 1, generator=torch.Generator().manual_seed(seed))
    if kind == "none":
        logits[:, -1] = logits.max() + torch.rand(len(KEYS), generator=torch.Generator().manual_seed(seed))
    elif kind != "all":
        logits[::3, -1] = logits.max() + 1  # every third key was not planted
    if kind == "ties":
        logits[1::3] = logits[1]
    before = logits.clone()
    judge_answers(rank_answers(logits), logits)
    if not torch.equal(logits, before):
        raise Mistake("RANK-10", "the logits were changed", hint="logits belongs to the caller: build new tensors")
    hint = "raise ValueError: an answer out of such scores is an invention"
    for bad in (float("nan"), float("inf"), float("-inf")):
        broken = logits.clone()
        broken[-1, 5] = bad
        must_raise(ValueError, lambda broken=broken: rank_answers(broken), "RANK-08", f"a score of {bad} is accepted", hint)
    for shape in ((len(KEYS), len(VALUES)), (len(KEYS) - 1, len(VALUES) + 1), (1, len(KEYS), len(VALUES) + 1)):
        must_raise(ValueError, lambda shape=shape: rank_answers(torch.zeros(shape)), "RANK-08", f"logits of shape {shape} are accepted", "raise ValueError with the shape")


def expected(logits):
    """The oracle, key by key in float64: (value, probability) of each."""
    from hybridlab.ssm.planted import KEYS, VALUES

    rows = {}
    for key, row in zip(KEYS, logits.double(), strict=True):
        i = int(row.argmax())
        rows[key] = (VALUES[i] if i < len(VALUES) else None, float(torch.exp(row[i] - row.logsumexp(0))))
    return rows


def judge_answers(got, logits):
    from hybridlab.ssm.answers import Answer
    from hybridlab.ssm.planted import KEYS, VALUES

    theirs = expected(logits)
    if not isinstance(got, list) or not all(isinstance(one, Answer) for one in got):
        raise Mistake("RANK-01", "it does not give a list of Answer", f"got {type(got).__name__}", "return [Answer(key, value, probability), …]")
    if sorted(one.key for one in got) != sorted(KEYS):
        raise Mistake("RANK-01", "there is not one answer for each key", f"{len(got)} answers, {len(KEYS)} keys", "a key that was not found has an answer too: None")
    if spoilt := sum(one.probability != one.probability for one in got):
        raise Mistake("RANK-07", "large scores overflow", f"{spoilt} probabilities are NaN", "torch.softmax subtracts the largest score first")
    values = {key: [*VALUES, None][i] for key, i in zip(KEYS, logits.softmax(0).argmax(-1).tolist(), strict=True)}
    if {one.key: one.value for one in got} == values and any(values[key] != theirs[key][0] for key in KEYS):
        raise Mistake("RANK-04", "softmax runs over the keys", "the values are those with the largest share among all keys", "each key's probabilities add up to 1: softmax(-1)")
    for one in got:
        value, _ = theirs[one.key]
        if one.value != value:
            raise Mistake("RANK-02", "an answer has the wrong value", f"{one.key}: got {one.value!r}, expected {value!r}", "score i stands for VALUES[i], the last one for None")
    if any(type(one.probability) is not float for one in got):
        raise Mistake("RANK-09", "a probability is no Python float", f"got {type(got[0].probability).__name__}", ".tolist() or .item() of a tensor")
    mine = torch.tensor([one.probability for one in got], dtype=torch.float64)
    wanted = torch.tensor([theirs[one.key][1] for one in got], dtype=torch.float64)
    if not torch.isfinite(mine).all():
        raise Mistake("RANK-07", "large scores overflow", f"{int((~torch.isfinite(mine)).sum())} probabilities are not finite", "torch.softmax subtracts the largest score first")
    for other, code, what, hint in (
        (logits[:, :-1].double().softmax(-1).max(-1).values, "RANK-03", "the last score is left out of the softmax", "'was not planted' competes with the values"),
        (logits.double().softmax(0).gather(1, logits.argmax(-1, keepdim=True))[:, 0], "RANK-04", "softmax runs over the keys", "each key's probabilities add up to 1: softmax(-1)"),
    ):
        guess = torch.stack([other[KEYS.index(one.key)] for one in got if one.value is not None]) if any(one.value for one in got) else None
        mine_found = mine[[one.value is not None for one in got]]
        if guess is not None and not torch.allclose(mine, wanted, atol=1e-5) and torch.allclose(mine_found, guess, atol=1e-5):
            raise Mistake(code, what, f"{got[0].key}: {mine[0]:.4f}, expected {wanted[0]:.4f}", hint)
    close(mine, wanted, "RANK-09", "a probability differs from softmax's", "softmax over all 101 scores, then the largest", atol=1e-5)
    order = [one.key for one in got]
    # by their own probabilities: float32 makes equal what float64 tells apart
    if got == sorted(got, key=lambda one: (one.value is None, -one.probability if one.value is not None else 0.0, KEYS.index(one.key))):
        return
    if any(a.value is None and b.value is not None for a, b in zip(got, got[1:], strict=False)):
        raise Mistake("RANK-05", "a key that was not found stands before one that was", f"the first five: {order[:5]}", "how sure the model is of *nothing* does not count")
    found = [one.probability for one in got if one.value is not None]
    if any(a < b for a, b in zip(found, found[1:], strict=False)):
        raise Mistake("RANK-06", "the most certain answer does not stand at the top", f"the first three: {[round(p, 3) for p in found[:3]]}", "sort by -probability")
    if got[: len(found)] == sorted(sorted((one for one in got if one.value is not None), key=lambda one: KEYS.index(one.key)), key=lambda one: one.probability)[::-1]:
        raise Mistake("RANK-11", "keys that are equally certain stand in reverse", f"the first five: {order[:5]}", "sort by -probability: a list that is turned round turns equals round, too")
    raise Mistake("RANK-06", "keys that are equally certain are not in KEYS' order", f"the first five: {order[:5]}", "sorted is stable: sort by -probability, and by nothing else")


def measure_outcome():
    """Ask the state that the notebook's reading has left; no figure that was printed there is believed, and no code of the answer is used."""
    from hybridlab.ssm.long_reader import LongReader
    from hybridlab.ssm.mixer_state import MixerState
    from hybridlab.ssm.planted import FIRST_VALUE, KEYS, VALUES, draw_pairs, key_token

    path = outcome_file(OUTCOME)
    if path is None:
        return
    if not path.is_file():
        raise Mistake("RANK-20", "nothing has been read", f"no {OUTCOME} beside the notebook", "run the cell above that reads the plays; it writes the state at the end")
    reader = LongReader.load()
    try:
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            metadata = file.metadata()
        tensors = load_file(path)
        tokens, source = int(metadata["tokens"]), json.loads(metadata["source"])
        state = [MixerState(tensors[f"{i}.past"], tensors[f"{i}.memory"]) for i in range(len(reader.model.layers))]
    except Exception as error:
        raise Mistake("RANK-21", f"{OUTCOME} can't be used", f"{type(error).__name__}: {error}"[:150], "delete it and run the reading cell again") from None
    if metadata["model"] != reader.model_hash:
        raise Mistake("RANK-21", f"{OUTCOME} can't be used", "it was written by another model", "read with LongReader.load(), without a path")
    if tokens < TOKENS or source is not None:
        end = "the file's end was not reached" if source else f"{tokens:,} tokens; at least {TOKENS:,}"
        raise Mistake("RANK-22", "the text was not read to its end", end, "let the reading cell run to its end, or resume it")
    with torch.inference_mode():
        if len(tensors["pending"]):
            _, state = reader.model.read(tensors["pending"][None], state)
        copies = [MixerState(*(part.expand(len(KEYS), *part.shape[1:]) for part in layer)) for layer in state]
        logits, _ = reader.model(torch.tensor([[key_token(key)] for key in KEYS]), copies)
    best = logits[:, 0, FIRST_VALUE:].argmax(-1).tolist()
    got = {key: VALUES[i] for key, i in zip(KEYS, best, strict=True) if i < len(VALUES)}
    planted = draw_pairs(PAIRS, seed=SEED)
    right = sum(got.get(key) == value for key, value in planted.items())
    if right < GOAL:
        raise Mistake("RANK-23", "what was planted is not in the state", f"{right} of {PAIRS} values; the goal is {GOAL}",
                      f"plant draw_pairs({PAIRS}, seed={SEED}) and read that file, from its beginning, with one reader")
    if invented := set(got) - set(planted):
        raise Mistake("RANK-24", "the state names keys that were never planted", f"{len(invented)} of them: {', '.join(sorted(invented))[:80]}",
                      "read the planted plays alone, with a new reader")
