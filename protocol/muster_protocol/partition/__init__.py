"""Quorum logic: which side of a split may act."""
