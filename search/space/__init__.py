"""Search spaces: reading, checking and resolving space files."""
