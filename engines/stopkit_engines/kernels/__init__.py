"""One look at a draft's logits for all that a draft step wants to know of them: a kernel, and its plain twin."""
