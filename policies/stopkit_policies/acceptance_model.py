"""An acceptance model that learns as it goes: the part of `goodput` that knows what will be accepted.

Two logistic regressions share their features. *own* gives the acceptance probability of a token that was drawn, *next*
that of the position after it, before anything is known of it. What they see of a position:

* whether it is a drawn token or the beginning of a block (*next* at the beginning of a block is what planning asks for)
* logit q(x), of the drawn token in the distribution that signals describe
* how often the target has agreed lately in this sequence: ±1 a judged token, smoothed by 0.9
* what became of the sequence's last texts of 2 … 5 tokens when they came up before: +1 where they became output, −1
  where the last token was drawn and rejected, 0 where they are new; for *next*, of its contexts of 1 … 4 tokens:
  whether the target agreed with what the draft drew after them. Text that repeats itself is drafted as it was before
* the token itself: a correction of its own for each, by a hash, for *own* that of the drawn token, for *next* that of
  the token before the position

A round is one Newton step on decayed second-order statistics, from a prior that assumes little. Nothing after the first
rejected token is known, so positions are learned from up to it: *next* is a conditional probability, given that all
before was accepted, and a product of *own* and *next* estimates survival without bias.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from stopkit import RoundOutcome, State

TEXT, LOGIT, AGREEMENT, BEGINNING, REMEMBERED = range(5)
"""The features; the last is the first of several, one a length of context."""
NEXT, OWN = range(2)
"""The regressions."""
CONTEXTS = 4
"""Lengths of context, 1 … 4 tokens, that are remembered apart."""
PRIOR = ((0.3, 0.3, 0.3, 0.3, *(0.1,) * CONTEXTS), (0.3, 0.45, 0.3, 0.0, *(0.3,) * CONTEXTS))
"""Weights before anything is learned: acceptance of a half or more, rising with the draft's confidence."""
PRIOR_PRECISION = 0.3
CORRECTION_PRECISION = 5.0
"""How much is assumed to be known: of each weight, and of a token's correction; in units of p·(1 − p) a token."""
DECAY = 0.9998
"""Of what was learned, at every judged token: half is forgotten in 3,500."""
SMOOTHING = 0.9
RECALL = 0.5
"""Share of the latest judgement in what is remembered."""
OPTIMISM = 0.5
"""Standard deviations that are added to *next*'s constant: what is tried too rarely to be known is tried."""
CURIOSITY = 2.0
"""Log-odds that are added to *next* where a text repeats itself and what the draft does there is not known."""
LEAST_CURVATURE = 0.01
EDGE = 1e-3
"""Probabilities closer to 0 or 1 than this are as good as this."""
TOKENS = 8192
"""Hash buckets of tokens' corrections."""
SLOTS = 8191
"""Hash buckets of what a sequence's texts are remembered by, for each length; a prime, since hashes are modulo it."""
MULTIPLIER = 0x2545F4914F6CDD1D
"""Of the polynomial hash of a text."""


def initial(batch_size: int, device: torch.device) -> State:
    """The model before the first round of `batch_size` new sequences; sequences share what is learned."""
    weights = torch.tensor(PRIOR, dtype=torch.float64, device=device)
    hashes = torch.zeros(batch_size, CONTEXTS, dtype=torch.long, device=device)
    return State(
        rows={
            "agreement": weights.new_zeros(batch_size),
            "before": pad(hashes, (0, 1)),
            "here": hashes,
            "fates": torch.zeros(batch_size, 2, CONTEXTS, SLOTS, dtype=torch.float16, device=device),
            "base": weights.new_zeros(batch_size, 2),
        },
        shared={
            "weights": weights,
            "optimistic": weights + _hope(weights.new_full(weights.shape, PRIOR_PRECISION**-0.5)),
            "information": weights.new_zeros(2, len(PRIOR[0]), len(PRIOR[0])),
            "correction": weights.new_zeros(2, TOKENS),
            "certainty": weights.new_zeros(2, TOKENS),
        },
    )


