"""What people really write in week 7's cells: wrong, right in another style, and Friday's broken code."""


# ------------------------------------------------------------------ groups and scales


@mistake("ABSMAX-01", "divides by 128, a code that int8 has on one side alone")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / (largest + 1)
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-02", "the largest weight in place of the largest absolute value")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-03", "one scale a row, whatever the group")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(d_in, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-04", "one maximum for the whole matrix")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = weight.abs().max().expand(rows, 1) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-05", "the conversion to int8 cuts the fraction off")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-06", "rounded before it is divided")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part.round() / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-07", "a small number is added to each scale, so that zeros have one")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest + 1e-12
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-08", "no clamp: 190 becomes -66")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-10", "divided in place")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append(part.div_(safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-11", "NaN is not refused")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@mistake("ABSMAX-03", "scales in the weight's own dtype")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale.half())
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@correct("group by group, with split")
def absmax_quantize(weight, bits, group_size):
    largest = largest_code(bits)
    if group_size < 1:
        raise ValueError(f"group_size {group_size}")
    require_finite("weight", weight)
    rows, d_in = weight.shape
    weight = weight.float()
    codes, scales = [], []
    for part in weight.split(group_size, dim=1):
        scale = part.abs().amax(1, keepdim=True) / largest
        scales.append(scale)
        safe = torch.where(scale == 0, torch.ones_like(scale), scale)
        codes.append((part / safe).round().clamp(-largest, largest).to(torch.int8))
    return torch.cat(codes, 1), torch.cat(scales, 1)


@correct("a loop over rows and groups")
def absmax_quantize(weight, bits, group_size):
    q = largest_code(bits)
    if group_size <= 0:
        raise ValueError("a group needs at least one weight")
    w = weight.to(torch.float32)
    require_finite("weight", w)
    starts = range(0, w.shape[1], group_size)
    codes = torch.zeros(w.shape, dtype=torch.int8)
    scales = torch.zeros(w.shape[0], len(starts))
    for r in range(w.shape[0]):
        for g, start in enumerate(starts):
            part = w[r, start : start + group_size]
            top = part.abs().max() / q
            scales[r, g] = top
            if top > 0:
                codes[r, start : start + group_size] = torch.clamp(torch.round(part / top), -q, q).to(torch.int8)
    return codes, scales


# ------------------------------------------------------------------ two to a byte


@mistake("NIBBLE-01", "the first code into the high half")
def pack_int4(codes):
    if codes.min() < -8 or codes.max() > 7:
        raise ValueError("four bits hold -8 to 7")
    if codes.shape[1] % 2:
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
    four = codes.remainder(16).to(torch.uint8)
    return 16 * four[:, 0::2] + four[:, 1::2]


@mistake("NIBBLE-03", "moved by 8 in place of two's complement")
def pack_int4(codes):
    if codes.min() < -8 or codes.max() > 7:
        raise ValueError("four bits hold -8 to 7")
    if codes.shape[1] % 2:
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
    four = (codes + 8).to(torch.uint8)
    return four[:, 0::2] + 16 * four[:, 1::2]


@mistake("NIBBLE-04", "the first half of the row with the second, as llama.cpp has it")
def pack_int4(codes):
    if codes.min() < -8 or codes.max() > 7:
        raise ValueError("four bits hold -8 to 7")
    if codes.shape[1] % 2:
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
    four = codes.remainder(16).to(torch.uint8)
    return four[:, : four.shape[1] // 2] + 16 * four[:, four.shape[1] // 2 :]


@mistake("NIBBLE-07", "nothing is refused")
def pack_int4(codes):
    if codes.shape[1] % 2:
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
    four = codes.remainder(16).to(torch.uint8)
    return four[:, 0::2] + 16 * four[:, 1::2]


@mistake("NIBBLE-06", "bytes that are int8")
def pack_int4(codes):
    if codes.min() < -8 or codes.max() > 7:
        raise ValueError("four bits hold -8 to 7")
    if codes.shape[1] % 2:
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
    four = codes.remainder(16).to(torch.uint8)
    return (four[:, 0::2] + 16 * four[:, 1::2]).to(torch.int8)


@mistake("NIBBLE-02", "the sign bits of a negative code spill into its neighbour")
def pack_int4(codes):
    if codes.min() < -8 or codes.max() > 7:
        raise ValueError("four bits hold -8 to 7")
    codes = F.pad(codes, (0, codes.shape[1] % 2)).to(torch.uint8)
    return codes[:, 0::2] | (codes[:, 1::2] << 4)


@correct("remainders and sums in place of bits")
def pack_int4(codes):
    if codes.min() < -8 or codes.max() > 7:
        raise ValueError("four bits hold -8 to 7")
    if codes.shape[1] % 2:
        codes = torch.cat([codes, torch.zeros_like(codes[:, :1])], dim=1)
    four = codes.remainder(16).to(torch.uint8)
    return four[:, 0::2] + 16 * four[:, 1::2]


# ------------------------------------------------------------------ NF4


@mistake("NF4-04", "not sorted")
def nf4_levels():
    p = 0.5 * (1 - 1 / 32) + 0.5 * (1 - 1 / 30)
    up = [torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 8, dtype=torch.float64)) for i in range(8)]
    down = [-torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 7, dtype=torch.float64)) for i in range(7)]
    zero = torch.zeros((), dtype=torch.float64)
    levels = torch.stack([*up, *down, zero])
    return (levels / levels.max()).to(torch.float32)


