"""What may be searched: the space file, checked and resolved."""
