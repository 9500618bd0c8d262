"""Hypothesis strategies: pairs of table models, prompts, sampling options, policies with any parameters."""

from dataclasses import dataclass
from typing import Any, Literal, Union, get_args, get_origin

import torch
from annotated_types import Ge, Gt, Le, Lt
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from stopkit import StoppingPolicy
from stopkit.testing import TableModel

SIZES = [(2, 1), (2, 2), (2, 3), (2, 4), (3, 1), (3, 2), (3, 3)]
"""(vocabulary, horizon): every branch of the engine is run, so both stay small."""

LONGEST = 4
"""Draft lengths are drawn up to here, one past the longest that fits the horizon."""


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
            f"Case(V={self.target.config.vocab_size}, target {target}, draft {draft}, {self.prompt=}, "
            f"{self.neighbours=}, {self.horizon=}, {self.sampling=})"
        )


@st.composite
def models(draw: st.DrawFn, vocabulary: int, may_end: bool) -> TableModel:
    seed, scale = draw(st.integers(0, 10_000)), draw(st.sampled_from([0.3, 1.0, 3.0]))
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
        draft=target if same else draw(models(vocabulary, may_end=False)),
        prompt=prompt,
        neighbours=draw(st.lists(prompts, max_size=2)),
        horizon=horizon,
        sampling=draw(sampling(vocabulary)),
    )


def sampling(vocabulary: int) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {"temperature": st.sampled_from([0.0, 0.5, 1.0, 1.7])},
        optional={
            "top_k": st.integers(1, vocabulary),
            "top_p": st.sampled_from([0.3, 0.7, 0.95]),
            "min_p": st.sampled_from([0.05, 0.4]),
        },
    )


def policies(cls: type[StoppingPolicy]) -> st.SearchStrategy[StoppingPolicy]:
    """Any parameters that the policy's fields allow."""
    return st.builds(lambda fields: cls(**fields), _fields(cls))


def _fields(cls: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional={name: _values(field) for name, field in cls.model_fields.items()})


def _values(field: FieldInfo, annotation: Any = None) -> st.SearchStrategy[Any]:
    annotation = annotation or field.annotation
    bounds = {type(bound): bound for bound in field.metadata}
    low = next((_limit(bounds[kind]) for kind in (Ge, Gt) if kind in bounds), None)
    high = next((_limit(bounds[kind]) for kind in (Le, Lt) if kind in bounds), None)
    if get_origin(annotation) is Literal:
        return st.sampled_from(get_args(annotation))
    if get_origin(annotation) in (Union, type(int | None)):
        return st.one_of(*[_values(field, option) for option in get_args(annotation)])
    if annotation is type(None):
        return st.none()
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(low or 0, min(high or LONGEST, LONGEST))
    if annotation is float:
        return st.floats(low or 0.0, 1.0 if high is None else high, exclude_min=Gt in bounds, exclude_max=Lt in bounds)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields(annotation)
    raise NotImplementedError(f"no strategy for {annotation}; teach tests/exact/strategies.py to draw it")


def _limit(bound: Any) -> Any:
    """The limit that an annotated_types bound holds."""
    return next(value for name in ("ge", "gt", "le", "lt") if (value := getattr(bound, name, None)) is not None)
