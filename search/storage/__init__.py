"""Storage of a search: database, driver lock, event log, checkpoints and control requests."""
