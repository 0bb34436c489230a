"""Configuration: files, command lines and their errors, without torch."""