@mistake("NF4-03", "not divided by the largest")
def nf4_levels():
    p = 0.5 * (1 - 1 / 32) + 0.5 * (1 - 1 / 30)
    up = [torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 8, dtype=torch.float64)) for i in range(8)]
    down = [-torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 7, dtype=torch.float64)) for i in range(7)]
    zero = torch.zeros((), dtype=torch.float64)
    levels = torch.stack([*up, *down, zero]).sort().values
    return (levels).to(torch.float32)


@mistake("NF4-05", "eight levels below zero")
def nf4_levels():
    p = 0.5 * (1 - 1 / 32) + 0.5 * (1 - 1 / 30)
    up = [torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 8, dtype=torch.float64)) for i in range(8)]
    down = [-torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 7, dtype=torch.float64)) for i in range(7)]
    zero = torch.zeros((), dtype=torch.float64)
    levels = torch.stack([*(-u for u in up), *(-d for d in down), zero]).sort().values
    return (levels / levels.max()).to(torch.float32)


@mistake("NF4-06", "left in float64")
def nf4_levels():
    p = 0.5 * (1 - 1 / 32) + 0.5 * (1 - 1 / 30)
    up = [torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 8, dtype=torch.float64)) for i in range(8)]
    down = [-torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 7, dtype=torch.float64)) for i in range(7)]
    zero = torch.zeros((), dtype=torch.float64)
    levels = torch.stack([*up, *down, zero]).sort().values
    return (levels / levels.max())


@mistake("NF4-07", "an outermost probability that goes with one of the two sides")
def nf4_levels():
    p = 1 - 1 / 32
    up = [torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 8, dtype=torch.float64)) for i in range(8)]
    down = [-torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 7, dtype=torch.float64)) for i in range(7)]
    zero = torch.zeros((), dtype=torch.float64)
    levels = torch.stack([*up, *down, zero]).sort().values
    return (levels / levels.max()).to(torch.float32)


@mistake("NF4-01", "evenly spaced")
def nf4_levels():
    return torch.linspace(-1, 1, 16)


@mistake("NF4-02", "eight levels on each side, and no zero")
def nf4_levels():
    p = (31 / 32 + 29 / 30) / 2
    side = torch.special.ndtri(torch.linspace(p, 0.5, 9, dtype=torch.float64)[:-1])
    return (torch.cat([-side, side.flip(0)]) / side[0]).float()


@correct("one level after the other, then sorted")
def nf4_levels():
    p = 0.5 * (1 - 1 / 32) + 0.5 * (1 - 1 / 30)
    up = [torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 8, dtype=torch.float64)) for i in range(8)]
    down = [-torch.special.ndtri(torch.tensor(p - i * (p - 0.5) / 7, dtype=torch.float64)) for i in range(7)]
    zero = torch.zeros((), dtype=torch.float64)
    levels = torch.stack([*up, *down, zero]).sort().values
    return (levels / levels.max()).to(torch.float32)


# ------------------------------------------------------------------ outliers


@mistake("MIXED-01", "the threshold is never asked")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = torch.zeros(x.shape[1], dtype=torch.bool)
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-02", "the outliers stay in the integers as well")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    kept, kept_weight = x, weight
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-03", "taken out after the scales were found")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    a, s = absmax_quantize(x, 8, x.shape[1])
    b, t = absmax_quantize(weight, 8, x.shape[1])
    a, b = a.masked_fill(outlier, 0), b.masked_fill(outlier, 0)
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-05", "single numbers are taken out")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs() >= threshold
    kept, kept_weight = torch.where(outlier, torch.zeros_like(x), x), weight
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-07", "more than the threshold, not as much")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) > threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-10", "the outliers are dropped")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1)).to(x.dtype)


@mistake("MIXED-11", "int8 times int8 in int8")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = (a[:, None] * b[None]).sum(-1)
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-12", "nothing is refused")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    outlier = x.abs().amax(0) >= threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@mistake("MIXED-06", "always float32")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).float()


@mistake("MIXED-04", "one scale for the whole of x and the whole of weight")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept.reshape(1, -1), 8, x.numel())
    b, t = absmax_quantize(kept_weight.reshape(1, -1), 8, weight.numel())
    a, b = a.view(x.shape), b.view(weight.shape)
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


