"""How week 9's answers are judged: continuous to discrete, recurrence, kernel, HiPPO's matrices, S4D's kernel, and the FFT."""

import math
import re
from typing import NamedTuple

import numpy as np
import torch
from coursekit.checks import Mistake, check, close, must_raise
from coursekit.graph import kept_bytes
from hybridlab.ssm.fft_length import fast_length
from scipy.signal import cont2discrete


class Suspect(NamedTuple):
    """A known mistake, as the values that it would have given (or a function of nothing that computes them)."""

    code: str
    what: str
    values: object
    hint: str


def normal(seed, *shape, dtype="float64"):
    kind = torch.complex128 if dtype.startswith("complex") else torch.float64
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=kind).to(getattr(torch, dtype))


def wide(x):
    return x.detach().to(torch.complex128) if x.is_complex() else x.detach().double()


def same(a, b, atol):
    return a.shape == b.shape and torch.allclose(wide(a), wide(b), rtol=atol, atol=atol)


def diagnose(got, expected, suspects, atol=1e-6):
    """Raise the first suspect that explains `got`, unless `got` is right."""
    if same(got, expected, atol):
        return
    for suspect in suspects:
        values = suspect.values() if callable(suspect.values) else suspect.values
        if same(got, values, atol) and not same(values, expected, atol):
            gap = (wide(got) - wide(expected)).abs()
            raise Mistake(suspect.code, suspect.what, f"{int((gap > atol).sum())} of {gap.numel()} numbers differ, by {gap.max():.3g} at most", suspect.hint)


def untouched(tensor, before, code, name):
    if not torch.equal(tensor, before):
        raise Mistake(code, f"the answer changes its input {name}", "the caller's tensor holds other values than before",
                      "write a new tensor in place of `+=`, `*=`, assignments to slices, and methods that end in _")


def tensors(got, shapes, dtype, code, names, hint):
    """Raise Mistake unless `got` is a tuple of tensors (or one tensor, for one name) of these shapes and this dtype."""
    parts = (got,) if len(names) == 1 else got
    if not isinstance(parts, tuple) or len(parts) != len(names) or not all(isinstance(part, torch.Tensor) for part in parts):
        raise Mistake(code, f"{' and '.join(names)} expected: {'a tensor' if len(names) == 1 else 'a tuple of tensors'}", f"got a {type(got).__name__}", hint)
    for name, part, shape in zip(names, parts, shapes, strict=True):
        if tuple(part.shape) != tuple(shape) or part.dtype != dtype:
            raise Mistake(code, f"{name}: wrong shape or dtype", f"got {tuple(part.shape)} {part.dtype}, expected {tuple(shape)} {dtype}", hint)


def names(error, name, code):
    """Raise Mistake unless the error's text has `name` as a word of its own."""
    if not re.search(rf"\b{name}\b", str(error)):
        raise Mistake(code, f"the error does not say that it was {name}", str(error), f'require_finite("{name}", {name}), before anything is computed: later, nobody knows where a NaN came from')


def same_gradients(answer, reference, inputs, code, atol):
    """Both are functions of `inputs` that give one tensor; their gradients with respect to each input must agree."""
    mine, theirs = [x.clone().requires_grad_() for x in inputs], [x.clone().requires_grad_() for x in inputs]
    out = answer(*mine)
    weights = normal(99, *out.shape).to(out.dtype)
    if not out.requires_grad:
        raise Mistake(code, "no gradient flows through the result", "the result's requires_grad is False",
                      "no .detach(), .item(), torch.no_grad() or new tensor filled with numbers on the way")
    try:
        (out * weights).sum().backward()
    except RuntimeError as error:
        if "inplace operation" not in str(error):
            raise
        raise Mistake(code, "no gradient can be computed: a tensor that it needs was changed in place", str(error).split(":")[0],
                      "a new tensor each step, in place of copy_, `+=` and assignments to slices") from None
    (reference(*theirs) * weights).sum().backward()
    for place, (a, b) in enumerate(zip(mine, theirs, strict=True)):
        if a.grad is None or not same(a.grad, b.grad, atol):
            gap = "none arrives" if a.grad is None else f"off by {(wide(a.grad) - wide(b.grad)).abs().max():.3g}"
            raise Mistake(code, f"the gradient with respect to input {place + 1} is wrong", gap, "every input must act on the result through PyTorch's own operations")


# ------------------------------------------------------------------ continuous to discrete


def euler(A, B, dt):
    return torch.eye(len(B), dtype=A.dtype) + dt * A, dt * B


