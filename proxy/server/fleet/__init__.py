"""Several worker processes behind one address, with one console and one page of metrics."""
