"""A picture of several digits → the most probable number, and how probable it is.

The classical way (LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition",
sections IV and V): there are more cuts than digits, each piece between two cuts may be a digit, the
one network reads all pieces, and dynamic programming finds the most probable sequence. Each step is
a module:

    ways.prepare: line.find → cuts.cut → pieces.lattice
                                              ↓
                                         the network
                                              ↓
    reading.read_number:     prior.weigh → search.search, under constraints

A picture may be understood in several *ways*, as a picture of one digit is. Here they do not
compete: the probability of a number is summed over all ways and all cuts that give it.
"""
