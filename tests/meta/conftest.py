"""Mutants are judged by the tests of what comes out: no trial runs the models in another way first."""

import pytest

from stopkit_engines.hf import trial


@pytest.fixture(autouse=True)
def _untried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_known", {})
    monkeypatch.setattr(trial, "_tried", lambda model, where, plan: trial.WAYS[0])
