"""The teachers: small convolutional networks, which the network learns from and which then go.

Where a pixel lies means nothing to a dense layer but what it has learned; a convolution knows. So a
teacher errs half as often as the network ever could by itself, and its answers, even for digits
bent until their label is in doubt, are worth more than labels.
"""

import torch
from torch import Tensor, nn

from nnpipe.preprocess import SIDE


class Teacher(nn.Sequential):
    """A convolutional network that computes in bfloat16 where `precision.products` are fast.

    PyTorch's automatic mixed precision chooses what. This halves the time on processors and GPUs
    that support bfloat16. Elsewhere, such as when its accuracy is measured, it uses float32.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Images, float32 (n, 784), to logits, float32 (n, 10)."""
        fast = torch.get_float32_matmul_precision() != "highest"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=fast):
            logits: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return logits.float()


def build_teacher(width: int, seed: int) -> Teacher:
    """Four convolutions with batch normalisation, (n, 784) → (n, 10) logits.

    Args:
        width: channels of the first convolution; later ones have two and four times as many.
        seed: of the first weights.
    """

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        teacher = Teacher(
            nn.Unflatten(1, (1, SIDE, SIDE)),
            *block(1, width),
            nn.MaxPool2d(2),
            *block(width, 2 * width),
            *block(2 * width, 2 * width),
            nn.MaxPool2d(2),
            *block(2 * width, 4 * width),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(4 * width * (SIDE // 8) ** 2, 10),
        )
    return teacher.to(memory_format=torch.channels_last)


@torch.no_grad()
def answer(teachers: list[nn.Module], images: Tensor, temperature: float) -> Tensor:
    """What the teachers say on average of images (n, 784): softened probabilities (n, 10)."""
    softened = [(teacher(images) / temperature).softmax(1) for teacher in teachers]
    return torch.stack(softened).mean(0)
