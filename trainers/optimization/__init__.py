"""How a training step updates the weights, beyond the optimizer itself."""