@check(
    "hybridlab.ssm.discretize.discretize",
    visible=[
        {"seed": 0, "n": 2, "dt": 0.5},
        {"seed": 1, "n": 3, "dt": 0.3, "method": "bilinear"},
        {"seed": 2, "n": 2, "dt": 0.25, "singular": True, "edges": True},
        {"seed": 3, "n": 2, "dt": 0.4, "method": "bilinear", "edges": True},
    ],
    hidden=[
        {"seed": 11, "n": 6, "dt": 0.9, "method": "zoh"},
        {"seed": 12, "n": 5, "dt": 1.3, "method": "bilinear", "edges": True},
        {"seed": 13, "n": 4, "dt": 1e-3},
        {"seed": 14, "n": 1, "dt": 2.0},
        {"seed": 15, "n": 3, "dt": 0.7, "singular": True},
        {"seed": 16, "n": 3, "dt": 0.2, "singular": True, "method": "bilinear"},
        {"seed": 17, "n": 4, "dt": 0.4, "dtype": "float32"},
        {"seed": 18, "n": 4, "dt": 0.4, "dtype": "float32", "method": "bilinear"},
    ],
    forbids=("cont2discrete", "scipy"),
    hints=(
        "Zero-order hold: with u held, x and u together follow one linear equation without input. Which matrix of n + 1 rows does that equation have?",
        "M = zeros(n + 1, n + 1); A goes to its upper left, B to its last column, and the last row stays 0, since u does not change. Then exp(dt M): a matrix exponential, not an elementwise one.",
        "E = torch.linalg.matrix_exp(dt * M); E[:n, :n], E[:n, n]. Bilinear: torch.linalg.solve_ex(I - dt/2 A, right side) gives the solution and an info that is not 0 where there is none; a right side may have n + 1 columns.",
    ),
)
def check_discretize(discretize, seed, n, dt, method=None, singular=False, dtype="float64", edges=False):
    """Both rules are those of scipy's cont2discrete, A may be singular, and what makes no sense is refused."""
    A, B = normal(seed, n, n, dtype=dtype), normal(seed + 50, n, dtype=dtype)
    if singular:
        A[:, 0] = 0
    before = A.clone(), B.clone()
    call = (lambda a, b, step: discretize(a, b, step)) if method is None else (lambda a, b, step: discretize(a, b, step, method))
    try:
        got = call(A, B, dt)
    except torch.linalg.LinAlgError as error:
        raise Mistake("DISC-04", "A has no inverse here, and needs none", str(error).splitlines()[0], "exp(dt [[A, B], [0, 0]]) gives B̄ without dividing by A") from None
    tensors(got, [(n, n), (n,)], A.dtype, "DISC-08", ("Ā", "B̄"), "return A_bar (n, n), B_bar (n,), in A's dtype")
    untouched(A, before[0], "DISC-10", "A")
    untouched(B, before[1], "DISC-10", "B")
    if not all(part.isfinite().all() for part in got):
        raise Mistake("DISC-04", "NaN or infinity where A has no inverse", f"B̄ = {got[1].tolist()}", "exp(dt [[A, B], [0, 0]]) gives B̄ without dividing by A")
    rule = method or "zoh"
    theirs = cont2discrete((A.double().numpy(), B[:, None].double().numpy(), np.eye(1, n), np.zeros((1, 1))), dt, method=rule)
    A_bar, B_bar = torch.from_numpy(theirs[0]), torch.from_numpy(theirs[1][:, 0])
    wide_A, wide_B, identity = A.double(), B.double(), torch.eye(n, dtype=torch.float64)
    atol = 1e-9 if dtype == "float64" else 2e-5
    other = cont2discrete((A.double().numpy(), B[:, None].double().numpy(), np.eye(1, n), np.zeros((1, 1))), dt, method="bilinear" if rule == "zoh" else "zoh")
    diagnose(got[0], A_bar, [
        Suspect("DISC-01", "this is Euler's step, I + dt A: only its first two terms", euler(wide_A, wide_B, dt)[0], "the exact answer is exp(dt A)" if rule == "zoh" else "half of the step goes backward: (I - dt/2 A)^-1 comes in"),
        Suspect("DISC-03", "the exponential is taken number by number", torch.exp(dt * wide_A), "torch.linalg.matrix_exp: the exponential of a matrix"),
        Suspect("DISC-12", "the step dt is not in the exponential", torch.linalg.matrix_exp(wide_A), "exp(dt A)"),
        Suspect("DISC-05", "the step back and the step forward are exchanged", torch.linalg.solve(identity + dt / 2 * wide_A, identity - dt / 2 * wide_A), "(I - dt/2 A)^-1 (I + dt/2 A)"),
        Suspect("DISC-05", "the whole step goes backward", torch.linalg.inv(identity - dt * wide_A), "half forward, half backward: dt/2 in both factors"),
        Suspect("DISC-14", "a whole step in both factors: the half is missing", torch.linalg.solve(identity - dt * wide_A, identity + dt * wide_A), "half forward, half backward: dt/2 in both"),
        Suspect("DISC-07", "Ā is transposed", A_bar.T, "column j of A says what state j does to the others"),
        Suspect("DISC-13", f"this is the other rule, and {'none was named: zero-order hold' if method is None else rule} was asked for", torch.from_numpy(other[0]), 'method="zoh" unless another is named'),
    ], atol)
    close(got[0], A_bar, "DISC-09", f"Ā differs from scipy's, method {rule!r}", "compare with the worked example", atol=atol, rtol=atol)
    diagnose(got[1], B_bar, [
        Suspect("DISC-02", "B̄ is dt B: the state does not move while the input comes in", dt * wide_B, "the integral of exp(s A) B" if rule == "zoh" else "(I - dt/2 A)^-1 stands before it as well"),
        Suspect("DISC-06", "dt is missing in B̄", B_bar / dt, "an input that lasts twice as long does about twice as much"),
        Suspect("DISC-06", "dt is in B̄ twice", B_bar * dt, "B goes into the block as it is: exp(dt M) brings its dt"),
        Suspect("DISC-06", "B̄ is Ā times dt B", A_bar @ wide_B * dt, "the integral of exp(s A) B, not its value at the end"),
    ], atol)
    close(got[1], B_bar, "DISC-09", f"B̄ differs from scipy's, method {rule!r}", "compare with the worked example", atol=atol, rtol=atol)
    if edges:
        refusals(call, discretize, A, B, dt, rule)


