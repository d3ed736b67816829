"""What `--mode` can be, beyond training: each function writes under a workdir
and returns what to print."""
