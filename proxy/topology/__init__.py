"""Nodes, their health, replication positions and the catalogue, watched from outside the data path."""