def refusals(call, discretize, A, B, dt, rule):
    n = len(B)
    for wrong in (0.0, -0.1, math.nan, math.inf):
        must_raise(ValueError, lambda wrong=wrong: call(A, B, wrong), "DISC-11", f"dt = {wrong} must raise ValueError", "require_step is given")
    for spoilt in (math.nan, -math.inf):
        bad = A.clone()
        bad[-1, 0] = spoilt
        names(must_raise(ValueError, lambda bad=bad: call(bad, B, dt), "DISC-11", f"{spoilt} in A must raise ValueError", "require_finite is given"), "A", "DISC-11")
        names(must_raise(ValueError, lambda spoilt=spoilt: call(A, B * spoilt, dt), "DISC-11", f"{spoilt} in B must raise ValueError", "require_finite is given"), "B", "DISC-11")
    must_raise(ValueError, lambda: call(A[:1], B, dt), "DISC-11", f"A of 1 × {n} must raise ValueError", "n × n, with B's n")
    must_raise(ValueError, lambda: call(A, torch.ones(n + 1, dtype=A.dtype), dt), "DISC-11", "a B that is longer than A must raise ValueError", "n × n, with B's n")
    must_raise(ValueError, lambda: discretize(A, B, dt, "euler"), "DISC-11", "an unknown method must raise ValueError", "only 'zoh' and 'bilinear'")
    unstable = torch.eye(n, dtype=A.dtype)
    if rule == "zoh":
        must_raise(ValueError, lambda: call(unstable, B, 1e4), "DISC-11", "exp(10000) overflows: that must raise ValueError", "require_finite, for the result as well")
    else:
        must_raise(ValueError, lambda: call(unstable, B, 2.0), "DISC-11", "I - dt/2 A = 0 has no inverse: that must raise ValueError",
                   "torch.linalg.solve raises LinAlgError; solve_ex tells you, and you raise ValueError")


# ------------------------------------------------------------------ the recurrence


def step_by_step(A_bar, B_bar, C, u, state=None, *, early=False, transposed=False, fresh=False, shared=False):
    """One sequence, one step, one matrix product at a time. The keyword arguments make the known mistakes."""
    rows, lasts = [], []
    flat = u.reshape(-1, u.shape[-1])
    starts = torch.zeros(len(flat), len(B_bar), dtype=u.dtype) if state is None or fresh else state.reshape(-1, len(B_bar))
    x = starts[0]
    for sequence, start in zip(flat, starts, strict=True):
        x, outputs = (x if shared else start), []
        for number in sequence:
            before = x
            x = (A_bar.T if transposed else A_bar) @ x + B_bar * number
            outputs.append(C @ (before if early else x))
        rows.append(torch.stack(outputs))
        lasts.append(x)
    return torch.stack(rows).reshape(u.shape), torch.stack(lasts).reshape(*u.shape[:-1], len(B_bar))


def small_system(seed, n, dtype, radius=0.9):
    A_bar = normal(seed, n, n)
    A_bar = A_bar / torch.linalg.eigvals(A_bar).abs().max() * radius
    return tuple(part.to(getattr(torch, dtype)) for part in (A_bar, normal(seed + 1, n), normal(seed + 2, n)))


