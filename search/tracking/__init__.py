"""The MLflow mirror of a study."""
