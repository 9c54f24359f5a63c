"""Evaluation of predictions: metrics with their intervals, as Markdown with plots.

`classes` evaluates kinds with classes, `intervals` and `calibration` are what it computes, `plots` draws it, and
`report` writes it. Numbers first; nothing is printed here.
"""
