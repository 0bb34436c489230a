"""Published checkpoints, sizes and results."""
