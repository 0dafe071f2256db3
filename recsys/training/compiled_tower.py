"""A tower forwards and backwards by hand: matrix products, and one compiled loop between two.

What is computed is what :class:`recsys.models.tower.Tower` says. Through its modules and autograd,
a batch of hundreds takes longer to call its many layers than to compute them, and threads that
share it wait for each other, since one at a time can make calls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from recsys.data.arrays import BoolArray, FloatArray, IntArray
from recsys.models.draws import Draws, threshold
from recsys.models.dropout import ReluDropout
from recsys.models.feature_encoder import LEAST_MASS, FeatureEncoder
from recsys.models.fusion import AdaptiveMimicFusion, ConcatFusion, SumFusion
from recsys.models.tower import Tower
from recsys.narrow import numbers
from recsys.training import tower_kernels as kernels
from recsys.training.encoded import Encoded, Gradients, Length


@dataclass(frozen=True, eq=False)
class _Units:
    """What the feature encoder made.

    Attributes:
        wide: dense features and embedded bags, (n, Fd + ...).
        filled: of each well-filled bag, its rows as a matrix, by name.
        active: what entered each further layer, (n, width).
        output: the metadata embeddings, (n, D); of a hidden layer in the type of the products.
    """

    wide: Tensor
    filled: Mapping[str, Tensor]
    active: list[Tensor]
    output: Tensor


@dataclass(frozen=True, eq=False)
class _Trace:
    """What the way back needs.

    Attributes:
        indices: of the batch's users or items, (n,).
        rows: of the id embedding's weight, (n,).
        ids: their vectors, (n, D).
        is_known: whether the row is one of a known id, (n,).
        units: of the feature encoder.
        both: ids and metadata side by side, (n, 2 D), in the type of the products; else None.
        gates: of adaptive mimic, (n, D); else None.
        inverse: one over the length of each fused vector, (n,); None without a length.
    """

    indices: Tensor
    rows: IntArray
    ids: Tensor
    is_known: BoolArray
    units: _Units
    both: Tensor | None
    gates: Tensor | None
    inverse: FloatArray | None


class CompiledTower:
    """One tower in training on the CPU.

    Args:
        tower: supported, see :meth:`supports`.
        length: what its vectors are scaled to; None leaves them.
        has_mimic: sum up the mimic loss.
        dtype: that matrices are multiplied in, float32 or bfloat16.
    """

    def __init__(
        self, tower: Tower, length: Length | None, *, has_mimic: bool, dtype: torch.dtype
    ) -> None:
        encoder = tower.encoder
        assert encoder is not None
        self._has_mimic = has_mimic
        self.parameters = [each for each in tower.parameters() if each.requires_grad]
        if length is not None and length.is_learned:
            self.parameters.append(length.logarithm)  # type: ignore[arg-type]
        self._tower = tower
        self._encoder = encoder
        self._length = length
        self._dtype = dtype
        self._ids = tower.id_embedding.embedding.weight
        self._bags = {}
        self._filled = {}
        for name, table in encoder.features.bag_tables.items():
            offsets, columns, shares = table.bag
            weights = np.empty(0, dtype=np.float32) if shares is None else shares.numpy()
            self._bags[name] = (offsets.numpy(), columns.numpy(), weights)
            if table.matrix is not None and name in encoder.projections:
                self._filled[name] = table.matrix_in(dtype)
        self._layers = _layers(encoder)
        self._linear = getattr(tower.fusion, "linear", None)  # of concat and of the gates
        linears = [linear for _, linear in self._layers]
        linears += [] if self._linear is None else [self._linear]
        self._factors = [each for linear in linears for each in linear.parameters()]
        self._factors += encoder.projection_weights.values()
        self._multiplied: dict[Tensor, Tensor] = {}

    @staticmethod
    def supports(tower: Tower) -> bool:
        """Whether it is one with features and sparse ids, on the CPU."""
        ids = tower.id_embedding.embedding
        is_known = isinstance(tower.fusion, AdaptiveMimicFusion | ConcatFusion | SumFusion)
        return is_known and ids.sparse and ids.weight.device.type == "cpu"

    def prepare(self) -> None:
        """Take the weights as the products of the next batch need them."""
        self._multiplied = {each: each.detach().to(self._dtype) for each in self._factors}
        if self._length is not None:
            self._length.prepare()

    def forward(self, indices: Tensor, draws: Draws) -> Encoded:
        """The vectors of the indices, (n,) int64, and the sum of their mimic loss."""
        tower = self._tower
        rows = tower.id_embedding.rows(indices, draws, tower.id_dropout)
        ids = self._ids.detach().index_select(0, rows)
        numbered = rows.numpy()
        is_known = numbered > 0
        units = self._encode(indices, draws)
        both, gates, mixed = self._fuse(ids, units.output, is_known)
        vectors, inverse = mixed, None
        if self._length is not None:
            inverse = np.empty(len(rows), dtype=np.float32)
            vectors = torch.empty_like(mixed)
            kernels.scale_to(numbers(mixed), self._length.value, vectors.numpy(), inverse)
        total = 0.0
        if self._has_mimic:
            total = kernels.sum_squares(numbers(ids), numbers(units.output), is_known)
        trace = _Trace(indices, numbered, ids, is_known, units, both, gates, inverse)
        return Encoded(vectors, torch.tensor(total), torch.tensor(is_known.sum()), trace)

    def backward(self, encoded: Encoded, to_vectors: Tensor, mimic_share: Tensor) -> Gradients:
        """The gradient of each of :attr:`parameters`."""
        trace: _Trace = encoded.trace
        found: dict[Tensor, Tensor] = {}
        to_mixed = to_vectors
        if self._length is not None and trace.inverse is not None:
            to_mixed = torch.empty_like(to_vectors)
            arrays = (numbers(to_vectors), numbers(encoded.vectors), trace.inverse)
            slope = kernels.take_across(*arrays, self._length.value, to_mixed.numpy())
            if self._length.logarithm is not None:
                found[self._length.logarithm] = self._length.gradient(slope)
        to_ids, to_metadata = self._unfuse(trace, to_mixed, found)
        if self._has_mimic:
            pulled = (numbers(trace.ids), numbers(trace.units.output), trace.is_known)
            kernels.pull_to_ids(*pulled, np.float32(mimic_share.item()), to_metadata.numpy())
        self._unencode(trace, to_metadata, found)
        known, slopes = kernels.known_rows(trace.rows, to_ids.numpy())
        found[self._ids] = torch.sparse_coo_tensor(
            torch.from_numpy(known).unsqueeze(0),
            torch.from_numpy(slopes),
            self._ids.shape,
            check_invariants=False,
        )
        return [found.get(parameter) for parameter in self.parameters]

    def _encode(self, indices: Tensor, draws: Draws) -> _Units:
        encoder, weights = self._encoder, self._multiplied
        wide = self._widen(indices)
        units = torch.addmm(encoder.bias.detach(), wide, encoder.dense_weight.detach())
        filled = {}
        for name, projection in encoder.projection_weights.items():
            weight = weights[projection]
            if name in self._filled:
                filled[name] = self._filled[name].index_select(0, indices)
                units.add_(filled[name] @ weight)
            else:
                kernels.gather(*self._bags[name], indices.numpy(), numbers(weight), units.numpy())
        active = []
        for activation, linear in self._layers:
            entering = units.new_empty(units.shape, dtype=self._dtype)
            keys = draws.rows(activation.stream, len(units))
            limit, scale = np.uint32(threshold(activation.share)), _scale(activation)
            kernels.keep_active(units.float().numpy(), keys, limit, scale, numbers(entering))
            units = torch.addmm(weights[linear.bias], entering, weights[linear.weight].t())
            active.append(entering)
        return _Units(wide, filled, active, units)

    def _widen(self, indices: Tensor) -> Tensor:
        """Dense features and the weighted means of embedded bags, side by side."""
        encoder = self._encoder
        parts = [encoder.features.dense.index_select(0, indices)]
        for name, weight in encoder.embedding_weights.items():
            total = torch.zeros(len(indices), weight.shape[1])
            kernels.gather(*self._bags[name], indices.numpy(), numbers(weight), total.numpy())
            parts.append(total / self._mass(name, indices))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _mass(self, name: str, indices: Tensor) -> Tensor:
        """What the sums of an embedded bag are divided by, (n, 1)."""
        table = self._encoder.features.bag_tables[name]
        return table.mass[indices].clamp(min=LEAST_MASS).unsqueeze(1)

    def _unwiden(self, indices: Tensor, to_wide: Tensor, found: dict[Tensor, Tensor]) -> None:
        """Add the gradients of the embeddings of bags."""
        encoder = self._encoder
        weights = encoder.embedding_weights
        widths = [weight.shape[1] for weight in weights.values()]
        _, *of_bags = torch.split(to_wide, [encoder.features.dense_dim, *widths], dim=1)
        for (name, weight), to_mean in zip(weights.items(), of_bags, strict=True):
            found[weight] = torch.zeros(weight.shape)
            slopes = (to_mean / self._mass(name, indices)).contiguous()
            bag = (*self._bags[name], indices.numpy())
            kernels.scatter(*bag, slopes.numpy(), found[weight].numpy())

    def _unencode(self, trace: _Trace, to_units: Tensor, found: dict[Tensor, Tensor]) -> None:
        """Add the gradients of the encoder's weights, from that of the metadata embeddings."""
        encoder, units = self._encoder, trace.units
        for (activation, linear), entered in zip(
            reversed(self._layers), reversed(units.active), strict=True
        ):
            slopes = to_units.to(self._dtype)
            self._differentiate(linear, slopes, entered, found)
            to_entered = slopes @ self._multiplied[linear.weight]
            to_units = torch.empty(entered.shape)
            arrays = (numbers(to_entered), numbers(entered), _scale(activation))
            kernels.pass_active(*arrays, to_units.numpy())
        found[encoder.bias] = to_units.sum(0)
        found[encoder.dense_weight] = units.wide.t() @ to_units
        if encoder.embeddings:
            self._unwiden(trace.indices, to_units @ encoder.dense_weight.detach().t(), found)
        for name, weight in encoder.projection_weights.items():
            if name in units.filled:
                found[weight] = (units.filled[name].t() @ to_units.to(self._dtype)).float()
            else:
                found[weight] = torch.zeros(weight.shape)
                bag = (*self._bags[name], trace.indices.numpy())
                kernels.scatter(*bag, to_units.numpy(), found[weight].numpy())

    def _fuse(
        self, ids: Tensor, metadata: Tensor, is_known: BoolArray
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Both side by side and the gates, where there are such, and the fused vectors."""
        if self._linear is None:
            return None, None, ids + metadata
        both = ids.new_empty(len(ids), 2 * ids.shape[1], dtype=self._dtype)
        kernels.set_side_by_side(numbers(ids), numbers(metadata), numbers(both))
        bias, weight = (self._multiplied[each] for each in (self._linear.bias, self._linear.weight))
        logits = torch.addmm(bias, both, weight.t()).float()
        if isinstance(self._tower.fusion, ConcatFusion):
            return both, None, logits
        gates, mixed = logits.sigmoid_(), torch.empty_like(ids)
        kernels.mix(gates.numpy(), numbers(ids), numbers(metadata), is_known, mixed.numpy())
        return both, gates, mixed

    def _unfuse(
        self, trace: _Trace, to_mixed: Tensor, found: dict[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The gradients of id and metadata embeddings, (n, D) float32 each."""
        if self._linear is None or trace.both is None:
            return to_mixed, to_mixed
        if trace.gates is None:
            to_ids, to_metadata = torch.zeros(to_mixed.shape), torch.zeros(to_mixed.shape)
            to_logits = to_mixed.to(self._dtype)
        else:
            to_ids, to_metadata = torch.empty(to_mixed.shape), torch.empty(to_mixed.shape)
            to_logits = to_mixed.new_empty(to_mixed.shape, dtype=self._dtype)
            given = (trace.gates, trace.ids, trace.units.output, to_mixed)
            arrays = (numbers(each) for each in (*given, to_logits, to_ids, to_metadata))
            kernels.unmix(*arrays)
        self._differentiate(self._linear, to_logits, trace.both, found)
        to_both = to_logits @ self._multiplied[self._linear.weight]
        kernels.add_sides(numbers(to_both), to_ids.numpy(), to_metadata.numpy())
        return to_ids, to_metadata

    def _differentiate(
        self, linear: nn.Linear, slopes: Tensor, entered: Tensor, found: dict[Tensor, Tensor]
    ) -> None:
        found[linear.weight] = (slopes.t() @ entered).float()
        found[linear.bias] = slopes.sum(0, dtype=torch.float32)


def _layers(encoder: FeatureEncoder) -> list[tuple[ReluDropout, nn.Linear]]:
    layers = list(encoder.hidden or ())
    return list(zip(layers[::2], layers[1::2], strict=True))  # type: ignore[arg-type]


def _scale(activation: ReluDropout) -> np.float32:
    return np.float32(1 / (1 - activation.share))
