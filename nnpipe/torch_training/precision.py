"""The precision of matrix products: fast to train, full to measure."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def products(*, fast: bool) -> Iterator[None]:
    """Set the precision of float32 products within the context.

    Fast products may round their factors to TF32 or bfloat16 where that is faster. Training
    tolerates this, but measurements would depend on the machine. On a CPU, "medium" also selects
    oneDNN, which uses the widest vectors on all processors; MKL, the default, does not.

    Args:
        fast: True to allow rounded factors, False for full float32.
    """
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("medium" if fast else "highest")
    torch.backends.cudnn.allow_tf32 = fast  # convolutions have their own switch
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32 = before[1]
