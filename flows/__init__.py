"""The Prefect flows: each a thin layer over a stage of nnpipe."""
