"""Ray: running trials on workers, and what to do when they fail."""
