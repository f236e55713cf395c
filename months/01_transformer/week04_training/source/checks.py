"""Checks of week 4: one update of training, and the pieces of generation."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from coursekit.checks import Mistake, check, close, must_raise

# ---------------------------------------------------------------------------------------------- batches


@check(
    "hybridlab.transformer.batching.random_batch",
    visible=[{"seed": 0, "n_tokens": 40, "batch_size": 6, "time": 5}],
    hidden=[
        {"seed": 11, "n_tokens": 6, "batch_size": 3, "time": 5},
        {"seed": 12, "n_tokens": 30, "batch_size": 1, "time": 1},
        {"seed": 13, "n_tokens": 45, "batch_size": 4, "time": 17, "dtype": torch.uint8},
        {"seed": 14, "n_tokens": 35, "batch_size": 5, "time": 5, "dtype": torch.int32},
    ],
    hints=(
        "A window of 3 inputs and its targets needs 4 tokens. How many places are there for it in 5 tokens?",
        "Draw one start per row with torch.randint and the generator. Add torch.arange(time) to get every place.",
        "starts has shape (batch, 1) and arange (time,): their sum has (batch, time). Index the tokens with it, "
        "and once more with the sum plus 1. Indexing with a tensor of places keeps its shape.",
    ),
)
def check_random_batch(random_batch, seed, n_tokens, batch_size, time, dtype=torch.int64):
    """Each row is a piece of the text, its targets are one place later, and every place is drawn alike."""
    # every token occurs once, so that a token tells its place
    tokens = torch.randperm(n_tokens, generator=torch.Generator().manual_seed(seed)).to(dtype)
    place = tokens.long().argsort()

    def draw(count=batch_size, generator_seed=seed, of=tokens):
        generator = torch.Generator().manual_seed(generator_seed)
        try:
            return random_batch(of, count, time, generator)
        except (IndexError, RuntimeError) as error:
            raise Mistake(
                "BATCH-06", "a window runs past the last token", f"{len(of)} tokens, time {time}: {type(error).__name__}: {error}",
                "the targets need one token more than the inputs: count the starts for which all of them exist",
            ) from None

    before = torch.get_rng_state()
    batch = draw()
    if not isinstance(batch, tuple) or len(batch) != 2:
        raise Mistake("BATCH-01", "the result is not the pair (inputs, targets)", f"got a {type(batch).__name__}")
    inputs, targets = batch
    for name, part in (("inputs", inputs), ("targets", targets)):
        if tuple(part.shape) != (batch_size, time):
            raise Mistake(
                "BATCH-01", f"the {name} have the wrong shape", f"got {tuple(part.shape)}, expected {(batch_size, time)} (batch, time)",
                "one row per window, one column per token of the window",
            )
        if part.dtype != torch.int64:
            raise Mistake(
                "BATCH-02", f"the {name} are not int64", f"got {part.dtype} from tokens of {tokens.dtype}",
                "an embedding looks up int64 (long) numbers, whatever the text is stored as",
            )
    rows = place[inputs]
    if not torch.equal(rows, rows[:, :1] + torch.arange(time)):
        raise Mistake(
            "BATCH-03", "a row is not one piece of the text", f"its tokens come from the places {rows[0].tolist()}",
            "a row holds the tokens at s, s + 1, s + 2, … of one start s",
        )
    if torch.equal(targets, inputs):
        raise Mistake("BATCH-04", "the targets are the inputs themselves", f"both begin with {inputs[0, :3].tolist()}",
                      "the model must name the token that comes next: shift the window by one place")
    if not torch.equal(place[targets], rows + 1):
        shift = (place[targets] - rows)[0].tolist()
        raise Mistake("BATCH-04", "the targets are not the next tokens", f"they lie {shift} places after their inputs; it must be 1 for all",
                      "targets = tokens[s + 1 : s + time + 1]")
    check_randomness(random_batch, draw, tokens, batch_size, time, seed, inputs, before)
    check_starts(draw, place, n_tokens, time)
    error = must_raise_too_short(random_batch, tokens[:time], time)
    if str(time) not in str(error):
        raise Mistake("BATCH-09", "the error does not name the values", f"its text is {str(error)!r}", "say how many tokens there are, and the time")


def check_randomness(random_batch, draw, tokens, batch_size, time, seed, inputs, before):
    if not torch.equal(before, torch.get_rng_state()):
        raise Mistake("BATCH-05", "the batch is drawn from torch's global random state", "the state changed during the call",
                      "pass generator=generator to torch.randint")
    if not torch.equal(draw()[0], inputs):
        raise Mistake("BATCH-05", "the same generator state gives two different batches", "two calls with the same seed differ",
                      "pass generator=generator to torch.randint")
    generator = torch.Generator().manual_seed(seed)
    state = generator.get_state()
    random_batch(tokens, batch_size, time, generator)
    if torch.equal(state, generator.get_state()):
        raise Mistake("BATCH-05", "the generator is not used: the next batch would be the same again",
                      "its state is the same before and after the call", "draw the starts with generator=generator")


def check_starts(draw, place, n_tokens, time):
    n_starts = n_tokens - time
    counts = torch.bincount(place[draw(400 * n_starts)[0][:, 0]], minlength=n_starts)
    if n_starts > 1 and int((counts > 0).sum()) == 1:
        raise Mistake("BATCH-08", "all rows of a batch are the same window", f"each begins at place {int(counts.argmax())}",
                      "draw one start per row: the size of torch.randint holds the batch size")
    if counts[-1] == 0 or len(counts) > n_starts:
        raise Mistake("BATCH-06", "the last window is never drawn", f"{n_starts} starts fit, the last is {n_starts - 1}; the largest drawn is {int(counts.nonzero().max())}",
                      "torch.randint leaves its upper end out")
    if counts[0] == 0:
        raise Mistake("BATCH-07", "the first window is never drawn", f"the smallest start drawn is {int(counts.nonzero().min())}", "starts begin at 0")
    if (counts - 400).abs().max() > 120:  # six standard deviations
        worst = int((counts - 400).abs().argmax())
        raise Mistake("BATCH-07", "some windows are drawn more often than others", f"start {worst} came {int(counts[worst])} times, 400 expected",
                      "draw uniformly from the starts that fit; cutting larger numbers down piles them up at the end")


def must_raise_too_short(random_batch, tokens, time):
    return must_raise(
        ValueError, lambda: random_batch(tokens, 2, time, torch.Generator().manual_seed(0)),
        "BATCH-09", f"{time} tokens hold no window of {time} and its targets, and it must raise ValueError",
        "check len(tokens) - time before you draw",
    )


# ---------------------------------------------------------------------------------------------- schedule


@check(
    "hybridlab.transformer.schedule.warmup_cosine",
    visible=[{"warmup": 5, "total": 25, "peak": 3e-3, "floor": 3e-4}],
    hidden=[
        {"warmup": 0, "total": 10, "peak": 1.0, "floor": 0.0},
        {"warmup": 9, "total": 10, "peak": 2.0, "floor": 0.5},
        {"warmup": 8, "total": 8, "peak": 1.0, "floor": 0.25},
        {"warmup": 1, "total": 2, "peak": 0.1, "floor": 0.1},
        {"warmup": 100, "total": 1000, "peak": 6e-4, "floor": 6e-5},
    ],
    hints=(
        "Three pieces, three cases: before the warm-up ends, until the total, and after it.",
        "In the second piece, t runs from 0 to 1. Which step gives t = 0, and which t = 1?",
        "t = (step - warmup) / (total - warmup). Watch the case where warmup equals total: there is nothing to divide by.",
    ),
)
def check_warmup_cosine(warmup_cosine, warmup, total, peak, floor):
    """The rate rises in a straight line to the peak, falls along half a cosine to the floor, and stays there."""

    def rate(step):
        try:
            return float(warmup_cosine(step, warmup=warmup, total=total, peak=peak, floor=floor))
        except ZeroDivisionError:
            raise Mistake("WARM-05", "it divides by zero", f"step {step}, warmup {warmup}, total {total}",
                          "there may be no warm-up at all, or nothing but warm-up") from None

    def differs(got, expected):
        return abs(got - expected) > 1e-9 * peak

    steps = {step: rate(step) for step in range(total + 1)}
    if warmup > 0 and differs(steps[0], 0):
        raise Mistake("WARM-01", "the warm-up does not begin at 0", f"step 0 gives {steps[0]:.4g}", "step / warmup of the peak: step 0 gives 0")
    for step in range(warmup):
        if differs(steps[step], peak * step / warmup):
            raise Mistake("WARM-01", "the warm-up is not a straight line from 0 to the peak",
                          f"step {step} of {warmup} gives {steps[step]:.4g}, expected {peak * step / warmup:.4g}", "step / warmup of the peak")
    if differs(steps[warmup], peak):
        raise Mistake("WARM-02", "the curve jumps where the warm-up ends", f"step {warmup} gives {steps[warmup]:.4g}, expected the peak {peak:.4g}",
                      "the cosine begins at the end of the warm-up: its t is 0 there, not at step 0")
    if total > warmup and differs(steps[total], floor):
        raise Mistake("WARM-03", "the last step does not reach the floor", f"step {total} gives {steps[total]:.4g}, expected {floor:.4g}",
                      "half a cosine, from 1 to -1, is scaled to go from peak to floor")
    for step in (total + 1, total + max(1, total - warmup), 10 * total):
        if differs(rate(step), floor):
            raise Mistake("WARM-04", "after the last step the rate leaves the floor", f"step {step} of {total} gives {rate(step):.4g}, expected {floor:.4g}",
                          "a cosine comes back up: stop it at t = 1")
    for step in range(warmup, total + 1):
        t = (step - warmup) / max(1, total - warmup)
        expected = floor + (peak - floor) * math.cos(math.pi * t / 2) ** 2  # the same as (1 + cos(pi t)) / 2
        if differs(steps[step], expected):
            raise Mistake("WARM-09", "the way down is not half a cosine", f"step {step} gives {steps[step]:.6g}, expected {expected:.6g}",
                          "floor + (peak - floor) * (1 + cos(pi * t)) / 2")
    if differs(float(warmup_cosine(total, warmup=warmup, total=total + 1, peak=peak)), peak * math.cos(math.pi / 2 * (total - warmup) / (total + 1 - warmup)) ** 2):
        raise Mistake("WARM-03", "without a floor the curve does not go to 0", "floor was not given", "floor=0.0 in the signature")
    refused = [
        {"step": -1},
        {"warmup": -1},
        {"warmup": total + 1},
        {"floor": -0.1 * peak},
        {"floor": 1.1 * peak},
    ]
    for change in refused:
        settings = {"step": 1, "warmup": warmup, "total": total, "peak": peak, "floor": floor} | change
        name, value = next(iter(change.items()))
        must_raise(ValueError, lambda s=settings: warmup_cosine(s.pop("step"), **s), "WARM-06",
                   f"{name}={value:g} makes no curve (warmup {warmup}, total {total}, peak {peak:g}), and it must raise ValueError",
                   "step >= 0, 0 <= warmup <= total, 0 <= floor <= peak")


# ---------------------------------------------------------------------------------------------- clipping


def parameters_with_gradients(seed, scale, shapes, without=()):
    generator = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]
    for i, parameter in enumerate(parameters):
        if i not in without:
            parameter.grad = torch.randn(parameter.shape, generator=generator) * scale * (i + 1)
    return parameters


@check(
    "hybridlab.transformer.training.clip_grad_norm",
    visible=[{"seed": 0, "scale": 1.0, "max_norm": 1.0}],
    hidden=[
        {"seed": 21, "scale": 0.01, "max_norm": 1.0},
        {"seed": 22, "scale": 1e3, "max_norm": 0.5, "without": (1,)},
        {"seed": 23, "scale": 1e-6, "max_norm": 1e-7},
        {"seed": 24, "scale": 1.0, "max_norm": float("inf"), "without": (0, 1, 2)},
        {"seed": 25, "scale": 1.0, "max_norm": 2.0, "shapes": ((5,),)},
    ],
    forbids=("clip_grad_norm_", "clip_grads_with_norm_", "get_total_norm"),
    hints=(
        "All gradients together are one long vector. What is its length?",
        "Walk through the parameters once and keep the gradients in a list: you need them twice.",
        "norm = sqrt(sum of every g.square().sum()). If it is above max_norm, g.mul_(max_norm / norm) for each g.",
    ),
)
def check_clip_grad_norm(clip_grad_norm, seed, scale, max_norm, shapes=((4, 3), (4,), (2, 4)), without=()):
    """The common norm is returned, and gradients above it are shortened together, in place."""

    def make():
        return parameters_with_gradients(seed, scale, shapes, without)

    def run(parameters, as_generator):
        try:
            return clip_grad_norm(iter(parameters) if as_generator else parameters, max_norm)
        except (AttributeError, TypeError, RuntimeError) as error:
            if without:
                raise Mistake("CLIP-05", "parameters without a gradient are not left out", f"{type(error).__name__}: {error}",
                              "a parameter that took no part has .grad = None; skip it, and return 0 if there is none left") from None
            raise

    parameters, before = make(), [p.grad for p in make()]
    objects = [p.grad for p in parameters]
    norm = run(parameters, as_generator=False)
    norms = [g.norm().item() for g in before if g is not None]
    true = torch.tensor(norms).double().norm().item()
    if isinstance(norm, float) or (isinstance(norm, torch.Tensor) and norm.ndim):
        raise Mistake("CLIP-07", "the norm is not a tensor without axes", f"got {type(norm).__name__} {getattr(norm, 'shape', '')}",
                      "the training loop calls .item() on it when it wants a number")
    if norm is not None and len(norms) > 1:
        got = float(norm)
        for value, what in ((sum(norms), "the sum of the norms"), (max(norms), "the largest norm"), (true**2, "the square of the norm")):
            if math.isclose(got, value, rel_tol=1e-4):
                raise Mistake("CLIP-01", f"it returns {what}", f"got {got:.5g}; the norms are {[round(n, 5) for n in norms]}, together {true:.5g}",
                              "square, add up over all gradients, then take one root")
        if true > max_norm and math.isclose(got, max_norm, rel_tol=1e-4):
            raise Mistake("CLIP-02", "it returns the norm after clipping", f"got {got:.5g}, before clipping it was {true:.5g}",
                          "the norm before says how the training goes; after clipping it says nothing")
    close(norm, true, "CLIP-01", "the norm differs from that of all gradients as one vector", rtol=1e-4, atol=1e-12)
    for parameter, gradient in zip(parameters, objects, strict=True):
        if parameter.grad is not gradient:
            raise Mistake("CLIP-07", "the gradients are replaced, not changed in place", "p.grad is another tensor after the call",
                          "change the tensor itself: g.mul_(factor)")
    shrink = min(1.0, max_norm / true) if true else 1.0
    changed = [p.grad for p in parameters if p.grad is not None]
    old = [g for g in before if g is not None]
    if shrink == 1.0 and any(not torch.equal(a, b) for a, b in zip(changed, old, strict=True)):
        raise Mistake("CLIP-06", "gradients below the limit are changed", f"the norm {true:.4g} is not above {max_norm:.4g}",
                      "clip, do not normalise: small gradients stay as they are")
    factors = [(a.norm() / b.norm()).item() for a, b in zip(changed, old, strict=True)]
    straight = all(torch.allclose(a, b * f, rtol=1e-4, atol=0) for a, b, f in zip(changed, old, factors, strict=True))
    if factors and (not straight or max(factors) - min(factors) > 1e-3 * max(factors)):
        raise Mistake("CLIP-03", "the direction of the gradient changes", f"the three gradients shrink by {[round(f, 4) for f in factors]}"
                      if straight else "single numbers shrink by different factors",
                      "one factor for all gradients: a longer vector in the same direction")
    for a, b in zip(changed, old, strict=True):
        close(a, b * shrink, "CLIP-09", "the clipped gradients differ", f"norm {true:.4g}, limit {max_norm:.4g}", rtol=1e-4, atol=1e-12)

    again = make()
    run(again, as_generator=True)
    for a, b in zip(again, parameters, strict=True):
        if a.grad is not None and not torch.equal(a.grad, b.grad):
            raise Mistake("CLIP-04", "with a generator of parameters nothing is clipped", "a list works, iter(list) does not",
                          "a generator is empty after one walk: put the gradients in a list first")
    for bad in (0.0, -1.0):
        must_raise(ValueError, lambda b=bad: clip_grad_norm(make(), b), "CLIP-08", f"max_norm={bad:g} must raise ValueError",
                   "a limit of 0 would throw every gradient away without a word")


# ---------------------------------------------------------------------------------------------- one update


class Toy(nn.Module):
    """A model of two matrices, in double precision, that notes how it is used."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Parameter(torch.randn(7, 4, generator=generator, dtype=torch.float64))
        self.head = nn.Parameter(torch.randn(4, 7, generator=generator, dtype=torch.float64))
        self.root = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.seen, self.waiting, self.most_waiting = [], 0, 0

    def forward(self, tokens):
        self.seen.append(tokens)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        logits = self.embed[tokens] @ self.head
        logits = torch.cat([logits[..., :1] + self.root.sqrt(), logits[..., 1:]], dim=-1)
        if logits.requires_grad:
            logits.register_hook(self.backward_came)
        return logits

    def backward_came(self, gradient):
        self.waiting -= 1


