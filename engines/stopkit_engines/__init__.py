"""The engines that come with stopkit, registered as any plug-in registers its own."""

from stopkit import Engine, hookimpl


@hookimpl
def stopkit_engines() -> list[type[Engine]]:
    """The built-in engines."""
    from stopkit_engines.compiled import CompiledEngine
    from stopkit_engines.eager import EagerEngine

    return [EagerEngine, CompiledEngine]
