"""Reports on predictions: metrics with confidence intervals, as Markdown with plots.

`classes` evaluates kinds with classes, `intervals` and `calibration` compute its statistics, `plots` draws the plots,
and `report` writes the Markdown. Nothing is printed here.
"""
