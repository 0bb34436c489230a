"""The arithmetic of the executor: sums of events, and steps of neurons, in numpy."""
