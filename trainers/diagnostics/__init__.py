"""Health of a training: activity of layers, gradients, memory."""
