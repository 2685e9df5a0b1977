"""Person re-identification with CDNet: search, train, evaluate, export."""

import os

# TensorFlow reads it on import. Its remarks on start-up are no user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# Of itself TensorFlow takes the kernels of oneDNN only where it finds AVX-512; on other
# processors, too, they halve the time of a training step. Macs have none.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
