"""What the checks let an engine do: prompts, models and options, small enough to be read."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st

from stopkit.engine import Engine
from stopkit.generation import GenerationResult
from stopkit.testing.checks import Skipped
from stopkit.testing.exact import COSTS
from stopkit.testing.for_engines.drafting import Blocks, blocks
from stopkit.testing.strategies import DRAFT, models, sampling
from stopkit.testing.table_model import TableModel

Error = TypeVar("Error", bound=BaseException)
LETTERS = "abcde"
"""The vocabulary, where there is text."""
TOKENS = (8, 12, 5, 3, 2, 1)


@dataclass(frozen=True)
class Workload:
    """Prompts for one batch, the models and options to continue them with."""

    target: TableModel
    draft: TableModel
    prompts: list[list[int]]
    policy: Blocks
    max_new_tokens: int
    sampling: dict[str, Any]

    def __repr__(self) -> str:
        return (
            f"Workload(target={described(self.target)}, draft={described(self.draft)}, prompts={self.prompts}, "
            f"policy={self.policy!r}, max_new_tokens={self.max_new_tokens}, sampling={self.sampling})"
        )

    @property
    def seeds(self) -> list[int]:
        """A seed for every prompt."""
        return list(range(1, 1 + len(self.prompts)))

    @property
    def options(self) -> dict[str, Any]:
        """The options of `Engine.generate`."""
        return {"max_new_tokens": self.max_new_tokens, **self.sampling}

    def run(self, engine: type[Engine], tokenizer: Any | None = None, **more: Any) -> GenerationResult:
        """Generate; `more` goes to `Engine.generate`."""
        given = {"prompts": self.prompts, "policy": self.policy, "seeds": self.seeds, **self.options, **more}
        return over(engine, self.target, self.draft, tokenizer).generate(**given)


def raised(kind: type[Error], generate: Callable[[], GenerationResult]) -> Error:
    """The error of that kind that `generate` raises."""
    try:
        tokens = generate().tokens
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} should have been raised, and {tokens} was generated")


def over(engine: type[Engine], target: Any, draft: Any | None = None, tokenizer: Any | None = None) -> Engine:
    """The engine over loaded models, its costs fixed."""
    try:
        return engine.from_models(target, draft, tokenizer, costs=COSTS, **engine.in_checks)
    except NotImplementedError as error:
        raise Skipped(f"the engine takes no loaded models: {error}") from None


@st.composite
def workloads(
    draw: st.DrawFn,
    temperature: float | None = None,
    may_end: bool = True,
    prompts: tuple[int, int] = (1, 3),
    policy: type[Blocks] = Blocks,
) -> Workload:
    """Any workload of so many prompts; `may_end` says whether sequences can end before `max_new_tokens`."""
    vocabulary = draw(st.integers(2, len(LETTERS)))
    prompt = st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=4)
    target = draw(models(vocabulary, may_end))
    chosen = draw(st.lists(prompt, min_size=prompts[0], max_size=prompts[1]))
    room = target.config.max_position_embeddings - max(map(len, chosen))
    return Workload(
        target=target,
        draft=draw(models(vocabulary, may_end=False, first_seed=DRAFT)),
        prompts=chosen,
        policy=draw(blocks(vocabulary, policy)),
        max_new_tokens=draw(st.sampled_from(TOKENS if may_end else [count for count in TOKENS if count <= room])),
        sampling=draw(sampling(vocabulary)) if temperature is None else {"temperature": temperature},
    )


@st.composite
def long_workloads(draw: st.DrawFn) -> Workload:
    """Greedy workloads in which every sequence takes four rounds at least, and drafts in all but the last."""
    target, draft = (_table(draw(st.integers(first, 1000))) for first in (0, DRAFT))
    prompts = draw(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=4), min_size=1, max_size=3))
    return Workload(target, draft, prompts, Blocks(caps=(2,)), max(TOKENS), {"temperature": 0.0})


def _table(seed: int) -> TableModel:
    model = TableModel.random(3, torch.Generator().manual_seed(seed))
    model.seed, model.scale = seed, 2.0
    return model


def described(model: Any) -> str:
    """What makes a table model, in a few words."""
    end = f", ends with {model.config.eos_token_id}" if model.config.eos_token_id is not None else ""
    return (
        f"(V={model.config.vocab_size}, seed {model.seed}, scale {model.scale:g}, order {model.config.order}, phases "
        f"{model.config.phases}, context {model.config.max_position_embeddings}{end})"
    )


def continued(target: Any, prompt: Sequence[int], most: int) -> list[int]:
    """At most `most` greedy tokens, by forwards over whole prefixes: no cache, no draft, no engine."""
    tokens = list(prompt)
    while len(tokens) < min(len(prompt) + most, target.config.max_position_embeddings):
        tokens.append(int(target(input_ids=torch.tensor([tokens])).logits[0, -1].argmax()))
        if tokens[-1] == target.config.eos_token_id:
            break
    return tokens[len(prompt) :]


def letters(vocabulary: int) -> Any:
    """A tokenizer whose tokens are single letters."""
    from tokenizers import Regex, Tokenizer
    from tokenizers.decoders import Fuse
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(WordLevel({letter: token for token, letter in enumerate(LETTERS[:vocabulary])}, LETTERS[0]))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer.decoder = Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
