"""Candidates and the champion: a store with a root, and the rules of promotion."""

from nnpipe.champions.archive import Former
from nnpipe.champions.rules import Decision, Rule
from nnpipe.champions.store import Promotion, Store, champion_of

__all__ = ["Decision", "Former", "Promotion", "Rule", "Store", "champion_of"]
