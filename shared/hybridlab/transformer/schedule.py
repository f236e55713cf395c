"""The learning rate over a training run: up in a straight line, then down along half a cosine."""

import math

from hybridlab.exercise import exercise


@exercise
def warmup_cosine(step: int, *, warmup: int, total: int, peak: float, floor: float = 0.0) -> float:
    """The learning rate of update number `step`.

    * steps 0 … `warmup`: a straight line from 0 to `peak` (so step 0 gives 0, step `warmup` gives `peak`);
    * steps `warmup` … `total`: half a cosine from `peak` down to `floor`,
      `floor + (peak - floor) * (1 + cos(pi * t)) / 2`, where t goes from 0 to 1;
    * after `total`: `floor`.

    Without warm-up (`warmup=0`) step 0 gives `peak`. `warmup == total` is allowed: a straight line up to `peak` at
    step `total`, and `floor` after it.

    Raises:
        ValueError: `step` is negative, or not 0 <= warmup <= total, or not 0 <= floor <= peak.

    Source: SGDR (arXiv 1608.03983), equation 5, for the cosine; transformers' `get_cosine_schedule_with_warmup`.
    """
    if step < 0 or not 0 <= warmup <= total or not 0 <= floor <= peak:
        raise ValueError(
            "need step >= 0, 0 <= warmup <= total and 0 <= floor <= peak; "
            f"got {step=}, {warmup=}, {total=}, {floor=}, {peak=}"
        )
    if step < warmup:
        return peak * step / warmup
    if step > total:
        return floor
    t = (step - warmup) / max(1, total - warmup)
    return floor + (peak - floor) * (1 + math.cos(math.pi * t)) / 2
