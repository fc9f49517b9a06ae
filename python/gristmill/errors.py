"""What ends a run. A row that cannot be answered ends none: it has its `error`."""


class Error(Exception):
    """Something ended a run, or kept it from beginning."""

    #: The exit code that the command line has for it: 1 if it may pass, 2 if something must be changed first.
    exit_code = 1


class UsageError(Error, ValueError):
    """An option, a template or a combination of them."""


class InputError(Error, ValueError):
    """The rows, or the reader that they come from."""


class ModelError(Error):
    """The files of a model, or the hub that they come from."""


class DeviceError(Error, RuntimeError):
    """The device: it is not there, has too little memory, or failed."""
