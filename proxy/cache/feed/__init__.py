"""The change feed: writes by anybody, as logical replication tells of them, move epochs."""