class CountingSGD(torch.optim.SGD):
    steps = 0

    def step(self, closure=None):
        self.steps += 1
        return super().step(closure)


def micro_batches(seed, sizes, ignored):
    generator = torch.Generator().manual_seed(seed)
    made = []
    for i, size in enumerate(sizes):
        inputs = torch.randint(7, (size, 5), generator=generator)
        targets = torch.randint(7, (size, 5), generator=generator)
        if ignored:
            targets[:, : 1 + (i % 4)] = -100
        made.append((inputs, targets))
    return made


def one_big_batch(model, batches):
    """The loss and the gradient of all micro-batches as one, by PyTorch alone."""
    inputs, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
    loss = F.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


@check(
    "hybridlab.transformer.training.train_step",
    visible=[{"seed": 0, "sizes": (2, 2, 2)}, {"seed": 1, "sizes": (3, 1)}],
    hidden=[
        {"seed": 31, "sizes": (3,)},
        {"seed": 32, "sizes": (4, 1, 2)},
        {"seed": 33, "sizes": (2, 2), "ignored": True},
        {"seed": 34, "sizes": (1, 3, 2, 1), "ignored": True},
    ],
    hints=(
        "With three micro-batches of equal size, what must each loss be multiplied by, so that the sum is the mean of all?",
        "The order is: forget the old gradients; forward and backward for each micro-batch; clip; step.",
        "A micro-batch's weight is its number of targets that are not -100, divided by that number over all micro-batches. "
        "Check math.isfinite(norm) after clipping and before optimizer.step().",
    ),
)
def check_train_step(train_step, seed, sizes, ignored=False):
    """Several micro-batches make the same update as one big batch, clipped once, and a NaN makes none."""
    batches = micro_batches(seed, sizes, ignored)
    loss, gradient = one_big_batch(Toy(seed), batches)
    norm = math.sqrt(sum(g.square().sum().item() for g in gradient))
    lr = 0.125

    def run(max_grad_norm, stale=None):
        model = Toy(seed)
        if stale is not None:
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, stale)
        optimizer = CountingSGD(model.parameters(), lr=lr)
        result = train_step(model, batches, optimizer, max_grad_norm=max_grad_norm)
        moved = [(old - new.detach()) / lr for old, new in zip(Toy(seed).parameters(), model.parameters(), strict=True)]
        return result, moved, model, optimizer

    def same(moved, expected, factor=1.0):
        return all(torch.allclose(a, b.detach() * factor, rtol=1e-4, atol=1e-9) for a, b in zip(moved, expected, strict=True))

    result, moved, model, optimizer = run(max_grad_norm=1e9)
    n = len(batches)
    if len(model.seen) != n or any(not torch.equal(a, b) for a, (b, _) in zip(model.seen, batches, strict=True)):
        raise Mistake("STEP-06", "the model does not get the micro-batches one by one", f"{n} micro-batches, and calls with the shapes {[tuple(s.shape) for s in model.seen]}",
                      "one forward and one backward per micro-batch: glued together they need the memory that you want to save")
    if model.most_waiting > 1:
        raise Mistake("STEP-06", "the activations of several micro-batches are held at once", f"{model.most_waiting} forward passes wait for their backward pass",
                      "call backward() inside the loop, right after each forward")
    if optimizer.steps != 1:
        raise Mistake("STEP-05", "the optimizer does not step exactly once", f"{optimizer.steps} steps for {n} micro-batches", "one step at the end, after all backward passes")
    check_scale(moved, gradient, same, n, sizes, batches, seed)
    if not same(run(1e9, stale=3.0)[1], gradient):
        raise Mistake("STEP-01", "gradients from before the call are still counted", "with .grad full of 3.0 the update is another one",
                      "backward() adds to .grad: call optimizer.zero_grad() first")
    limit = norm / 4
    clipped_result, clipped, _, _ = run(max_grad_norm=limit)
    if same(clipped, gradient):
        raise Mistake("STEP-04", "the update is not clipped", f"gradient norm {norm:.4g}, limit {limit:.4g}, and the weights moved by the whole gradient",
                      "clip after the last backward and before optimizer.step()")
    if not same(clipped, gradient, limit / norm):
        raise Mistake("STEP-04", "the update is clipped in another way than one big batch's", f"gradient norm {norm:.4g}, limit {limit:.4g}",
                      "clip once, when all micro-batches have added their part")
    check_result(result, clipped_result, loss, norm)
    check_no_step_of_nan(train_step, seed, batches)


