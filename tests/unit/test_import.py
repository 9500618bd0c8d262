"""`import stopkit` is light, and everything it promises is there."""

import importlib
import subprocess
import sys

import pytest

import stopkit


def test_import_loads_no_torch() -> None:
    code = "import stopkit, sys; sys.exit(int(bool({'torch', 'transformers', 'pydantic'} & set(sys.modules))))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", stopkit.__all__)
def test_every_name_resolves(name: str) -> None:
    assert getattr(stopkit, name) is getattr(importlib.import_module(f"stopkit.{stopkit._HOMES[name]}"), name)


def test_all_is_sorted_and_complete() -> None:
    assert stopkit.__all__ == sorted(stopkit._HOMES)
    assert set(stopkit.__all__) <= set(dir(stopkit))


def test_the_names_that_users_rely_on() -> None:
    promised = "StoppingPolicy ThresholdPolicy ScalarPolicy Signals Drawn RoundContext RoundOutcome DraftController"
    assert {*promised.split(), "hookimpl", "load_policy", "load_engine", "load_config", "assisted", "wrap"} <= set(
        stopkit.__all__
    )


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'stopkit' has no attribute 'speculate'"):
        stopkit.speculate  # noqa: B018
