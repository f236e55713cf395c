"""What people really write in week 8's cells: wrong, right in another style, and Friday's broken code."""


# ------------------------------------------------------------------ bytes


@mistake("KVBYTES-01", "keys, and no values")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * dtype.itemsize
    return total


@mistake("KVBYTES-02", "every query head has keys of its own")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-03", "one layer")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-04", "rounds the sum")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in [sum(lengths)]:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-05", "rounds down")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = length // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-05", "always one block more")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = length // block_size + 1
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-05", "no blocks at all")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += length * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-06", "a number has four bytes")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * 4
    return total


@mistake("KVBYTES-07", "a float, by way of true division")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = -(-length // block_size) / 1
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-08", "refuses no length")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-08", "refuses no block size")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // max(1, block_size)
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


@mistake("KVBYTES-10", "bits")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * torch.finfo(dtype).bits
    return total


@correct("a loop over the sequences")
def kv_cache_bytes(config, lengths, *, block_size=1, dtype=torch.float32):
    if block_size < 1 or min(lengths, default=0) < 0:
        raise ValueError(f"block_size {block_size}, lengths {lengths}")
    total = 0
    for length in lengths:
        blocks = (length + block_size - 1) // block_size
        numbers = config.n_kv_heads * config.d_head * config.n_layers
        total += blocks * block_size * numbers * 2 * dtype.itemsize
    return total


# ------------------------------------------------------------------ the pool


@mistake("POOL-03", "a release frees at once, whoever else uses the block")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = 0
            if self.used[block] == 0:
                self.queue.append(block)


@mistake("POOL-03", "share counts nothing")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 0

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-02", "takes what there is before it refuses")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        blocks = []
        for _ in range(n):
            if not self.queue:
                raise OutOfBlocks(f"asked for {n}, free are {len(blocks)}")
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-02", "the queue's own error")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-10", "an error without numbers")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks("no blocks left")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-04", "a second release of a block is believed")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-04", "share of a free block is believed")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-05", "a block that stands twice in the list is looked at once")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-05", "a released block does not come back")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                pass


@mistake("POOL-08", "changes block after block until one is refused")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        for block in blocks:
            if self.users(block) == 0:
                raise ValueError(f"{block} is free")
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-01", "the free list is read and not emptied")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue[len(blocks)]
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-07", "a pool of nothing")
class BlockPool:
    def __init__(self, n_blocks):
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-09", "users of block -1 are those of the last")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-06", "a tensor of blocks")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return torch.tensor(blocks)

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@mistake("POOL-12", "share takes a block that stands twice for one")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in set(blocks):
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


@correct("a queue of free blocks and a list of counts")
class BlockPool:
    def __init__(self, n_blocks):
        if n_blocks < 1:
            raise ValueError(f"{n_blocks} blocks")
        self.queue = deque(range(n_blocks))
        self.used = [0] * n_blocks

    @property
    def n_free(self):
        return len(self.queue)

    def users(self, block):
        return self.used[block] if 0 <= block < len(self.used) else 0

    def allocate(self, n):
        if n < 0:
            raise ValueError(f"{n} blocks")
        if n > len(self.queue):
            raise OutOfBlocks(f"asked for {n}, free are {len(self.queue)}")
        blocks = []
        for _ in range(n):
            block = self.queue.popleft()
            self.used[block] = 1
            blocks.append(block)
        return blocks

    def share(self, blocks):
        if any(self.users(block) == 0 for block in blocks):
            raise ValueError(f"one of {blocks} is free")
        for block in blocks:
            self.used[block] += 1

    def release(self, blocks):
        left = {block: self.users(block) for block in blocks}
        for block in blocks:
            left[block] -= 1
        if min(left.values(), default=0) < 0:
            raise ValueError(f"one of {blocks} has too few users")
        for block, users in left.items():
            self.used[block] = users
            if users == 0:
                self.queue.append(block)


# ------------------------------------------------------------------ slots