def check_scale(moved, gradient, same, n, sizes, batches, seed):
    if same(moved, gradient):
        return
    if n > 1 and same(moved, gradient, n):
        raise Mistake("STEP-02", "the gradient is as many times too large as there are micro-batches", f"{n} micro-batches, {n} times the gradient of one big batch",
                      "backward() adds up; a mean over all tokens needs each loss multiplied by its share")
    by_batch = [one_big_batch(Toy(seed), [batch])[1] for batch in batches]
    mean_of_means = [sum(parts) / n for parts in zip(*by_batch, strict=True)]
    by_rows = [sum(g * size / sum(sizes) for g, size in zip(parts, sizes, strict=True)) for parts in zip(*by_batch, strict=True)]
    counts = [int((t != -100).sum()) for _, t in batches]
    if same(moved, [sum(parts) for parts in zip(*by_batch, strict=True)]):
        raise Mistake("STEP-02", "the gradients of the micro-batches are added without a weight", f"{n} micro-batches", "multiply each loss by its share of all counted tokens")
    if same(moved, mean_of_means) or same(moved, by_rows):
        raise Mistake("STEP-03", "each micro-batch does not weigh as much as its share of the counted tokens", f"their counted tokens are {counts}",
                      "count the targets that are not -100, in each micro-batch and in all")
    if same(moved, by_batch[-1]):
        raise Mistake("STEP-01", "only the last micro-batch makes the update", f"{n} micro-batches", "zero_grad() once, before the loop")
    raise Mistake("STEP-09", "the update differs from that of one big batch", f"{n} micro-batches of {list(sizes)} rows, counted tokens {counts}")


