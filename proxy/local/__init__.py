"""The embedded local stack: real PostgreSQL and Valkey servers out of wheels."""
