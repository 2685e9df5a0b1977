"""Person re-identification with CDNet: search, train, evaluate, export."""

import os

# TensorFlow reads it on import. Its remarks on start-up are no user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
