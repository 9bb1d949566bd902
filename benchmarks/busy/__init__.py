"""The suite busy: ops beside other busy processes, and in one process with other runtimes.

Each implementation runs in a process of its own, and they take turns; once more all of them in one process, as a
program that serves several models has them. The load is processes that compute without end, started and ended here.
A run goes on from the results that an earlier one left on the same machine and build.
"""
