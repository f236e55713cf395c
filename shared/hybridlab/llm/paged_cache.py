"""A KV cache in blocks: many sequences of any length in one pool, and no sequence lies in one piece.

Glossary (PagedAttention, arXiv 2309.06180, section 4): a *block* is room for the keys and values of `block_size` tokens, a
*block table* lists the blocks of a sequence in order, and a *slot* is the place of one token: slot = block · block_size + offset.
"""

from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hybridlab.exercise import exercise
from hybridlab.llm.request import OutOfBlocks
from hybridlab.transformer.config import TransformerConfig


@exercise
class BlockPool:
    """Which of the blocks 0 … n_blocks - 1 are free, and how many sequences use each of the others.

    - `n_free` (an attribute or a property): how many blocks nobody uses.
    - `users(block)`: the number of its users; 0 for a block that is free, or not of this pool.
    - `allocate(n)`: take n free blocks, each with one user; returns their numbers as a list.
    - `share(blocks)`: one user more for each block of the list. A block that occurs twice gains two users.
    - `release(blocks)`: one user less for each block of the list; a block without a user is free again. A block that occurs
      twice loses two users.

    Each of the last three does all of it or, where it raises, nothing.

    Raises:
        OutOfBlocks: `allocate` asks for more blocks than are free; the text names both numbers.
        ValueError: n_blocks is less than 1, n is negative, `share` names a block without a user, or `release` takes more users
            from a block than it has.
    Source: PagedAttention, arXiv 2309.06180, sections 4.2 and 4.4 (reference counts).
    """

    def __init__(self, n_blocks: int) -> None:
        if n_blocks < 1:
            raise ValueError(f"n_blocks is {n_blocks}; a pool has at least one block")
        self.n_blocks = n_blocks
        self.free = list(range(n_blocks))
        self.counts: dict[int, int] = {}  # of the blocks that are in use

    @property
    def n_free(self) -> int:
        return len(self.free)

    def users(self, block: int) -> int:
        return self.counts.get(block, 0)

    def allocate(self, n: int) -> list[int]:
        if n < 0:
            raise ValueError(f"{n} blocks can't be allocated")
        if n > self.n_free:
            raise OutOfBlocks(f"{n} blocks are asked for, and {self.n_free} of {self.n_blocks} are free")
        taken = [self.free.pop() for _ in range(n)]
        for block in taken:
            self.counts[block] = 1
        return taken

    def share(self, blocks: list[int]) -> None:
        for block in blocks:
            if self.users(block) == 0:
                raise ValueError(f"block {block} has no user: it can't be shared")
        for block in blocks:
            self.counts[block] += 1

    def release(self, blocks: list[int]) -> None:
        for block, times in Counter(blocks).items():
            if self.users(block) < times:
                raise ValueError(f"block {block} has {self.users(block)} users and can't lose {times}")
        for block in blocks:
            self.counts[block] -= 1
            if self.counts[block] == 0:
                del self.counts[block]
                self.free.append(block)


@exercise
def cache_slots(
    tables: Sequence[Sequence[int]], lengths: Sequence[int], block_size: int
) -> tuple[Int[Tensor, "batch longest"], Bool[Tensor, "batch longest"]]:
    """Where the tokens of each sequence lie: the slot of every position, for sequences of different lengths.

    Position p of a sequence lies in the block `table[p // block_size]`, at the offset `p % block_size`, so its slot is

        table[p // block_size] * block_size + p % block_size

    A table may have more blocks than its length needs (they are filled later). Row i of the result holds the slots of the
    positions 0 … lengths[i] - 1; rows that are shorter than the longest are filled up with slot 0.

    Returns: the slots, int64, and a Bool tensor of the same shape: True where a token lies, False where a row was filled up.
    Raises: ValueError if a length is not positive, a table has too few blocks for its length, or there are not as many tables as
        lengths.
    Source: PagedAttention, arXiv 2309.06180, section 4.1.
    """
    if min(lengths) < 1:
        raise ValueError(f"the shortest length is {min(lengths)}; a sequence in the cache has at least one token")
    longest = max(lengths)
    slots = torch.zeros(len(lengths), longest, dtype=torch.int64)
    for row, (table, length) in enumerate(zip(tables, lengths, strict=True)):
        if len(table) * block_size < length:
            raise ValueError(f"{len(table)} blocks of {block_size} do not hold {length} tokens")
        places = torch.arange(length)
        slots[row, :length] = torch.tensor(table)[places // block_size] * block_size + places % block_size
    return slots, torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)


