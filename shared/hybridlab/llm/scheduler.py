"""Who may run in the next step: the decision that makes batching continuous."""

from collections.abc import Sequence

from hybridlab.exercise import exercise
from hybridlab.llm.request import StepPlan


@exercise
def plan_step(running: Sequence[int], waiting: Sequence[int], *, n_free: int, block_size: int, max_batch: int) -> StepPlan:
    """How many waiting requests are let in now, and how many running ones have to go back to the queue.

    `running` holds the tokens that each running sequence has in the cache, the longest-running first. In this step each
    of them gets one more token, for which it needs a free block if its blocks are full: if its tokens are a multiple of
    `block_size`. `waiting` holds the prompt lengths in the queue, the longest-waiting first. `n_free` blocks are free.

    1. As long as the running ones need more blocks than are free, the *last* of them goes back: its blocks (its tokens
       divided by block_size, rounded up) become free, and it needs none any more.
    2. If one went back, nobody is let in. Else requests are let in in their order, as long as there are fewer than `max_batch`
       sequences, and the blocks suffice. A request needs room for its prompt and one token more, in whole blocks, out of
       what the running ones and those let in before it leave. The first that does not fit ends it: nobody overtakes.

    Returns: StepPlan(admit, preempt), two numbers. Neither list is changed.
    Source: PagedAttention, arXiv 2309.06180, section 4.5 (first come, first served; the last come is preempted).
    """
    needy = [tokens % block_size == 0 for tokens in running]
    kept = len(running)
    while sum(needy[:kept]) > n_free:
        kept -= 1
        n_free += -(-running[kept] // block_size)
    if kept < len(running):
        return StepPlan(0, len(running) - kept)
    n_free -= sum(needy)
    admit = 0
    while admit < len(waiting) and kept + admit < max_batch:
        n_free -= waiting[admit] // block_size + 1
        if n_free < 0:
            break
        admit += 1
    return StepPlan(admit, 0)
