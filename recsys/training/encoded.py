"""What a tower's pass over rows gives, however it is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from recsys.models.draws import Draws
from recsys.models.two_tower import MIN_TEMPERATURE

Gradients: TypeAlias = "list[Tensor | None]"


@dataclass(frozen=True, eq=False)
class Encoded:
    """Some rows of a batch, encoded.

    Attributes:
        vectors: as they enter the product, (n, D) float32.
        mimic: the sum of the mimic loss over the known ids, a scalar; 0 without one.
        n_known: how many those are, a scalar.
        trace: what the way back needs.
    """

    vectors: Tensor
    mimic: Tensor
    n_known: Tensor
    trace: Any


class TowerSteps(Protocol):
    """A tower in training, there and back; threads may pass different rows at once.

    Attributes:
        parameters: that get a gradient.
    """

    parameters: list[nn.Parameter]

    def prepare(self) -> None:
        """Look at the weights again: to be called before the rows of each batch."""
        ...

    def forward(self, indices: Tensor, draws: Draws) -> Encoded:
        """Encode the indices, (n,) int64, with the draws of their rows."""
        ...

    def backward(self, encoded: Encoded, to_vectors: Tensor, mimic_share: Tensor) -> Gradients:
        """The gradient of each parameter, None where there is none.

        Args:
            encoded: as given.
            to_vectors: the gradient of its vectors, (n, D).
            mimic_share: that of its mimic sum.
        """
        ...


class Length:
    """What the vectors of a tower are scaled to, for the cosine: 1 over the temperature, or 1.

    Args:
        logarithm: of the length, a scalar; learned where it is a parameter. None is a length of 1.
    """

    def __init__(self, logarithm: Tensor | None = None) -> None:
        self.logarithm = logarithm
        self.is_learned = isinstance(logarithm, nn.Parameter)
        self.value = np.float32(1)
        self._slope = 0.0

    def prepare(self) -> None:
        """Look at the logarithm again."""
        if self.logarithm is not None:
            longest, free = 1 / MIN_TEMPERATURE, self.logarithm.detach().exp().item()
            self.value = np.float32(min(free, longest))
            self._slope = free if free <= longest else 0.0

    def gradient(self, to_length: float) -> Tensor:
        """That of the logarithm, a scalar."""
        return torch.tensor(to_length * self._slope)
