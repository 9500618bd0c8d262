"""A trace as one page that opens offline: what policies make of it, how true their scores are, what they learn."""
