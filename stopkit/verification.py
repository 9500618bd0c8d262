"""Accept, residual, bonus: speculative sampling (Leviathan et al., arXiv 2211.17192) as pure functions on tensors.

Shapes: B rows, V tokens, blocks of at most K. p is the target's distribution at every block position and at the one
after it, q the draft's, both [B, K + 1, V] as they are really sampled. q is zero past a row's drafted tokens; the
residual against zero is p itself, which makes the bonus token an ordinary residual.

`coupled` is the same law from the other end: the draft token for an output that is known already, which makes replay
exact. In a round, a draft token d is drawn from q, kept with probability min(1, p(d) / q(d)), and replaced by a draw
from norm(max(0, p − q)) otherwise. The output x has distribution p, and d and x have a joint law. To draw x from p
first and then d from `coupled(p, q, x)` gives the same joint law: d = x with probability min(p(x), q(x)), and d ≠ x
with the probability that the residual leaves. docs/explanation/replay.md has the proof.
"""

import torch
from torch import Tensor


def survival(p: Tensor, q: Tensor, drawn: Tensor) -> Tensor:
    """S_k, the probability that at least the first k tokens are accepted, for k = 1 … K; zero past the drafted tokens.

    p, q: [B, K + 1, V]; drawn: [B, K] long, drawn from q. Returns [B, K] in p's dtype.
    """
    token = drawn.unsqueeze(-1)
    p_drawn, q_drawn = p.gather(-1, token).squeeze(-1), q.gather(-1, token).squeeze(-1)
    ratio = (p_drawn / q_drawn).clamp(max=1).where(q_drawn > 0, 0.0)
    return ratio.cumprod(-1)


def residual(p: Tensor, q: Tensor) -> Tensor:
    """norm(max(0, p − q)) over the last dimension; p where nothing is left, which only rounding can cause."""
    left = (p - q).clamp(min=0)
    mass = left.sum(-1, keepdim=True)
    return (left / mass).where(mass > 0, p)


def next_distribution(p: Tensor, q: Tensor, accepted: Tensor) -> Tensor:
    """The distribution of the token after the accepted ones: residual after a rejection, bonus after a full block.

    p, q: [B, K + 1, V]; accepted: [B] long. Returns [B, V].
    """
    at = accepted.view(-1, 1, 1).expand(-1, 1, p.shape[-1])
    return residual(p.gather(1, at), q.gather(1, at)).squeeze(1)


def coupled(p: Tensor, q: Tensor, output: Tensor) -> Tensor:
    """The distribution of the draft token given the target's `output` [...] (long): p, q and result are [..., V].

    x itself with probability min(1, q(x) / p(x)), else a draw from norm(max(0, q − p)), which never gives x.
    """
    token = output.unsqueeze(-1)
    p_drawn, q_drawn = p.gather(-1, token), q.gather(-1, token)
    agrees = (q_drawn / p_drawn).clamp(max=1).where(p_drawn > 0, 0.0)
    same = torch.zeros_like(q).scatter(-1, token, 1.0)
    return torch.lerp(residual(q, p).where(agrees < 1, same), same, agrees)
