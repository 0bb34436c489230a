"""What a terminal shows of a search."""
