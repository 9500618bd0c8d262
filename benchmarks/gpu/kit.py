"""Every policy in the engines on the device: greedy decoding must say what the target says by itself."""

from collections.abc import Iterator

from gpu.lines import Line, Setting
from gpu.pairs import loaded, prompt
from stopkit.plugins import registry

LEFT = 150
"""Seconds that are to be left for what comes after."""


def kit(setting: Setting) -> Iterator[Line]:
    """A line an engine."""
    policies = list(registry().policies)[: 3 if setting.small else None]
    for kind in ("eager", "compiled"):
        engine = loaded(kind, setting, dtype="float32")
        asked = {"temperature": 0, "max_new_tokens": setting.tokens}
        tokens = prompt(engine)
        wanted = loaded("eager", setting, dtype="float32").generate([tokens], "autoregressive", **asked).tokens
        tried = 0
        wrong = []
        for policy in policies:
            if setting.left < (0 if setting.small else LEFT):
                break
            tried += 1
            if engine.generate([tokens], policy, **asked).tokens != wanted:
                wrong.append(policy)
        what = f"{kind}: policies that change nothing"
        measured = f"{tried - len(wrong)} of {len(policies)}" + (f", not {', '.join(wrong)}" if wrong else "")
        yield Line(what, f"all {len(policies)}", measured, not wrong and tried == len(policies))