@check(
    "hybridlab.ssm.convolution.run_recurrence",
    visible=[{"seed": 0, "n": 2, "shape": (5,)}, {"seed": 3, "n": 3, "shape": (2, 4), "carried": True, "edges": True}],
    hidden=[
        {"seed": 11, "n": 4, "shape": (3, 17), "carried": True, "edges": True},
        {"seed": 12, "n": 3, "shape": (2, 3, 9), "carried": True},
        {"seed": 13, "n": 1, "shape": (6,), "carried": True},
        {"seed": 14, "n": 5, "shape": (2, 12), "dtype": "float32"},
        {"seed": 15, "n": 2, "shape": (4, 1)},
    ],
    forbids=("lfilter", "dlsim", "recurrence_kernel", "causal_convolution"),
    hints=(
        "One loop over time is enough: the batch goes along in the state's leading axes. What is the state's shape, and what does u_k need to be multiplied with B̄?",
        "state @ A_bar.T is Ā x for every row at once; u_k[..., None] * B_bar is (*batch, n). Collect the new states, and read them all with C at the end.",
        "for u_k in u.unbind(-1): state = state @ A_bar.T + u_k[..., None] * B_bar; then torch.stack(states, dim=-2) @ C. No steps: nothing to stack.",
    ),
)
def check_recurrence(run_recurrence, seed, n, shape, carried=False, dtype="float64", edges=False):
    """The outputs and the last state are those of one step after the other, also with a state that is carried on."""
    A_bar, B_bar, C = small_system(seed, n, dtype)
    u, state = normal(seed + 3, *shape, dtype=dtype), normal(seed + 4, *shape[:-1], n, dtype=dtype) if carried else None
    before = [part.clone() for part in (A_bar, B_bar, C, u)] + ([state.clone()] if carried else [])
    got = run_recurrence(A_bar, B_bar, C, u, state) if carried else run_recurrence(A_bar, B_bar, C, u)
    tensors(got, [shape, (*shape[:-1], n)], u.dtype, "RECUR-05", ("outputs", "last state"), "y has u's shape; the state is (*batch, n)")
    for tensor, old, name in zip((A_bar, B_bar, C, u, state), before, ("A_bar", "B_bar", "C", "u", "state")):
        untouched(tensor, old, "RECUR-08", name)
    expected = step_by_step(A_bar, B_bar, C, u, state)
    atol = 1e-10 if dtype == "float64" else 1e-5
    diagnose(got[0], expected[0], [
        Suspect("RECUR-01", "the output is read before the input has come in", lambda: step_by_step(A_bar, B_bar, C, u, state, early=True)[0], "first the new state, then y_k = C x_k"),
        Suspect("RECUR-02", "the carried state is not used", lambda: step_by_step(A_bar, B_bar, C, u, state, fresh=True)[0], "zeros only where state is None"),
        Suspect("RECUR-03", "Ā acts transposed", lambda: step_by_step(A_bar, B_bar, C, u, state, transposed=True)[0], "Ā x for a row x is x @ Ā.T"),
        Suspect("RECUR-04", "a sequence begins where the one before it ended", lambda: step_by_step(A_bar, B_bar, C, u, state, shared=True)[0], "every sequence of the batch has a state of its own"),
    ], atol)
    close(got[0], expected[0], "RECUR-09", "the outputs differ from one step after the other", "compare with the worked example", atol=atol, rtol=atol)
    close(got[1], expected[1], "RECUR-04", "the outputs are right, and the returned state is not the one after the last step", "return the state as it is after the loop", atol=atol, rtol=atol)
    inputs = (A_bar, B_bar, C, u, *([state] if carried else []))
    same_gradients(lambda *parts: run_recurrence(*parts)[0], lambda *parts: step_by_step(*parts)[0], inputs, "RECUR-07", 1e-8 if dtype == "float64" else 1e-3)
    same_gradients(lambda u: run_recurrence(A_bar, B_bar, C, u, state)[1], lambda u: step_by_step(A_bar, B_bar, C, u, state)[1], (u,), "RECUR-07", 1e-8 if dtype == "float64" else 1e-3)
    if edges:
        start = normal(seed + 5, *shape[:-1], n, dtype=dtype)
        try:
            nothing = run_recurrence(A_bar, B_bar, C, u[..., :0], start)
        except (RuntimeError, IndexError) as error:
            raise Mistake("RECUR-06", "an input of no steps fails", f"{type(error).__name__}: {error}", "torch.stack wants at least one tensor: return an empty y and the state as it came") from None
        tensors(nothing, [(*shape[:-1], 0), (*shape[:-1], n)], u.dtype, "RECUR-06", ("outputs", "state"), "with no steps, y is empty and the state is the one that came")
        close(nothing[1], start, "RECUR-06", "with no steps, the state changes", "return the state as it came")
        for spoilt in (math.nan, math.inf):
            bad, worse = u.clone(), start.clone()
            bad[..., 1], worse[..., 0] = spoilt, spoilt
            error = must_raise(ValueError, lambda bad=bad: run_recurrence(A_bar, B_bar, C, bad), "RECUR-10", f"{spoilt} in u must raise ValueError", "require_finite is given")
            names(error, "u", "RECUR-10")
            must_raise(ValueError, lambda worse=worse: run_recurrence(A_bar, B_bar, C, u[..., :0], worse), "RECUR-10", f"{spoilt} in state must raise ValueError", "require_finite is given, before the loop")
        must_raise(ValueError, lambda: run_recurrence(A_bar, B_bar, C, u, start[..., :-1]), "RECUR-10", "a state of another size must raise ValueError", "(*batch, n)")
        must_raise(ValueError, lambda: run_recurrence(A_bar, B_bar, C, u, torch.zeros(n, dtype=u.dtype)), "RECUR-10", "one state for a whole batch must raise ValueError", "(*batch, n)")
        long = torch.ones(*shape[:-1], 400, dtype=u.dtype)
        grows = 10 * torch.eye(n, dtype=u.dtype)
        error = must_raise(ValueError, lambda: run_recurrence(grows, B_bar, C, long), "RECUR-11", "a state that overflows must raise ValueError", "require_no_overflow is given; ask it for y")
        if "eigenvalue" not in str(error):
            raise Mistake("RECUR-11", "the error of an overflow does not name its cause", str(error), "require_no_overflow names the largest |eigenvalue|")
        huge = torch.full((n,), torch.finfo(u.dtype).max, dtype=u.dtype)
        must_raise(ValueError, lambda: run_recurrence(A_bar * 0, B_bar * 0 + 1, huge, 4 * u[..., :2].abs() + 4), "RECUR-11", "an output that overflows must raise ValueError", "require_no_overflow for y, not for the state alone")


# ------------------------------------------------------------------ the kernel


def answer_to_a_one(A_bar, B_bar, C, length, *, shift=0, numbers=False, reverse=False, swapped=False):
    """C Ā^j B̄ with matrix_power. The keyword arguments make the known mistakes."""
    if swapped:
        B_bar, C = C, B_bar
    power = (lambda j: A_bar**j) if numbers else (lambda j: torch.linalg.matrix_power(A_bar, j))
    kernel = [C @ power(j + shift) @ B_bar for j in range(length)]
    return torch.stack(kernel[::-1] if reverse else kernel)


