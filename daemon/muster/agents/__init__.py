"""The clustering agents. They do not import each other: they talk by signals and typed ports."""
