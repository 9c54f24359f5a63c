"""The one exception for what a user can mend."""


class UserError(Exception):
    """A mistake in the input: what is wrong, where, and what to do. Shown without a stack trace; exit code 2."""
