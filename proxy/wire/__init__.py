"""PostgreSQL protocol 3.0: framing, messages, authentication, errors; without sockets."""
