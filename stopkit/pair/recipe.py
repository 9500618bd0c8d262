"""What a pair is made of: the fields that `stopkit train-pair` has its options from. Importing it loads no torch."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class ModelSize(BaseModel):
    """Shape of a Llama-type model with tied embeddings."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(ge=1, description="transformer layers")
    width: int = Field(ge=16, description="hidden size")
    heads: int = Field(ge=1, description="attention heads")
    context: int = Field(default=512, ge=16, description="longest sequence, tokens; also the training window")
    vocabulary: int = Field(default=4096, ge=260, description="tokens of the tokenizer")

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be a multiple of twice the {self.heads} heads")
        return self


class Schedule(BaseModel):
    """How long and how fast to train; whichever of `steps` and `minutes` runs out first ends the run."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(default=None, ge=1, description="optimizer steps")
    minutes: float | None = Field(default=None, gt=0, description="wall time, minutes, evaluation included")
    batch: int = Field(default=16, ge=1, description="sequences a step")
    micro_batch: int = Field(default=8, ge=1, description="sequences a forward; bounds memory")
    learning_rate: float = Field(default=0.01, gt=0, description="peak learning rate; linear warm-up and decay to zero")
    warmup: float = Field(default=0.02, ge=0, lt=1, description="share of the run spent warming up")
    seed: int = Field(default=0, ge=0, description="seed of initialisation and batches")
    compile: bool = Field(default=False, description="torch.compile the loss; needs a C++ compiler")

    def progress(self, step: int, seconds: float) -> float:
        """Share of the run that is behind us, from 0 to 1."""
        shares = [step / self.steps if self.steps else 0.0, seconds / 60 / self.minutes if self.minutes else 0.0]
        return min(1.0, max(shares))

    def rate(self, progress: float) -> float:
        """Learning rate at this share of the run."""
        rising = progress / self.warmup if self.warmup else 1.0
        return self.learning_rate * min(1.0, rising, (1 - progress) / (1 - self.warmup))


class DistillationPlan(BaseModel):
    """What a draft learns of its target's distribution from, beside the text that the target was trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    distil_on: tuple[str, ...] = Field(
        default=("test/**/*.py", "*/test/**/*.py"), description="globs of text that the target was not trained on"
    )
    samples: int = Field(default=500_000, ge=0, description="tokens drawn from the target at temperature 1")
