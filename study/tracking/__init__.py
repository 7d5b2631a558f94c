"""MLflow's settings, made before any module here imports MLflow: some are read on import."""

import os

# No telemetry, and no lines of MLflow's own after every run
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Where the answer to a run's creation is lost, MLflow's own retry would create the run a second time; and its retries
# would hold up a training for four minutes. study.tracking.outage decides what to do when a server does not answer.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
