"""PostgreSQL protocol 3.0: framing, messages, authentication, errors. Bytes in, bytes out: no sockets."""
