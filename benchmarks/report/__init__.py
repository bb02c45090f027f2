"""From measurements to tables, plots and JSON."""
