"""Data augmentation of images and event frames, in batches."""
