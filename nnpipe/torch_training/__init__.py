"""Training the same network with PyTorch, on a GPU where there is one, and exporting its weights.

Recipes can be looked up without torch; `train`, `distortions` and `model` import it, and nothing
else in nnpipe does, but for the download of MNIST.
"""
