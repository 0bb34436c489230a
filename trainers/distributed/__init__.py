"""Data-parallel training through Ray Train, and the local Ray that it starts."""
