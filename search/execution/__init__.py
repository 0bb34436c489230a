"""Execution of trials on Ray, with fault tolerance."""

import os

END_TIMEOUT = "TUNE_FUNCTION_THREAD_TIMEOUT_S"
RAY_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    END_TIMEOUT: "60",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_MAX_PENDING_TRIALS_PG": "10000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
"""Environment variables that Ray reads on import: quiet, no default loggers, no experiment snapshots (a search resumes
from its study), no limit on pending trials (the searcher suggests none without a slot), and 60 s for a worker on a busy
machine to end one trial before it starts the next."""

for _name, _value in RAY_SETTINGS.items():
    os.environ.setdefault(_name, _value)