def check_result(result, clipped_result, loss, norm):
    if not isinstance(result, tuple) or len(result) != 2 or not all(isinstance(part, float) for part in result):
        raise Mistake("STEP-08", "the result is not (loss, gradient norm) as two floats", f"got {result!r:.80}",
                      "a loss that is kept as a tensor keeps its whole graph in memory: call .item()")
    close(result[0], loss, "STEP-08", "the loss is not the mean over all counted tokens", "add up each micro-batch's share", rtol=1e-4)
    for got in (result[1], clipped_result[1]):
        close(got, norm, "STEP-08", "the second result is not the norm before clipping", "clip_grad_norm returns it", rtol=1e-4)


def check_no_step_of_nan(train_step, seed, batches):
    for root, what in ((float("nan"), "the loss is NaN"), (0.0, "the loss is finite and a gradient is infinite")):
        model = Toy(seed)
        with torch.no_grad():
            model.root.fill_(root)
        kept = [p.detach().clone() for p in model.parameters()]
        optimizer = CountingSGD(model.parameters(), lr=0.1)
        must_raise(FloatingPointError, lambda m=model, o=optimizer: train_step(m, batches, o, max_grad_norm=1.0), "STEP-07",
                   f"{what}, and it must raise FloatingPointError", "look at the gradient norm with math.isfinite")
        if optimizer.steps or any(not torch.equal(a.nan_to_num(7.0), b.detach().nan_to_num(7.0)) for a, b in zip(kept, model.parameters(), strict=True)):
            raise Mistake("STEP-07", f"{what}, and the weights are changed all the same", f"{optimizer.steps} step was made",
                          "raise before optimizer.step(): one step of NaN makes every weight NaN")


