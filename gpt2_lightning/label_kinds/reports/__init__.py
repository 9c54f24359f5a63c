"""Reports on predictions: metrics with confidence intervals, as Markdown with plots.

`classes` evaluates kinds with classes, `calibration` computes its calibration, `plots` draws the plots, and `report`
writes the Markdown. Nothing is printed here.
"""
