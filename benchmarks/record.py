"""What 109,386 weights can do on MNIST, and what each part of the recipe is worth.

    python benchmarks/record.py [--data-dir data] [--out weights/runs/record] [--only VARIANT …]

Each variant adds one thing to the one before it; the last is the recipe `distilled` without its
mixture of other digits, which serves people's pictures and not MNIST. All was chosen before, on
validation digits. Here all 60,000 training digits are trained on, the last epoch is kept, and the
test digits are read once, by each model that is finished. One thread trains one model, so that the
same seed gives the same weights, and as many are trained side by side as there are cores. What is
done is kept in --out, as is what was begun: the same command goes on from there.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from measure import machine

from nnpipe import datasets, runs
from nnpipe.datasets import Dataset, Digits
from nnpipe.files import write_json
from nnpipe.preprocess import as_inputs
from nnpipe.settings import DATA
from nnpipe.torch_training.recipes import Distortions, Recipe, recipe

RECORD = replace(recipe("distilled"), mixture=None, keep_last=True)
SHORT = 20  # epochs, of those that are not trained for long
RESULT = "result.json"
FINAL = "learned from teachers"
SEEDS, SEEDS_OF_VARIANTS = 5, 3


def variants() -> dict[str, Recipe]:
    """From the plainest training to the recipe, one step at a time."""
    bent = RECORD.distortions or Distortions()
    plain = replace(RECORD, epochs=SHORT, averaging=0.0, distortions=None, distillation=None)
    affine = replace(plain, distortions=replace(bent, elastic=0.0, pen=0.0))
    elastic = replace(plain, distortions=bent)
    longer = replace(elastic, epochs=RECORD.epochs)
    averaged = replace(longer, averaging=RECORD.averaging)
    return {
        "plain": plain,
        "affine distortions": affine,
        "elastic ones and the pen": elastic,
        "longer": longer,
        "averaged weights": averaged,
        FINAL: RECORD,
    }


def folder_of(variant: str, seed: int, out: Path) -> Path:
    """Where a model is trained."""
    return out / f"{variant.replace(' ', '-')}-seed{seed}"


def all_training_digits(data: Dataset) -> Dataset:
    """The data set with its validation digits among those that are trained on.

    They stay in their place, too, where they measure nothing any more.
    """
    both = zip(data.training, data.validation, strict=True)
    return replace(data, training=Digits(*(np.concatenate(parts) for parts in both)))


def train(variant: str, seed: int, data_dir: Path, out: Path) -> None:
    """Train one model and read the test digits with it, unless that is done."""
    folder = folder_of(variant, seed, out)
    result = folder / RESULT
    if result.exists():
        return
    import torch

    from nnpipe.torch_training import train as torch_train
    from nnpipe.torch_training.model import save_model, to_network

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    data = all_training_digits(datasets.load("mnist", data_dir))
    state, history = torch_train.train(
        data, variants()[variant], seed=seed, device="cpu", checkpoint=folder / runs.CHECKPOINT
    )
    save_model(folder / runs.MODEL, state)
    read = to_network(state).logits(as_inputs(data.test.images)).argmax(axis=1)
    test = float((read == data.test.labels).mean())
    seconds = sum(epoch.seconds for epoch in history)
    write_json(result, {"test": test, "seconds": seconds})
    runs.remove_checkpoints(folder)
    print(f"{folder.name}: {seconds:.0f} s", file=sys.stderr)


def table(out: Path, chosen: list[tuple[str, int]]) -> None:
    """Print, as Markdown, mean and standard deviation over the seeds."""
    print("| each adds to the one above | seeds | test | each seed's | seconds |")
    print("| --- | --- | --- | --- | --- |")
    for variant in variants():
        found = [
            json.loads((folder_of(name, seed, out) / RESULT).read_text())
            for name, seed in chosen
            if name == variant
        ]
        if not found:
            continue

        test = [100 * result["test"] for result in found]
        mean, deviation = statistics.mean(test), statistics.stdev(test)
        each = ", ".join(f"{accuracy:.2f}" for accuracy in test)
        seconds = statistics.mean(result["seconds"] for result in found)
        print(
            f"| {variant} | {len(found)} | {mean:.2f} % ± {deviation:.2f} | {each} "
            f"| {seconds:.0f} |"
        )


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("weights/runs/record"))
    parser.add_argument("--only", nargs="+", choices=list(variants()), default=list(variants()))
    options = parser.parse_args()

    chosen = [
        (variant, seed)
        for variant in reversed(options.only)  # what takes longest comes first
        for seed in range(SEEDS if variant == FINAL else SEEDS_OF_VARIANTS)
    ]
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [
            pool.submit(train, variant, seed, options.data_dir, options.out)
            for variant, seed in chosen
        ]:
            done.result()
    machine("torch")
    print(f"A model on each core, {cores} at a time\n")
    table(options.out, chosen)


if __name__ == "__main__":
    main()
