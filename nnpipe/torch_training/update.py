"""One step of training: forward, backward, Adam, and the running mean of the weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nnpipe.torch_training.examples import Answered, Fresh
from nnpipe.torch_training.recipes import Recipe, schedule

EAGER_STEPS = 3
"""Steps on a GPU before one is captured; they allocate all memory."""


class Update:
    """A step that moves the weights of a model, and their running mean, by one batch.

    On a GPU, each kernel of such a small network ends before the next one is launched. So one step,
    from its pictures to the running mean, is captured as a CUDA graph, which is then replayed as a
    whole. This requires that all values that change between steps are tensors that stay in place:
    the rows of the pictures, the learning rate, and the share of the mean.
    """

    def __init__(
        self, model: nn.Module, *, average: nn.Module, recipe: Recipe, examples: Fresh | Answered
    ) -> None:
        """Prepare to train a model on examples.

        ``average`` receives the running mean. Without averaging it is the model itself.
        """
        self.model, self.recipe, self.examples = model, recipe, examples
        device = next(model.parameters()).device
        self.rate = torch.tensor(recipe.lr, device=device)
        self.share = torch.ones((), device=device)
        self.total = torch.zeros((), device=device)  # of the losses, until it is set to zero
        self.on_gpu = device.type == "cuda"
        self.optimiser = torch.optim.Adam(
            model.parameters(), lr=self.rate, fused=device.type != "mps", capturable=self.on_gpu
        )
        # The statistics of batch normalisation are averaged too; its batch counts are not used.
        tensors = zip(average.state_dict().values(), model.state_dict().values(), strict=True)
        both = tensors if recipe.averaging else ()
        self.averaged = [(mean, value) for mean, value in both if mean.is_floating_point()]
        self.temperature = recipe.distillation.temperature if recipe.distillation else 1.0
        self.eager_steps = 0
        self.captured: tuple[torch.cuda.CUDAGraph, Tensor] | None = None

    def load(self, optimiser: dict[str, Any]) -> None:
        """Restore the state of the optimiser."""
        self.optimiser.load_state_dict(optimiser)
        self.optimiser.param_groups[0]["lr"] = self.rate  # the tensor that a captured step reads

    def prepare(self, step: int, steps: int) -> None:
        """Set the learning rate and the share of the mean for a step, from 0, of ``steps``."""
        if self.recipe.schedule:
            self.rate.fill_(self.recipe.lr * schedule(step / steps))
        if self.recipe.averaging:
            # At first the mean spans few steps, so that it forgets the initial weights.
            self.share.fill_(max(1 - self.recipe.averaging, 9 / (10 + step)))

    def __call__(self, rows: Tensor) -> None:
        """Take the step of these rows, eagerly or by replaying the captured one."""
        if self.captured is None and self.eager_steps == EAGER_STEPS:
            self.captured = self._capture(rows)
        if not self.on_gpu:
            self._step(rows)
        elif self.captured and self.captured[1].shape == rows.shape:
            graph, place = self.captured
            place.copy_(rows)
            graph.replay()
        else:  # PyTorch requires the steps before a capture to run on another stream
            self.eager_steps += 1
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                self._step(rows)
            torch.cuda.current_stream().wait_stream(stream)

    def _step(self, rows: Tensor) -> None:
        images, targets = self.examples.batch(rows)
        logits = self.model(images)
        loss = functional.cross_entropy(logits / self.temperature, targets)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        with torch.no_grad():
            for mean, value in self.averaged:
                mean.lerp_(value, self.share)
            self.total += loss * len(rows)

    def _capture(self, rows: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Capture the step without taking it; return it with the tensor that it reads rows from."""
        place = rows.clone()
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.examples.rng)
        self.optimiser.zero_grad(set_to_none=True)
        with torch.cuda.graph(graph):
            self._step(place)
        return graph, place