@mistake("SLOT-01", "position is slot")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = list(range(length))
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-02", "a block's number in place of its first slot")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block, block + block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-03", "neighbours in different blocks")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [table[min(p % block_size, len(table) - 1)] * block_size + p // block_size for p in range(length)]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-04", "True where a row was filled up")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([False] * length + [True] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-04", "True everywhere")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * longest)
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-05", "filled up on the left")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append([0] * (longest - length) + row)
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-06", "as wide as the longest table")
def cache_slots(tables, lengths, block_size):
    longest = max(max(lengths), max(map(len, tables)) * block_size)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-06", "slots alone")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots)


@mistake("SLOT-08", "-1 behind the end")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [-1] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-07", "a short table goes on with its last block")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1:
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        row += [0] * (length - len(row))
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-07", "a length of 0 is taken")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-07", "a table may be one block too short")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length >= block_size * len(table) + block_size:
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-07", "a table without a length is dropped")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-11", "True where the slot is not 0")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    slots = torch.tensor(slots)
    return slots, slots != 0


@mistake("SLOT-11", "True where the slot is above 0")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(slots) > 0


@mistake("SLOT-12", "a table that is exactly full is taken for too short")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length >= block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-12", "a block to spare is taken for an error")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or -(-length // block_size) != len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


@mistake("SLOT-06", "filled first")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(filled), torch.tensor(slots)


@mistake("SLOT-06", "slots in 32 bits")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots, dtype=torch.int32), torch.tensor(filled)


@mistake("SLOT-06", "filled in ones and zeros")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled).long()


@correct("all slots of all blocks, cut off")
def cache_slots(tables, lengths, block_size):
    longest = max(lengths)
    slots, filled = [], []
    for table, length in zip(tables, lengths, strict=True):
        if length < 1 or length > block_size * len(table):
            raise ValueError(f"{length} tokens in {len(table)} blocks of {block_size}")
        row = [slot for block in table for slot in range(block * block_size, (block + 1) * block_size)][:length]
        slots.append(row + [0] * (longest - length))
        filled.append([True] * length + [False] * (longest - length))
    return torch.tensor(slots), torch.tensor(filled)


# ------------------------------------------------------------------ the plan


@mistake("PLAN-01", "the running ones' next blocks are forgotten")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-02", "goes on behind one that does not fit")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if len(running) + admit >= max_batch:
            break
        if blocks > left:
            continue
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-03", "sends the first back")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[back:]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[:back])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-04", "room for the prompt alone")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-05", "lets in whoever fits")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-06", "lets others in when somebody goes back")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    left, admit = n_free + freed - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(staying) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, back)


@mistake("PLAN-07", "asks for a block when the last slot is still empty")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == block_size - 1])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-08", "forgets the half-filled block of whoever goes back")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum(tokens // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-08", "whoever goes back keeps the blocks")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-10", "moves the requests itself")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    del waiting[:admit]
    return StepPlan(admit, 0)


@mistake("PLAN-11", "one number")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return admit


@mistake("PLAN-11", "a plain pair")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return 0, back
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return admit, 0


@mistake("PLAN-12", "max_batch for newcomers alone")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-13", "the same free blocks for every newcomer")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        admit += 1
    return StepPlan(admit, 0)


@mistake("PLAN-14", "every running sequence asks for a block")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len(staying)
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-15", "the need is counted once")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in running if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


