"""A neural network from scratch in NumPy that reads handwritten digits."""

from nnpipe.classifier import Classifier, Reading

__all__ = ["Classifier", "Reading"]
__version__ = "1.0.0"
