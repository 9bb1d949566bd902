"""``make crash``: trainings that are killed, or run out of disk, at every system call that changes their folder."""
