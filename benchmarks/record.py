"""What 109,386 weights can do on MNIST: the recipe `distilled`, and what each part of it is worth.

    python benchmarks/record.py [--data-dir data] [--out weights/runs/record] [--only VARIANT …]

Each variant adds one thing to the one before it. All is chosen on validation digits; the test
digits are read once, by each model that is finished. One thread trains one model, so that the same
seed gives the same weights, and as many are trained side by side as there are cores. What is done
is kept in --out, as is what was begun: the same command goes on from there.

The last variant, the recipe itself, leaves runs that `nnpipe evaluate` and `nnpipe promote` take.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

from nnpipe import datasets, runs, stages
from nnpipe.files import write_json
from nnpipe.preprocess import as_inputs
from nnpipe.torch_training.recipes import Distortions, Recipe, recipe

RECORD = recipe("distilled")
SHORT = 20  # epochs, of those that are not trained for long
RESULT = "result.json"
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
        "distilled": RECORD,
    }


def folder_of(variant: str, seed: int, out: Path) -> Path:
    """Where a model is trained."""
    return out / f"{variant.replace(' ', '-')}-seed{seed}"


def train(variant: str, seed: int, data_dir: Path, out: Path) -> None:
    """Train one model and read the test digits with it, unless that is done."""
    folder = folder_of(variant, seed, out)
    result = folder / RESULT
    if result.exists():
        return
    import torch

    from nnpipe.torch_training import train as torch_train
    from nnpipe.torch_training.model import to_network

    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    if variant == RECORD.name:
        trained = stages.train(folder, "mnist", data_dir, recipe=variant, seed=seed, device="cpu")
        test = stages.export(folder, data_dir).test_accuracy
        validation, seconds = trained.validation_accuracy, trained.seconds
    else:
        data = datasets.load("mnist", data_dir)
        checkpoint = folder / runs.CHECKPOINT
        state, history = torch_train.train(
            data, variants()[variant], seed=seed, device="cpu", checkpoint=checkpoint
        )
        read = to_network(state).logits(as_inputs(data.test.images)).argmax(axis=1)
        test = float((read == data.test.labels).mean())
        validation = max(epoch.validation_accuracy for epoch in history)
        seconds = sum(epoch.seconds for epoch in history)
    write_json(result, {"test": test, "validation": validation, "seconds": seconds})
    print(f"{folder.name}: validation {validation:.2%}, {seconds:.0f} s", file=sys.stderr)


def table(out: Path, chosen: list[tuple[str, int]]) -> None:
    """Print, as Markdown, mean and standard deviation over the seeds."""
    print("| each adds to the one above | seeds | validation | test | each seed's test | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for variant in variants():
        found = [
            json.loads((folder_of(name, seed, out) / RESULT).read_text())
            for name, seed in chosen
            if name == variant
        ]
        if not found:
            continue

        def spread(key: str, found: list[dict[str, float]] = found) -> str:
            values = [result[key] for result in found]
            return f"{statistics.mean(values):.2%} ± {100 * statistics.stdev(values):.2f}"

        each = ", ".join(f"{100 * result['test']:.2f}" for result in found)
        seconds = statistics.mean(result["seconds"] for result in found)
        print(
            f"| {variant} | {len(found)} | {spread('validation')} | {spread('test')} | {each} "
            f"| {seconds:.0f} |"
        )


def main() -> None:
    """Train what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, default=stages.DATA)
    parser.add_argument("--out", type=Path, default=stages.RUNS / "record")
    parser.add_argument("--only", nargs="+", choices=list(variants()), default=list(variants()))
    options = parser.parse_args()

    chosen = [
        (variant, seed)
        for variant in reversed(options.only)  # what takes longest comes first
        for seed in range(SEEDS if variant == RECORD.name else SEEDS_OF_VARIANTS)
    ]
    cores = os.cpu_count() or 1
    with ProcessPoolExecutor(cores, mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in [
            pool.submit(train, variant, seed, options.data_dir, options.out)
            for variant, seed in chosen
        ]:
            done.result()
    print(
        f"{platform.processor() or platform.machine()}, {cores} cores, a model on each, "
        f"Python {platform.python_version()}\n"
    )
    table(options.out, chosen)


if __name__ == "__main__":
    main()
