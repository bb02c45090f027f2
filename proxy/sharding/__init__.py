"""Key functions and the shard map."""
