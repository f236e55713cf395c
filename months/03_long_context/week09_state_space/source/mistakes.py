"""What people really write in week 9's cells: wrong, right in another style, and Friday's broken code."""


# ------------------------------------------------------------------ continuous to discrete


@mistake("DISC-01", "Euler's step in place of the exponential")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    require_finite("A", A)
    require_finite("B", B)
    eye = torch.eye(len(B), dtype=A.dtype)
    if method == "zoh":
        return eye + dt * A, dt * B
    left = eye - dt / 2 * A
    return torch.linalg.solve(left, eye + dt / 2 * A), torch.linalg.solve(left, dt * B)


@mistake("DISC-02", "B̄ as if the state stood still while the input comes in")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    require_finite("A", A)
    require_finite("B", B)
    eye = torch.eye(len(B), dtype=A.dtype)
    if method == "zoh":
        return torch.linalg.matrix_exp(dt * A), dt * B
    left = eye - dt / 2 * A
    return torch.linalg.solve(left, eye + dt / 2 * A), torch.linalg.solve(left, dt * B)


@mistake("DISC-02", "bilinear, with a bare dt B")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    eye = torch.eye(n, dtype=A.dtype)
    if method == "bilinear":
        return torch.linalg.inv(eye - dt / 2 * A) @ (eye + dt / 2 * A), dt * B
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-03", "exp of each number")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    A_bar = torch.exp(dt * A)
    return A_bar, torch.linalg.solve(A, (A_bar - torch.eye(len(B), dtype=A.dtype)) @ B)


@mistake("DISC-04", "divides by A, which may have no inverse")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    require_finite("A", A)
    require_finite("B", B)
    eye = torch.eye(len(B), dtype=A.dtype)
    if method == "zoh":
        A_bar = torch.linalg.matrix_exp(dt * A)
        return A_bar, torch.linalg.inv(A) @ (A_bar - eye) @ B
    left = eye - dt / 2 * A
    return torch.linalg.solve(left, eye + dt / 2 * A), torch.linalg.solve(left, dt * B)


