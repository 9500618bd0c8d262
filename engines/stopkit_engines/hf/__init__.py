"""What knows transformers: models with their cache, loading, recording, timing."""
