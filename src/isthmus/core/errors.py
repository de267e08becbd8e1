"""What a user can do something about. Everything else is a defect of ours, whose traceback is kept in a file."""


class IsthmusError(Exception):
    """States what is wrong, where, what was found, what is allowed and the next step. Exit status 2."""

    exit_status = 2


class ConfigError(IsthmusError):
    """A value in `params.yaml` or on the command line cannot be used."""


class DataError(IsthmusError):
    """Files or tables that came from outside are missing, broken or contradict each other."""


class WeightsError(IsthmusError):
    """Pretrained weights cannot be had or do not fit the architecture."""


class StoreError(IsthmusError):
    """The tracking store, the registry or the data cache is out of reach or in an unexpected state."""


class MachineError(IsthmusError):
    """The machine refused something: a full disk, a folder that may not be written, too little memory."""


class DefectError(IsthmusError):
    """Something is wrong in isthmus itself. Exit status 1."""

    exit_status = 1
