class ReVersionError(ValueError):
    """Input that cannot work. The message is one sentence for the artist: node, input, what is wrong, what to do."""

    def __init__(self, node, input_name, problem, cure):
        super().__init__(f"{node}, input '{input_name}': {problem}; {cure}.")
