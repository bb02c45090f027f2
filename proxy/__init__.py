"""Penstock: a PostgreSQL proxy that pools, routes, caches and shards."""
