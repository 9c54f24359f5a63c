"""How good a classifier is, and what it gets wrong.

`predictions` gives the probabilities of texts, `report` measures them against their labels, `pages` writes what was
found as Markdown and `pictures` draws it. Numbers first; nothing is printed here.
"""
