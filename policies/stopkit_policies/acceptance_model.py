"""An acceptance model that learns as it goes: the part of `goodput` that knows what will be accepted.

Two logistic regressions share their features. *own* gives the acceptance probability of a token that was drawn, *next*
that of the position after it, before anything is known of it. What they see of a token:

* logit q(x), in the distribution that signals describe; 0 for the last token of the output, after which a block begins
* how often the target has agreed lately in this sequence: from −1 to 1, a round's mean, smoothed by 0.9 a judged token
* what became of the sequence's texts of the last 1 … 4 tokens when they came up before: for *own*, +1 where they became
  output, −1 where the last token was drawn and rejected, 0 where they are new; for *next*, whether the target agreed
  with what the draft drew after them. Text that repeats itself is drafted as it was before

A round is one Newton step on decayed second-order statistics, from a prior that assumes little. Nothing after the first
rejected token is known, so positions are learned from up to it: *next* is a conditional probability, given that all
before was accepted, and a product of *own* and *next* estimates survival without bias.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from stopkit import RoundOutcome, State

ALWAYS, LOGIT, AGREEMENT, REMEMBERED = range(4)
"""The features; the last is the first of several, one a length of text."""
NEXT, OWN = range(2)
"""The regressions."""
LENGTHS = 4
"""Texts of 1 … 4 tokens are remembered."""
PRIOR = ((0.3, 0.3, 0.3, *(0.1,) * LENGTHS), (0.3, 0.45, 0.3, *(0.3,) * LENGTHS))
"""Weights before anything is learned: acceptance of a half or more, rising with the draft's confidence."""
PRIOR_PRECISION = 0.3
"""How much is assumed to be known of each weight, in units of p·(1 − p) a token."""
DECAY = 0.9998
"""What is left of the memory after every judged token: half of it is forgotten in 3,500."""
SMOOTHING = 0.9
RECALL = 0.35
"""Share of the latest judgement in what is remembered."""
OPTIMISM = 0.5
"""Standard deviations that are added to *next*'s constant: what is tried too rarely to be known is tried."""
CURIOSITY = 2.0
"""Log-odds that are added to *next* where a text repeats itself and what the draft does there is not known."""
LEAST_CURVATURE = 0.01
EDGE = 1e-3
"""Probabilities closer to 0 or 1 than this are as good as this."""
SLOTS = 8191
"""Hash buckets of what a sequence's texts are remembered by; a prime, since hashes are modulo it."""
MULTIPLIER = 0x2545F4914F6CDD1D
"""The base of the polynomial hash of a text."""


def initial(batch_size: int, device: torch.device) -> State:
    """The model before the first round of `batch_size` new sequences; sequences share what is learned."""
    weights = torch.tensor(PRIOR, dtype=torch.float64, device=device)
    hope = pad(weights.new_full((1, 1), OPTIMISM), (0, weights.shape[1] - 1, 0, 1))
    text = torch.zeros(batch_size, LENGTHS, dtype=torch.long, device=device)
    return State(
        rows={
            "agreement": weights.new_zeros(batch_size),
            "text": text,
            "here": text,
            "fates": torch.zeros(batch_size, 2, SLOTS, dtype=torch.float16, device=device),
            "base": weights.new_zeros(batch_size, 2),
        },
        shared={
            "weights": weights,
            "optimistic": weights + hope * PRIOR_PRECISION**-0.5,
            "information": weights.new_zeros(*weights.shape, weights.shape[1]),
            "hope": hope,
            "powers": MULTIPLIER ** torch.arange(LENGTHS, device=device),
        },
    )


def begin(state: State, last_token: Tensor) -> tuple[Tensor, State]:
    """How probably the first token of a block will be accepted, [B], after `last_token` [B] (−1 where unknown)."""
    weights = state["optimistic"]
    text = _followed(state["text"], last_token.clamp_min(0))
    places = _places(text, state["powers"])
    remembered = state["fates"].gather(2, places)
    base = torch.addcmul(weights[:, ALWAYS], state["agreement"].unsqueeze(1), weights[:, AGREEMENT])
    came_true = pad(RECALL * (1 - remembered[:, OWN:]), (0, 0, 1, 0))
    fates = state["fates"].scatter_add(2, places, came_true).clamp_max(1)
    first, _ = _chances(base, weights, remembered)
    return first, state.put(text=text, here=text, base=base, fates=fates)