class PagedKVCache:
    """Keys and values of many sequences, in all layers of a model: one pool of blocks, one block table a sequence.

    `add()` begins a sequence and returns its number; `extend` makes room for new tokens; `write` and `read` move keys and
    values of one layer; `fork` makes a second sequence with the same tokens without copying them; `truncate` takes tokens
    back; `drop` ends a sequence. A block that two sequences share is copied when one of them writes into it.

    Raises: ValueError if there is not at least one block of at least one token.
    """

    def __init__(
        self,
        config: TransformerConfig,
        n_blocks: int,
        block_size: int = 16,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if block_size < 1:
            raise ValueError(f"block_size is {block_size}; a block holds at least one token")
        self.pool, self.block_size = BlockPool(n_blocks), block_size
        # (layer, slot, kv_heads, d_head)
        self.keys = torch.zeros(config.n_layers, n_blocks * block_size, config.n_kv_heads, config.d_head, dtype=dtype, device=device)
        self.values = torch.zeros_like(self.keys)
        self.tables: dict[int, list[int]] = {}
        self.lengths: dict[int, int] = {}
        self._next = 0

    @property
    def nbytes(self) -> int:
        """What the pool takes, full or empty."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def blocks_in_use(self) -> int:
        return self.keys.shape[1] // self.block_size - self.pool.n_free

    def add(self) -> int:
        """Begin a sequence without tokens; returns the number by which it is known."""
        sequence, self._next = self._next, self._next + 1
        self.tables[sequence], self.lengths[sequence] = [], 0
        return sequence

    def extend(self, sequences: Sequence[int], n_tokens: int) -> None:
        """Make room for `n_tokens` more tokens of each sequence: for all of them, or for none.

        Raises: OutOfBlocks where the free blocks do not suffice.
        """
        added, copied = [], []
        for sequence in sequences:
            table, length = self.tables[sequence], self.lengths[sequence]
            added.append(-(-(length + n_tokens) // self.block_size) - len(table))
            half_full = length % self.block_size and n_tokens
            copied.append(bool(half_full and self.pool.users(table[length // self.block_size]) > 1))
        fresh = self.pool.allocate(sum(added) + sum(copied))
        for sequence, n, copy in zip(sequences, added, copied, strict=True):
            if copy:
                self._own_last_block(sequence, fresh.pop())
            self.tables[sequence] += [fresh.pop() for _ in range(n)]
            self.lengths[sequence] += n_tokens

    def _own_last_block(self, sequence: int, fresh: int) -> None:
        """Copy on write: the last block is shared, and this sequence is about to write into it."""
        table, size = self.tables[sequence], self.block_size
        old, table[-1] = table[-1], fresh
        for store in (self.keys, self.values):
            store[:, fresh * size : (fresh + 1) * size] = store[:, old * size : (old + 1) * size]
        self.pool.release([old])

    def slots(self, sequences: Sequence[int]) -> tuple[Int[Tensor, "batch longest"], Bool[Tensor, "batch longest"]]:
        """The slots of all tokens of these sequences; see `cache_slots`."""
        slots, filled = cache_slots([self.tables[s] for s in sequences], [self.lengths[s] for s in sequences], self.block_size)
        return slots.to(self.keys.device), filled.to(self.keys.device)

    def write(
        self, layer: int, slots: Int[Tensor, "n"], k: Float[Tensor, "n kv_heads d_head"], v: Float[Tensor, "n kv_heads d_head"]
    ) -> None:
        """Put keys and values of one layer into their slots."""
        self.keys[layer].index_copy_(0, slots, k.to(self.keys.dtype))
        self.values[layer].index_copy_(0, slots, v.to(self.values.dtype))

    def read(
        self, layer: int, slots: Int[Tensor, "batch longest"]
    ) -> tuple[Float[Tensor, "batch kv_heads longest d_head"], Float[Tensor, "batch kv_heads longest d_head"]]:
        """Keys and values of one layer, gathered out of their blocks into rows."""
        stores, flat = (self.keys[layer], self.values[layer]), slots.flatten()
        k, v = (store.index_select(0, flat).unflatten(0, slots.shape).transpose(1, 2) for store in stores)
        return k, v

    def fork(self, sequence: int) -> int:
        """A new sequence with the same tokens in the same blocks; only what is written afterwards is its own."""
        twin = self.add()
        self.pool.share(self.tables[sequence])
        self.tables[twin], self.lengths[twin] = list(self.tables[sequence]), self.lengths[sequence]
        return twin

    def truncate(self, sequence: int, length: int) -> None:
        """Forget all tokens from position `length` on, and give back the blocks that are no longer needed.

        Raises: ValueError if the sequence is shorter than that, or length is negative.
        """
        if not 0 <= length <= self.lengths[sequence]:
            raise ValueError(f"the sequence has {self.lengths[sequence]} tokens and can't be cut to {length}")
        table, kept = self.tables[sequence], -(-length // self.block_size)
        self.pool.release(table[kept:])
        self.tables[sequence], self.lengths[sequence] = table[:kept], length

    def drop(self, sequence: int) -> None:
        """End a sequence and give back its blocks."""
        self.truncate(sequence, 0)
        del self.tables[sequence], self.lengths[sequence]
