"""Several models of one shape as one batched model."""
