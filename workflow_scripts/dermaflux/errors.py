"""Errors that a person can act on."""


class UserError(Exception):
    """Something the user can put right. The message says what is wrong, where (file, row, key), and what to do.

    Jobs show such an error without a traceback.
    """