# ---------------------------------------------------------------------------------------------- KV cache


@check(
    "hybridlab.transformer.cache.KVCache",
    visible=[{"seed": 0, "lengths": (4, 1, 1), "max_time": 8}],
    hidden=[
        {"seed": 41, "lengths": (1, 1, 1), "max_time": 3},
        {"seed": 42, "lengths": (7,), "max_time": 7, "batch": 1, "heads": 1, "d_head": 1},
        {"seed": 43, "lengths": (2, 3, 1, 4), "max_time": 11, "dtype": torch.bfloat16},
        {"seed": 44, "lengths": (5, 1), "max_time": 9, "batch": 3, "heads": 2, "d_head": 6},
    ],
    hints=(
        "Write down, for a prompt of 4 tokens and then 1 token: at which places does each append write? What is len afterwards?",
        "The new tokens stand at the places length … length + time. What has to be added to length afterwards?",
        "end = length + k.shape[2]. Write into [length : end], set length to end, and return the places [: end].",
    ),
)
def check_kv_cache(KVCache, seed, lengths, max_time, batch=2, heads=3, d_head=4, dtype=torch.float32):
    """What was appended comes back whole and in order, nothing old is copied, and nothing runs over."""
    generator = torch.Generator().manual_seed(seed)

    def tokens(n):
        return tuple(torch.randn(batch, heads, n, d_head, generator=generator) for _ in range(2))

    cache, other = (KVCache(batch, heads, max_time, d_head, dtype) for _ in range(2))
    if len(cache) != 0:
        raise Mistake("KV-02", "a new cache is not empty", f"len(cache) is {len(cache)}", "len is the number of tokens that were appended, not the room for them")
    parts, addresses = [], set()
    for n in lengths:
        k, v = tokens(n)
        got = cache.append(k, v)
        parts.append((k, v))
        check_appended(got, cache, parts, dtype, max_time)
        addresses.add((got[0].data_ptr(), got[1].data_ptr()))
    if len(addresses) > 1:
        raise Mistake("KV-05", "the old tokens are copied at every append", f"the keys lie at {len(addresses)} different places in memory after {len(lengths)} appends",
                      "take the memory once, in __init__, write the new tokens into it, and return a slice of it")
    k, v = tokens(1)
    alone = KVCache(batch, heads, max_time, d_head)
    kept = alone.append(k, v)
    k.add_(1), v.add_(1)
    if any(torch.equal(a, b) for a, b in zip(kept, (k, v), strict=True)):
        raise Mistake("KV-05", "the cache keeps the caller's own tensor, not a copy", "k was changed after the append, and the cache changed with it",
                      "take the memory once, in __init__, and copy the new tokens into it")
    check_others(KVCache, cache, other, tokens, max_time, (batch, heads, max_time, d_head))