@check(
    "hybridlab.ssm.convolution.recurrence_kernel",
    visible=[{"seed": 0, "n": 2, "length": 4}, {"seed": 1, "n": 3, "length": 7, "edges": True}, {"seed": 2, "n": 16, "length": 40}],
    hidden=[
        {"seed": 11, "n": 4, "length": 23, "edges": True},
        {"seed": 12, "n": 1, "length": 6},
        {"seed": 13, "n": 3, "length": 1},
        {"seed": 14, "n": 5, "length": 16, "dtype": "float32"},
    ],
    forbids=("run_recurrence", "matrix_power"),
    hints=(
        "K_0 = C B̄, K_1 = C Ā B̄, K_2 = C Ā (Ā B̄): what does each one share with the one before?",
        "Keep the vector Ā^j B̄ and multiply it by Ā once a step: n² operations in place of n³ for a power of the matrix.",
        "powers = [B_bar]; append A_bar @ powers[-1] for length - 1 times; torch.stack(powers) @ C.",
    ),
)
def check_kernel(recurrence_kernel, seed, n, length, dtype="float64", edges=False):
    """K_j = C Ā^j B̄ from j = 0 on, with gradients to all three, and growth is refused by name."""
    A_bar, B_bar, C = small_system(seed, n, dtype)
    before = [part.clone() for part in (A_bar, B_bar, C)]
    got = recurrence_kernel(A_bar, B_bar, C, length)
    tensors(got, [(length,)], A_bar.dtype, "KERNEL-05", ("kernel",), "`length` numbers, from j = 0 to length - 1")
    for tensor, old, name in zip((A_bar, B_bar, C), before, ("A_bar", "B_bar", "C")):
        untouched(tensor, old, "KERNEL-08", name)
    expected, atol = answer_to_a_one(A_bar, B_bar, C, length), 1e-10 if dtype == "float64" else 1e-5
    diagnose(got, expected, [
        Suspect("KERNEL-01", "the kernel begins with C Ā B̄", lambda: answer_to_a_one(A_bar, B_bar, C, length, shift=1), "the first number is C B̄: a one is heard in the step in which it comes"),
        Suspect("KERNEL-02", "Ā is raised to its power number by number", lambda: answer_to_a_one(A_bar, B_bar, C, length, numbers=True), "a product of matrices: Ā @ Ā, not Ā ** 2"),
        Suspect("KERNEL-03", "the kernel stands backwards", lambda: answer_to_a_one(A_bar, B_bar, C, length, reverse=True), "K_0 first"),
        Suspect("KERNEL-04", "B̄ and C are exchanged (or Ā is transposed)", lambda: answer_to_a_one(A_bar, B_bar, C, length, swapped=True), "the input comes in by B̄, and is read by C"),
    ], atol)
    close(got, expected, "KERNEL-09", "the kernel differs from C Ā^j B̄", "compare with the worked example", atol=atol, rtol=atol)
    if length > 1:
        same_gradients(lambda *parts: recurrence_kernel(*parts, length), lambda *parts: answer_to_a_one(*parts, length), (A_bar, B_bar, C), "KERNEL-06", 1e-8 if dtype == "float64" else 1e-3)
    if n > 10:
        held, allowed = sum(kept_bytes(lambda: recurrence_kernel(A_bar.clone().requires_grad_(), B_bar, C, length))) // 8, 4 * (length * n + n * n)
        if held > allowed:
            raise Mistake("KERNEL-10", "a power of the matrix is made in each step", f"n = {n}, {length} steps: backward keeps {held:,} numbers; vectors need {allowed:,} at most", "keep the vector Ā^j B̄, and multiply it by Ā once a step")
    if edges:
        for wrong in (0, -3):
            must_raise(ValueError, lambda wrong=wrong: recurrence_kernel(A_bar, B_bar, C, wrong), "KERNEL-07", f"length {wrong} must raise ValueError", "a kernel has at least one number")
        error = must_raise(ValueError, lambda: recurrence_kernel(10 * torch.eye(n, dtype=A_bar.dtype), B_bar, C, 400), "KERNEL-07", "a kernel that overflows must raise ValueError", "require_no_overflow is given")
        if "eigenvalue" not in str(error):
            raise Mistake("KERNEL-07", "the error of an overflow does not name its cause", str(error), "require_no_overflow names the largest |eigenvalue|")


# ------------------------------------------------------------------ HiPPO


def legs_by_hand(n, *, sign=-1, upper=False, diagonal=None, roots=True):
    """A, number by number. The keyword arguments make the known mistakes."""
    A = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(n):
            if i > j:
                A[i, j] = sign * (math.sqrt((2 * i + 1) * (2 * j + 1)) if roots else (2 * i + 1) * (2 * j + 1))
            elif i == j:
                A[i, j] = sign * {None: i + 1, "product": 2 * i + 1, "index": i}[diagonal]
    return A.T if upper else A