def drawn(state: State, token: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How probably the token after the drawn `token` [B] will be accepted, and that one, [B]; `confidence` is its q(x).

    With the value of `here` after the token. Asked at every draft step: what need not be is done by the others.
    """
    text, weights = _followed(state["here"], token), state["optimistic"]
    odds = torch.addcmul(state["base"], confidence.double().logit(EDGE).unsqueeze(1), weights[:, LOGIT])
    following, own = _chances(odds, weights, state["fates"].gather(2, _places(text, state["powers"])))
    return following, own, text


def learn(state: State, outcome: RoundOutcome, confidence: Tensor) -> State:
    """The model after a round whose drawn tokens had these probabilities, [B, n]."""
    agreement, fates, accepted = state["agreement"], state["fates"], outcome.accepted
    judged, kept = outcome.judged(confidence.shape[1])
    logit = pad(confidence.double().where(judged, 0.5).logit(EDGE), (1, 0))
    count = judged.sum(1).double()
    agreed = (2 * accepted - count) / count.clamp_min(1)
    judged, kept = (torch.stack([pad(flags, (0, 1)), pad(flags, (1, 0))]) for flags in (judged, kept.double()))

    tokens = [drawn.token.unsqueeze(1) for drawn in outcome.drawn]
    text = torch.cat([state["text"].flip(1), *tokens], 1).unfold(1, LENGTHS, 1).flip(2)
    places = _places(text, state["powers"]).flatten(2)
    remembered = fates.gather(2, places).view(-1, 2, *text.shape[1:]).transpose(0, 1).double()
    plain = torch.stack([torch.ones_like(logit), logit, agreement.unsqueeze(1).expand_as(logit)], 2)
    features = torch.cat([plain.expand(2, -1, -1, -1), remembered], 3)

    changed = ((2 * kept - 1).unsqueeze(3) - remembered) * (RECALL * judged).unsqueeze(3)
    return _newton_step(state, features.flatten(1, 2), judged.flatten(1), kept.flatten(1)).put(
        agreement=torch.lerp(agreed, agreement, torch.pow(SMOOTHING, count)),
        text=text.take_along_dim(accepted.view(-1, 1, 1), 1).squeeze(1),
        fates=fates.scatter_add(2, places, changed.transpose(0, 1).flatten(2).to(fates.dtype)).clamp(-1, 1),
    )


def _chances(odds: Tensor, weights: Tensor, remembered: Tensor) -> tuple[Tensor, Tensor]:
    """*next* and *own*, each [B], from log-odds [B, 2] of what else is seen; remembered is [B, 2, LENGTHS].

    *next* is better where a text repeats itself that was not tried.
    """
    tried, known = remembered[..., -1].unbind(1)
    following, own = (odds + (remembered * weights[:, REMEMBERED:]).sum(2)).unbind(1)
    return torch.add(following, (known - tried.abs()).relu(), alpha=CURIOSITY).sigmoid(), own.sigmoid()


def _newton_step(state: State, features: Tensor, judged: Tensor, kept: Tensor) -> State:
    """Both regressions after the judged positions; features [2, B·(n + 1), F], the others [2, B·(n + 1)]."""
    weights = state["weights"]
    chance = (features * weights.unsqueeze(1)).sum(2).sigmoid()
    missed = (kept - chance) * judged
    curvature = torch.addcmul(chance, chance, chance, value=-1).clamp_min(LEAST_CURVATURE) * judged
    weighed = features * curvature.unsqueeze(2)
    memory = torch.pow(DECAY, judged[OWN].sum().double())
    information = memory * state["information"] + _added(weighed.unsqueeze(3) * features.unsqueeze(2))
    precision = information + PRIOR_PRECISION * torch.eye(features.shape[2], dtype=chance.dtype, device=chance.device)
    covariance = torch.linalg.inv_ex(precision).inverse  # inv would wait for the device, to see whether it went well
    moved = weights + (covariance * _added(features * missed.unsqueeze(2)).unsqueeze(1)).sum(2)
    optimistic = torch.addcmul(moved, state["hope"], covariance.diagonal(dim1=1, dim2=2).sqrt())
    return state.put(weights=moved, optimistic=optimistic, information=information)


def _added(values: Tensor) -> Tensor:
    """The sum over the second dimension, in order: rows that add nothing change no bit of it."""
    return values.cumsum(1)[:, -1]


def _followed(text: Tensor, token: Tensor) -> Tensor:
    """[B, LENGTHS]: `text`, newest token first, after `token` [B]."""
    return torch.cat([token.unsqueeze(1), text[:, :-1]], 1)


def _places(text: Tensor, powers: Tensor) -> Tensor:
    """[B, 2, …, LENGTHS]: where the memory has the first 1, 2, … tokens of `text` [B, …, LENGTHS], by their hash."""
    hashes = torch.addcmul(powers, text, powers).cumsum(-1)
    return (hashes % SLOTS).unsqueeze(1).expand(-1, 2, *text.shape[1:])
