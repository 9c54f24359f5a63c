"""Self-contained HTML pages: a template, a style sheet and scripts, each a file of its own, joined into one.

`palette.css` and `elements.js`, of this folder, precede the style sheet and the scripts of every page of `join_page`.
"""
