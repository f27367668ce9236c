"""The one tree of errors.

    HerdLensError            exit status 1: something inside went wrong
    ├── InputError           2: the clip, the file or the call is at fault; the message says what to do
    │   ├── ClipError        a clip that cannot be analysed
    │   ├── AnnotationError  an annotation file that cannot be used; lists every problem found
    │   └── SettingsError    an unknown setting, profile or value
    ├── ResourceError        3: a model, server, adapter or library is missing or unreachable
    │   ├── ModelError       weights missing, incomplete or failing while they run
    │   └── AdapterError     an adapter that cannot be loaded on this base, with both sides named
    ├── MismatchError        3: two things of different provenance were about to be compared
    └── Cancelled            130: the user stopped the work

A message is one sentence for the person at the screen: it names the value at fault and the remedy.
Details for engineers go to the log, through ``raise … from``.
"""


class HerdLensError(Exception):
    """Base of all errors that HerdLens raises on purpose; ``str()`` is one sentence for the user."""

    exit_status = 1


class InputError(HerdLensError):
    """The input or the call is wrong; nothing was changed."""

    exit_status = 2


class ClipError(InputError):
    """A clip that cannot be analysed: unreadable, refused by a limit, or without pictures."""


class AnnotationError(InputError):
    """An annotation file that cannot be used; ``problems`` holds one line for each entry at fault."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems


class SettingsError(InputError):
    """A setting or profile that does not exist or has an impossible value."""


class ResourceError(HerdLensError):
    """Something the analysis needs is missing or cannot be reached."""

    exit_status = 3


class ModelError(ResourceError):
    """Weights are missing or incomplete, or a model failed while it ran."""


class AdapterError(ResourceError):
    """An adapter is unknown, malformed or made for another base model."""


class MismatchError(ResourceError):
    """Two things of different provenance were about to be compared; the message names both."""


class Cancelled(HerdLensError):
    """The user cancelled; not a failure."""

    exit_status = 130
