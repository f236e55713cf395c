"""What a layer's inputs say about its weights: how much an error in one costs, and which others can make up for it.

Symbols: X the layer's inputs, one token a row; H = XᵀX / tokens, "hessian", since it is half the second derivative of the mean of
|x W - x Ŵ|² in each row of the weight; U the upper triangular matrix with UᵀU = H⁻¹ (GPTQ, arXiv 2210.17323, section 3.3).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hybridlab.llm.int_codes import require_finite


def layer_hessian(x: Float[Tensor, "tokens d_in"]) -> Float[Tensor, "d_in d_in"]:
    """XᵀX / tokens in float64: how much an error in one weight costs, and which weights can make up for which.

    Raises: ValueError if a number of x is NaN or infinite.
    """
    require_finite("x", x)
    x = x.double()
    return x.T @ x / len(x)


def compensation(hessian: Float[Tensor, "d_in d_in"], damping: float) -> Float[Tensor, "d_in d_in"]:
    """The upper triangular U with UᵀU = (H + damping · mean of H's diagonal · I)⁻¹, in float64.

    Raises: ValueError if that sum is not positive definite, as when no token ever came.
    """
    damped = hessian.double() + damping * hessian.double().diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    lower, failed = torch.linalg.cholesky_ex(damped)
    if failed:
        raise ValueError("the hessian is not positive definite: it needs inputs that are not all zero, and damping above 0")
    return torch.linalg.cholesky(torch.cholesky_inverse(lower), upper=True)
