"""Labelled pictures of one's own, to learn from and to judge by.

collecting   folders and CSV files → what the network sees of each picture, and what is odd
judging      whether a file shows its label, and what the network sees of its digits
splitting    which pictures are learned from, and which are held out
pictures     the pictures as one file, own.npz, in the folder of a run
measuring    before and after: accuracy on the held-out pictures, and a learning curve
"""
