"""Parts: what is found by name and brings its own options.

A part is a file or a folder of its kind's folder, in the library (`sharpflow/models/mlp/`) or in a
paper's (`papers/ziyin2024/models/circle.py`). A folder keeps its options in `options.py` and its
code in `__init__.py`; a file holds both. Nothing else has to know of it.

Jobs import `loading`, which needs nothing but the standard library; the configuration imports
`registry`, which runs none of a part's code to learn what it is.
"""
