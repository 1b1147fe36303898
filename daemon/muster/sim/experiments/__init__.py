"""Experiments: many simulated runs that answer one question with a table and a plot."""
