"""Random changes of images and event frames, in batches."""
