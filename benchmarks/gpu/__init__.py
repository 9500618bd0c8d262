"""What `make gpu-check` checks and measures, a file a step; `gpu_check.py` runs them."""
