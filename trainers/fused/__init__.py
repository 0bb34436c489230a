"""Several trainings of one shape as one batched training."""
