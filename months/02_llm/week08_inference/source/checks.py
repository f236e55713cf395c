"""How week 8's answers are judged: bytes, the books of a pool, slots, a step's plan, a grammar's mask, and an accepted draft."""

import copy
import math
import random
from typing import NamedTuple

import regex
import torch
from coursekit.checks import Mistake, check, close, must_raise
from hybridlab.llm.automaton import Automaton, Bytes, Choice, Repeat, Sequence, byte_range, text
from hybridlab.llm.request import OutOfBlocks, StepPlan
from hybridlab.transformer.config import TransformerConfig


class Suspect(NamedTuple):
    """A known mistake, as the value that it would have given."""

    code: str
    what: str
    value: object
    hint: str


def diagnose(got, expected, suspects, evidence):
    """Raise the first suspect that explains `got`, unless `got` is right."""
    for suspect in suspects:
        if got != expected and got == suspect.value:
            raise Mistake(suspect.code, suspect.what, evidence, suspect.hint)


# ------------------------------------------------------------------ bytes


def counted_bytes(config, lengths, block_size, dtype):
    """Tensors that are really made, for each sequence, layer, and block."""
    total = 0
    for length in lengths:
        tokens = 0
        while tokens < length:
            tokens += block_size
        for _ in range(config.n_layers):
            for _ in ("keys", "values"):
                total += torch.empty(config.n_kv_heads, tokens, config.d_head, dtype=dtype).nbytes
    return total


