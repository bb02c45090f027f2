"""Configurations of other poolers, read and written as Penstock's."""
