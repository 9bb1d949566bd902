"""How fast s2s_kernels is here: ``python -m benchmarks`` measures it, ``pytest benchmarks`` tracks it."""
