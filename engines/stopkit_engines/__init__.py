"""The engines that come with stopkit, registered as any plug-in registers its own.

Importing the package loads no torch; the hook imports the files.
"""

from stopkit import hookimpl
from stopkit.kinds import Kind


@hookimpl
def stopkit_engines() -> list[type[Kind]]:
    """The built-in engines."""
    from stopkit_engines.compiled import CompiledEngine
    from stopkit_engines.eager import EagerEngine
    from stopkit_engines.llamacpp.engine import LlamaCppEngine

    return [EagerEngine, CompiledEngine, LlamaCppEngine]
