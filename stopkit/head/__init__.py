"""A trained head: from the draft's hidden state to the probability that its newest token is accepted."""
