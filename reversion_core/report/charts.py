"""Charts with Pillow, since matplotlib is not a package that the host has.

Letters are large, because a node shows a picture at about half its size.
"""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GRID, PAPER = (40, 40, 40), (222, 222, 222), (255, 255, 255)
LINES = ((31, 110, 190), (220, 90, 30), (60, 150, 70), (140, 80, 170))
WIDTH, CHART_HEIGHT = 640, 270  # of a card and what it shows, which a node shrinks to its own width
HEADLINE, TEXT = 38, 22  # heights of letters in pixels
MESSAGE_LINES = 2
SMALLEST_SPAN = 0.05  # of the values' size: an axis never magnifies rounding


def font(size):
    """Pillow's own font at a height in pixels."""
    return ImageFont.load_default(size)


def axis_range(values):
    """(lowest, highest) of an axis for values [n], those that are not finite left out."""
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    smallest = max(SMALLEST_SPAN * max(abs(low), abs(high)), 1e-9)
    if high - low < smallest:
        middle = (low + high) / 2
        low, high = middle - smallest / 2, middle + smallest / 2
    return low, high


def line_chart(title, series, x_label, size=(WIDTH, 320)):
    """A chart of named series of numbers drawn over 1 .. n: PIL image. Values that are not finite are left out."""
    image = Image.new("RGB", size, PAPER)
    draw, letters = ImageDraw.Draw(image), font(TEXT)
    low, high = axis_range(np.concatenate([np.asarray(v, dtype=np.float64) for v in series.values()]))
    labels = [f"{low + (high - low) * i / 3:.3g}" for i in range(4)]
    left = 16 + max(round(draw.textlength(label, font=letters)) for label in labels)
    top, right, bottom = TEXT + 20, size[0] - 16, size[1] - TEXT - 18
    longest = max((len(v) for v in series.values()), default=1)
    for i, label in enumerate(labels):
        y = bottom - (bottom - top) * i / 3
        draw.line([(left, y), (right, y)], fill=GRID, width=2)
        draw.text((left - 8, y), label, fill=INK, font=letters, anchor="rm")
    draw.text((8, 6), title, fill=INK, font=letters)
    draw.text((left, bottom + 8), "1", fill=INK, font=letters)
    draw.text((right, bottom + 8), f"{x_label} {longest}", fill=INK, font=letters, anchor="ra")
    at = right
    for i, (name, line) in enumerate(series.items()):
        colour = LINES[i % len(LINES)]
        points = [
            (left + (right - left) * k / max(longest - 1, 1), bottom - (bottom - top) * (v - low) / (high - low))
            for k, v in enumerate(line)
            if np.isfinite(v)
        ]
        if len(points) > 1:
            draw.line(points, fill=colour, width=3)
        if len(series) > 1:
            draw.text((at, 6), name, fill=colour, font=letters, anchor="ra")
            at -= draw.textlength(name, font=letters) + 16
    return image


def smoothed(values, share=0.95):
    """Exponential average that starts at the first value."""
    result, mean = [], None
    for value in values:
        mean = value if mean is None else share * mean + (1 - share) * value
        result.append(mean)
    return result


def _varies(values):
    """Whether numbers change by more than rounding."""
    return bool(values) and max(values) - min(values) > 1e-3 * max(abs(max(values)), 1e-9)


def training_report(history, titles):
    """The numbers of a run over its updates, two charts a row: PIL image.

    history: a record for each update; titles: name of a number -> title of its chart, for those that the records have.
    A number that never changes, such as a norm that is kept, is left out.
    """
    charts = []
    for name, title in titles.items():
        values = [record[name] for record in history if name in record]
        if values and (name == "denoise" or _varies(values)):
            charts.append(line_chart(title, {"raw": values, "smoothed": smoothed(values)}, "step"))
    width, height = charts[0].size
    sheet = Image.new("RGB", (2 * width, (len(charts) + 1) // 2 * height), PAPER)
    for i, chart in enumerate(charts):
        sheet.paste(chart, (i % 2 * width, i // 2 * height))
    return sheet


def text_lines(text, size, most=MESSAGE_LINES, width=WIDTH):
    """Text as a picture, wrapped to a width in pixels and cut after the most lines: PIL image."""
    letters = font(size)
    per_line = max(int((width - 16) / letters.getlength("n")), 1)
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, per_line) or [""]]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][: per_line - 3]}..."]
    image = Image.new("RGB", (width, len(lines) * (size + 8) + 10), PAPER)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((8, 6 + i * (size + 8)), line, fill=INK, font=letters)
    return image


def progress_card(headline, history, titles, sample=None, message=""):
    """What a training node shows: PIL image, `WIDTH` wide and at most 400 pixels high, for a node has no more room.

    headline: one line, such as the step and the time left; history: a record for each update; titles: as for
    `training_report`; sample: the latest preview, uint8 [h, w, 3], beside the curve of the loss; message: what
    happened last, of which the first lines are shown.
    """
    parts = [text_lines(headline, HEADLINE, most=1)]
    if message:
        parts.append(text_lines(message, TEXT))
    if history or sample is not None:
        parts.append(_curves(history, titles, sample))
    card = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), PAPER)
    at = 0
    for part in parts:
        card.paste(part, (0, at))
        at += part.height
    return card


def _curves(history, titles, sample):
    """The loss over the updates, and beside it the latest preview or else R's norm where that is free."""
    loss, norm = ([record[name] for record in history] for name in ("denoise", "norm"))
    beside = None
    if sample is not None:
        beside = Image.fromarray(sample).resize((CHART_HEIGHT, CHART_HEIGHT), Image.Resampling.LANCZOS)
    elif _varies(norm):
        beside = line_chart(titles["norm"], {"norm": norm}, "step", (WIDTH // 2, CHART_HEIGHT))
    row = Image.new("RGB", (WIDTH, CHART_HEIGHT), PAPER)
    if history:
        size = WIDTH - (beside.width if beside else 0), CHART_HEIGHT
        row.paste(line_chart(titles["denoise"], {"raw": loss, "smoothed": smoothed(loss)}, "step", size), (0, 0))
    if beside:
        row.paste(beside, (WIDTH - beside.width, 0))
    return row


def scatter_chart(title, groups, size=(900, 640)):
    """Named points by group: group -> (names, places [n, 2]). PIL image; the axes have no unit.

    A name that would lie on another is left out, the later group's first: its point is there.
    """
    image = Image.new("RGB", size, PAPER)
    draw, letters, margin = ImageDraw.Draw(image), font(TEXT), 70
    taken = []
    places = np.concatenate([np.asarray(p, dtype=np.float64) for _, p in groups.values()])
    low, high = places.min(0), places.max(0)
    scale = (np.array(size) - 2 * margin - (110, 0)) / np.maximum(high - low, 1e-9)
    draw.text((margin, 6), title, fill=INK, font=letters)
    at = margin
    for i, (group, (names, points)) in enumerate(groups.items()):
        colour = LINES[i % len(LINES)]
        draw.text((at, TEXT + 12), group, fill=colour, font=letters)
        at += draw.textlength(group, font=letters) + 24
        for name, point in zip(names, points, strict=True):
            x, y = margin + (np.asarray(point) - low) * scale
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
            box = draw.textbbox((x + 8, y), name, font=letters, anchor="lm")
            if not any(a[0] < box[2] and box[0] < a[2] and a[1] < box[3] and box[1] < a[3] for a in taken):
                taken.append(box)
                draw.text((x + 8, y), name, fill=colour, font=letters, anchor="lm")
    return image
