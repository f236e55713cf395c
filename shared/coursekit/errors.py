"""Errors that a person reads."""


class CourseError(Exception):
    """A sentence that says what was wrong and what to do; the command line prints it without a traceback."""
