"""Make a model pair: corpus, tokenizer, draft, target, export, card. `stopkit train-pair` runs this.

A run is a folder: `tokenizer/`, `draft/checkpoint/` and `target/checkpoint/` while it works, `pair/` when it is done.
"""

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from stopkit.errors import InputError
from stopkit.pair import card
from stopkit.pair.corpus import EXCLUDE, HELD_OUT, Corpus, read_corpus, read_further
from stopkit.pair.lessons import Distillation, Lessons, NextToken, sampled_windows
from stopkit.pair.recipe import DistillationPlan, ModelSize, Schedule
from stopkit.pair.tokenizer import encode_documents, train_tokenizer
from stopkit.pair.training import Progress, train

NAMES = ("draft", "target")
"""In the order of training: the draft is done in minutes and shows early whether the corpus is right."""
WEIGHTS = "model.safetensors"
PROMPT = 8
"""Tokens of a text that the target goes on with by itself."""
STANDARD_LIBRARY_LICENCE = (
    "The weights are licensed under Apache-2.0. They were trained on the source of Python's standard library, which is "
    "under the PSF licence."
)
OTHER_LICENCE = "The files that the models were trained on have licences of their own."

OnProgress = Callable[[str, Progress, float], None]
"""Called with a model's name, where its training stands, and the share of it that is behind."""


