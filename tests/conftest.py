"""Sets TensorFlow up as the programs do, whatever a test imports first."""

import cdnet_tf  # noqa: F401
