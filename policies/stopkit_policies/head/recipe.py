"""How a head is trained: the fields that `stopkit train-head` has its options from. Importing it loads no torch."""

from pydantic import BaseModel, ConfigDict, Field


class HeadRecipe(BaseModel):
    """How a head is trained. Weights, mixing ratio and layers are those of SpecDec++."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layers: int = Field(default=3, ge=0, le=64, description="residual blocks")
    rejection_weight: float = Field(default=6.0, gt=0, le=1000, description="weight of a rejection in the loss")
    mixing_ratio: float = Field(
        default=0.15, gt=0, lt=1, description="share of the loss on tokens that follow the target's own"
    )
    validation: float = Field(default=0.2, gt=0, lt=1, description="share of the sequences that only judge the head")
    epochs: int = Field(default=20, ge=1, le=10000, description="passes over the examples")
    batch: int = Field(default=256, ge=1, description="examples a step")
    learning_rate: float = Field(default=1e-3, gt=0, le=1, description="peak learning rate; falls to zero as a cosine")
    weight_decay: float = Field(default=0.01, ge=0, le=1, description="weight decay of AdamW")
    seed: int = Field(default=0, ge=0, description="seed of the split, the initial weights and the batches")
