"""The flows' parameters: their types, and the words that Prefect's page and ``--help`` show."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

Dataset = Annotated[
    Literal["auto", "mnist", "drawn"],
    Field(description="mnist, drawn, or auto: MNIST, and drawn digits if no mirror answers."),
]
KnownDataset = Annotated[Literal["mnist", "drawn"], Field(description="mnist or drawn.")]
DataDir = Annotated[Path, Field(description="Folder where data sets are kept.")]
Mirror = Annotated[
    str | None,
    Field(description="Where to get MNIST, https://…/ or file:///…/; by default public mirrors."),
]
Recipe = Annotated[str, Field(description="augmented or classic.")]
Seed = Annotated[int, Field(description="Of everything random.")]
Epochs = Annotated[int | None, Field(description="Passes over the data; by default the recipe's.")]
Run = Annotated[
    str | None,
    Field(description="Name of the run; that of an interrupted one goes on with it."),
]
RunsDir = Annotated[Path, Field(description="Folder of all runs.")]
ReportsDir = Annotated[Path, Field(description="Folder of all reports.")]
RunFolder = Annotated[Path, Field(description="Folder of a finished run.")]
Weights = Annotated[
    Path | None, Field(description="Weights file; by default the one that comes with nnpipe.")
]
Source = Annotated[Path, Field(description="Folder of pictures; all files below it are read.")]
Out = Annotated[Path, Field(description="Where rows go: .csv, .jsonl or .parquet.")]
