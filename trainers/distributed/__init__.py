"""Data-parallel training through Ray Train, and the local Ray that it starts."""

import os

for _key in ("RAY_USAGE_STATS_ENABLED", "RAY_CHDIR_TO_TRIAL_DIR"):
    os.environ.setdefault(_key, "0")  # Ray reads them when it is imported
