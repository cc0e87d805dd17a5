"""What autograd hands our own functions between their two passes; torch itself leaves its type open."""

from typing import Protocol

from torch import Tensor


class Saved(Protocol):
    """``ctx`` of an autograd function; one that keeps more than tensors adds its fields."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    """By the arguments of the forward pass."""

    def save_for_backward(self, *tensors: Tensor) -> None:
        """Keep ``tensors`` for the way back."""
        ...

    def set_materialize_grads(self, value: bool) -> None:
        """Whether outputs that a loss does not use have gradients of zero; if not, they have None."""
        ...
