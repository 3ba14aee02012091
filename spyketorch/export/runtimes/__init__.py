"""Programs that run a network of integers from its file, without this library."""
