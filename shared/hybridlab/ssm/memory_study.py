"""What a linear state of n numbers can hold, and which A lets it: exact answers for white noise, and two small trainings.

With white noise as input (each value new, variance 1) nothing has to be sampled. The state is Σ_j u_{k-j} Ā^j B̄; the vectors Ā^j B̄,
one a row, are all that counts: `responses`, (lags, n). From them follow

    recall[j]    R² of the best linear guess at u_{k-j} from the state: 1 remembered, 0 forgotten
    capacity     Σ_j recall[j], never more than n (Jaeger 2001, "Short term memory in echo state networks", proposition 2)
    forgetting   the expected squared error of given readouts C, for the training by gradients

A real state is not known to infinitely many digits. `noise` says how well: the size of an error relative to that of each number.
bfloat16 keeps 8 bits, an error of about 2^-9 = 0.002; float32 about 6e-8.
"""

import math

import torch
from jaxtyping import Float, Float32, Float64, Int
from torch import Tensor

from hybridlab.data.digits import Digits
from hybridlab.ssm.discretize import discretize


def responses(A_bar: Float[Tensor, "n n"], B_bar: Float[Tensor, "n"], lags: int) -> Float[Tensor, "lags n"]:
    """Ā^j B̄ for j = 0 … lags - 1, one a row, by doubling: log2(lags) products of matrices. Gradients flow."""
    rows, power = B_bar[None], A_bar
    while len(rows) < lags:
        rows = torch.cat([rows, rows @ power.T])  # what was known, seen from twice as far
        power = power @ power
    return rows[:lags]


def of_equal_size(rows: Float[Tensor, "lags n"]) -> Float[Tensor, "lags n"]:
    """The responses of a state whose numbers all have variance 1: a change of units that favours no A."""
    return rows / rows.detach().norm(dim=0).clamp_min(1e-30)


def recall(rows: Float64[Tensor, "lags n"], noise: float) -> Float64[Tensor, "lags"]:
    """R² with which each lag can be read, linearly, from a state of equal sizes that is known up to `noise`.

    The rows must reach so far back that the rest is nothing: what lies beyond them counts as absent.
    """
    rows = of_equal_size(rows)
    covariance = rows.T @ rows + noise**2 * torch.eye(rows.shape[1], dtype=rows.dtype)
    return (torch.linalg.solve(covariance, rows.T).T * rows).sum(1)


def random_stable(n: int, seed: int) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, "n"]]:
    """A Gaussian A (entries of variance 1/n) moved left until its largest real part is -1/2, which is S4D's, and a Gaussian B."""
    g = torch.Generator().manual_seed(seed)
    A = torch.randn(n, n, generator=g, dtype=torch.float64) / math.sqrt(n)
    A -= (torch.linalg.eigvals(A).real.max() + 0.5) * torch.eye(n, dtype=torch.float64)
    return A, torch.randn(n, generator=g, dtype=torch.float64)


def random_rotation(n: int, radius: float, seed: int) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, "n"]]:
    """A *discrete* system whose Ā turns the state in a random way and shrinks all of it by `radius` a step, and a Gaussian B̄."""
    g = torch.Generator().manual_seed(seed)
    turn, _ = torch.linalg.qr(torch.randn(n, n, generator=g, dtype=torch.float64))
    return turn * radius, torch.randn(n, generator=g, dtype=torch.float64)


def random_discrete(n: int, radius: float, seed: int) -> tuple[Float64[Tensor, "n n"], Float64[Tensor, "n"]]:
    """A *discrete* system with a Gaussian Ā, its largest |eigenvalue| made `radius`, and a Gaussian B̄: an echo state network."""
    g = torch.Generator().manual_seed(seed)
    A_bar = torch.randn(n, n, generator=g, dtype=torch.float64)
    A_bar *= radius / torch.linalg.eigvals(A_bar).abs().max()
    return A_bar, torch.randn(n, generator=g, dtype=torch.float64)


def train_to_memorise(
    A: Float[Tensor, "n n"],
    B: Float[Tensor, "n"],
    dt: float,
    *,
    values: int,
    train_A: bool,
    steps: int = 300,
    lr: float = 0.05,
    lags: int = 512,
) -> Float32[Tensor, "steps"]:
    """Adam teaches one readout for each of the last `values` inputs; the expected error, a mean over them, after each step.

    1 is knowing nothing. `train_A`: A, B and ln dt are trained too, at a tenth of the rate, through the bilinear rule. Raises ValueError
    if a step makes the system overflow.
    """
    A, B, log_dt = A.float().requires_grad_(train_A), B.float().requires_grad_(train_A), torch.tensor(math.log(dt)).requires_grad_(train_A)
    C = torch.zeros(values, len(B), requires_grad=True)
    wanted = torch.eye(values, lags)  # readout j must answer an input j steps back, and no other
    groups = [{"params": [C], "lr": lr}, *([{"params": [A, B, log_dt], "lr": lr / 10}] if train_A else [])]
    optimizer = torch.optim.Adam(groups)
    errors = []
    for _ in range(steps):
        rows = of_equal_size(responses(*bilinear_with_gradients(A, B, log_dt.exp()), lags))
        error = (wanted - C @ rows.T).square().sum(1).mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(error.detach())
    return torch.stack(errors)


def bilinear_with_gradients(
    A: Float[Tensor, "n n"], B: Float[Tensor, "n"], dt: Float[Tensor, ""]
) -> tuple[Float[Tensor, "n n"], Float[Tensor, "n"]]:
    """`discretize(A, B, dt, "bilinear")` where dt is trained as well: in the time dt · t, a step is 1 long."""
    return discretize(A * dt, B * dt, 1.0, "bilinear")


def digits_accuracy(A_bar: Float[Tensor, "n n"], B_bar: Float[Tensor, "n"], train: Digits, test: Digits, *, steps: int = 300) -> float:
    """Test accuracy of a softmax regression on the state after the last pixel. Only the readout learns."""
    rows = responses(A_bar, B_bar, train.pixels.shape[1]).float().flip(0)  # pixel 0 lies farthest back
    states = [digits.pixels @ rows for digits in (train, test)]
    mean, size = states[0].mean(0), states[0].std(0).clamp_min(1e-12)
    known, new = ((part - mean) / size for part in states)
    readout = fit_softmax(known, train.labels, steps)
    return (readout(new).argmax(1) == test.labels).float().mean().item()


def fit_softmax(x: Float[Tensor, "examples n"], labels: Int[Tensor, "examples"], steps: int) -> torch.nn.Linear:
    """A linear readout to ten classes, from zeros, by Adam on all examples at once."""
    readout = torch.nn.Linear(x.shape[1], 10)
    torch.nn.init.zeros_(readout.weight)
    torch.nn.init.zeros_(readout.bias)
    optimizer = torch.optim.Adam(readout.parameters(), lr=0.05)
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(readout(x), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return readout
