"""Sockets of the data path: channels that read and write at once, and listeners."""
