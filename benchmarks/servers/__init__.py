"""The servers that are measured: PostgreSQL behind, the proxies before it."""