@check(
    "hybridlab.ssm.hippo.hippo_legs",
    visible=[{"n": 3}, {"n": 1, "edges": True}],
    hidden=[{"n": 8}, {"n": 33, "edges": True}, {"n": 2}],
    forbids=("legs_memory",),
    hints=(
        "Start with B: √1, √3, √5, … Which product of B with itself has √(2i+1) √(2j+1) in row i and column j?",
        "torch.outer(B, B) has it everywhere. .tril(-1) keeps what lies below the diagonal, without the diagonal.",
        "i = torch.arange(n, dtype=torch.float64); B = (2 * i + 1).sqrt(); A = -torch.outer(B, B).tril(-1) - torch.diag(i + 1).",
    ),
)
def check_legs(hippo_legs, n, edges=False):
    """A and B are those of HiPPO-LegS, with S4's sign, in float64."""
    got = hippo_legs(n)
    tensors(got, [(n, n), (n,)], torch.float64, "LEGS-05", ("A", "B"), "(n, n) and (n,), float64: torch.arange(n, dtype=torch.float64)")
    A, B = legs_by_hand(n), torch.tensor([math.sqrt(2 * i + 1) for i in range(n)], dtype=torch.float64)
    later = torch.tensor([math.sqrt(2 * i + 3) for i in range(n)], dtype=torch.float64)
    diagnose(got[0], A, [
        Suspect("LEGS-01", "the sign is the other one: this state would explode", legs_by_hand(n, sign=1), "S4's A is negative: x' = A x must decay (HiPPO writes -A)"),
        Suspect("LEGS-02", "A is upper triangular", legs_by_hand(n, upper=True), "rows below the diagonal are filled: i > j, a coefficient listens to those before it"),
        Suspect("LEGS-03", "the diagonal holds 2i + 1", legs_by_hand(n, diagonal="product"), "the product of the roots stands only below it; on it stands i + 1: tril(-1)"),
        Suspect("LEGS-03", "the diagonal holds i", legs_by_hand(n, diagonal="index"), "i counts from 0, and the first entry is -1"),
        Suspect("LEGS-08", "B counts from 1, and A with it", -torch.outer(later, later).tril(-1) + A.diagonal().diag(), "i = 0, 1, 2, …: B begins with √1"),
        Suspect("LEGS-08", "the roots count from 1, and the diagonal too", -torch.outer(later, later).tril(-1) + (A.diagonal() - 1).diag(), "i = 0, 1, 2, …: B begins with √1"),
        Suspect("LEGS-04", "the square roots are missing in A", legs_by_hand(n, roots=False), "√(2i+1) √(2j+1)"),
    ], 1e-9)
    close(got[0], A, "LEGS-09", "A differs from HiPPO-LegS", "compare with the worked example", rtol=1e-9, atol=1e-9)
    diagnose(got[1], B, [
        Suspect("LEGS-06", "the square roots are missing in B", B**2, "√(2i+1)"),
        Suspect("LEGS-06", "B is 1 everywhere", torch.ones_like(B), "√(2i+1)"),
        Suspect("LEGS-06", "B has the sign of A", -B, "B is positive"),
        Suspect("LEGS-08", "B counts from 1", later, "i = 0, 1, 2, …: B begins with √1"),
    ], 1e-9)
    close(got[1], B, "LEGS-09", "B differs from HiPPO-LegS", "√(2i+1)", rtol=1e-9, atol=1e-9)
    if edges:
        for wrong in (0, -2):
            must_raise(ValueError, lambda wrong=wrong: hippo_legs(wrong), "LEGS-07", f"n = {wrong} must raise ValueError", "a state has at least one number")


# ------------------------------------------------------------------ S4D


def sum_of_exponentials(eigenvalues, C, dt, length, *, factor=2.0, b_bar="zoh", first=0, early=False, one_dt=False):
    """Feature by feature and λ by λ, in complex128. The keyword arguments make the known mistakes."""
    out = torch.zeros(eigenvalues.shape[0], length, dtype=torch.float64)
    for d in range(len(out)):
        step = (dt[0] if one_dt else dt[d]).double()
        for lam, c in zip(eigenvalues[d].to(torch.complex128), C[d].to(torch.complex128), strict=True):
            z = step * lam
            b = {"zoh": torch.expm1(z) / lam, "none": torch.ones_like(z), "dt": step + 0j, "bilinear": step / (1 - z / 2), "undivided": torch.expm1(z), "by_z": torch.expm1(z) / z}[b_bar]
            turn = (1 + z / 2) / (1 - z / 2) if b_bar == "bilinear" else torch.exp(z)
            for place in range(length):
                weight, swing = c * b, turn ** (place + first)
                out[d, place] = out[d, place] + factor * (weight.real * swing.real if early else (weight * swing).real)
    return out


def decaying(seed, d_model, half, dtype):
    """λ with real parts from -2 to -0.05, C, and step sizes of their own."""
    real = -normal(seed, d_model, half).abs().clamp(0.05, 2.0)
    eigenvalues = torch.complex(real, 3 * normal(seed + 1, d_model, half)).to(getattr(torch, dtype))
    return eigenvalues, normal(seed + 2, d_model, half, dtype=dtype), normal(seed + 3, d_model).abs().clamp(0.05, 0.6).to(eigenvalues.real.dtype)


