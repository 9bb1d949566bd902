"""Decoders of other packages, run as one op: one module a package, with ``convert(model)`` and ``revert(model)``.

``sk.convert`` swaps cells and sequences wherever they are. A decoder whose loop runs through an attention is its
package's own code; these modules know it, package by package (docs/drop-in.md has the table)::

    from s2s_kernels.integrations import joeynmt
    model = joeynmt.convert(model)

No package is imported before its ``convert`` is called.
"""
