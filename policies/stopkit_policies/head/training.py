"""Train an acceptance head from a trace with hidden states: the work behind `stopkit train-head`."""

import copy
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from stopkit.errors import InputError
from stopkit.trace.trace import Trace
from stopkit_policies.head.examples import Examples
from stopkit_policies.head.network import HeadNetwork
from stopkit_policies.head.recipe import HeadRecipe


@dataclass(frozen=True)
class Epoch:
    """How good a head is after a pass. Losses are weighted means, nats a token; epoch 0 is the best constant."""

    number: int
    loss: float
    validation_loss: float


@dataclass(frozen=True)
class TrainedHead:
    """The head of the best epoch, by its validation loss, and its card."""

    head: HeadNetwork
    card: dict[str, Any]


def train_head(trace: Trace, recipe: HeadRecipe, on_epoch: Callable[[Epoch], None] = lambda epoch: None) -> TrainedHead:
    """Train on some sequences of `trace`, watch the others; `on_epoch` is called after every pass.

    Raises InputError if the trace has no hidden states or too few sequences.
    """
    torch.manual_seed(recipe.seed)
    held_out, others = _split(trace, recipe)
    training, watched = (Examples.of(trace.select(rows), recipe.mixing_ratio) for rows in (others, held_out))
    head = HeadNetwork(training.hidden_state.shape[1], recipe.layers)
    constant = torch.full((len(watched),), _constant(training, recipe.rejection_weight))
    epochs = [Epoch(0, math.nan, float(_loss(constant, watched, recipe.rejection_weight)))]
    best = copy.deepcopy(head)
    optimizer = torch.optim.AdamW(head.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * math.ceil(len(training) / recipe.batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for number in range(1, recipe.epochs + 1):
        losses = []
        for rows in torch.split(torch.randperm(len(training)), recipe.batch):
            examples = training.at(rows)
            loss = _loss(head(examples.hidden_state), examples, recipe.rejection_weight)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        with torch.inference_mode():
            watched_loss = float(_loss(head(watched.hidden_state), watched, recipe.rejection_weight))
        epochs.append(Epoch(number, float(torch.stack(losses).mean()), watched_loss))
        if watched_loss <= min(epoch.validation_loss for epoch in epochs[1:]):
            best = copy.deepcopy(head)
        on_epoch(epochs[-1])
    return TrainedHead(best.requires_grad_(False).eval(), _card(trace, recipe, epochs, others, held_out))


def _split(trace: Trace, recipe: HeadRecipe) -> tuple[list[int], list[int]]:
    """Places of the sequences that only judge the head, and of the others."""
    count = len(trace.sequences)
    if count < 2:
        raise InputError(
            f"{trace.path}: has {count} sequence; a head needs at least 2, to train on and to be judged by."
        )
    order = torch.randperm(count, generator=torch.Generator().manual_seed(recipe.seed)).tolist()
    kept = min(count - 1, max(1, round(recipe.validation * count)))
    return sorted(order[:kept]), sorted(order[kept:])


def _loss(logits: Tensor, examples: Examples, rejection_weight: float) -> Tensor:
    """Cross entropy with soft labels, a rejection weighing `rejection_weight` times an acceptance."""
    accepted = examples.acceptance
    weight = (accepted + rejection_weight * (1 - accepted)) * examples.weight
    target = accepted / (accepted + rejection_weight * (1 - accepted))
    return binary_cross_entropy_with_logits(logits, target, weight, reduction="sum") / weight.sum()


def _constant(examples: Examples, rejection_weight: float) -> float:
    """The logit of the best head that knows nothing."""
    accepted = float((examples.acceptance * examples.weight).sum())
    rejected = rejection_weight * float(((1 - examples.acceptance) * examples.weight).sum())
    return math.log(max(accepted, 1e-9) / max(rejected, 1e-9))


def _card(
    trace: Trace, recipe: HeadRecipe, epochs: list[Epoch], others: list[int], held_out: list[int]
) -> dict[str, Any]:
    best = min(epochs[1:], key=lambda epoch: epoch.validation_loss)
    return {
        "recording": trace.metadata.common,
        "recipe": recipe.model_dump(mode="json"),
        "trained_on": [trace.sequences[row] for row in others],
        "judged_by": [trace.sequences[row] for row in held_out],
        "best": asdict(best),
        "constant_validation_loss": epochs[0].validation_loss,
        "losses": [[epoch.loss, epoch.validation_loss] for epoch in epochs[1:]],
    }
