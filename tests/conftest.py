"""Has the package set TensorFlow's variables before a test imports TensorFlow."""

import cdnet_tf  # noqa: F401
