"""Fused training: several configs of one shape as one batched model."""
