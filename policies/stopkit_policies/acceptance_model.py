"""An acceptance model that learns as it goes: the part of `goodput` that knows what will be accepted.

Two logistic regressions share their features. *own* gives the acceptance probability of a token that was drawn, *next*
that of the position after it, before anything is known of it. What they see of a position:

* whether it is a drawn token or the beginning of a block (*next* at the beginning of a block is what planning asks for)
* logit q(x), of the drawn token in the distribution that signals describe
* how often the target has agreed lately in this sequence: ±1 a judged token, smoothed by 0.9
* whether the sequence already holds the last three tokens in this order; text that repeats itself is easy to draft
* the token itself: a correction of its own for each, by a hash, for *own* that of the drawn token, for *next* that of
  the token before the position

A round is one Newton step on decayed second-order statistics, from a prior that assumes little. Nothing after the first
rejected token is known, so positions are learned from up to it: *next* is a conditional probability, given that all
before was accepted, and a product of *own* and *next* estimates survival without bias.
"""

import torch
from torch import Tensor

from stopkit import RoundOutcome, State

TEXT, LOGIT, AGREEMENT, SEEN, BEGINNING = range(5)
"""The features."""
OWN, NEXT = range(2)
"""The regressions."""
PRIOR = ((0.3, 0.45, 0.3, 1.0, 0.0), (0.3, 0.3, 0.3, 0.1, 0.3))
"""Weights before anything is learned: acceptance of a half or more, rising with the draft's confidence."""
PRIOR_PRECISION = 1.0
CORRECTION_PRECISION = 2.0
"""How much is assumed to be known: of each weight, and of a token's correction; in units of p·(1 − p) a token."""
DECAY = 0.9995
"""Of what was learned, at every judged token: half is forgotten in 1,400."""
SMOOTHING = 0.9
OPTIMISM = 0.25
"""Standard deviations that are added to *next*'s constant: what is tried too rarely to be known is tried."""
LEAST_CURVATURE = 0.01
EDGE = 1e-3
"""Probabilities closer to 0 or 1 than this are as good as this."""
TOKENS = 8192
"""Hash buckets of tokens' corrections."""
TRIGRAMS = 8191
"""Hash buckets of a sequence's trigrams; a prime, since packed trigrams are taken modulo it."""
BITS = 20
"""Bits that hold a token in a packed trigram."""
MASK = (1 << BITS) - 1


def initial(batch_size: int, device: torch.device) -> State:
    """The model before the first round of `batch_size` new sequences; sequences share what is learned."""
    weights = torch.tensor(PRIOR, dtype=torch.float64, device=device)
    precision = (PRIOR_PRECISION * torch.eye(len(PRIOR[0]), dtype=torch.float64, device=device)).repeat(2, 1, 1)
    return State(
        rows={
            "agreement": weights.new_zeros(batch_size),
            "before": torch.zeros(batch_size, dtype=torch.long, device=device),
            "here": torch.zeros(batch_size, dtype=torch.long, device=device),
            "trigrams": torch.zeros(batch_size, TRIGRAMS, dtype=torch.bool, device=device),
            "base": weights.new_zeros(batch_size, 2),
        },
        shared={
            "weights": weights,
            "optimistic": weights + OPTIMISM * PRIOR_PRECISION**-0.5 * _constants(weights),
            "slopes": _slopes(weights),
            "precision": precision,
            "correction": weights.new_zeros(2, TOKENS),
            "certainty": weights.new_full((2, TOKENS), CORRECTION_PRECISION),
        },
    )


def begin(state: State, last_token: Tensor) -> tuple[Tensor, State]:
    """Log-odds [B] that the first token of a block will be accepted, after `last_token` [B] (−1 where unknown)."""
    token, agreement, weights = last_token.clamp(min=0), state["agreement"], state["optimistic"]
    whole = state["before"] + token
    odds = weights[NEXT, BEGINNING] + agreement * weights[NEXT, AGREEMENT]
    return odds + state["correction"][NEXT, _bucket(token, beginning=True)], state.put(
        before=_onwards(whole),
        here=_onwards(whole),
        trigrams=state["trigrams"].scatter(1, (whole % TRIGRAMS).unsqueeze(1), True),
        base=weights[:, TEXT] + agreement.unsqueeze(1) * weights[:, AGREEMENT],
    )


def drawn(state: State, token: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor]:
    """Log-odds [B, 2] that the drawn `token` [B] and the one after it will be accepted; `confidence` is q(x) [B].

    With the value of `here` after the token. Asked at every draft step: what need not be is done by the others.
    """
    whole = state["here"] + token
    seen = state["trigrams"].gather(1, (whole % TRIGRAMS).unsqueeze(1))
    known = torch.cat([confidence.double().logit(EDGE).unsqueeze(1), seen], 1)
    constant = state["correction"].index_select(1, _bucket(token)).T + state["base"]
    return torch.addmm(constant, known, state["slopes"]), _onwards(whole)


