"""Nodes: their health, replication positions and catalogue, watched beside the data path."""
