"""The time that long work still takes, in words."""


def about(seconds: float) -> str:
    """Such as "about 12 minutes left": as exact as the pace so far allows."""
    if seconds < 90:
        return f"about {round(seconds, -1):.0f} seconds left" if seconds >= 10 else "a few seconds left"
    if seconds < 90 * 60:
        return f"about {seconds / 60:.0f} minutes left"
    return f"about {seconds / 3600:.1f} hours left"
