"""The policies that come with stopkit, registered as any plug-in registers its own. One file a policy."""

from stopkit import StoppingPolicy, hookimpl


@hookimpl
def stopkit_policies() -> list[type[StoppingPolicy]]:
    """The built-in policies."""
    from stopkit_policies.adaedl import AdaEDL
    from stopkit_policies.max_probability import MaxProbability
    from stopkit_policies.static import Static

    return [AdaEDL, MaxProbability, Static]
