"""How alike two sets of hidden states of the same tokens are."""

import torch
from torch import Tensor


def mean_cosine(x_TD: Tensor, y_TD: Tensor) -> Tensor:
    """The mean over tokens of cos(x_t, y_t); shapes (T, D) to a scalar."""
    return torch.nn.functional.cosine_similarity(x_TD.double(), y_TD.double(), dim=-1).mean()


def linear_cka(x_TD: Tensor, y_TD: Tensor) -> Tensor:
    """||Y'X||_F^2 / (||X'X||_F ||Y'Y||_F) of the centred states (Kornblith et al., arXiv 1905.00414).

    1 for states that are equal up to rotation, shift and scale; for independent ones it falls to 0 as the
    tokens outnumber the width, so it wants a control. Shapes (T, D1), (T, D2) to a scalar; NaN if either is
    constant.
    """
    x = x_TD.double() - x_TD.double().mean(dim=0)
    y = y_TD.double() - y_TD.double().mean(dim=0)
    if len(x) < min(x.shape[1], y.shape[1]):
        # The same numbers from the (T, T) products: tr(XX' YY') = ||Y'X||_F^2.
        x_TT, y_TT = x @ x.t(), y @ y.t()
        cross, own = (x_TT * y_TT).sum(), x_TT.norm() * y_TT.norm()
    else:
        cross, own = (y.t() @ x).norm() ** 2, (x.t() @ x).norm() * (y.t() @ y).norm()
    return cross / own