def check_appended(got, cache, parts, dtype, max_time):
    n_all = sum(k.shape[2] for k, _ in parts)
    if not isinstance(got, tuple) or len(got) != 2:
        raise Mistake("KV-09", "append does not return (keys, values)", f"got a {type(got).__name__}")
    expected = [torch.cat(part, dim=2).to(dtype) for part in zip(*parts, strict=True)]
    fed = [k.shape[2] for k, _ in parts]
    for name, mine, right, swapped in zip(("keys", "values"), got, expected, expected[::-1], strict=True):
        if mine.shape[2] == max_time != n_all:
            raise Mistake("KV-01", f"append returns all {max_time} places, also those that are still empty", f"{n_all} tokens were appended",
                          "attention would look at the zeros behind: return the filled places only")
        if mine.shape[2] == fed[-1] != n_all:
            raise Mistake("KV-08", f"append returns the new {name} only", f"{n_all} tokens are there, {mine.shape[2]} came back", "the new query looks at all tokens so far")
        if tuple(mine.shape) != tuple(right.shape):
            raise Mistake("KV-02" if mine.shape[2] != n_all else "KV-09", f"append returns {name} of the wrong shape",
                          f"appends of {fed} tokens gave {tuple(mine.shape)}, expected {tuple(right.shape)}", "count tokens, not appends")
        if mine.dtype != dtype:
            raise Mistake("KV-07", f"the {name} do not have the cache's dtype", f"got {mine.dtype}, the cache was made with {dtype}", "the buffers are made with dtype=dtype")
        if torch.equal(mine, swapped):
            raise Mistake("KV-03", "keys and values are mixed up", f"the {name} that came back are the other ones", "k goes into the keys, v into the values")
        if not torch.equal(mine, right):
            row = (mine != right).any(dim=(0, 1, 3)).nonzero().flatten().tolist()
            raise Mistake("KV-02" if len(parts) > 1 else "KV-09", "the tokens that came back are not those that went in",
                          f"appends of {fed} tokens; the {name} are wrong at the places {row}", "each append writes right behind the tokens that are there")
    if len(cache) != n_all:
        raise Mistake("KV-02", "len(cache) is not the number of tokens in it", f"appends of {fed} tokens, and len is {len(cache)}", "count tokens, not appends")


