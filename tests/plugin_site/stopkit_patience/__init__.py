"""The plug-in: it tells stopkit which policies this package offers."""

import stopkit


@stopkit.hookimpl
def stopkit_policies() -> list[type[stopkit.StoppingPolicy]]:
    """The policies of this package."""
    from stopkit_patience.patience import Patience

    return [Patience]
