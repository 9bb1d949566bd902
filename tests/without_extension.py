"""A pytest plugin, `-p without_extension`: the package as it is where nothing was compiled."""

import sys

sys.modules["s2s_kernels._C"] = None
