"""One module per first word of the command line: `arguments(parser)` and `run(args, context)`.

`muster.cli.main` imports the one that is used.
"""