@check(
    "hybridlab.llm.kv_memory.kv_cache_bytes",
    visible=[
        {"shape": (36, 5, 6, 2), "lengths": [5, 2], "block_size": 4, "dtype": "bfloat16"},
        {"shape": (64, 3, 8, 2), "lengths": [7], "block_size": 1, "dtype": None},
        {"shape": (16, 1, 2, 2), "lengths": [3, 8], "block_size": 8, "dtype": "float32", "edges": True},
    ],
    hidden=[
        {"shape": (48, 5, 6, 3), "lengths": [16, 17, 15, 1], "block_size": 16, "dtype": "float16"},
        {"shape": (96, 2, 12, 1), "lengths": [33, 2, 0], "block_size": 5, "dtype": "float64"},
        {"shape": (32, 7, 4, 4), "lengths": [1, 1, 1, 1], "block_size": 3, "dtype": "bfloat16", "edges": True},
    ],
    hints=(
        "Begin with one token in one layer: which tensors are kept of it, how many heads do they have, and how many numbers has a head?",
        "A token takes 2 · n_layers · n_kv_heads · d_head · dtype.itemsize bytes. How many tokens does a sequence of 5 count for, in blocks of 4?",
        "Round each length up by itself: -(-length // block_size) * block_size; add these up, and multiply by the bytes of a token.",
    ),
)
def check_bytes(kv_cache_bytes, shape, lengths, block_size, dtype, edges=False):
    """Keys and values of every layer and key/value head, in the cache's dtype, each sequence in blocks of its own."""
    d_model, n_layers, n_heads, n_kv_heads = shape
    config = TransformerConfig.llama(7, d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads)
    settings = {"block_size": block_size} | ({} if dtype is None else {"dtype": getattr(torch, dtype)})
    kind = getattr(torch, dtype or "float32")
    got = kv_cache_bytes(config, list(lengths), **settings)
    if not isinstance(got, int) or isinstance(got, bool):
        raise Mistake("KVBYTES-07", "a whole number of bytes is expected", f"got a {type(got).__name__}", "// and * keep whole numbers whole")
    expected = counted_bytes(config, lengths, block_size, kind)
    token = counted_bytes(config, [1], 1, kind)
    together = -(-sum(lengths) // block_size) * block_size * token
    evidence = f"d_model {d_model}, {n_layers} layers, {n_heads} heads, {n_kv_heads} KV heads; lengths {lengths} in blocks of {block_size}, {kind}: got {got:,}, expected {expected:,}"
    diagnose(got, expected, [
        Suspect("KVBYTES-01", "keys or values are missing", expected // 2, "a token has a key *and* a value: twice as much"),
        Suspect("KVBYTES-02", "query heads are counted, not key/value heads", expected * n_heads // n_kv_heads, "several query heads share one key/value head: config.n_kv_heads"),
        Suspect("KVBYTES-03", "one layer is counted", expected // n_layers, "every layer has keys and values of its own"),
        Suspect("KVBYTES-04", "the sum is rounded up to blocks, not each sequence", together, "two sequences never share a half-filled block: round each length"),
        Suspect("KVBYTES-05", "lengths are rounded down", sum(n // block_size for n in lengths) * block_size * token, "five tokens need two blocks of four"),
        Suspect("KVBYTES-05", "lengths are not rounded to whole blocks", sum(lengths) * token, "five tokens need two blocks of four, eight tokens' worth"),
        Suspect("KVBYTES-05", "a full block is followed by an empty one", sum(n // block_size + 1 for n in lengths) * block_size * token, "a length of exactly one block needs one block"),
        Suspect("KVBYTES-06", "every number counts four bytes, whatever the dtype", expected * 4 // kind.itemsize, "dtype.itemsize is the size of a number: 2 for bfloat16"),
        Suspect("KVBYTES-10", "bits are counted, not bytes", expected * 8, "a byte is 8 bits; dtype.itemsize is in bytes"),
    ], evidence)
    if got != expected:
        raise Mistake("KVBYTES-09", "the number of bytes is wrong", evidence, "compare with the worked example")
    if edges:
        close(kv_cache_bytes(config, []), 0, "KVBYTES-09", "no sequences take no bytes", "the sum of nothing is 0")
        close(kv_cache_bytes(config, [9]), counted_bytes(config, [9], 1, torch.float32), "KVBYTES-09", "block_size is 1 and dtype float32 if they are not given", "look at the signature")
        for bad in ({"lengths": [4, -1]}, {"lengths": [4], "block_size": 0}, {"lengths": [], "block_size": -3}):
            must_raise(ValueError, lambda bad=bad: kv_cache_bytes(config, **bad), "KVBYTES-08", f"{bad} must raise ValueError", "look at block_size and at every length first")


# ------------------------------------------------------------------ the pool


def books(pool, n):
    return pool.n_free, [pool.users(block) for block in range(n)]


def unchanged(pool, n, before, code, what):
    if books(pool, n) != before:
        raise Mistake(code, f"{what} changed the pool", f"free and users were {before}, are {books(pool, n)}", "make sure that all of it can be done, and only then change anything")


@check(
    "hybridlab.llm.paged_cache.BlockPool",
    visible=[{"seed": 0, "n_blocks": 3, "steps": 60}, {"seed": 1, "n_blocks": 8, "steps": 60}],
    hidden=[{"seed": 11, "n_blocks": 1, "steps": 60}, {"seed": 12, "n_blocks": 13, "steps": 200}, {"seed": 13, "n_blocks": 5, "steps": 200}],
    hints=(
        "Keep two things: which blocks are free, and for every other block a number of users. Which of the three methods changes which?",
        "allocate: check n against the free ones first, then take. release: first look whether every block has enough users (a block may stand there twice), then change.",
        "self.free = list(range(n_blocks)); self.counts = {}. users is self.counts.get(block, 0). In release, Counter(blocks) says how often each occurs.",
    ),
)
def check_pool(BlockPool, seed, n_blocks, steps):
    """Over hundreds of calls: no block is given twice, shared ones stay until the last user goes, and a refusal changes nothing."""
    for n in (0, -2):
        must_raise(ValueError, lambda n=n: BlockPool(n), "POOL-07", f"a pool of {n} blocks must raise ValueError", "look at n_blocks in __init__")
    refusals(BlockPool(3))
    draw, pool, users = random.Random(seed), BlockPool(n_blocks), [0] * n_blocks
    other = BlockPool(n_blocks)
    for _ in range(steps):
        free = users.count(0)
        before = books(pool, n_blocks)
        if before != (free, users):
            raise Mistake("POOL-09", "n_free or users does not say how things stand", f"{n_blocks} blocks: n_free {before[0]}, expected {free}; users {before[1]}, expected {users}",
                          "a block is free exactly when it has no user")
        what, used = draw.choice(("allocate", "share", "release", "release")), [b for b in range(n_blocks) if users[b]]
        if what == "allocate":
            n = draw.randint(0, min(free + 1, 5))
            if n > free:
                error = must_raise(OutOfBlocks, lambda n=n: pool.allocate(n), "POOL-02", f"{n} blocks of {free} free ones must raise OutOfBlocks", "compare n with n_free")
                if not all(str(number) in str(error) for number in (n, free)):
                    raise Mistake("POOL-10", "the error does not name both numbers", f"it says {str(error)!r}; {n} were asked for, {free} are free", "put n and n_free into the text")
                unchanged(pool, n_blocks, before, "POOL-02", "an allocate that fails")
                continue
            got = pool.allocate(n)
            judge_blocks(got, n, users)
            for block in got:
                users[block] = 1
        elif used:
            chosen = draw.choices(used, k=draw.randint(1, 3)) if what == "share" else pick(draw, used, users)
            method = pool.share if what == "share" else pool.release
            given = list(chosen)
            method(given)
            if given != chosen:
                raise Mistake("POOL-11", f"{what} changes the list that it was given", f"{chosen} became {given}", "it is the caller's block table: leave it as it is")
            for block in chosen:
                users[block] += 1 if what == "share" else -1
    if books(other, n_blocks) != (n_blocks, [0] * n_blocks):
        raise Mistake("POOL-06", "two pools share their books", f"a fresh pool has {other.n_free} of {n_blocks} free", "make lists and dictionaries in __init__, on self")




def pick(draw, used, users):
    """Blocks to release, none more often than it has users."""
    pile = [block for block in used for _ in range(users[block])]
    return draw.sample(pile, draw.randint(1, min(3, len(pile))))


def judge_blocks(got, n, users):
    if not isinstance(got, list) or len(got) != n or not all(isinstance(block, int) for block in got):
        raise Mistake("POOL-06", "allocate must return a list of n block numbers", f"allocate({n}) gave {got!r}", "a list, also for one block or none")
    if len(set(got)) != n:
        raise Mistake("POOL-01", "a block is given twice at once", f"allocate({n}) gave {got}", "take each one off the free list")
    for block in got:
        if not 0 <= block < len(users):
            raise Mistake("POOL-06", "there is no such block", f"allocate gave {block} of {len(users)} blocks", "blocks are 0 … n_blocks - 1")
        if users[block]:
            raise Mistake("POOL-01", "a block is given away that is in use", f"block {block} has {users[block]} users", "a shared block becomes free when its *last* user releases it")


def refusals(pool):
    """A pool of three: what must raise, and leave everything as it was."""
    taken = pool.allocate(2)
    judge_blocks(taken, 2, [0, 0, 0])
    if pool.n_free != 1:
        raise Mistake("POOL-01", "blocks that were given away still count as free", f"2 of 3 blocks were allocated, n_free is {pool.n_free}", "take each one off the free list")
    first, second = taken
    pool.share([first])
    if pool.users(first) != 2:
        raise Mistake("POOL-03", "share does not count the user", f"after allocate and share, users({first}) is {pool.users(first)}, expected 2", "one user more for each block")
    pool.release([first])
    if pool.n_free != 1:
        raise Mistake("POOL-03", "a block with another user was freed", f"2 of 3 blocks are in use, n_free is {pool.n_free}", "count its users down; it is free when none is left")
    (third,) = ({0, 1, 2} - {first, second})
    before = books(pool, 3)
    for what, call, code, hint in (
        (f"release([{third}]) of a free block", lambda: pool.release([third]), "POOL-04", "a block that is released twice would be given to two sequences"),
        ("release of a block of another pool", lambda: pool.release([7]), "POOL-04", "block 7 is not of this pool: users(7) is 0, so ValueError"),
        ("release([-1])", lambda: pool.release([-1]), "POOL-04", "a list takes -1 for its last entry: ask users(block), which is 0 here"),
        ("releasing one user twice in one call", lambda: pool.release([first, first]), "POOL-05", "count how often each block occurs in the list: Counter(blocks)"),
        ("releasing a used and a free block", lambda: pool.release([second, third]), "POOL-08", "look at all blocks before you change the first"),
        ("share of a free block", lambda: pool.share([third]), "POOL-04", "a block without a user has nothing to share"),
        ("sharing a used and a free block", lambda: pool.share([second, third]), "POOL-08", "look at all blocks before you change the first"),
        ("allocate(-1)", lambda: pool.allocate(-1), "POOL-07", "n is 0 or more"),
    ):
        must_raise(ValueError, call, code, f"{what} must raise ValueError", hint)
        unchanged(pool, 3, before, "POOL-08", what)
    pool.share([second, second])
    if pool.users(second) != 3:
        raise Mistake("POOL-12", "a block that stands twice in share's list gains two users", f"users({second}) was 1, and behind share([{second}, {second}]) it is {pool.users(second)}, expected 3",
                      "go over the list entry by entry")
    pool.release([second, second, second])
    if pool.users(second) != 0:
        raise Mistake("POOL-09", "a block that stands three times in release's list loses three users", f"users({second}) was 3, is {pool.users(second)}, expected 0", "go over the list entry by entry")
    if pool.n_free != 2:
        raise Mistake("POOL-05", "a released block does not come back", f"1 of 3 blocks is in use, n_free is {pool.n_free}", "without users it is free again: put it back")
    pool.allocate(2)
    if any(pool.users(block) for block in (3, 7, -1)):
        raise Mistake("POOL-09", "users of a block that is not of this pool must be 0", f"of 3 blocks: users(3) is {pool.users(3)}, users(-1) is {pool.users(-1)}", "a list takes -1 for its last entry; dict.get(block, 0) does not")


# ------------------------------------------------------------------ slots


def slots_by_hand(tables, lengths, size, *, swapped=False, plain=False, blocks=False, left=False):
    """Position by position. The keyword arguments make the known mistakes."""
    longest = max(lengths)
    rows = []
    for table, length in zip(tables, lengths, strict=True):
        row = []
        for p in range(length):
            block, offset = (p % size, p // size) if swapped else (p // size, p % size)
            number = table[min(block, len(table) - 1)]
            row.append(p if plain else number + offset if blocks else number * size + offset)
        gap = [0] * (longest - length)
        rows.append(gap + row if left else row + gap)
    return torch.tensor(rows)


@check(
    "hybridlab.llm.paged_cache.cache_slots",
    visible=[
        {"tables": [[7, 2, 4]], "lengths": [5], "block_size": 2},
        {"tables": [[3, 9], [5, 1, 6], [8]], "lengths": [5, 9, 1], "block_size": 4, "edges": True},
        {"tables": [[0, 5, 8], [3, 2]], "lengths": [3, 8], "block_size": 4},
    ],
    hidden=[
        {"tables": [[4, 1, 8, 2], [0]], "lengths": [7, 3], "block_size": 3},
        {"tables": [[2, 5], [9, 3]], "lengths": [16, 17], "block_size": 16},
        {"tables": [[6, 3, 1], [5, 8, 2]], "lengths": [1, 3], "block_size": 1, "edges": True},
        {"tables": [[11, 4], [7, 12]], "lengths": [2, 6], "block_size": 5},
    ],
    hints=(
        "Take one sequence and write down for each position: which block of its table, and which place in the block?",
        "With places = torch.arange(length): torch.tensor(table)[places // block_size] * block_size + places % block_size.",
        "Make zeros (batch, longest) of int64, fill row by row up to its length; filled is torch.arange(longest) < torch.tensor(lengths)[:, None].",
    ),
)
def check_slots(cache_slots, tables, lengths, block_size, edges=False):
    """Every position is found in its own sequence's blocks, rows are filled up at their end, and a table that is too short is refused."""
    takes_what_suffices(cache_slots)
    given = copy.deepcopy((tables, lengths))
    got = cache_slots(tables, lengths, block_size)
    if (tables, lengths) != given:
        raise Mistake("SLOT-10", "the answer changes its input", f"{given} became {(tables, lengths)}", "the tables are the cache's own")
    if not isinstance(got, tuple) or len(got) != 2 or not all(isinstance(part, torch.Tensor) for part in got):
        raise Mistake("SLOT-06", "two tensors are expected: slots and filled", f"got a {type(got).__name__}", "return slots, filled")
    slots, filled = got
    shape = (len(lengths), max(lengths))
    if slots.dtype == torch.bool and filled.dtype != torch.bool:
        raise Mistake("SLOT-06", "slots and filled are exchanged", f"got {slots.dtype} and {filled.dtype}, expected torch.int64 and torch.bool", "return (slots, filled), in this order")
    for name, part, dtype in (("slots", slots, torch.int64), ("filled", filled, torch.bool)):
        if tuple(part.shape) != shape:
            raise Mistake("SLOT-06", f"the shape of {name} is wrong", f"got {tuple(part.shape)}, expected {shape}", "as many columns as the longest *sequence* has tokens")
        if part.dtype != dtype:
            raise Mistake("SLOT-06", f"the dtype of {name} is wrong", f"got {part.dtype}, expected {dtype}", "(slots, filled) are int64 and bool")
    expected, places = slots_by_hand(tables, lengths, block_size), torch.zeros(shape, dtype=torch.bool)
    for row, length in enumerate(lengths):
        places[row, :length] = True
    evidence = f"tables {tables}, lengths {lengths}, blocks of {block_size}: got {slots.tolist()}, expected {expected.tolist()}"
    diagnose(slots.tolist(), expected.tolist(), [
        Suspect("SLOT-05", "rows are filled up at their beginning", slots_by_hand(tables, lengths, block_size, left=True).tolist(), "position 0 stands in column 0 of every row"),
        Suspect("SLOT-01", "the table is not used", slots_by_hand(tables, lengths, block_size, plain=True).tolist(), "position 0 lies in the block table[0], wherever that is"),
        Suspect("SLOT-02", "block numbers are taken for slots", slots_by_hand(tables, lengths, block_size, blocks=True).tolist(), "block 7 begins at slot 7 · block_size"),
        Suspect("SLOT-03", "quotient and remainder are exchanged", slots_by_hand(tables, lengths, block_size, swapped=True).tolist(), "neighbours lie in the same block: p // block_size says which"),
    ], evidence)
    behind = slots.masked_select(~places)
    if behind.any() and torch.equal(slots.masked_fill(~places, 0), expected):
        raise Mistake("SLOT-08", "behind the end of a row there must be slot 0", f"got {behind.tolist()[:5]}", "these slots are read, and masked: they have to be there, and may be any; 0 is agreed")
    close(slots, expected, "SLOT-09", "the slots are wrong", evidence)
    if torch.equal(filled, slots != 0) and not torch.equal(filled, places):
        raise Mistake("SLOT-11", "slot 0 can hold a token", f"tables {tables}, lengths {lengths}: slots {slots.tolist()}, got filled {filled.tolist()}",
                      "block 0 is a block like any other: compare positions with lengths, not slots with 0")
    if torch.equal(filled, ~places) or (filled.all() and not places.all()):
        raise Mistake("SLOT-04", "filled does not say where tokens lie", f"got {filled.tolist()}", "True for the positions below the row's own length, False behind them")
    close(filled, places, "SLOT-09", "filled is wrong", "row i is torch.arange(longest) < lengths[i]")
    if edges:
        for bad in (([[1]], [block_size + 1]), ([[1, 2], [3]], [2, block_size + 1]), ([[]], [1])):
            must_raise(ValueError, lambda bad=bad: cache_slots(*bad, block_size), "SLOT-07", f"tables {bad[0]} for lengths {bad[1]} in blocks of {block_size} must raise ValueError",
                       "a table has room for len(table) * block_size tokens")
        for bad in ([0], [1, 0], [-1]):
            must_raise(ValueError, lambda bad=bad: cache_slots([[1]] * len(bad), bad, block_size), "SLOT-07", f"lengths {bad} must raise ValueError", "a sequence in the cache has at least one token")
        for more, fewer in (([[1], [2]], [1]), ([[1]], [1, 1])):
            must_raise(ValueError, lambda more=more, fewer=fewer: cache_slots(more, fewer, block_size), "SLOT-07", f"{len(more)} tables for {len(fewer)} lengths must raise ValueError", "zip(..., strict=True)")


def takes_what_suffices(cache_slots):
    """A table with a place left; then one that is exactly full, and one with a block to spare."""
    cache_slots([[7, 2]], [3], 2)
    for table, length, hint in (
        ([7, 2], 4, "4 tokens in 2 blocks of 2: exactly full is full, not too short"),
        ([7, 2, 4], 3, "a table may have more blocks than it needs yet: too few is what must raise"),
    ):
        try:
            cache_slots([table], [length], 2)
        except ValueError as error:
            raise Mistake("SLOT-12", "a table that suffices is refused", f"table {table}, length {length}, blocks of 2: ValueError: {error}", hint) from None


# ------------------------------------------------------------------ the plan


def plan_by_hand(
    running, waiting, n_free, size, most, *,
    first=False, overtake=False, exact=False, both=False, growth=True, crowd=False, floor=False, late=False, drop=False, alone=False, again=False, every=False, stale=False,
):  # fmt: skip
    """Sequence by sequence. The keyword arguments make the known mistakes."""
    running, blocks = list(running), {}
    for number, tokens in enumerate(running):
        blocks[number] = math.floor(tokens / size) if floor else math.ceil(tokens / size)
    names, back = list(range(len(running))), 0

    def needs(whose):
        return sum(every or (running[n] + late) % size == 0 for n in whose)

    while names and needs(range(len(running)) if stale else names) > n_free:
        gone = names.pop(0 if first else -1)
        n_free += 0 if drop else blocks[gone]
        back += 1
    if back and not both:
        return StepPlan(0, back)
    if growth:
        n_free -= needs(names)
    admit = 0
    for prompt in waiting:
        if (0 if alone else len(names)) + admit >= most and not crowd:
            break
        asked = math.ceil((prompt + (not exact)) / size)
        if asked > n_free:
            if overtake:
                continue
            break
        n_free -= 0 if again else asked
        admit += 1
    return StepPlan(admit, back)


@check(
    "hybridlab.llm.scheduler.plan_step",
    visible=[{"seed": 0, "cases": 40}],
    hidden=[{"seed": 11, "cases": 150}, {"seed": 12, "cases": 150}],
    hints=(
        "Two questions, one after the other. Do the running ones get along with the free blocks? Only then: who of the queue fits into what they leave?",
        "A running sequence needs a block if tokens % block_size == 0. Take the last away as long as too many need one; each gives back ceil(tokens / block_size).",
        "After preempting, return at once. Else take off what the running ones need, and go through waiting: prompt // block_size + 1 blocks each; stop at the first that does not fit, or at max_batch.",
    ),
)
def check_plan(plan_step, seed, cases):
    """The running ones come first, the last to come goes back first, nobody overtakes, and no step promises a block twice."""
    draw, seen = random.Random(seed), []
    fixed = [
        ([8, 5], [7, 2], 3, 4, 8), ([8, 5], [8, 2], 3, 4, 8), ([8, 5, 4], [1], 0, 4, 8), ([], [3, 3, 3], 9, 4, 2), ([1, 2], [1], 9, 4, 2),
        ([4, 4, 4, 4], [], 1, 4, 8), ([], [], 5, 16, 4), ([7], [], 0, 8, 1), ([16, 3, 9, 16], [2], 0, 16, 9), ([8, 8, 7], [1], 1, 8, 3), ([3, 2, 1], [1, 1], 5, 4, 2),
        ([8, 16, 6, 24], [1], 2, 8, 9), ([6, 5, 12], [1], 0, 4, 3), ([4], [3, 20, 3], 4, 4, 9), ([6, 8, 24], [], 0, 8, 4), ([8, 8, 5], [], 0, 8, 4), ([16, 24, 20, 16], [], 1, 8, 4),
    ]
    for number in range(cases + len(fixed)):
        if number < len(fixed):
            running, waiting, n_free, size, most = fixed[number]
        else:
            size, most = draw.choice((1, 2, 4, 8)), draw.randint(1, 8)
            running = [draw.randint(1, 20) if draw.random() < 0.5 else size * draw.randint(1, 4) for _ in range(draw.randint(0, most))]
            waiting = [draw.randint(1, 20) if draw.random() < 0.6 else size * draw.randint(1, 3) for _ in range(draw.randint(0, 6))]
            needed = sum(tokens % size == 0 for tokens in running)
            n_free = max(0, needed + draw.randint(-2, 6))
            if running and needed > n_free and len(running) == 1:
                n_free = 1
        seen.append(((running, waiting, n_free, size, most), asked_plan(plan_step, running, waiting, n_free, size, most)))
    wrong = [(arguments, got) for arguments, got in seen if got != tuple(plan_by_hand(*arguments))]
    if not wrong:
        return
    arguments, got = min(wrong, key=lambda pair: len(pair[0][0]) + len(pair[0][1]))
    expected = plan_by_hand(*arguments)
    evidence = f"{described(*arguments)}: got admit {got[0]}, preempt {got[1]}, expected {expected.admit} and {expected.preempt}"
    for code, what, change, hint in PLAN_SUSPECTS:
        if all(got == tuple(plan_by_hand(*arguments, **change)) for arguments, got in seen):
            raise Mistake(code, what, evidence, hint)
    raise Mistake("PLAN-09", "the plan is wrong", evidence, "do this case by hand, block by block")


PLAN_SUSPECTS = (
    ("PLAN-06", "somebody was sent back, and others were let in", {"both": True}, "there were too few blocks: let nobody in this time"),
    ("PLAN-05", "more sequences than max_batch", {"crowd": True}, "count the running ones and those let in"),
    ("PLAN-01", "the running ones' blocks are given to newcomers", {"growth": False}, "take off what the running ones need in this step first"),
    ("PLAN-04", "a newcomer gets room for its prompt alone", {"exact": True}, "its first new token needs a place, too: prompt // block_size + 1 blocks"),
    ("PLAN-02", "a later request overtakes one that does not fit", {"overtake": True}, "stop at the first that does not fit: else a long prompt waits for ever"),
    ("PLAN-07", "a block is asked for one token too early", {"late": True}, "with 8 tokens in blocks of 4 both are full, with 7 there is a place: tokens % block_size == 0"),
    ("PLAN-08", "the half-filled block of the one that goes back is forgotten", {"floor": True}, "it gives back ceil(tokens / block_size) blocks"),
    ("PLAN-08", "the one that goes back gives back no blocks", {"drop": True}, "its blocks are free for the others: ceil(tokens / block_size)"),
    ("PLAN-12", "max_batch counts the newcomers alone", {"alone": True}, "those that run take places, too: len(running) and those let in"),
    ("PLAN-13", "what one newcomer takes is offered to the next again", {"again": True}, "take each one's blocks off before you look at the next"),
    ("PLAN-14", "every running sequence is counted as needing a block", {"every": True}, "most have a place left in their last block: only tokens % block_size == 0 needs one"),
    ("PLAN-15", "the need of the one that went back is still counted", {"stale": True}, "it needs no block any more: count the need of those that stay anew"),
    ("PLAN-03", "the longest-running goes back, not the last", {"first": True}, "the last to come has the least to lose"),
)


def described(running, waiting, n_free, size, most):
    return f"running {running}, waiting {waiting}, {n_free} free blocks of {size}, max_batch {most}"


def asked_plan(plan_step, running, waiting, n_free, size, most):
    """What the answer says, as two numbers; and that it only says so."""
    given = (list(running), list(waiting))
    got = plan_step(given[0], given[1], n_free=n_free, block_size=size, max_batch=most)
    if given != (list(running), list(waiting)):
        raise Mistake("PLAN-10", "the answer changes its input", f"{described(running, waiting, n_free, size, most)}: afterwards {given}", "only say how many; the engine moves them")
    if not isinstance(got, StepPlan) or not all(isinstance(number, int) for number in got):
        raise Mistake("PLAN-11", "a StepPlan of two whole numbers is expected", f"{described(running, waiting, n_free, size, most)}: got {got!r}", "return StepPlan(admit, preempt)")
    return tuple(got)


# ------------------------------------------------------------------ the mask

ANYTHING = byte_range(0x61, 0x7A)
GRAMMARS = {
    "true": (text("true"), r"true"),
    "true or [1]": (Choice((text("true"), text("[1]"))), r"true|\[1\]"),
    "numbers": (Sequence((Repeat(text("-"), 0, 1), Choice((text("0"), Sequence((byte_range(0x31, 0x39), Repeat(byte_range(0x30, 0x39)))))))), r"-?(?:0|[1-9][0-9]*)"),
    "a word in quotes": (Sequence((text('"'), Repeat(ANYTHING, 1, 5), text('"'))), r'"[a-z]{1,5}"'),
    "a list": (Sequence((text("["), Repeat(Sequence((ANYTHING, Repeat(text(", "), 0, 1)))), text("]"))), r"\[(?:[a-z](?:, )?)*\]"),
    "nothing or é": (Repeat(text("é"), 0, 1), r"(?:\xc3\xa9)?"),
    "any bytes": (Repeat(Bytes(frozenset(range(256))), 0, 3), r"[\x00-\xff]{0,3}"),
}


def mask_by_regex(pattern, prefix, pieces, end_token):
    """Which tokens the module `regex` takes: could prefix + piece still become a whole text?"""
    known = regex.compile(pattern.encode("latin-1"), regex.DOTALL)
    allowed = [len(piece) > 0 and known.fullmatch(prefix + piece, partial=True) is not None for piece in pieces]
    allowed[end_token] = known.fullmatch(prefix) is not None
    return allowed


@check(
    "hybridlab.llm.constrained.token_mask",
    visible=[
        {"grammar": "true or [1]", "prefix": b"", "end": 3},
        {"grammar": "numbers", "prefix": b"-1", "end": 0},
        {"grammar": "a word in quotes", "prefix": b'"ab', "end": 11},
        {"grammar": "true", "prefix": b"", "end": 0, "pieces": [b"t", b"true", b"x"], "edges": True},
    ],
    hidden=[
        {"grammar": "a list", "prefix": b"[a, ", "end": 5},
        {"grammar": "nothing or é", "prefix": b"\xc3", "end": 2},
        {"grammar": "nothing or é", "prefix": b"", "end": 7},
        {"grammar": "any bytes", "prefix": b"x", "end": 1},
        {"grammar": "numbers", "prefix": b"", "end": 12},
        {"grammar": "true or [1]", "prefix": b"true", "end": 6},
        {"grammar": "a word in quotes", "prefix": b'"abcd', "end": 4, "edges": True},
        {"grammar": "a list", "prefix": b"[a", "end": 3, "pieces": [b"]", b", ", b"x]", b"y]", b"", b"]y"]},
    ],
    hints=(
        "For one token: begin at `state`, ask step for one byte after the other, and stop where it says None. For the next token: where do you begin?",
        "A piece is allowed if the walk reached its end and the piece is not empty. The end token has a rule of its own: set it last.",
        "now = state; for byte in piece: now = automaton.step(now, byte); if now is None: break. Allowed if now is not None and len(piece) > 0.",
    ),
)
def check_mask(token_mask, grammar, prefix, end, pieces=None, edges=False):
    """Exactly the tokens that can still become a text of the grammar, and the end where the text may end."""
    pattern, expression = GRAMMARS[grammar]
    automaton = Automaton(pattern)
    state = automaton.start
    for byte in prefix:
        state = automaton.step(state, byte)
    if pieces is None:
        pieces = list(PIECES)
        pieces[end] = b"1]" if end % 2 else b"<end>"
    before = list(pieces)
    try:
        got = token_mask(automaton, state, pieces, end)
    except TypeError:
        asked_none(token_mask)
        raise
    if not isinstance(got, torch.Tensor) or got.dtype != torch.bool or got.shape != (len(pieces),):
        shown = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
        raise Mistake("GRAM-08", "one Bool for each token is expected", f"got {shown}, expected ({len(pieces)},) torch.bool", "torch.zeros(len(pieces), dtype=torch.bool)")
    if pieces != before:
        raise Mistake("GRAM-10", "the answer changes its input", "pieces are other than before", "read them only")
    expected, got = mask_by_regex(expression, prefix, pieces, end), got.tolist()
    asked = f"grammar {grammar!r} behind {prefix!r}"
    wrong = [token for token in range(len(pieces)) if got[token] != expected[token]]
    shown = ", ".join(repr(pieces[token]) for token in wrong[:4])
    if wrong == [end]:
        raise Mistake("GRAM-03", "the end token does not follow accepts(state)", f"{asked}: the text may {'' if expected[end] else 'not '}end here, and the end token {pieces[end]!r} is {'' if got[end] else 'not '}allowed",
                      "allowed[end_token] = automaton.accepts(state), set after all others, whatever its bytes allow")
    for code, what, mask, hint in (
        *(("GRAM-13", "the mask is the wrong way round", [not token_ok and len(piece) >= least for token_ok, piece in zip(expected, pieces, strict=True)], "True = allowed") for least in (0, 1)),
        ("GRAM-12", "the walk begins at automaton.start, not at `state`", walk(automaton, automaton.start, pieces), "something was written already: `state` is where the text stands now"),
        ("GRAM-01", "only the first byte of a token is looked at", [len(piece) > 0 and automaton.step(state, piece[0]) is not None for piece in pieces],
         "all bytes have to be read, each from the state behind the one before"),
        ("GRAM-05", "a token is refused because the text could not end behind it", walk(automaton, state, pieces, whole=True), "the text goes on: it must be possible to *continue*"),
        *((*CARRIED[:2], walk(automaton, state, pieces, carry=way), CARRIED[2]) for way in ("until None", "for ever", "as far as it came")),
    ):
        suspect = list(mask)
        suspect[end] = got[end]
        if wrong and got == suspect:
            raise Mistake(code, what, f"{asked}: {shown}", hint)
    if any(got[token] and not pieces[token] for token in wrong):
        raise Mistake("GRAM-02", "a token without bytes is allowed", asked, "it would be chosen for ever, and nothing would be written")
    if wrong:
        raise Mistake("GRAM-09", "the mask is wrong", f"{asked}: {len(wrong)} of {len(pieces)} tokens, among them {shown}", "walk one of these by hand")
    if edges:
        for bad in (-1, len(pieces), len(pieces) + 3):
            must_raise(ValueError, lambda bad=bad: token_mask(automaton, state, pieces, bad), "GRAM-07", f"end_token {bad} of {len(pieces)} tokens must raise ValueError", "0 … len(pieces) - 1")


PIECES = (b"1", b"", b"true", b"<end>", b"t", b"tr", b"[", b"[1]", b"[1", b"]", b"-", b"-1", b"", b"0", b"01", b"12x", b'"', b'a"', b"ab", b'ab"', b"abc", b", ", b"a, b", b"a, b]",
          b"\xc3", b"\xa9", b"\xc3\xa9", b"rue", b"truex", b"1]", b"x")
CARRIED = "GRAM-06", "the second token begins where the first ended", "begin each token at `state`, which stays as it is"


def asked_none(token_mask):
    """Behind a TypeError: was the automaton asked what follows None, from one token to the next, or within one?"""
    automaton = Automaton(text("true"))
    for pieces, code, what, hint in (
        ([b"t", b"r", b""], "", "", ""),  # asks nobody: a TypeError here is about something else
        ([b"x", b"t", b"r", b""], *CARRIED),
        ([b"xt", b""], "GRAM-11", "the walk goes on behind None", "None is no state: stop at the first byte that can't be read"),
    ):
        try:
            token_mask(automaton, automaton.start, pieces, len(pieces) - 1)
        except TypeError as error:
            if not code:
                return
            raise Mistake(code, what, f"grammar 'true', tokens {', '.join(map(repr, pieces[:-1]))}: {error}", hint) from None


def walk(automaton, state, pieces, *, carry="", whole=False):
    """Token by token. The keyword arguments make the known mistakes."""
    allowed, now = [], state
    for piece in pieces:
        if not carry or (carry == "until None" and now is None):
            now = state
        last, read = now, now is not None
        for byte in piece if read else b"":
            after = automaton.step(now, byte)
            if after is None:
                read = False
                break
            now = last = after
        if not read:
            now = last if carry == "as far as it came" else None
        allowed.append(read and len(piece) > 0 and (not whole or automaton.accepts(now)))
    return allowed


# ------------------------------------------------------------------ the draft


def rows(*probabilities):
    return torch.tensor(probabilities)


def one_hot(tokens, vocab=5):
    return torch.nn.functional.one_hot(torch.tensor(tokens), vocab).float()


NO_Q_BEHIND = "DRAFT-15", "there is no q behind the draft", "all are kept: the token that follows is drawn from target_probs[-1] as it is"


def rest(p, q):
    """max(0, p - q), made to add up to 1."""
    left = (p - q).clamp(min=0)
    return left / left.sum()


def shares_of(counts):
    return [round(share, 2) for share in (counts / counts.sum()).tolist()]


def greedy_cases(accept_draft):
    """Picked, not drawn: what is kept is what the target says, up to the first difference and one token behind it."""
    for drafted, target in (([1, 2, 3], [1, 2, 3, 4]), ([1, 2, 3], [1, 0, 3, 4]), ([1, 2, 3], [4, 2, 3, 0]), ([2], [2, 2]), ([], [3]), ([4, 4], [4, 1, 1]), ([0, 0], [0, 3, 4])):
        same = next((i for i, (a, b) in enumerate(zip(drafted, target, strict=False)) if a != b), len(drafted))
        expected = target[: same + 1]
        draft_probs = one_hot(drafted) if drafted else torch.zeros(0, 5)
        try:
            got = accept_draft(torch.tensor(drafted, dtype=torch.int64), draft_probs, one_hot(target), torch.Generator().manual_seed(0))
        except (IndexError, RuntimeError) as error:
            # draft_probs has as many rows as the draft has tokens, and p - q is 0 everywhere where both say the same word
            if same == len(drafted) and (f"size {len(drafted)}" in str(error) or "sum of probabilities" in str(error)):
                raise Mistake(*NO_Q_BEHIND[:2], f"draft {drafted}, the target says {target}: {error}", NO_Q_BEHIND[2]) from None
            raise
        if not isinstance(got, torch.Tensor) or got.dtype != torch.int64 or got.ndim != 1:
            shown = f"{tuple(got.shape)} {got.dtype}" if isinstance(got, torch.Tensor) else type(got).__name__
            raise Mistake("DRAFT-10", "a row of int64 tokens is expected", f"got {shown}", "torch.cat of the kept tokens and one more, which multinomial gives as int64")
        got, evidence = got.tolist(), f"draft {drafted}, the target says {target}: got {got.tolist()}, expected {expected}"
        if got == drafted and len(drafted) == same:
            raise Mistake("DRAFT-02", "a draft that is kept whole brings no token besides", evidence, "target_probs has a row for the place behind the draft: draw from it")
        if len(got) > len(expected):
            raise Mistake("DRAFT-03", "something is kept behind a token that was not", evidence, "what follows a wrong word was guessed for another text: end there")
        if got == drafted[:same] and got != expected:
            raise Mistake("DRAFT-02", "the token in place of the first that is not kept is missing", evidence, "every call gives one token that the draft did not")
        if got == expected:
            continue
        if got[:-1] == expected[:-1] and same < len(drafted) and got[-1] == drafted[same]:
            raise Mistake("DRAFT-12", "the token in place of one that is not kept comes from the draft", evidence, "max(0, p - q): the draft has had its say")
        if got[:-1] == expected[:-1]:
            raise Mistake("DRAFT-13", "the last token comes from the row of another place", evidence, "target_probs[i] belongs to drafted[i], and its last row to the place behind the draft")
        raise Mistake("DRAFT-05", "with greedy decoding the result is not the target's own", evidence, "keep a token with probability min(1, p / q): 1 where both agree, 0 where p is 0")


def chance(n):
    """By chance a share of n cases moves by sqrt(share · (1 - share) / n); five times that is never seen."""
    return 5 * (0.25 / max(1, n)) ** 0.5


def judge_shares(place, counts, target, draft):
    """Whether the tokens at this place are distributed as the target says; and if not, which mistake would have given these."""
    p, slack = target[place], chance(int(counts.sum()))
    seen = counts / counts.sum().clamp(min=1)
    if (seen - p).abs().max() <= slack:
        return
    evidence = f"place {place}: p is {p.double().round(decimals=2).tolist()}; the shares of {int(counts.sum())} tokens are {shares_of(counts)}"
    if place == len(draft):
        suspects = [(*NO_Q_BEHIND[:2], rest(p, q), NO_Q_BEHIND[2]) for q in draft]
    else:
        q = draft[place]
        keep = torch.minimum(p, q)
        lost = 1 - keep.sum()
        suspects = [("DRAFT-14", "q of another place is subtracted", keep + lost * rest(p, other), "the draft ended at one row: p and q both come from that one")
                    for row, other in enumerate(draft) if row != place]  # fmt: skip
    if place == 0:
        inverse = q * torch.where(p > 0, q / p, torch.ones(5)).clamp(max=1)
        likely = torch.nn.functional.one_hot((p - q).argmax(), 5)
        suspects += [
            # Friday's cell: the finding is left to whoever looks for it
            ("DRAFT-01", "the first token does not have the target's distribution", keep + lost * p, "follow the cases that are not kept, and add up where they go"),
            ("DRAFT-05", "every token of the draft is kept", q, "keep x with probability min(1, p(x) / q(x))"),
            ("DRAFT-04", "a token is kept with probability q / p in place of p / q", inverse + (1 - inverse.sum()) * rest(p, q), "the more the draft exaggerates, the less is kept"),
            ("DRAFT-06", "the token in place of one that is not kept is picked, not drawn", keep + lost * likely, "torch.multinomial, not argmax"),
            ("DRAFT-12", "the token in place of one that is not kept is drawn from q", keep + lost * q, "max(0, p - q): the draft has had its say"),
        ]
    code, what, distribution, hint = min(suspects, key=lambda suspect: (seen - suspect[2]).abs().max())
    if (seen - distribution).abs().max() < slack:
        raise Mistake(code, what, evidence, hint)
    raise Mistake("DRAFT-09", f"token {place} does not have the target's distribution at its place", evidence, "place i of the draft goes with row i of both; work the example of two words through")


@check(
    "hybridlab.llm.speculative.accept_draft",
    visible=[{"seed": 0, "p": [0.5, 0.3, 0.1, 0.05, 0.05], "q": [0.3, 0.02, 0.08, 0.2, 0.4], "n": 1200}],
    hidden=[
        {"seed": 11, "p": [0.1, 0.6, 0.1, 0.1, 0.1], "q": [0.5, 0.1, 0.2, 0.1, 0.1], "n": 1200},
        {"seed": 12, "p": [0.3, 0.0, 0.3, 0.4, 0.0], "q": [0.25, 0.25, 0.25, 0.0, 0.25], "n": 1200, "edges": True},
    ],
    hints=(
        "Count cases by hand, for two words: how often is word 0 drafted and kept, how often word 1, and what happens to all other cases? What has to come out of *those*, so that the sum is p?",
        "Where the draft says a word too often, some of these are not kept. Only words that the draft says too seldom may take their place.",
        "The place of the first token that is not kept gets a token from (p - q).clamp(min=0); torch.multinomial takes weights that do not add up to 1.",
    ),
)
def check_accept(accept_draft, seed, p, q, n, edges=False):
    """Greedy text is the target's own, drawn text has the target's distribution at every place, and each call gives one token more."""
    greedy_cases(accept_draft)
    generator, draw = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(seed + 100)
    # every row says something else, so that no row can stand for another
    target, draft = rows(p, [0.1, 0.2, 0.3, 0.2, 0.2], [0.05, 0.05, 0.1, 0.2, 0.6]), rows(q, [0.05, 0.5, 0.05, 0.3, 0.1])
    counts, kept = torch.zeros(3, 5), 0
    state = torch.get_rng_state()
    for drafted in torch.multinomial(draft, n, replacement=True, generator=draw).T:
        given = tuple(part.clone() for part in (drafted, draft, target))
        got = accept_draft(*given, generator)
        for name, part, before in zip(("drafted", "draft_probs", "target_probs"), given, (drafted, draft, target), strict=True):
            if not torch.equal(part, before):
                raise Mistake("DRAFT-11", f"the answer changes its input {name}", f"{before.double().round(decimals=2).tolist()} became {part.double().round(decimals=2).tolist()}",
                              "no methods that end in _, no assignment into a row: make a new tensor")
        kept += len(got) > 1
        for place, token in enumerate(got.tolist()):
            counts[place, token] += 1
    if not torch.equal(state, torch.get_rng_state()):
        raise Mistake("DRAFT-08", "torch's own random state was used", "a generator was given", "hand it to torch.rand and torch.multinomial")
    for place in range(3):
        judge_shares(place, counts[place], target, draft)
    share = torch.minimum(target[0], draft[0]).sum().item()
    close(kept / n, share, "DRAFT-09", "the first token is not kept as often as it should be", "keep x with probability min(1, p(x) / q(x))", rtol=0, atol=chance(n))
    once, again = (accept_draft(torch.tensor([4, 3]), draft, target, torch.Generator().manual_seed(3)).tolist() for _ in range(2))
    if once != again:
        raise Mistake("DRAFT-08", "the same generator state gives other tokens", f"{once} and {again}", "all randomness comes from `generator`")
    if edges:
        accept_draft(torch.tensor([1]), draft[:1], target[:2])  # generator may be left out
        for bad, why in (((torch.tensor([1, 2]), draft, target[:2]), "2 tokens and 2 rows of target_probs"), ((torch.tensor([1]), draft[:1], target), "1 token and 3 rows of target_probs"),
                         ((torch.tensor([1, 2]), draft[:, :4], target), "vocabularies of 4 and 5")):
            must_raise(ValueError, lambda bad=bad: accept_draft(*bad), "DRAFT-07", f"{why} must raise ValueError", "compare shapes first")
