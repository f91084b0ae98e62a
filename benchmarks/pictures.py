"""How well nnpipe reads what people really have, beside two ways that others prepare pictures.

    python benchmarks/pictures.py ../shared/digits-dev [--mnist ../shared/mnist] [--out FOLDER]

SETS is a folder of sets: SETS/<set>/<label>/…. A picture counts as read right if it was not
rejected and its label is the folder's. The baselines use the same weights: *resized* shrinks the
whole picture to 28×28 and inverts it if its border is bright; *textbook* does what MNIST's makers
did: Otsu's threshold, the box around the ink fitted into 20×20, centred by mass.

What is no digit comes from `strangers.py`. With --out, errors are drawn as one sheet per set.
"""

import argparse
import re
import statistics
import sys
import tempfile
import time
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import strangers
from PIL import Image, ImageOps

from nnpipe.classifier import Classifier
from nnpipe.datasets import mnist
from nnpipe.datasets.torchvision_download import FILES
from nnpipe.preprocess import prepare
from nnpipe.preprocess.drawing import BOX, centre, fit
from nnpipe.preprocess.paper import otsu