@mistake("PLAN-03", "pops the first, one after the other")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    staying = list(running)
    while sum(tokens % block_size == 0 for tokens in staying) > n_free:
        n_free += -(-staying.pop(0) // block_size)
    if len(staying) < len(running):
        return StepPlan(0, len(running) - len(staying))
    n_free -= sum(tokens % block_size == 0 for tokens in staying)
    admit = 0
    for prompt in waiting:
        n_free -= prompt // block_size + 1
        if n_free < 0 or len(staying) + admit >= max_batch:
            break
        admit += 1
    return StepPlan(admit, 0)


@correct("counted anew for each number of those that go back")
def plan_step(running, waiting, *, n_free, block_size, max_batch):
    back = 0
    while True:
        staying = running[: len(running) - back]
        needed = len([tokens for tokens in staying if tokens % block_size == 0])
        freed = sum((tokens + block_size - 1) // block_size for tokens in running[len(staying) :])
        if needed <= n_free + freed:
            break
        back += 1
    if back:
        return StepPlan(admit=0, preempt=back)
    left, admit = n_free - needed, 0
    for prompt in waiting:
        blocks = (prompt + 1 + block_size - 1) // block_size
        if blocks > left or len(running) + admit >= max_batch:
            break
        left, admit = left - blocks, admit + 1
    return StepPlan(admit, 0)


# ------------------------------------------------------------------ the mask


@mistake("GRAM-01", "the first byte decides")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-02", "the empty piece can always be read")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-03", "the end is always allowed")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = True
    return torch.tensor(allowed)


@mistake("GRAM-03", "the end is judged by its bytes")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    return torch.tensor(allowed)


@mistake("GRAM-05", "a token has to finish the text")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return automaton.accepts(now)
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-06", "the state is not set back between tokens")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")
    allowed = []
    now = state
    for piece in pieces:
        now = state if now is None else now
        for byte in piece:
            now = automaton.step(now, byte)
            if now is None:
                break
        allowed.append(now is not None and len(piece) > 0)
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-09", "every byte is read from the same state")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], now)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-08", "zeros and ones")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed).int()


@mistake("GRAM-07", "the last token for the end -1")
def token_mask(automaton, state, pieces, end_token):
    if end_token >= len(pieces):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-03", "the end is allowed by its bytes, too")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] |= automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-07", "one token behind the last for the end")
def token_mask(automaton, state, pieces, end_token):
    if not 0 <= end_token <= len(pieces):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    if end_token < len(pieces):
        allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-12", "from the grammar's beginning")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, automaton.start) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-12", "from the grammar's beginning, the end too")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, automaton.start) for piece in pieces]
    allowed[end_token] = automaton.accepts(automaton.start)
    return torch.tensor(allowed)


@mistake("GRAM-13", "True for what is masked")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return ~torch.tensor(allowed)


@mistake("GRAM-13", "True for what is masked, but for the end")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed = [not one for one in allowed]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


@mistake("GRAM-06", "the first None is carried to the next token")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")
    mask = torch.zeros(len(pieces), dtype=torch.bool)
    now = state
    for token, piece in enumerate(pieces):
        for byte in piece:
            now = automaton.step(now, byte)
            if now is None:
                break
        mask[token] = now is not None and len(piece) > 0
    mask[end_token] = automaton.accepts(state)
    return mask


@mistake("GRAM-06", "the first None ends all others")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")
    mask = torch.zeros(len(pieces), dtype=torch.bool)
    now = state
    for token, piece in enumerate(pieces):
        for byte in piece:
            if now is not None:
                now = automaton.step(now, byte)
        mask[token] = now is not None and len(piece) > 0
    mask[end_token] = automaton.accepts(state)
    return mask


@mistake("GRAM-06", "state itself is moved")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")
    mask = torch.zeros(len(pieces), dtype=torch.bool)
    for token, piece in enumerate(pieces):
        read = len(piece) > 0
        for byte in piece:
            after = automaton.step(state, byte)
            if after is None:
                read = False
                break
            state = after
        mask[token] = read
    mask[end_token] = automaton.accepts(state)
    return mask


@mistake("GRAM-11", "asks what follows None")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")
    mask = torch.zeros(len(pieces), dtype=torch.bool)
    for token, piece in enumerate(pieces):
        now = state
        for byte in piece:
            now = automaton.step(now, byte)
        mask[token] = now is not None and len(piece) > 0
    mask[end_token] = automaton.accepts(state)
    return mask


