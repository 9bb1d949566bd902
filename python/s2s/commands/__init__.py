"""The commands of ``s2s``: one file each, with a function of the same name."""
