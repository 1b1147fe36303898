"""Histories that others wrote: one module for each format, and `reading` to tell them apart."""
