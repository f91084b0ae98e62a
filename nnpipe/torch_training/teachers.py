"""The teachers: small convolutional networks that the network learns from.

A convolution knows which pixels are neighbours; a dense layer has to learn it. So a teacher makes
half as many errors as the network that learns without one. Its answers are worth more than labels,
also for digits that are so distorted that their label is in doubt.
"""

import torch
from torch import Tensor, nn

from nnpipe.preprocess import SIDE


class Teacher(nn.Sequential):
    """A convolutional network that computes in bfloat16 where `precision.products` are fast.

    PyTorch's automatic mixed precision chooses the operations. This halves the time on processors
    and GPUs with bfloat16. Accuracy is measured in float32.
    """

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, float32 (n, 10), from images, float32 (n, 784)."""
        fast = torch.get_float32_matmul_precision() != "highest"
        with torch.autocast(images.device.type, torch.bfloat16, enabled=fast):
            logits: Tensor = super().forward(images)  # type: ignore[no-untyped-call]
        return logits.float()


def build_teacher(width: int, *, seed: int) -> Teacher:
    """Build a teacher of four convolutions with batch normalisation.

    Args:
        width: channels of the first convolution; later ones have two and four times as many.
        seed: of the initial weights.
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
def answer(teachers: list[nn.Module], images: Tensor, *, temperature: float) -> Tensor:
    """Return the mean of the teachers' softened probabilities (n, 10) for images (n, 784)."""
    softened = [(teacher(images) / temperature).softmax(1) for teacher in teachers]
    return torch.stack(softened).mean(0)
