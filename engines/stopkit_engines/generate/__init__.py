"""What transformers' own `generate` asks for when it is told to decode with stopkit, and the form of its answer."""
