"""What a run must not have done: each checker judges a history, and says why it does not hold."""
