"""Person re-identification with CDNet: search, train, evaluate, export."""

import os

# TensorFlow reads it on import. Its remarks on start-up are no user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's kernels. TensorFlow takes them by itself only where it finds AVX-512; on other
# processors a training step is half as long with them. On Macs there are none.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
