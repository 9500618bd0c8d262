"""Draft tokens for an output that is known already: the coupling that makes replay exact.

In a round, a draft token d is drawn from q, kept with probability min(1, p(d) / q(d)), and replaced by a draw from
norm(max(0, p − q)) otherwise. The output x has distribution p, and d and x have a joint law. Drawing x from p first and
then d from `coupled(p, q, x)` gives the same joint law: d = x with probability min(p(x), q(x)), and d ≠ x with the
probability that the residual leaves. See docs/explanation/replay.md for the proof.
"""

import torch
from torch import Tensor

from stopkit.verification import residual


def coupled(p: Tensor, q: Tensor, output: Tensor) -> Tensor:
    """The distribution of the draft token given the target's `output` [...] (long): p, q and result are [..., V].

    x itself with probability min(1, q(x) / p(x)), else a draw from norm(max(0, q − p)), which never gives x.
    """
    token = output.unsqueeze(-1)
    p_drawn, q_drawn = p.gather(-1, token), q.gather(-1, token)
    agrees = (q_drawn / p_drawn).clamp(max=1).where(p_drawn > 0, 0.0)
    same = torch.zeros_like(q).scatter(-1, token, 1.0)
    return torch.lerp(residual(q, p).where(agrees < 1, same), same, agrees)
