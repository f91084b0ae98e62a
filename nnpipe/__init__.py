"""A neural network from scratch in NumPy that reads handwritten digits."""

from nnpipe.classifier import Classifier, Reading
from nnpipe.notebook import labelled, train

__all__ = ["Classifier", "Reading", "labelled", "train"]
__version__ = "1.0.0"
