"""pysyncobj 0.3.17, made safe: the only package that imports it."""