@mistake("DISC-05", "forward and backward exchanged")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    eye = torch.eye(n, dtype=A.dtype)
    if method == "bilinear":
        left = eye + dt / 2 * A
        return torch.linalg.solve(left, eye - dt / 2 * A), torch.linalg.solve(left, dt * B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-05", "the whole step backward")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    eye = torch.eye(n, dtype=A.dtype)
    if method == "bilinear":
        back = torch.linalg.inv(eye - dt * A)
        return back, back @ B * dt
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-06", "the integral without its dt")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    eye = torch.eye(n, dtype=A.dtype)
    if method == "bilinear":
        left = eye - dt / 2 * A
        return torch.linalg.solve(left, eye + dt / 2 * A), torch.linalg.solve(left, B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = dt * A, B
    E = torch.linalg.matrix_exp(M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-07", "B put into the last row: what comes out is transposed")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[n, :n] = A.T, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[n, :n]


@mistake("DISC-08", "B̄ as a column")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[:n, n:]


@mistake("DISC-10", "multiplies A by dt where it lies")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    A *= dt
    B *= dt
    n = len(B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-11", "nothing is refused")
def discretize(A, B, dt, method="zoh"):
    n = len(B)
    eye = torch.eye(n, dtype=A.dtype)
    if method == "bilinear":
        left = eye - dt / 2 * A
        return torch.linalg.solve(left, eye + dt / 2 * A), torch.linalg.solve(left, dt * B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-12", "a step of 1, whatever dt says")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    n = len(B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-13", "bilinear, unless zoh is named")
def discretize(A, B, dt, method="bilinear"):
    require_step(dt)
    n = len(B)
    eye = torch.eye(n, dtype=A.dtype)
    if method == "bilinear":
        left = eye - dt / 2 * A
        return torch.linalg.solve(left, eye + dt / 2 * A), torch.linalg.solve(left, dt * B)
    M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
    M[:n, :n], M[:n, n] = A, B
    E = torch.linalg.matrix_exp(dt * M)
    return E[:n, :n], E[:n, n]


@mistake("DISC-14", "bilinear without the half")
def discretize(A, B, dt, method="zoh"):
    n = B.shape[0] if B.dim() == 1 else -1
    if A.shape != (n, n):
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} do not fit")
    require_finite("A", A)
    require_finite("B", B)
    require_step(dt)
    if method == "zoh":
        big = torch.zeros(n + 1, n + 1, dtype=A.dtype, device=A.device)
        big[:n, :n] = A
        big[:n, n] = B
        big = torch.linalg.matrix_exp(dt * big)
        A_bar, B_bar = big[:n, :n], big[:n, n]
    elif method == "bilinear":
        eye = torch.eye(n, dtype=A.dtype, device=A.device)
        left = eye - dt * A
        both, info = torch.linalg.solve_ex(left, torch.cat([eye + dt * A, dt * B[:, None]], 1))
        if info.item():
            raise ValueError(f"I - dt/2 A has no inverse at dt={dt}")
        A_bar, B_bar = both[:, :n], both[:, n]
    else:
        raise ValueError(f"method {method!r} is neither 'zoh' nor 'bilinear'")
    if not (A_bar.isfinite().all() and B_bar.isfinite().all()):
        raise ValueError("the result is not finite")
    return A_bar, B_bar


@mistake("DISC-06", "dt B in the block, and dt once more before exp")
def discretize(A, B, dt, method="zoh"):
    n = B.shape[0] if B.dim() == 1 else -1
    if A.shape != (n, n):
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} do not fit")
    require_finite("A", A)
    require_finite("B", B)
    require_step(dt)
    if method == "zoh":
        big = torch.zeros(n + 1, n + 1, dtype=A.dtype, device=A.device)
        big[:n, :n] = A
        big[:n, n] = dt * B
        big = torch.linalg.matrix_exp(dt * big)
        A_bar, B_bar = big[:n, :n], big[:n, n]
    elif method == "bilinear":
        eye = torch.eye(n, dtype=A.dtype, device=A.device)
        left = eye - dt / 2 * A
        both, info = torch.linalg.solve_ex(left, torch.cat([eye + dt / 2 * A, dt * B[:, None]], 1))
        if info.item():
            raise ValueError(f"I - dt/2 A has no inverse at dt={dt}")
        A_bar, B_bar = both[:, :n], both[:, n]
    else:
        raise ValueError(f"method {method!r} is neither 'zoh' nor 'bilinear'")
    if not (A_bar.isfinite().all() and B_bar.isfinite().all()):
        raise ValueError("the result is not finite")
    return A_bar, B_bar


@mistake("DISC-11", "lets torch.linalg.solve raise what it likes")
def discretize(A, B, dt, method="zoh"):
    n = B.shape[0] if B.dim() == 1 else -1
    if A.shape != (n, n):
        raise ValueError(f"A {tuple(A.shape)} and B {tuple(B.shape)} do not fit")
    require_finite("A", A)
    require_finite("B", B)
    require_step(dt)
    if method == "zoh":
        big = torch.zeros(n + 1, n + 1, dtype=A.dtype, device=A.device)
        big[:n, :n] = A
        big[:n, n] = B
        big = torch.linalg.matrix_exp(dt * big)
        A_bar, B_bar = big[:n, :n], big[:n, n]
    elif method == "bilinear":
        eye = torch.eye(n, dtype=A.dtype, device=A.device)
        left = eye - dt / 2 * A
        both = torch.linalg.solve(left, torch.cat([eye + dt / 2 * A, dt * B[:, None]], 1))
        A_bar, B_bar = both[:, :n], both[:, n]
    else:
        raise ValueError(f"method {method!r} is neither 'zoh' nor 'bilinear'")
    if not (A_bar.isfinite().all() and B_bar.isfinite().all()):
        raise ValueError("the result is not finite")
    return A_bar, B_bar


@correct("blocks filled into zeros, and inverses")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    require_finite("A", A)
    require_finite("B", B)
    n = len(B)
    if tuple(A.shape) != (n, n):
        raise ValueError(f"A has the shape {tuple(A.shape)}, B has {n} numbers")
    if method == "zoh":
        M = torch.zeros(n + 1, n + 1, dtype=A.dtype)
        M[:n, :n] = dt * A
        M[:n, n] = dt * B
        E = torch.linalg.matrix_exp(M)
        A_bar, B_bar = E[:n, :n], E[:n, n]
    elif method == "bilinear":
        eye = torch.eye(n, dtype=A.dtype)
        back, info = torch.linalg.inv_ex(eye - dt / 2 * A)
        if info != 0:
            raise ValueError("no inverse")
        A_bar, B_bar = back @ (eye + dt / 2 * A), back @ B * dt
    else:
        raise ValueError(f"no such method: {method}")
    require_finite("A_bar", A_bar)
    require_finite("B_bar", B_bar)
    return A_bar, B_bar


@correct("zero-order hold by its power series after halving the step until it is small, then doubling")
def discretize(A, B, dt, method="zoh"):
    require_step(dt)
    require_finite("A", A)
    require_finite("B", B)
    if A.ndim != 2 or A.shape[0] != A.shape[1] or A.shape[0] != B.shape[0]:
        raise ValueError("A must be square, and as long as B")
    eye = torch.eye(len(B), dtype=torch.float64)
    a, b = A.double(), B.double()
    if method == "bilinear":
        try:
            back = torch.linalg.inv(eye - a * (dt / 2))
        except RuntimeError:
            raise ValueError("no inverse") from None
        result = back @ (eye + a * (dt / 2)), dt * (back @ b)
    elif method == "zoh":
        halvings = max(0, math.ceil(math.log2(max(1e-30, dt * a.abs().sum().item()))) + 3)
        h = dt / 2**halvings
        term, whole, integral = eye, eye.clone(), torch.zeros_like(eye)
        for k in range(1, 20):
            integral = integral + term * (h / k)
            term = term @ a * (h / k)
            whole = whole + term
        step = integral @ b
        for _ in range(halvings):
            whole, step = whole @ whole, whole @ step + step
        result = whole, step
    else:
        raise ValueError(f"{method!r}?")
    for part in result:
        require_finite("the result", part)
    return result[0].to(A.dtype), result[1].to(A.dtype)


# ------------------------------------------------------------------ the recurrence


@mistake("RECUR-01", "reads the output before the input has come in")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    outputs = []
    for k in range(u.shape[-1]):
        outputs.append(state @ C)
        state = torch.einsum("ij,...j->...i", A_bar, state) + u[..., k, None] * B_bar
    y = torch.stack(outputs, -1)
    return y, state


@mistake("RECUR-02", "begins with zeros always")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    state = u.new_zeros(*u.shape[:-1], len(B_bar))
    outputs = []
    for k in range(u.shape[-1]):
        state = torch.einsum("ij,...j->...i", A_bar, state) + u[..., k, None] * B_bar
        outputs.append(state @ C)
    return torch.stack(outputs, -1), state


@mistake("RECUR-03", "state @ A_bar for rows")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    outputs = []
    for k in range(u.shape[-1]):
        state = state @ A_bar + u[..., k, None] * B_bar
        outputs.append(state @ C)
    return torch.stack(outputs, -1), state


@mistake("RECUR-04", "the batch is read as one long sequence")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    n = len(B_bar)
    x = u.new_zeros(n) if state is None else state.reshape(-1, n)[0]
    outputs, lasts = [], []
    for row in u.reshape(-1, u.shape[-1]):
        for number in row:
            x = A_bar @ x + B_bar * number
            outputs.append(C @ x)
        lasts.append(x)
    return torch.stack(outputs).reshape(u.shape), torch.stack(lasts).reshape(*u.shape[:-1], n)


@mistake("RECUR-04", "returns the state with which it began")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    outputs, x = [], state
    for k in range(u.shape[-1]):
        x = torch.einsum("ij,...j->...i", A_bar, x) + u[..., k, None] * B_bar
        outputs.append(x @ C)
    return torch.stack(outputs, -1), state


@mistake("RECUR-05", "outputs only")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    outputs = []
    for k in range(u.shape[-1]):
        state = torch.einsum("ij,...j->...i", A_bar, state) + u[..., k, None] * B_bar
        outputs.append(state @ C)
    return torch.stack(outputs, -1)


@mistake("RECUR-06", "stacks what is not there when there are no steps")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    require_finite("state", state)
    outputs = []
    for u_k in u.unbind(-1):
        state = state @ A_bar.T + u_k[..., None] * B_bar
        outputs.append(state @ C)
    y = torch.stack(outputs, -1)
    require_no_overflow("the recurrence", y, A_bar)
    return y, state


@mistake("RECUR-07", "writes numbers into a tensor, off the tape")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    with torch.no_grad():
        outputs = []
        for u_k in u.unbind(-1):
            state = state @ A_bar.T + u_k[..., None] * B_bar
            outputs.append(state @ C)
    return torch.stack(outputs, -1), state


@mistake("RECUR-08", "moves the caller's state")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    x = u.new_zeros(*u.shape[:-1], len(B_bar)) if state is None else state
    outputs = []
    for u_k in u.unbind(-1):
        x = x @ A_bar.T + u_k[..., None] * B_bar
        outputs.append(x @ C)
    if state is not None:
        state.data.copy_(x)
    return torch.stack(outputs, -1), x


@mistake("RECUR-07", "one state tensor, overwritten each step")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    x = u.new_zeros(*u.shape[:-1], len(B_bar)) if state is None else state.clone()
    outputs = []
    for u_k in u.unbind(-1):
        x.copy_(x @ A_bar.T + u_k[..., None] * B_bar)
        outputs.append(x @ C)
    return torch.stack(outputs, -1), x


@mistake("RECUR-10", "lets NaN in")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    if state is None:
        state = u.new_zeros(*u.shape[:-1], len(B_bar))
    outputs = [u.new_zeros(*u.shape[:-1], 0)]
    for u_k in u.unbind(-1):
        state = state @ A_bar.T + u_k[..., None] * B_bar
        outputs.append((state @ C)[..., None])
    return torch.cat(outputs, -1), state


@mistake("RECUR-11", "lets a growing state run into infinity")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    require_finite("u", u)
    n = len(B_bar)
    if state is None:
        state = u.new_zeros(*u.shape[:-1], n)
    if state.shape != (*u.shape[:-1], n):
        raise ValueError("state does not fit u")
    require_finite("state", state)
    outputs = [u.new_zeros(*u.shape[:-1], 0)]
    for u_k in u.unbind(-1):
        state = state @ A_bar.T + u_k[..., None] * B_bar
        outputs.append((state @ C)[..., None])
    return torch.cat(outputs, -1), state


@correct("with einsum, output by output")
def run_recurrence(A_bar, B_bar, C, u, state=None):
    n = len(B_bar)
    require_finite("u", u)
    x = torch.zeros(u.shape[:-1] + (n,), dtype=u.dtype) if state is None else state
    if x.shape != u.shape[:-1] + (n,):
        raise ValueError(f"a state of shape {tuple(x.shape)} does not go with u of shape {tuple(u.shape)}")
    require_finite("state", x)
    if u.shape[-1] == 0:
        return torch.zeros(u.shape, dtype=u.dtype), x
    outputs = []
    for number in u.unbind(-1):
        x = torch.einsum("ij,...j->...i", A_bar, x) + torch.einsum("...,i->...i", number, B_bar)
        outputs.append(torch.einsum("i,...i->...", C, x))
    y = torch.stack(outputs, -1)
    require_no_overflow("the recurrence", y, A_bar)
    return y, x


# ------------------------------------------------------------------ the kernel


@mistake("KERNEL-01", "moves the state before it reads it")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    x, kernel = B_bar, []
    for _ in range(length):
        x = A_bar @ x
        kernel.append(C @ x)
    return torch.stack(kernel)


@mistake("KERNEL-02", "powers of the numbers, not of the matrix")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    return torch.stack([C @ (A_bar**j) @ B_bar for j in range(length)])


@mistake("KERNEL-03", "oldest first")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    x, kernel = B_bar, []
    for _ in range(length):
        kernel.append(C @ x)
        x = A_bar @ x
    return torch.stack(kernel).flip(0)


@mistake("KERNEL-04", "Ā from the wrong side")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    x, kernel = B_bar, []
    for _ in range(length):
        kernel.append(C @ x)
        x = x @ A_bar
    return torch.stack(kernel)


@mistake("KERNEL-05", "one number too many")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    x, kernel = B_bar, [C @ B_bar]
    for _ in range(length):
        x = A_bar @ x
        kernel.append(C @ x)
    return torch.stack(kernel)


@mistake("KERNEL-06", "numbers in place of tensors")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    x, kernel = B_bar, []
    for _ in range(length):
        kernel.append((C @ x).item())
        x = A_bar @ x
    return torch.tensor(kernel, dtype=A_bar.dtype)


@mistake("KERNEL-07", "nothing is refused")
def recurrence_kernel(A_bar, B_bar, C, length):
    x, kernel = B_bar, [C @ B_bar]
    for _ in range(length - 1):
        x = A_bar @ x
        kernel.append(C @ x)
    return torch.stack(kernel)


@mistake("KERNEL-10", "powers of the matrix")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length < 1:
        raise ValueError("length")
    kernel, power = [], torch.eye(len(C), dtype=A_bar.dtype)
    for _ in range(length):
        kernel.append(C @ power @ B_bar)
        power = power @ A_bar
    kernel = torch.stack(kernel)
    require_no_overflow("the kernel", kernel, A_bar)
    return kernel


@correct("from the reading end: C Ā^j, then B̄")
def recurrence_kernel(A_bar, B_bar, C, length):
    if length <= 0:
        raise ValueError(f"a kernel of {length} numbers")
    row, rows = C, []
    while len(rows) < length:
        rows.append(row)
        row = row @ A_bar
    kernel = torch.stack([r @ B_bar for r in rows])
    require_no_overflow("the kernel", kernel, A_bar)
    return kernel


# ------------------------------------------------------------------ HiPPO


@mistake("LEGS-01", "HiPPO's sign in S4's equation")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    A = torch.zeros(n, n, dtype=torch.float64)
    for i in range(n):
        for j in range(i):
            A[i, j] = math.sqrt((2 * i + 1) * (2 * j + 1))
        A[i, i] = i + 1
    return A, torch.tensor([math.sqrt(2 * i + 1) for i in range(n)], dtype=torch.float64)


@mistake("LEGS-02", "the upper triangle")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    i = torch.arange(n, dtype=torch.float64)
    B = torch.sqrt(2 * i + 1)
    return -torch.triu(B[:, None] * B, 1) - torch.diag(i + 1), B


@mistake("LEGS-03", "the rule from below the diagonal on it as well")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    B = torch.sqrt(2 * torch.arange(n, dtype=torch.float64) + 1)
    return -torch.tril(B[:, None] * B), B


@mistake("LEGS-03", "counts the diagonal from 0")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    i = torch.arange(n, dtype=torch.float64)
    B = torch.sqrt(2 * i + 1)
    return -torch.tril(B[:, None] * B, -1) - torch.diag(i), B


@mistake("LEGS-04", "no square roots in A")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    i = torch.arange(n, dtype=torch.float64)
    odd = 2 * i + 1
    return -torch.tril(odd[:, None] * odd, -1) - torch.diag(i + 1), odd.sqrt()


@mistake("LEGS-05", "float32, as arange gives it")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    i = torch.arange(n)
    B = torch.sqrt(2.0 * i + 1)
    return -torch.tril(B[:, None] * B, -1) - torch.diag(i + 1), B


@mistake("LEGS-06", "no square roots in B")
def hippo_legs(n):
    if n < 1:
        raise ValueError("n")
    i = torch.arange(n, dtype=torch.float64)
    root = torch.sqrt(2 * i + 1)
    return -torch.tril(root[:, None] * root, -1) - torch.diag(i + 1), 2 * i + 1


@mistake("LEGS-07", "an empty state")
def hippo_legs(n):
    i = torch.arange(max(n, 0), dtype=torch.float64)
    B = torch.sqrt(2 * i + 1)
    return -torch.tril(B[:, None] * B, -1) - torch.diag(i + 1), B


@mistake("LEGS-08", "counts from 1")
def hippo_legs(n):
    if n < 1:
        raise ValueError(f"n={n} is less than 1")
    B = torch.sqrt(2 * torch.arange(1, n + 1, dtype=torch.float64) + 1)
    A = -torch.outer(B, B).tril(-1) - torch.diag(torch.arange(1.0, n + 1, dtype=torch.float64))
    return A, B


@correct("row by row")
def hippo_legs(n):
    if n <= 0:
        raise ValueError(f"a state of {n} numbers")
    roots = [math.sqrt(2 * i + 1) for i in range(n)]
    rows = [[-roots[i] * roots[j] for j in range(i)] + [-(i + 1.0)] + [0.0] * (n - i - 1) for i in range(n)]
    return torch.tensor(rows, dtype=torch.float64), torch.tensor(roots, dtype=torch.float64)


# ------------------------------------------------------------------ S4D


@mistake("S4D-01", "one of each pair, once")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    b = torch.expm1(z) / eigenvalues
    return torch.stack([(C * b * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-02", "C alone before the exponentials")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    return torch.stack([2 * (C * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-02", "Euler's B̄ = dt")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    return torch.stack([2 * (C * dt[:, None] * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-03", "real parts before the product")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    b = C * torch.expm1(z) / eigenvalues
    return torch.stack([2 * (b.real * torch.exp(z * place).real).sum(1) for place in range(length)], 1)


@mistake("S4D-04", "exp(z) - 1, which has no digits left at tiny z")
def s4d_kernel(eigenvalues, C, dt, length):
    if length < 1:
        raise ValueError("length")
    require_step(dt)
    require_finite("C", C)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    b = (torch.exp(z) - 1) / eigenvalues
    return torch.stack([2 * (C * b * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-05", "exponents from 1 to length")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    b = torch.expm1(z) / eigenvalues
    return torch.stack([2 * (C * b * torch.exp(z * (place + 1))).sum(1).real for place in range(length)], 1)


@mistake("S4D-06", "still complex")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    b = torch.expm1(z) / eigenvalues
    return torch.stack([2 * (C * b * torch.exp(z * place)).sum(1) for place in range(length)], 1)


@mistake("S4D-07", "λ is taken for a constant")
def s4d_kernel(eigenvalues, C, dt, length):
    if length < 1:
        raise ValueError("length")
    require_step(dt)
    require_finite("C", C)
    require_decay(eigenvalues)
    fixed = eigenvalues.detach()
    z = dt.unsqueeze(-1) * fixed
    b = torch.expm1(z) / fixed
    return torch.stack([2 * (C * b * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-08", "a λ that grows is not refused")
def s4d_kernel(eigenvalues, C, dt, length):
    if length < 1:
        raise ValueError("length")
    require_step(dt)
    require_finite("C", C)
    z = dt.unsqueeze(-1) * eigenvalues
    b = torch.expm1(z) / eigenvalues
    return torch.stack([2 * (C * b * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-10", "one step size for all features")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt[0] * eigenvalues
    b = torch.expm1(z) / eigenvalues
    return torch.stack([2 * (C * b * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-11", "the bilinear rule")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    turn, b = (1 + z / 2) / (1 - z / 2), dt[:, None] / (1 - z / 2)
    return torch.stack([2 * (C * b * turn**place).sum(1).real for place in range(length)], 1)


@mistake("S4D-13", "multiplies C where it lies")
def s4d_kernel(eigenvalues, C, dt, length):
    require_step(dt)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    C *= torch.expm1(z) / eigenvalues
    return torch.stack([2 * (C * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


@mistake("S4D-02", "divided by z")
def s4d_kernel(eigenvalues, C, dt, length):
    if length < 1:
        raise ValueError(f"length={length} is less than 1")
    require_step(dt)
    require_finite("C", C)
    require_decay(eigenvalues)
    z = dt[:, None] * eigenvalues
    B_bar = torch.expm1(z) / z
    powers = torch.exp(z[..., None] * torch.arange(length, device=C.device))
    return 2 * torch.einsum("dn,dnl->dl", C * B_bar, powers).real


@correct("place by place")
def s4d_kernel(eigenvalues, C, dt, length):
    if length <= 0:
        raise ValueError(f"length {length}")
    require_step(dt)
    require_finite("C", C)
    require_decay(eigenvalues)
    z = dt.unsqueeze(-1) * eigenvalues
    b = torch.expm1(z) / eigenvalues
    return torch.stack([2 * (C * b * torch.exp(z * place)).sum(1).real for place in range(length)], 1)


# ------------------------------------------------------------------ the long convolution


@broken("WRAP-01", "the transforms have no room: the end of the sequence comes in again at the beginning")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    if time == 0 or taps == 0:
        raise ValueError(f"u has {time} steps and the kernel {taps} taps; both need at least one")
    require_finite("u", u)
    require_finite("kernel", kernel)
    exact = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    # transform both, zero-padded to the longer of the two, multiply, transform back
    n = max(time, taps)
    product = torch.fft.rfft(u.to(exact), n=n) * torch.fft.rfft(kernel.to(exact), n=n)
    return torch.fft.irfft(product, n=n)[..., :time].to(u.dtype)


@mistake("WRAP-01", "transforms of u's own length")
def causal_convolution(u, kernel):
    time = u.shape[-1]
    require_finite("u", u)
    return torch.fft.irfft(torch.fft.rfft(u) * torch.fft.rfft(kernel, n=time), n=time)


@mistake("WRAP-02", "the kernel is turned round first, as conv1d wants it")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    require_finite("u", u)
    room = time + taps
    return torch.fft.irfft(torch.fft.rfft(u, n=room) * torch.fft.rfft(kernel.flip(-1), n=room), n=room)[..., :time]


@mistake("WRAP-03", "the end of what comes out")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    require_finite("u", u)
    room = time + taps - 1
    return torch.fft.irfft(torch.fft.rfft(u, n=room) * torch.fft.rfft(kernel, n=room), n=room)[..., -time:]


@mistake("WRAP-04", "everything that comes out, the kernel running out as well")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    require_finite("u", u)
    room = time + taps
    return torch.fft.irfft(torch.fft.rfft(u, n=room) * torch.fft.rfft(kernel, n=room), n=room)


@mistake("WRAP-05", "no thought of bfloat16")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    if time == 0 or taps == 0:
        raise ValueError("empty")
    require_finite("u", u)
    require_finite("kernel", kernel)
    room = time + taps
    return torch.fft.irfft(torch.fft.rfft(u, n=room) * torch.fft.rfft(kernel, n=room), n=room)[..., :time].to(u.dtype)


@mistake("WRAP-06", "the kernel is taken for a constant")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    require_finite("u", u)
    room = time + taps
    spectrum = torch.fft.rfft(u, n=room) * torch.fft.rfft(kernel.detach(), n=room)
    return torch.fft.irfft(spectrum, n=room)[..., :time]


@mistake("WRAP-07", "one NaN becomes NaN everywhere")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    if time == 0 or taps == 0:
        raise ValueError("empty")
    room = time + taps
    exact = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    spectrum = torch.fft.rfft(u.to(exact), n=room) * torch.fft.rfft(kernel.to(exact), n=room)
    return torch.fft.irfft(spectrum, n=room)[..., :time].to(u.dtype)


@mistake("WRAP-10", "one step too few")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    if time == 0 or taps == 0:
        raise ValueError(f"u has {time} steps and the kernel {taps} taps; both need at least one")
    require_finite("u", u)
    require_finite("kernel", kernel)
    exact = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    n = time + taps - 2
    product = torch.fft.rfft(u.to(exact), n=n) * torch.fft.rfft(kernel.to(exact), n=n)
    return torch.fft.irfft(product, n=n)[..., :time].to(u.dtype)


@mistake("WRAP-10", "twice the input, however long the kernel")
def causal_convolution(u, kernel):
    time, taps = u.shape[-1], kernel.shape[-1]
    if time == 0 or taps == 0:
        raise ValueError(f"u has {time} steps and the kernel {taps} taps; both need at least one")
    require_finite("u", u)
    require_finite("kernel", kernel)
    exact = torch.promote_types(torch.promote_types(u.dtype, kernel.dtype), torch.float32)
    n = fast_length(2 * time)
    product = torch.fft.rfft(u.to(exact), n=n) * torch.fft.rfft(kernel.to(exact), n=n)
    return torch.fft.irfft(product, n=n)[..., :time].to(u.dtype)


@correct("the whole circle twice as long as it need be, in float64")
def causal_convolution(u, kernel):
    time = u.shape[-1]
    if min(time, kernel.shape[-1]) < 1:
        raise ValueError("an empty sequence has no convolution")
    for name, numbers in (("u", u), ("kernel", kernel)):
        require_finite(name, numbers)
    room = fast_length(2 * max(time, kernel.shape[-1]))
    a = torch.fft.fft(u.to(torch.float64), n=room)
    b = torch.fft.fft(kernel.to(torch.float64), n=room)
    return torch.fft.ifft(a * b).real[..., :time].to(u.dtype)