def check_others(KVCache, cache, other, tokens, max_time, shape):
    if len(other) != 0:
        raise Mistake("KV-06", "two caches share their tokens", f"a second cache has {len(other)} tokens, and none was appended to it",
                      "set the buffers in __init__, on self: what stands in the class body belongs to all")
    filled = len(cache)
    try:
        cache.append(*tokens(max_time - filled + 1))
    except ValueError:
        pass
    except (RuntimeError, IndexError) as error:
        raise Mistake("KV-04", "a full cache fails without saying why", f"{type(error).__name__}: {error}", "compare with max_time and raise ValueError") from None
    else:
        raise Mistake("KV-04", "a full cache takes more tokens", f"{max_time - filled + 1} tokens were appended to {filled} of {max_time}", "raise ValueError")
    if len(cache) != filled:
        raise Mistake("KV-04", "a refused append changes the cache", f"len was {filled} and is {len(cache)}", "check before you write")
    if filled < max_time:
        k, v = tokens(max_time - filled)  # exactly full is allowed
        cache.append(k, v)
    on_meta = KVCache(*shape, device="meta")
    k, v = (part.to("meta") for part in tokens(1))
    if {part.device.type for part in on_meta.append(k, v)} != {"meta"}:
        raise Mistake("KV-07", "the buffers do not lie on the cache's device", "asked for device 'meta'", "make both buffers with device=device")


# ---------------------------------------------------------------------------------------------- sampling


def filter_slowly(row, temperature, top_k, top_p):
    """One row of logits, token by token, in plain Python and double precision."""
    scores = [value / temperature for value in row.tolist()]
    order = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept = set(order)
    if top_k is not None and top_k < len(scores):
        kept = {i for i in order if scores[i] >= scores[order[top_k - 1]]}
    if top_p is not None and top_p < 1:
        total = math.fsum(math.exp(scores[i] - scores[order[0]]) for i in kept)
        nucleus, reached = set(), 0.0
        for i in order:
            if i in kept and reached < top_p:
                nucleus.add(i)
                reached += math.exp(scores[i] - scores[order[0]]) / total
        kept = nucleus
    return torch.tensor([scores[i] if i in kept else -math.inf for i in range(len(scores))])


@check(
    "hybridlab.transformer.sampling.filter_logits",
    visible=[
        {"seed": 0, "shape": (3, 8), "temperature": 0.7},
        {"seed": 1, "shape": (3, 8), "top_k": 3},
        {"seed": 2, "shape": (3, 8), "top_p": 0.8, "scale": 4.0, "edges": True},
        {"seed": 3, "shape": (3, 8), "top_p": 1.0, "scale": 60.0},
    ],
    hidden=[
        {"seed": 50, "shape": (2, 3, 12)},
        {"seed": 51, "shape": (2, 3, 12), "temperature": 1.8},
        {"seed": 52, "shape": (9,), "top_k": 1},
        {"seed": 53, "shape": (4, 6), "top_k": 6},
        {"seed": 54, "shape": (4, 6), "top_k": 50},
        {"seed": 55, "shape": (4, 6), "top_p": 1e-4},
        {"seed": 56, "shape": (4, 20), "top_p": 1.0, "scale": 60.0},
        {"seed": 57, "shape": (4, 30), "temperature": 0.5, "top_k": 9, "top_p": 0.6},
        {"seed": 58, "shape": (4, 30), "temperature": 2.5, "top_k": 9, "top_p": 0.9},
        {"seed": 59, "shape": (5, 40), "top_p": 0.35},
    ],
    hints=(
        "Three steps in the order of the docstring, each one optional. What does a logit of -inf give after softmax?",
        "top-p: sort the logits downwards, softmax, cumsum. The sum *before* a token is cumsum minus its own probability.",
        "The mask you get is in sorted order. Bring it back with mask.scatter(-1, order, mask), then masked_fill with -inf.",
    ),
)
def check_filter_logits(filter_logits, seed, shape, temperature=1.0, top_k=None, top_p=None, scale=2.0, edges=False):
    """Temperature, top-k and top-p keep exactly the tokens they should, in this order, and change nothing else."""
    logits = scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    settings = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    given = logits.clone()
    try:
        got = filter_logits(given, **settings)
    except (RuntimeError, IndexError) as error:
        if top_k is not None and top_k > shape[-1]:
            raise Mistake("TOPK-02", "a k larger than the vocabulary fails", f"top_k {top_k}, vocabulary {shape[-1]}: {error}", "take min(top_k, vocabulary)") from None
        raise
    if not torch.equal(given, logits):
        raise Mistake("SAMP-02", "the logits that were passed in are changed", f"{int((given != logits).sum())} of {logits.numel()} numbers differ",
                      "use masked_fill, not masked_fill_, and / in place of /=")
    if got is None or tuple(got.shape) != tuple(shape):
        raise Mistake("SAMP-09", "the result does not have the shape of the logits", f"got {tuple(getattr(got, 'shape', ()))}, expected {tuple(shape)}")
    rows = [filter_slowly(row, **settings) for row in logits.reshape(-1, shape[-1])]
    right = torch.stack(rows).view(shape)
    diagnose_kept(got, right, logits, settings)
    close(got, right, "SAMP-09", "the logits of tokens that stay are not logits / temperature", rtol=1e-4, atol=1e-5)
    if edges:
        check_edges(filter_logits)


