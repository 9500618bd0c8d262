"""What every engine with a batch of its own shares. Nothing here imports a model library."""
