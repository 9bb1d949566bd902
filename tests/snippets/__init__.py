"""The code of README.md and docs/: every snippet is executed, as a reader would, in an empty folder.

    python -m snippets                 # all pages; or those that are named: python -m tests.snippets README.md
    python -m snippets --list          # what would run, and what does not and why

A page is read from top to bottom. Its ``python`` blocks share one set of names, its ``sh`` blocks one folder, in which
the files of ``world.py`` lie. What a page takes for granted stands in a comment that no reader sees::

    <!-- given python
    model = nn.GRU(3, 4)
    -->

A block that begins with ``# eager`` and the next, which begins with ``# fused``, start from the same names and must
give the same tensors. What cannot run stands in the table of ``not_run.py``, with the reason.
"""
