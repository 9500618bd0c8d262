"""The trained head of `acceptance_head`: from the draft's hidden state to the probability that a token is accepted.

`recipe` says how it is trained, `examples` on what, `training` does it, `network` is what comes out and the file that
it lives in, and `command` is `stopkit train-head`.
"""
