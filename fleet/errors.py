"""What can go wrong, by whose doing."""


class FleetError(RuntimeError):
    """What was asked for cannot be done; the message is for the user."""


class HostError(FleetError):
    """A host cannot be used for this workflow."""


class HostLost(RuntimeError):
    """A host died or cannot be reached; what it was doing belongs to another, or to it once it is back."""


class HostFault(HostLost):
    """A host answers, but not as it should, or fails for reasons of its own: a full disk, no memory, an error in it."""


class JobFailed(RuntimeError):
    """A host refused a job or failed at it; the message is the host's own."""