@correct("zeros by where, integers in float64, which holds them exactly")
def outlier_matmul(x, weight, threshold=6.0):
    if x.shape[1] != weight.shape[1]:
        raise ValueError(f"{x.shape[1]} features and {weight.shape[1]}")
    require_finite("x", x)
    require_finite("weight", weight)
    outlier = x.abs().amax(0) >= threshold
    kept = torch.where(outlier, torch.zeros_like(x), x)
    kept_weight = torch.where(outlier, torch.zeros_like(weight), weight)
    a, s = absmax_quantize(kept, 8, x.shape[1])
    b, t = absmax_quantize(kept_weight, 8, x.shape[1])
    integers = torch.einsum("if,of->io", a.double(), b.double())
    exact = torch.where(outlier, x, torch.zeros_like(x)).float() @ weight.float().T
    return (integers * s * t.squeeze(1) + exact).to(x.dtype)


# ------------------------------------------------------------------ GPTQ


@mistake("GPTQ-01", "rounds the weight as it came; the errors go nowhere")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), weight[:, j].double() / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-03", "not divided by U[j, j]")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step)
        now = now - torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-07", "nothing is refused")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    hessian = hessian[:d_in, :d_in].expand(d_in, d_in)
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-01", "the column of U, not its row: right of the diagonal it is 0")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[:, j])
    return codes, scales


@mistake("GPTQ-09", "the error is added")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now + torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-02", "the scales are found anew for each group")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        if j % group_size == 0:
            scales[:, j // group_size] = (now[:, j : j + group_size].abs().amax(1) / largest).float()
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-08", "works on the weight itself")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.double()
    weight *= 1.0000001
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-10", "1 in place of a scale of 0")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = now[:, j] / torch.where(step == 0, torch.ones_like(step) / 8, step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


@mistake("GPTQ-04", "damping is not handed on")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, 0.0)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


@correct("with outer: U is 0 left of its diagonal, so all columns may be changed")
def gptq_quantize(weight, hessian, bits, group_size, damping=0.01):
    rows, d_in = weight.shape
    if tuple(hessian.shape) != (d_in, d_in):
        raise ValueError(f"hessian {tuple(hessian.shape)} for {d_in} columns")
    largest = largest_code(bits)
    codes, scales = absmax_quantize(weight, bits, group_size)
    U = compensation(hessian, damping)
    now = weight.detach().to(torch.float64).clone()
    for j in range(d_in):
        step = scales[:, j // group_size].double()
        code = torch.where(step == 0, torch.zeros_like(step), now[:, j] / step)
        code = code.round().clamp(-largest, largest)
        codes[:, j] = code.to(torch.int8)
        error = (now[:, j] - code * step) / U[j, j]
        now = now - torch.outer(error, U[j])
    return codes, scales


# ------------------------------------------------------------------ the way back


@broken("SPREAD-01", "the scales are tiled, so that neighbours get the scales of different groups")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    n_groups = -(-d_in // group_size)
    if scales.shape[1] != n_groups:
        raise ValueError(f"{d_in} codes a row in groups of {group_size} do not go with {scales.shape[1]} scales a row")
    # stretch the scales to one for each code; the last group may be shorter
    stretched = scales.repeat(1, group_size)[:, :d_in]
    return codes.float() * stretched


@mistake("SPREAD-02", "divides")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    group = torch.arange(d_in) // group_size
    if scales.shape[1] != int(group[-1]) + 1:
        raise ValueError(f"{scales.shape[1]} scales a row for {d_in} codes in groups of {group_size}")
    return codes.float() / scales[:, group]


@mistake("SPREAD-03", "the first scale of each row")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    group = torch.arange(d_in) // group_size
    if scales.shape[1] != int(group[-1]) + 1:
        raise ValueError(f"{scales.shape[1]} scales a row for {d_in} codes in groups of {group_size}")
    return codes.float() * scales[:, :1]


@mistake("SPREAD-01", "remainder in place of quotient")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    group = torch.arange(d_in) // group_size
    if scales.shape[1] != int(group[-1]) + 1:
        raise ValueError(f"{scales.shape[1]} scales a row for {d_in} codes in groups of {group_size}")
    return codes.float() * scales[:, torch.arange(d_in) % scales.shape[1]]


@mistake("SPREAD-04", "in bfloat16")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    group = torch.arange(d_in) // group_size
    if scales.shape[1] != int(group[-1]) + 1:
        raise ValueError(f"{scales.shape[1]} scales a row for {d_in} codes in groups of {group_size}")
    return codes.bfloat16() * scales[:, group].bfloat16()


@mistake("SPREAD-05", "nothing is refused")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    group = torch.arange(d_in) // group_size
    return codes.float() * scales[:, group.clamp(max=scales.shape[1] - 1)]


@correct("by the group's number")
def dequantize(codes, scales, group_size):
    d_in = codes.shape[1]
    group = torch.arange(d_in) // group_size
    if scales.shape[1] != int(group[-1]) + 1:
        raise ValueError(f"{scales.shape[1]} scales a row for {d_in} codes in groups of {group_size}")
    return codes.float() * scales[:, group]
