"""Training the same network with PyTorch, on a GPU if there is one, and exporting its weights.

Only this package and the download of MNIST import torch; recipes can be looked up without it.
"""