def begin(state: State, last_token: Tensor) -> tuple[Tensor, State]:
    """Log-odds [B] that the first token of a block will be accepted, after `last_token` [B] (−1 where unknown)."""
    token, agreement, weights = last_token.clamp(min=0), state["agreement"], state["optimistic"]
    text = torch.cat([state["before"][:, 1:], token.unsqueeze(1)], 1)
    hashes = _hashes(text)
    places = _places(hashes)
    remembered = state["fates"].gather(3, places)
    known = remembered.squeeze(3).double()
    odds = weights[NEXT, BEGINNING] + agreement * weights[NEXT, AGREEMENT] + known[:, NEXT] @ weights[NEXT, REMEMBERED:]
    odds = odds + state["correction"][NEXT, _bucket(token, beginning=True)]
    came_true = pad(RECALL * (1 - remembered[:, OWN:]), (0, 0, 0, 0, 1, 0))
    return _curious(odds, known), state.put(
        before=text,
        here=hashes[:, :-1],
        fates=state["fates"].scatter_add(3, places, came_true),
        base=torch.addcmul(weights[:, TEXT], agreement.unsqueeze(1), weights[:, AGREEMENT]),
    )


def drawn(state: State, token: Tensor, confidence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-odds [B] that the drawn `token` [B] will be accepted, and the one after it; `confidence` is q(x) [B].

    With the value of `here` after the token. Asked at every draft step: what need not be is done by the others.
    """
    hashes, weights = _onwards(state["here"], token), state["optimistic"]
    remembered = state["fates"].gather(3, _places(hashes)).squeeze(3).double()
    logit = confidence.double().logit(EDGE).unsqueeze(1)
    odds = torch.addcmul(state["base"], logit, weights[:, LOGIT]) + (remembered * weights[:, REMEMBERED:]).sum(2)
    following, own = (odds + state["correction"].index_select(1, _bucket(token)).T).unbind(1)
    return own, _curious(following, remembered), hashes[:, :-1]


def learn(state: State, outcome: RoundOutcome, confidence: Tensor) -> State:
    """The model after a round whose drawn tokens had these probabilities, [B, n]."""
    judged, kept = outcome.judged(confidence.shape[1])
    judged = judged & outcome.context.active.unsqueeze(1)
    kept = judged & kept
    token = torch.stack([drawn.token for drawn in outcome.drawn], 1).where(judged, 0)
    text = torch.cat([state["before"], token], 1).unfold(1, CONTEXTS + 1, 1)
    slots = _hashes(text) % SLOTS
    places = torch.stack([slots[:, :-1, :-1], slots[:, 1:, 1:]], 1).transpose(2, 3)
    remembered = state["fates"].gather(3, places)
    features = _features(state["agreement"], confidence.where(judged, 0.5), remembered)
    before = torch.cat([_bucket(text[:, :1, -1], beginning=True), _bucket(token[:, :-1])], 1)
    fate = 2 * kept.to(remembered.dtype) - 1
    changed = RECALL * (fate[:, None, None] - remembered) * judged[:, None, None]
    return _newton_step(state, features, torch.stack([before, _bucket(token)]), judged, kept).put(
        agreement=_smoothed(state["agreement"], judged, kept),
        before=text.gather(1, kept.sum(1).reshape(-1, 1, 1).expand(-1, 1, CONTEXTS + 1)).squeeze(1),
        fates=state["fates"].scatter_add(3, places, changed).clamp(-1, 1),
    )


def _features(agreement: Tensor, confidence: Tensor, remembered: Tensor) -> Tensor:
    """[2, B, n, features]: of each token for *own*, of what comes before it for *next*."""
    logit = confidence.to(agreement.dtype).logit(EDGE)
    text, none = torch.ones_like(logit), torch.zeros_like(logit)
    agreed = agreement.unsqueeze(1).expand_as(logit)
    own = torch.stack([text, logit, agreed, none], 2)
    beginning = torch.stack([none, none, agreed, text], 2)[:, :1]
    plain = torch.stack([torch.cat([beginning, own[:, :-1]], 1), own])
    return torch.cat([plain, remembered.permute(1, 0, 3, 2).to(plain.dtype)], 3)


def _newton_step(state: State, features: Tensor, bucket: Tensor, judged: Tensor, kept: Tensor) -> State:
    """Both regressions after the judged positions; features [2, B, n, F], buckets [2, B, n]."""
    weights, correction = state["weights"], state["correction"]
    features, bucket, judged, kept = features.flatten(1, 2), bucket.flatten(1), judged.flatten(), kept.flatten()
    chance = ((features * weights.unsqueeze(1)).sum(2) + correction.gather(1, bucket)).sigmoid()
    missed = (kept.to(chance.dtype) - chance) * judged
    curvature = (chance * (1 - chance)).clamp(min=LEAST_CURVATURE) * judged
    memory = DECAY ** judged.sum().to(chance.dtype)

    weighed = (features * curvature.unsqueeze(2)).unsqueeze(3)
    information = memory * state["information"] + _added(weighed * features.unsqueeze(2))
    precision = information + PRIOR_PRECISION * torch.eye(features.shape[2], dtype=chance.dtype, device=chance.device)
    covariance = torch.linalg.inv_ex(precision).inverse  # inv would wait for the device, to see whether it went well
    moved = weights + (covariance * _added(features * missed.unsqueeze(2)).unsqueeze(1)).sum(2)
    certainty = (memory * state["certainty"]).scatter_add(1, bucket, curvature)
    return state.put(
        weights=moved,
        optimistic=moved + _hope(covariance.diagonal(dim1=1, dim2=2).sqrt()),
        information=information,
        correction=correction.scatter_add(1, bucket, missed / (certainty.gather(1, bucket) + CORRECTION_PRECISION)),
        certainty=certainty,
    )


def _added(values: Tensor) -> Tensor:
    """The sum over the second dimension, in order: rows that add nothing change no bit of it."""
    return values.cumsum(1)[:, -1]


def _hope(deviation: Tensor) -> Tensor:
    """[2, F]: what is added to *next*'s constants, of the weights' standard deviations."""
    feature = torch.arange(deviation.shape[1], device=deviation.device)
    constant = (feature == TEXT) | (feature == BEGINNING)
    return pad((OPTIMISM * deviation[NEXT]).where(constant, 0.0).unsqueeze(0), (0, 0, 0, 1))


def _curious(odds: Tensor, remembered: Tensor) -> Tensor:
    """*next*'s log-odds [B], better where a text repeats itself that was not tried; remembered is [B, 2, CONTEXTS]."""
    tried, known = remembered[..., -1].unbind(1)
    return torch.addcmul(odds, known.clamp(min=0), 1 - tried.abs(), value=CURIOSITY)


def _bucket(token: Tensor, beginning: bool = False) -> Tensor:
    """Where a token's correction is; at the beginning of a block it has another."""
    half = TOKENS // 2
    return token % half + half if beginning else token % half


def _hashes(text: Tensor) -> Tensor:
    """[…, CONTEXTS + 1]: of the last 1, 2, … tokens of `text` […, CONTEXTS + 1], in polynomials."""
    age = torch.arange(text.shape[-1], device=text.device)
    return (text.flip(-1) * MULTIPLIER**age).cumsum(-1)


def _onwards(hashes: Tensor, token: Tensor) -> Tensor:
    """[B, CONTEXTS + 1]: the hashes of a text that goes on with `token` [B]; from those of 1 … CONTEXTS tokens."""
    return pad(hashes, (1, 0)) * MULTIPLIER + token.unsqueeze(1)


def _places(hashes: Tensor) -> Tensor:
    """[B, 2, CONTEXTS, 1]: where the memory has what the draft did after a text, and what became of the text's end."""
    return (hashes % SLOTS).unfold(1, CONTEXTS, 1).unsqueeze(3)


def _smoothed(agreement: Tensor, judged: Tensor, kept: Tensor) -> Tensor:
    """Agreement after the judged positions, ±1 each in order."""
    age = judged.sum(1, keepdim=True) - 1 - torch.arange(judged.shape[1], device=judged.device)
    share = ((1 - SMOOTHING) * SMOOTHING ** age.clamp(min=0).to(agreement.dtype)).where(judged, 0.0)
    sign = 2 * kept.to(agreement.dtype) - 1
    return agreement * SMOOTHING ** judged.sum(1).to(agreement.dtype) + (share * sign).sum(1)
