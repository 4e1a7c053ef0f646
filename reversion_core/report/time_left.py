"""How far long work is and how long it still takes, as texts."""


def about(seconds: float) -> str:
    """Such as "about 12 minutes left": as exact as the pace so far allows."""
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds left" if seconds >= 10 else "a few seconds left"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} minutes left"
    return f"about {seconds / 3600:.1f} hours left"


def bar(done: int, total: int) -> str:
    """A bar of 20 letters, for what outlasts the run of a node and with it the host's own bar."""
    filled = 20 * done // total
    return "\u2588" * filled + "\u2591" * (20 - filled)
