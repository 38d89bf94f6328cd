"""Set2Set: Vinyals, Bengio and Kudlur, "Order matters: sequence to sequence for sets", ICLR 2016."""

import torch
from torch import Tensor, nn

from matscout.models.layers.segments import gather, segment_softmax, segment_sum


class WeightedSet2Set(nn.Module):
    """Set2Set over rows that stand for several equal ones each.

    q = LSTM(q*), a_i = w_i exp(x_i·q) / sum_j w_j exp(x_j·q), r = sum_i a_i x_i, q* = q ⊕ r; with the weights
    w the attention over a row of multiplicity w is the attention over w copies of it.

    Args:
        dim: length of the rows; the result has twice this length.
        n_steps: of the LSTM.
    """

    def __init__(self, dim: int, n_steps: int = 3) -> None:
        super().__init__()
        self.dim = dim
        self.n_steps = n_steps
        self.lstm = nn.LSTMCell(2 * dim, dim)

    def forward(self, x: Tensor, weights: Tensor, segment: Tensor, n_segments: int) -> Tensor:
        """(m, dim), (m,) positive, (m,) int64 -> (n_segments, 2 dim)."""
        log_weights = torch.log(weights)
        q_star = x.new_zeros(n_segments, 2 * self.dim)
        q = memory = x.new_zeros(n_segments, self.dim)
        for _ in range(self.n_steps):
            q, memory = self.lstm(q_star, (q, memory))
            logits = (x * gather(q, segment)).sum(dim=-1) + log_weights
            attention = segment_softmax(logits, segment, n_segments)
            q_star = torch.cat([q, segment_sum(attention[:, None] * x, segment, n_segments)], dim=1)
        return q_star
