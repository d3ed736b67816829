"""From a data set name to batches of `uint8` images."""
