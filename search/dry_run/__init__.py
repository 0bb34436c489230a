"""The report of `--dry-run`."""
