"""The bundled model pair: where its text comes from, how it was trained, where it lies."""
