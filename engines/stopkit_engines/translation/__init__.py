"""Drafts that have another tokenizer than the target: its text in their tokens, and their tokens in its vocabulary."""
