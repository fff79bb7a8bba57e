"""Errors that a user can mend, each one sentence: the subject, its value, the rule, the remedy."""

from __future__ import annotations


class UserError(Exception):
    """Something the user can mend; prints as ``<subject>: <value>: <rule>. <remedy>``.

    Parameters
    ----------
    subject
        The file, or the configuration field by its dotted path, that is wrong.
    rule
        What must hold, without a full stop.
    value
        The offending value as the user wrote it; left out of the text when empty.
    remedy
        What to do, as a sentence; left out of the text when empty.
    """

    def __init__(self, subject: object, rule: str, *, value: object = "", remedy: str = "") -> None:
        self.subject = str(subject)
        self.rule = rule
        self.value = str(value)
        self.remedy = remedy
        head = ": ".join(part for part in (self.subject, self.value, rule) if part)
        super().__init__(f"{head}. {remedy}".rstrip() if remedy else f"{head}.")


class ConfigError(UserError, ValueError):
    """A configuration field is wrong."""


class DataError(UserError, ValueError):
    """An image, or a folder of images, cannot be used."""


class CheckpointError(UserError, ValueError):
    """A file is no checkpoint, or does not fit what it is loaded into."""


class RunFailed(UserError, RuntimeError):
    """Something went wrong while a run was under way."""
