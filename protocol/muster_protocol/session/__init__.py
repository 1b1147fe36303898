"""The control protocol between a daemon and its clients on one host."""
