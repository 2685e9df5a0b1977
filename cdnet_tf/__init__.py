"""Person re-identification with CDNet: search, train, evaluate, export.

TensorFlow reads the variables below when it is imported, so they are set here.
"""

import os

# Its remarks on start-up are no user's business.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# oneDNN's kernels; TensorFlow leaves them off where the processor has no AVX-512, and
# there a training step of CDNet takes nearly twice as long without them.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
