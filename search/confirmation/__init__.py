"""The front trained again with fresh seeds."""