@check(
    "hybridlab.ssm.s4d.s4d_kernel",
    visible=[
        {"seed": 0, "d_model": 2, "half": 2, "length": 4},
        {"seed": 1, "d_model": 1, "half": 3, "length": 6, "dtype": "complex64", "edges": True},
        {"seed": 2, "d_model": 1, "half": 2, "length": 3, "dtype": "complex64", "tiny": True},
    ],
    hidden=[
        {"seed": 11, "d_model": 3, "half": 4, "length": 11, "edges": True},
        {"seed": 12, "d_model": 2, "half": 1, "length": 1},
        {"seed": 13, "d_model": 4, "half": 5, "length": 9, "dtype": "complex64"},
        {"seed": 14, "d_model": 2, "half": 2, "length": 5, "dtype": "complex64", "tiny": True},
    ],
    forbids=("recurrence_kernel", "vander"),
    hints=(
        "Write the kernel of one λ first: which number multiplies exp(dt λ l), and which part of it does not depend on l?",
        "weights = C * B̄, (d_model, half); a table exp(dt λ l), (d_model, half, length), called a Vandermonde matrix; a sum over the second axis. The real part comes last, and twice.",
        'z = dt[:, None] * eigenvalues; torch.expm1(z) keeps the digits of exp(z) - 1; torch.exp(z[..., None] * steps); torch.einsum("dn,dnl->dl", …).real * 2.',
    ),
)
def check_s4d(s4d_kernel, seed, d_model, half, length, dtype="complex128", tiny=False, edges=False):
    """The kernel is the sum of decaying exponentials under zero-order hold, to the last digits also where steps are tiny."""
    eigenvalues, C, dt = decaying(seed, d_model, half, dtype)
    if tiny:
        dt = dt * 1e-7
    before = eigenvalues.clone(), C.clone(), dt.clone()
    got = s4d_kernel(eigenvalues, C, dt, length)
    tensors(got, [(d_model, length)], dt.dtype, "S4D-06", ("kernel",), "real, (d_model, length), in the real dtype that goes with C's")
    for tensor, old, name in zip((eigenvalues, C, dt), before, ("eigenvalues", "C", "dt")):
        untouched(tensor, old, "S4D-13", name)
    arguments = (eigenvalues, C, dt, length)
    expected, rtol = sum_of_exponentials(*arguments), 1e-9 if dtype == "complex128" else 2e-4
    scale = expected.abs().max().clamp_min(1e-30)

    def suspect(code, what, hint, **change):
        return Suspect(code, what, lambda: sum_of_exponentials(*arguments, **change) / scale, hint)

    diagnose(got.double() / scale, expected / scale, [
        suspect("S4D-01", "each conjugate pair counts once", "the other half of the pair gives the same real part: 2 Re", factor=1.0),
        suspect("S4D-02", "B̄ is missing: C alone weighs the exponentials", "C · (exp(dt λ) - 1) / λ", b_bar="none"),
        suspect("S4D-02", "B̄ is not divided by λ", "(exp(dt λ) - 1) / λ", b_bar="undivided"),
        suspect("S4D-02", "B̄ is divided by dt λ, not by λ", "(exp(dt λ) - 1) / λ: about dt, where dt λ is small", b_bar="by_z"),
        suspect("S4D-02", "B̄ is dt: that is Euler's step", "(exp(dt λ) - 1) / λ", b_bar="dt"),
        suspect("S4D-11", "this is the bilinear rule", "zero-order hold: Ā = exp(dt λ)", b_bar="bilinear"),
        suspect("S4D-03", "real parts are multiplied: the imaginary parts belong into the product", "take the real part of the sum, at the very end", early=True),
        suspect("S4D-05", "the exponents begin at 1", "l = 0 … length - 1: a one is heard in the step in which it comes", first=1),
        suspect("S4D-10", "all features have the step size of the first", "dt[:, None]: one a feature", one_dt=True),
    ], rtol)
    if tiny:
        close(got.double() / scale, expected / scale, "S4D-04", "at tiny steps the kernel has lost its digits",
              "exp(z) - 1 subtracts two numbers that agree in all their digits: torch.expm1(z)", rtol=rtol, atol=rtol)
    close(got.double() / scale, expected / scale, "S4D-09", "the kernel differs from the sum of exponentials (both divided by the largest)",
          "with one feature, one λ and length 1 it is 2 Re(C B̄)", rtol=rtol, atol=rtol)
    parts = [torch.view_as_real(eigenvalues), torch.view_as_real(C), dt]
    if not tiny and length > 1:
        from_pairs = lambda kernel: lambda lam, c, step: kernel(torch.view_as_complex(lam), torch.view_as_complex(c), step, length)
        same_gradients(from_pairs(s4d_kernel), lambda *p: from_pairs(sum_of_exponentials)(*p).to(dt.dtype), parts, "S4D-07", 1e-7 if dtype == "complex128" else 5e-3)
    if edges:
        for wrong in (0, -1):
            must_raise(ValueError, lambda wrong=wrong: s4d_kernel(eigenvalues, C, dt, wrong), "S4D-08", f"length {wrong} must raise ValueError", "a kernel has at least one number")
        for wrong in (0.0, -0.1, math.nan, math.inf):
            must_raise(ValueError, lambda wrong=wrong: s4d_kernel(eigenvalues, C, dt * 0 + wrong, length), "S4D-08", f"dt = {wrong} must raise ValueError", "require_step is given")
        for wrong in (0j, 1e-3 + 1j, complex(math.nan, 0)):
            bad = eigenvalues.clone()
            bad[-1, -1] = wrong
            must_raise(ValueError, lambda bad=bad: s4d_kernel(bad, C, dt, length), "S4D-08", f"λ = {wrong} does not decay: that must raise ValueError", "require_decay is given")
        must_raise(ValueError, lambda: s4d_kernel(eigenvalues, C * math.inf, dt, length), "S4D-08", "infinity in C must raise ValueError", "require_finite is given")


# ------------------------------------------------------------------ the long convolution


def sum_of_products(u, kernel, *, circle=None, ahead=False, late=False):
    """y_k = Σ_j K_j u_{k-j}, sum by sum. `circle`: steps after which time begins anew. The keyword arguments make the known mistakes."""
    time, u, kernel = u.shape[-1], u.double(), kernel.double()
    if circle:
        kernel = kernel[..., :circle]  # rfft cuts what is longer
    taps = kernel.shape[-1]
    out = torch.zeros(torch.broadcast_shapes(u.shape[:-1], kernel.shape[:-1]) + (circle or time + taps - 1,), dtype=torch.float64)
    for k in range(time):
        for j in range(taps):
            place = (k + j) % out.shape[-1]
            out[..., place] = out[..., place] + u[..., k] * kernel[..., taps - 1 - j if ahead else j]
    return out[..., -time:] if late else out[..., :time]


