"""Forwards that are captured: one call for what takes eager mode hundreds."""
