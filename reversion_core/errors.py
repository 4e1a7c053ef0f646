class ReVersionError(ValueError):
    """Input that cannot work. The message is one sentence for the artist: node, input, what is wrong, what to do."""

    def __init__(self, node, input_name, problem, cure):
        super().__init__(f"{node}, input '{input_name}': {problem}; {cure}.")


# The page heads its messages with this name; with the module's it would be a path of this machine.
ReVersionError.__module__, ReVersionError.__qualname__ = "builtins", "ReVersion"


class MachineError(ReVersionError):
    """What another machine may be able to do: this one has too little memory or no room on its disk."""


# Whoever runs a workflow on many machines knows it by this name and tries another.
MachineError.__module__, MachineError.__qualname__ = "builtins", "ReVersion (this machine)"


def check_choice(value, options, node, input_name):
    """Raises a ReVersionError for a value that is not among the names: the host lets any through in API prompts."""
    if value not in options:
        problem = f"there is no {input_name} {str(value)[:60]!r}"
        raise ReVersionError(node, input_name, problem, f"choose {', '.join(options)}")
