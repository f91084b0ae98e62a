"""Candidates and the champion: a store with a root, and the rules of promotion."""

from nnpipe.champions.rules import Decision, Rule
from nnpipe.champions.store import Promotion, Store, default_root

__all__ = ["Decision", "Promotion", "Rule", "Store", "default_root"]
