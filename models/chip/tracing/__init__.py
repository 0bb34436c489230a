"""Recording of a forward pass as nodes of a graph."""
