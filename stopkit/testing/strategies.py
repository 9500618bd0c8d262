"""Hypothesis strategies: pairs of table models, prompts, sampling options, policies with any parameters."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import torch
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stopkit.combinator import Combinator
from stopkit.plugins import registry
from stopkit.policy import StoppingPolicy
from stopkit.testing.table_model import TableModel

# Hypothesis draws the first of several values most often and shrinks to it: let it be one that can show a mistake.
SIZES = [(2, 2), (3, 2), (2, 3), (3, 3), (2, 4), (2, 1), (3, 1)]
"""(vocabulary, horizon): every branch of the engine is run, so both stay small."""

DRAFT = 1
"""First seed of a draft, so that the smallest pair is one of two models."""

LONGEST = 4
"""Draft lengths are drawn up to here, one past the longest that fits the horizon."""

SEVERAL = 3
"""Most entries of a list or a table."""


@dataclass(frozen=True)
class Case:
    """One setting in which a policy must not change the output."""

    target: TableModel
    draft: TableModel
    prompt: list[int]
    neighbours: list[list[int]]
    horizon: int
    sampling: dict[str, Any]

    def __repr__(self) -> str:
        target, draft = (f"seed {model.seed}, scale {model.scale}" for model in (self.target, self.draft))
        return (
            f"Case(V={self.target.config.vocab_size}, target {target}, draft {draft}, prompt={self.prompt}, "
            f"neighbours={self.neighbours}, horizon={self.horizon}, sampling={self.sampling})"
        )


@st.composite
def models(draw: st.DrawFn, vocabulary: int, may_end: bool, first_seed: int = 0) -> TableModel:
    seed, scale = first_seed + draw(st.integers(0, 10_000)), draw(st.sampled_from([1.0, 3.0, 0.3]))
    model = TableModel.random(
        vocabulary,
        torch.Generator().manual_seed(seed),
        order=draw(st.integers(1, 2)),
        phases=draw(st.integers(1, 3)),
        scale=scale,
        end_of_sequence=draw(st.sampled_from([None, 0])) if may_end else None,
        context=draw(st.sampled_from([64, 6])),
    )
    model.seed, model.scale = seed, scale
    return model


@st.composite
def cases(draw: st.DrawFn) -> Case:
    vocabulary, horizon = draw(st.sampled_from(SIZES))
    prompts = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=3)
    target = draw(models(vocabulary, may_end=True))
    prompt = draw(prompts)
    horizon = min(horizon, target.config.max_position_embeddings - len(prompt))
    same = draw(st.integers(0, 9)) == 0
    return Case(
        target=target,
        draft=target if same else draw(models(vocabulary, may_end=False, first_seed=DRAFT)),
        prompt=prompt,
        neighbours=draw(st.lists(prompts, max_size=2)),
        horizon=horizon,
        sampling=draw(sampling(vocabulary)),
    )


def sampling(vocabulary: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"temperature": st.sampled_from([1.0, 0.5, 0.0, 1.7])},
        optional={
            "top_k": st.integers(1, vocabulary),
            "top_p": st.sampled_from([0.3, 0.7, 0.95]),
            "min_p": st.sampled_from([0.05, 0.4]),
        },
    )


def policies(cls: type[StoppingPolicy]) -> st.SearchStrategy[StoppingPolicy]:
    """Any parameters that the policy's fields allow."""
    return _fields(cls).map(lambda fields: cls(**fields))


def any_policy() -> st.SearchStrategy[StoppingPolicy]:
    """Any registered policy that is made of no others, with any parameters."""
    kinds = registry().policies.values()
    return st.sampled_from([cls for cls in kinds if not issubclass(cls, Combinator)]).flatmap(policies)


def _fields(cls: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    drawn = {name: _values(field.annotation, field.metadata) for name, field in cls.model_fields.items()}
    return st.fixed_dictionaries({}, optional=drawn)


def _values(annotation: Any, metadata: Sequence[Any] = ()) -> st.SearchStrategy[Any]:
    bounds = _bounds(metadata)
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _values(inner, [*metadata, *more])
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) in (Union, UnionType):
        options = [option for option in get_args(annotation) if option is not Path]  # no file can be made up
        return st.one_of(*[_values(option, metadata) for option in options])
    if get_origin(annotation) is tuple:
        items = _values(get_args(annotation)[0])
        return st.lists(items, min_size=bounds.get("min_length", 0), max_size=SEVERAL).map(tuple)
    if get_origin(annotation) is Mapping:
        keys, values = map(_values, get_args(annotation))
        return st.dictionaries(keys, values, min_size=bounds.get("min_length", 0), max_size=SEVERAL)
    return _single(annotation, bounds)


def _single(annotation: Any, bounds: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    low, high = bounds.get("ge", bounds.get("gt")), bounds.get("le", bounds.get("lt"))
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(low or 0, max(low or 0, min(LONGEST, high or LONGEST)))
    if annotation is float:
        top = 1.0 if high is None else min(high, 1.0)
        return st.floats(low or 0.0, top, exclude_min="gt" in bounds, exclude_max="lt" in bounds)
    if isinstance(annotation, type) and issubclass(annotation, StoppingPolicy):
        return any_policy()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields(annotation)
    raise NotImplementedError(f"no strategy for a field of type {annotation}; give the policy's fields yourself")


def _bounds(metadata: Sequence[Any]) -> dict[str, Any]:
    """The limits that annotated_types or a pydantic Field hold, by name."""
    flat = [inner for item in metadata for inner in (item.metadata if isinstance(item, FieldInfo) else [item])]
    names = ("ge", "gt", "le", "lt", "min_length")
    return {name: limit for item in flat for name in names if (limit := getattr(item, name, None)) is not None}
