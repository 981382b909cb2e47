"""Dual-stream multiple instance learning (Li, Li & Eliceiri 2021)."""

from __future__ import annotations

from torch import Tensor, nn

from lymphoscope.models.heads.base import BagHead, Seen, head
from lymphoscope.models.networks.base import Criterion
from lymphoscope.models.networks.blocks import scaled, two_logits
from lymphoscope.training.packing import Packing, segment_max, segment_softmax, segment_sum


@head("dsmil")
class DSMIL(BagHead):
    """z = ½ (z_max + z_bag): the row that looks most malignant, and all rows by their likeness to it.

    First stream: s_i = w₀ᵀ x_i + b₀, z_max = max_i s_i; the critical row m is where the maximum is.
    Second stream: q_i = Q x_i + r, u_i = softmax_i(q_iᵀ q_m / √h), z_bag = Σ_i u_i (w₁ᵀ x_i) + b₁
    (equations 2 to 5; the division by √h is from the published code).
    x (N, d) → s (N, 1), q (B, h) → u (N, 1) → z (B, 1), with h = 128 · width.

    No row but the critical one needs its query: q_iᵀ q_m = x_iᵀ (Qᵀ q_m) + rᵀ q_m, and what is the same for
    all rows of a bag, as the last term is, drops out of the softmax.

    The values v_i of the paper are x_i here: a matrix between them and the linear classifier adds nothing
    that w₁ does not have. If rows tie for the maximum, q_m is the mean of their queries, so that their order
    does not matter.

    Training minimises ½ (loss of z) + ½ (loss of z_max), z being what a patient is told; the published code
    has the loss of z_bag in the place of that of z. Whatever clinical values join, they do so in z; z_max has
    to come from the cells.
    """

    def __init__(self, n_features: int, width: float) -> None:
        super().__init__()
        self.query = nn.Linear(n_features, scaled(128, width))
        self.classifiers = nn.Linear(n_features, 2)

    def see(self, features: Tensor, packing: Packing) -> Seen:
        """(N, d) → (B, 1), with z_max (B, 1) beside it."""
        of_row, in_bag = self.classifiers(features).float().split(1, dim=1)
        largest = segment_max(of_row, packing)
        weights = segment_softmax(self._likeness(features, of_row, largest, packing), packing)
        return Seen((largest + segment_sum(weights * in_bag, packing)) / 2, (largest,))

    def with_rows(
        self, loss: Tensor, seen: Seen, packing: Packing, labels: Tensor, criterion: Criterion
    ) -> Tensor:
        """The mean of the losses of z and of z_max."""
        return (loss + criterion(two_logits(seen.rows[0]), labels)) / 2

    def _likeness(self, features: Tensor, of_row: Tensor, largest: Tensor, packing: Packing) -> Tensor:
        """q_iᵀ q_m / √h but for a number that all rows of a bag share, (N, 1)."""
        is_largest = (of_row == largest[packing.owner]).float()
        critical = segment_sum(features * is_largest, packing) / segment_sum(is_largest, packing)
        queries = self.query(critical)
        asked = queries @ self.query.weight / queries.shape[1] ** 0.5  # (B, d)
        return (features * asked[packing.owner]).sum(1, keepdim=True)
