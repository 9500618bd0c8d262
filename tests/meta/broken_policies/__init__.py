"""Broken policies, by what is wrong with them; importing them registers each with the check that must catch it."""

from tests.meta.broken_policies import decisions, form, learning, memory  # noqa: F401
from tests.meta.broken_policies.sound import MUTANTS, Sound, SoundAndShared

__all__ = ["MUTANTS", "Sound", "SoundAndShared"]
