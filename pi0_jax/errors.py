"""The one exception that means "the user's input was wrong" (exit code 2)."""


class InputError(ValueError):
    """Input that cannot be used.

    The message is one sentence a user can act on: what was expected, what was got, what to do.
    Entry points print it and exit with code 2; it is raised before anything is overwritten.
    """
