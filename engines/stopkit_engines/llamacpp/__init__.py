"""What knows llama.cpp: GGUF models, their contexts and tokenizers, and the engine over them."""