@correct("byte by byte, by recursion")
def token_mask(automaton, state, pieces, end_token):
    if end_token not in range(len(pieces)):
        raise ValueError(f"no token {end_token}")

    def readable(piece, now):
        if not piece:
            return True
        after = automaton.step(now, piece[0])
        return after is not None and readable(piece[1:], after)

    allowed = [len(piece) > 0 and readable(piece, state) for piece in pieces]
    allowed[end_token] = automaton.accepts(state)
    return torch.tensor(allowed)


# ------------------------------------------------------------------ the draft


@broken("DRAFT-01", "the replacement is drawn from p, not from what p has more than q")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    if draft_probs.shape[1] != target_probs.shape[1]:
        raise ValueError(f"vocabularies of {draft_probs.shape[1]} and {target_probs.shape[1]} tokens")
    if len(target_probs) != len(drafted) + 1:
        raise ValueError(f"{len(drafted)} tokens need {len(drafted) + 1} rows of target_probs, got {len(target_probs)}")
    kept = []
    for place, token in enumerate(drafted.tolist()):
        ratio = target_probs[place, token] / draft_probs[place, token]
        if torch.rand((), generator=generator) >= ratio:
            break  # not kept: the target writes this one
        kept.append(token)
    # the row where the draft ended, or the one behind it
    row = target_probs[len(kept)]
    following = torch.multinomial(row, 1, generator=generator)
    return torch.cat([drafted[: len(kept)], following])


@mistake("DRAFT-02", "a draft that is kept whole ends there")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    if first == n:
        return drafted
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-02", "the kept tokens alone")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    if first < n:
        return drafted[:first]
    return torch.cat([drafted, torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-03", "all tokens that pass, also behind one that did not")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[kept], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-04", "q / p")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < q / p.clamp(min=1e-9) * (p > 0)
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-05", "keeps what the target finds possible")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = (p > 0) & (torch.rand(n, generator=generator) < 2)
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-06", "the likeliest of the rest")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
        return torch.cat([drafted[:first], weights.argmax()[None]])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-08", "torch's own generator")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-07", "looks at no shape")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    target_probs = torch.cat([target_probs, target_probs[-1:]])[: n + 1]
    draft_probs = draft_probs[:, :1].expand(-1, target_probs.shape[1]) if draft_probs.shape[1] != target_probs.shape[1] else draft_probs
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-13", "the row of the place before")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[max(0, first - 1)]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-10", "a list of numbers")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return [*drafted[:first].tolist(), torch.multinomial(weights, 1, generator=generator).item()]


@mistake("DRAFT-11", "writes the rest into target_probs")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights.sub_(draft_probs[first]).clamp_(min=0)
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-12", "from q")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = draft_probs[first]
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-14", "the draft's last row")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[-1])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-14", "the draft's first row")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[0])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-14", "the row behind the place where the draft ended")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[min(first + 1, n - 1)])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-15", "the last row of q, also behind the draft")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if n:
        weights = torch.relu(weights - draft_probs[min(first, n - 1)])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-15", "a row of q that is not there")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@mistake("DRAFT-15", "the last row of q, but not where nothing would be left")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if n:
        left = torch.relu(weights - draft_probs[min(first, n - 1)])
        weights = left if left.sum() > 0 else weights
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])


@correct("all places at once")
def accept_draft(drafted, draft_probs, target_probs, generator=None):
    n = len(drafted)
    if draft_probs.shape[1] != target_probs.shape[1] or len(target_probs) != n + 1:
        raise ValueError(f"{tuple(draft_probs.shape)} and {tuple(target_probs.shape)} for {n} tokens")
    places = torch.arange(n)
    p, q = target_probs[places, drafted], draft_probs[places, drafted]
    kept = torch.rand(n, generator=generator) < p / q
    first = int(kept.long().cumprod(0).sum())
    weights = target_probs[first]
    if first < n:
        weights = torch.relu(weights - draft_probs[first])
    return torch.cat([drafted[:first], torch.multinomial(weights, 1, generator=generator)])
