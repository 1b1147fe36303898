"""What an operator can set: the schema, and how file, environment and flags become one value."""