def learn(state: State, outcome: RoundOutcome, confidence: Tensor) -> State:
    """The model after a round whose drawn tokens had these probabilities, [B, n]."""
    judged, kept = outcome.judged(confidence.shape[1])
    judged = judged & outcome.context.active.unsqueeze(1)
    kept = judged & kept
    token = torch.stack([drawn.token for drawn in outcome.drawn], 1).where(judged, 0)
    before, last = state["before"].unsqueeze(1), outcome.context.last_token.clamp(min=0).unsqueeze(1)
    text = torch.cat([before >> 2 * BITS, before >> BITS & MASK, token], 1)
    place = ((text[:, :-2] << 2 * BITS) + (text[:, 1:-1] << BITS) + token) % TRIGRAMS
    seen = state["trigrams"].gather(1, place)
    own, following = _bucket(token), torch.cat([_bucket(last, beginning=True), _bucket(token[:, :-1])], 1)
    features = _features(state["agreement"], confidence.where(judged, 0.5), seen)
    learned = _newton_step(state, features, torch.stack([own, following]), judged, kept)
    accepted = kept.sum(1, keepdim=True)
    end = text.gather(1, torch.cat([accepted, accepted + 1], 1))
    return learned.put(
        agreement=_smoothed(state["agreement"], judged, kept),
        before=_onwards((end[:, 0] << BITS) + end[:, 1]),
        trigrams=_marked(state["trigrams"], place, kept),
    )


def _features(agreement: Tensor, confidence: Tensor, seen: Tensor) -> Tensor:
    """[2, B, n, features]: of each token for *own*, of what comes before it for *next*."""
    logit = confidence.to(agreement.dtype).logit(EDGE)
    one, none, agreed = torch.ones_like(logit), torch.zeros_like(logit), agreement.unsqueeze(1).expand_as(logit)
    of_tokens = torch.stack([one, logit, agreed, seen.to(logit.dtype), none], 2)
    of_beginning = torch.stack([none, none, agreed, none, one], 2)[:, :1]
    return torch.stack([of_tokens, torch.cat([of_beginning, of_tokens[:, :-1]], 1)])


def _newton_step(state: State, features: Tensor, bucket: Tensor, judged: Tensor, kept: Tensor) -> State:
    """Both regressions after the judged positions; features [2, B, n, F], buckets [2, B, n]."""
    weights, correction = state["weights"], state["correction"]
    features, bucket, judged, kept = features.flatten(1, 2), bucket.flatten(1), judged.flatten(), kept.flatten()
    own = correction.gather(1, bucket)
    chance = ((features * weights.unsqueeze(1)).sum(2) + own).sigmoid()
    missed = (kept.to(chance.dtype) - chance).where(judged, 0.0)
    curvature = (chance * (1 - chance)).clamp(min=LEAST_CURVATURE).where(judged, 0.0)
    memory = DECAY ** judged.sum().to(chance.dtype)

    prior = (1 - memory) * PRIOR_PRECISION * torch.eye(features.shape[2], dtype=chance.dtype, device=chance.device)
    weighed = (features * curvature.unsqueeze(2)).unsqueeze(3)
    precision = memory * state["precision"] + prior + _added(weighed * features.unsqueeze(2))
    covariance = torch.linalg.inv_ex(precision).inverse  # inv would wait for the device, to see whether it went well
    moved = weights + (covariance * _added(features * missed.unsqueeze(2)).unsqueeze(1)).sum(2)

    certainty = memory * state["certainty"] + (1 - memory) * CORRECTION_PRECISION
    certainty = certainty.scatter_add(1, bucket, curvature)
    owed = torch.zeros_like(correction).scatter_add(1, bucket, missed)
    hope = OPTIMISM * covariance.diagonal(dim1=1, dim2=2).sqrt() * _constants(weights)
    optimistic = (moved + hope).where(judged.any(), state["optimistic"])
    return state.put(
        weights=moved,
        optimistic=optimistic,
        slopes=_slopes(optimistic),
        precision=precision,
        correction=correction + owed / certainty,
        certainty=certainty,
    )


def _added(values: Tensor) -> Tensor:
    """The sum over the second dimension, in order: rows that add nothing change no bit of it."""
    return values.cumsum(1)[:, -1]


def _slopes(weights: Tensor) -> Tensor:
    """[2, 2]: what the features that a drawn token decides count, for *own* and *next*; ready for `drawn`."""
    return torch.stack([weights[:, LOGIT], weights[:, SEEN]])


def _constants(weights: Tensor) -> Tensor:
    """1 at *next*'s constants, of positions in a block and of its beginning; 0 elsewhere."""
    chosen = torch.zeros_like(weights)
    places = torch.tensor([[TEXT, BEGINNING]], device=weights.device)
    return torch.cat([chosen[:NEXT], chosen[NEXT:].scatter(1, places, 1.0)])


def _bucket(token: Tensor, beginning: bool = False) -> Tensor:
    """Where a token's correction is; at the beginning of a block it has another."""
    half = TOKENS // 2
    return token % half + half if beginning else token % half


def _onwards(whole: Tensor) -> Tensor:
    """A packed trigram's last two tokens, with room for the next."""
    return (whole & (1 << 2 * BITS) - 1) << BITS


def _smoothed(agreement: Tensor, judged: Tensor, kept: Tensor) -> Tensor:
    """Agreement after the judged positions, ±1 each in order."""
    age = judged.sum(1, keepdim=True) - 1 - torch.arange(judged.shape[1], device=judged.device)
    share = ((1 - SMOOTHING) * SMOOTHING ** age.clamp(min=0).to(agreement.dtype)).where(judged, 0.0)
    sign = 2 * kept.to(agreement.dtype) - 1
    return agreement * SMOOTHING ** judged.sum(1).to(agreement.dtype) + (share * sign).sum(1)


def _marked(trigrams: Tensor, place: Tensor, kept: Tensor) -> Tensor:
    """With the accepted tokens' trigrams; a spare place at the end takes the others."""
    spare = torch.nn.functional.pad(trigrams, (0, 1))
    return spare.scatter(1, place.where(kept, TRIGRAMS), True)[:, :-1]
