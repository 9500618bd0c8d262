"""`DraftBlock`: what a config says of a draft that is no model of its own."""

from pydantic import BaseModel, ConfigDict


class DraftBlock(BaseModel):
    """A way to draft, by its kind and its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    """What the way is called."""

    def __str__(self) -> str:
        """As the command line writes it: `kind:field=value,field=value`."""
        fields = ",".join(f"{name}={value}" for name, value in self.model_dump(exclude={"kind"}).items())
        return f"{self.kind}:{fields}"