def diagnose_kept(got, right, logits, settings):
    temperature, top_k, top_p = settings.values()
    kept, should = got.isfinite(), right.isfinite()
    numbers = f"{int(kept.sum())} of {kept.numel()} tokens are kept, {int(should.sum())} should be"
    stays = (got - right).abs()[kept & should]
    if kept.all() and not should.all():
        raise Mistake("SAMP-01", "no token is forbidden", numbers, "a forbidden token's logit is -inf: 0 is a logit like any other")
    if got.min() >= 0 and torch.allclose(got.sum(-1), torch.ones(())):
        raise Mistake("SAMP-04", "it returns probabilities, not logits", f"the rows add up to {got.sum(-1).flatten()[0].item():.3f}", "softmax comes after filter_logits")
    if temperature != 1 and torch.allclose(got[kept], (logits * temperature)[kept], rtol=1e-4):
        raise Mistake("TEMP-01", "the logits are multiplied by the temperature", f"temperature {temperature}", "a temperature above 1 must make the distribution flatter: divide")
    if torch.equal(kept, should) and (not stays.numel() or stays.max() < 1e-3 * max(1.0, right[should].abs().max().item())):
        return
    if top_p is not None:
        diagnose_nucleus(kept, should, right, logits, settings, numbers)
    if top_k is not None and not torch.equal(kept, should):
        raise Mistake("TOPK-01", "top-k does not keep the k largest logits of each row", f"k {top_k}: row by row {kept.sum(-1).flatten().tolist()} tokens are kept",
                      "compare with the k-th largest logit of the same row, and keep those that are not below it")


def diagnose_nucleus(kept, should, right, logits, settings, numbers):
    temperature, top_k, top_p = settings.values()
    if torch.equal(kept, should):
        return
    if not kept.any(-1).all():
        raise Mistake("TOPP-03", "in some rows no token is left", f"p {top_p:g}; {int((~kept.any(-1)).sum())} rows are empty",
                      "the most probable token always stays, even if it alone is above p: nothing comes before it")
    if top_p == 1.0:
        raise Mistake("TOPP-05", "top_p=1.0 drops tokens", f"{numbers}: rounding lets the sum reach 1 too early", "with p = 1 there is nothing to drop: leave the step out")
    if torch.equal(kept.sum(-1), should.sum(-1)):
        raise Mistake("TOPP-02", "the right number of tokens is kept, but not the right ones", numbers, "the mask is in sorted order: scatter it back to the places of the tokens")
    unwarmed = torch.stack([filter_slowly(row, 1.0, top_k, top_p) for row in logits.reshape(-1, logits.shape[-1])]).view(logits.shape)
    unfiltered = torch.stack([filter_slowly(row, temperature, None, top_p) for row in logits.reshape(-1, logits.shape[-1])]).view(logits.shape)
    if temperature != 1 and torch.equal(kept, unwarmed.isfinite()):
        raise Mistake("TEMP-02", "the temperature comes after the filters", numbers, "first divide, then look which tokens stay")
    if top_k is not None and torch.equal(kept, unfiltered.isfinite() & (right.isfinite() | kept)):
        raise Mistake("TOPP-04", "top-p looks at the probabilities before top-k", numbers, "after top-k the probabilities of what is left add up to 1 again")
    if (kept & ~should).any():
        raise Mistake("TOPP-06", "top-p keeps too many tokens", f"p {top_p:g}: {numbers}", "a token stays only while those before it add up to less than p")
    raise Mistake("TOPP-01", "top-p keeps too few tokens", f"p {top_p:g}: {numbers}", "the token that crosses p stays: look at the sum of those before it")


def check_edges(filter_logits):
    plain = torch.tensor([2.0, 1.0, 3.0])
    close(filter_logits(plain), plain, "SAMP-09", "without settings the logits are changed", "the temperature is 1 when none is given")
    tied = filter_logits(torch.tensor([2.0, 1.0, 3.0, 2.0, 0.0]), top_k=2).isfinite().tolist()
    if tied != [True, False, True, True, False]:
        raise Mistake("TOPK-03", "a token that ties with the k-th is dropped", f"logits [2, 1, 3, 2, 0], k 2: kept {tied}", "drop what is below the k-th largest logit, and nothing else")
    for p, expected in ((0.25, 1), (0.5, 2), (0.75, 3)):
        kept = int(filter_logits(torch.zeros(4), top_p=p).isfinite().sum())
        if kept != expected:
            raise Mistake("TOPP-06" if kept > expected else "TOPP-01", f"top-p keeps {kept} of four equal tokens", f"each has probability 0.25, and {expected} add up to p = {p}",
                          "a token stays while those before it add up to *less* than p")
    for name, bad in itertools.chain((("temperature", 0.0), ("temperature", -1.0), ("top_k", 0), ("top_k", -3)), (("top_p", 0.0), ("top_p", 1.5), ("top_p", -0.1))):
        must_raise(ValueError, lambda n=name, b=bad: filter_logits(torch.zeros(4), **{n: b}), "SAMP-03", f"{name}={bad:g} must raise ValueError", "see the contract")