@check(
    "hybridlab.ssm.convolution.causal_convolution",
    visible=[{"seed": 0, "shape": (6,), "taps": (3,)}, {"seed": 1, "shape": (2, 7), "taps": (7,), "edges": True}, {"seed": 2, "shape": (3,), "taps": (5,)}],
    hidden=[
        {"seed": 11, "shape": (2, 3, 13), "taps": (3, 13), "edges": True},
        {"seed": 12, "shape": (4, 5), "taps": (12,)},
        {"seed": 13, "shape": (3, 16), "taps": (16,)},
        {"seed": 14, "shape": (2, 4, 9), "taps": (4, 4), "dtype": "float32"},
        {"seed": 15, "shape": (1,), "taps": (1,)},
        {"seed": 16, "shape": (2, 10), "taps": (5,), "dtype": "bfloat16"},
        {"seed": 17, "shape": (3, 1), "taps": (8,)},
        {"seed": 18, "shape": (9,), "taps": (6,), "kernel_dtype": "float32"},
    ],
    forbids=("fftconvolve", "conv1d", "convolve", "scipy"),
    hints=(
        "Put a single 1 at the last step, and zeros before it. Which outputs may answer? Which do?",
        "The FFT thinks of both sequences as circles: what runs out at the end comes in again at the beginning. How long must the circle be, so that nothing gets there?",
        "A sequence of `time` with a kernel of `taps` runs time + taps - 1 steps: room = fast_length(time + taps - 1), and n=room in rfft (it pads with zeros) and in irfft; then cut to the first `time`.",
    ),
)
def check_causal(causal_convolution, seed, shape, taps, dtype="float64", kernel_dtype=None, edges=False):
    """Each output is the sum over the past alone: nothing comes round from the end, whatever the lengths."""
    u, kernel = normal(seed, *shape, dtype=dtype), normal(seed + 1, *taps, dtype=kernel_dtype or dtype)
    before = u.clone(), kernel.clone()
    try:
        got = causal_convolution(u, kernel)
    except RuntimeError as error:
        if "rfft" not in str(error) and "Unsupported dtype" not in str(error):
            raise
        raise Mistake("WRAP-05", "the FFT knows no bfloat16", str(error).split("\n")[0], "compute in float32 and give the result back in u's dtype") from None
    tensors(got, [shape], u.dtype, "WRAP-04", ("outputs",), "as long as u, in u's dtype; irfft wants n=, or it takes the length for even")
    untouched(u, before[0], "WRAP-08", "u")
    untouched(kernel, before[1], "WRAP-08", "kernel")
    expected, atol = sum_of_products(u, kernel), {"float64": 1e-9, "float32": 1e-5, "bfloat16": 4e-2}[dtype]
    atol, full = atol if kernel_dtype is None else 1e-6, u.shape[-1] + kernel.shape[-1] - 1
    diagnose(got.double(), expected, [
        Suspect("WRAP-01", "the end of the sequence reaches round to its beginning", lambda: sum_of_products(u, kernel, circle=u.shape[-1]), "n of at least time + taps - 1 in both transforms: room for the kernel to run out"),
        Suspect("WRAP-01", "the end of the sequence reaches round to its beginning", lambda: sum_of_products(u, kernel, circle=max(u.shape[-1], kernel.shape[-1])), "n of at least time + taps - 1 in both transforms: room for the kernel to run out"),
        *(Suspect("WRAP-10", f"the circle has room for {circle} steps: too short, and the end reaches round to the beginning", lambda circle=circle: sum_of_products(u, kernel, circle=circle), f"put a 1 at the *last* step of u: the kernel behind it needs time + taps - 1 = {full} steps")
          for circle in sorted({full - 1, fast_length(max(1, full - 1)), fast_length(2 * u.shape[-1])}) if u.shape[-1] <= circle < full),
        Suspect("WRAP-02", "the kernel runs the wrong way", lambda: sum_of_products(u, kernel, ahead=True), "K_0 meets the newest input: no flip"),
        Suspect("WRAP-03", "the last outputs are returned in place of the first", lambda: sum_of_products(u, kernel, late=True), "[..., :time]: what comes after is the kernel running out"),
    ], atol)
    close(got.double(), expected, "WRAP-09", "the outputs differ from the sum over the past", "u = [1, 0, 0, …] gives the kernel; u = [0, …, 0, 1] gives nothing before its last step", rtol=atol, atol=atol)
    if dtype != "bfloat16" and kernel_dtype is None:
        same_gradients(causal_convolution, lambda *parts: sum_of_products(*parts).to(u.dtype), (u, kernel), "WRAP-06", 1e-8 if dtype == "float64" else 1e-4)
    if edges:
        for spoilt in (math.nan, math.inf):
            bad, worse = u.clone(), kernel.clone()
            bad[..., 0], worse[..., -1] = spoilt, spoilt
            must_raise(ValueError, lambda bad=bad: causal_convolution(bad, kernel), "WRAP-07", f"{spoilt} in u must raise ValueError", "require_finite is given")
            must_raise(ValueError, lambda worse=worse: causal_convolution(u, worse), "WRAP-07", f"{spoilt} in the kernel must raise ValueError", "require_finite is given")
        for a, b in ((u[..., :0], kernel), (u, kernel[..., :0])):
            must_raise(ValueError, lambda a=a, b=b: causal_convolution(a, b), "WRAP-07", "an empty u or kernel must raise ValueError", "both need at least one number")