class Recipe(BaseModel):
    """All that a pair depends on. `sizes` and `schedules` are by "draft" and "target"."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    corpus: Path | None = Field(default=None, description="folder of text; the standard library if unset")
    include: tuple[str, ...] = Field(default=("**/*.py",), description="globs of the files to read")
    exclude: tuple[str, ...] = Field(default=EXCLUDE, description="globs of the files to leave out")
    hold_out: tuple[str, ...] = Field(default=HELD_OUT, description="globs of the files never trained on")
    target_of: Path | None = Field(default=None, description="pair whose target and tokenizer are taken as they are")
    draft_from: Path | None = Field(default=None, description="pair whose draft is trained on, of the same shape")
    distillation: DistillationPlan | None = Field(default=None, description="unset, the draft learns from text alone")
    sizes: Mapping[str, ModelSize]
    schedules: Mapping[str, Schedule]

    @property
    def order(self) -> tuple[str, ...]:
        """The models in the order of training; a target teaches only when it is done."""
        return NAMES[::-1] if self.distillation or self.target_of else NAMES

    @property
    def vocabulary(self) -> int:
        """Tokens of the tokenizer."""
        return self.sizes["target"].vocabulary

    @property
    def context(self) -> int:
        """Longest sequence, in tokens."""
        return self.sizes["target"].context


def make_pair(
    recipe: Recipe,
    folder: Path,
    *,
    resume: bool = False,
    say: Callable[[str], None] = lambda text: None,
    on_progress: OnProgress = lambda name, progress, share: None,
    report_every_seconds: float = 60.0,
) -> Path:
    """Train the pair in `folder` and return where it lies, `folder/pair`.

    With `resume`, what is finished stays and an interrupted model goes on from its last checkpoint. Raises InputError
    when the folder holds a run that was not to be resumed, or when the corpus is too small.
    """
    if not resume and any((folder / name / "checkpoint").exists() for name in NAMES):
        raise InputError(f"{folder}: holds a run already; go on with it by --resume, or choose another folder.")
    say("reading the corpus")
    text = read_corpus(recipe.corpus, recipe.include, recipe.exclude, recipe.hold_out)
    tokenizer = _tokenizer(recipe, text, folder / "tokenizer", resume)
    tokens, held_out = encode_documents(tokenizer, text.train), encode_documents(tokenizer, text.held_out)
    _require_enough(tokens, held_out, recipe.context)
    say(f"{len(text.train)} files with {len(tokens):,} tokens to train on, {len(held_out):,} tokens held out")

    figures: dict[str, Any] = {
        "data": {
            "source": _source(recipe),
            "files": len(text.train),
            "tokens": len(tokens),
            "held_out_tokens": len(held_out),
            "held_out_modules": text.held_out_names,
            "licence": STANDARD_LIBRARY_LICENCE if recipe.corpus is None else OTHER_LICENCE,
        },
        "models": {},
    }
    models: dict[str, Any] = {}
    for name in recipe.order:
        if name == "target" and recipe.target_of:
            model = AutoModelForCausalLM.from_pretrained(recipe.target_of / name, dtype=torch.float32).eval()
            figures["models"][name] = card.known(recipe.target_of, name)
        else:
            size, schedule = recipe.sizes[name], recipe.schedules[name]
            lessons: Lessons = NextToken(tokens, size.context, schedule.batch, schedule.seed)
            if name == "draft" and recipe.distillation:
                windows = _windows(recipe, tokenizer, tokens, models["target"], folder / "distillation", say)
                place = folder / "distillation"
                lessons = Distillation(models["target"], windows, place, schedule.batch, schedule.seed)
                figures["distillation"] = recipe.distillation.model_dump() | {"windows": len(windows)}
            model, progress = train(
                size,
                schedule,
                lessons,
                held_out,
                tokenizer.eos_token_id,
                folder / name,
                begin=recipe.draft_from / name / WEIGHTS if name == "draft" and recipe.draft_from else None,
                resume=resume,
                on_progress=lambda progress, share, name=name: on_progress(name, progress, share),  # type: ignore[misc]
                report_every_seconds=report_every_seconds,
            )
            figures["models"][name] = card.describe(model, size, schedule, progress)
        models[name] = model
    for name, model in models.items():
        model.half().save_pretrained(folder / "pair" / name)
        tokenizer.save_pretrained(folder / "pair" / name)
    say("measuring the pair")
    card.write(folder / "pair", figures | card.measure(folder / "pair", held_out, recipe.context))
    return folder / "pair"


def _tokenizer(recipe: Recipe, text: Corpus, folder: Path, resume: bool) -> PreTrainedTokenizerFast:
    if recipe.target_of:
        return AutoTokenizer.from_pretrained(recipe.target_of / "target")
    if resume and folder.is_dir():
        return AutoTokenizer.from_pretrained(folder)
    tokenizer = train_tokenizer(text.train, recipe.vocabulary, recipe.context)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _windows(
    recipe: Recipe, tokenizer: Any, tokens: Tensor, target: Any, folder: Path, say: Callable[[str], None]
) -> Tensor:
    """What the draft learns to copy its target on [N, L]: its text, text that it has not seen, and its own."""
    plan, context = recipe.distillation or DistillationPlan(), recipe.context
    further = encode_documents(tokenizer, read_further(recipe.corpus, plan.distil_on, recipe.hold_out))
    text = torch.cat([each[: len(each) // context * context].view(-1, context) for each in (tokens, further)])
    own = folder / "samples.safetensors"
    if plan.samples and not own.is_file():
        say(f"drawing {plan.samples:,} tokens from the target")
        folder.mkdir(parents=True, exist_ok=True)
        beginnings = text[:: max(1, len(text) * context // plan.samples), :PROMPT][: plan.samples // context]
        save_file({"windows": sampled_windows(target, beginnings, context)}, own)
    return torch.cat([text, *(load_file(own).values() if plan.samples else ())])


def _require_enough(tokens: Tensor, held_out: Tensor, context: int) -> None:
    if len(tokens) < 2 * context:
        raise InputError(f"the corpus has {len(tokens)} tokens; at least {2 * context}, two contexts, are needed.")
    if len(held_out) < context:
        raise InputError(
            f"the held-out files have {len(held_out)} tokens; at least {context}, one context, are needed: name more "
            "with --hold-out."
        )


def _source(recipe: Recipe) -> str:
    if recipe.corpus is None:
        return f"the standard library of Python {platform.python_version()}, without its tests"
    return f"files that match {', '.join(recipe.include)}"
