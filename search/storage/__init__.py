"""What survives a crash: the study's database, its lock, event log and checkpoints."""
