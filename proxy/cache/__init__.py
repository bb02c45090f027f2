"""Results in Redis: keys, epochs, fills, invalidation."""
