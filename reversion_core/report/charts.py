"""Charts with Pillow, since matplotlib is not a package that the host has.

Letters are large, because a node shows a picture at about half its size.
"""

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GRID, PAPER = (40, 40, 40), (222, 222, 222), (255, 255, 255)
LINES = ((31, 110, 190), (220, 90, 30), (60, 150, 70), (140, 80, 170))
WIDTH = 640  # of a card
HEADLINE, TEXT = 38, 22  # heights of letters in pixels
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
    left, top, right, bottom = 92, TEXT + 20, size[0] - 16, size[1] - TEXT - 18
    low, high = axis_range(np.concatenate([np.asarray(v, dtype=np.float64) for v in series.values()]))
    longest = max((len(v) for v in series.values()), default=1)
    for i in range(4):
        y = bottom - (bottom - top) * i / 3
        draw.line([(left, y), (right, y)], fill=GRID, width=2)
        draw.text((left - 8, y), f"{low + (high - low) * i / 3:.3g}", fill=INK, font=letters, anchor="rm")
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
    return max(values) - min(values) > 1e-3 * max(abs(max(values)), 1e-9)


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


def text_lines(text, size, width=WIDTH):
    """Text as a picture, wrapped to a width in pixels: PIL image."""
    letters = font(size)
    per_line = max(int((width - 16) / letters.getlength("n")), 1)
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, per_line) or [""]]
    image = Image.new("RGB", (width, len(lines) * (size + 8) + 10), PAPER)
    draw = ImageDraw.Draw(image)
    for i, line in enumerate(lines):
        draw.text((8, 6 + i * (size + 8)), line, fill=INK, font=letters)
    return image


def progress_card(headline, history, sample=None, message=""):
    """What a training node shows: PIL image, `WIDTH` wide.

    headline: one line, such as the step and the time left; history: a record for each update; sample: the latest
    preview, uint8 [h, w, 3]; message: what happened last.
    """
    parts = [text_lines(headline, HEADLINE)]
    if message:
        parts.append(text_lines(message, TEXT))
    if history:
        loss = [record["denoise"] for record in history]
        parts.append(line_chart("denoising loss", {"raw": loss, "smoothed": smoothed(loss)}, "step", (WIDTH, 280)))
        norm = [record["norm"] for record in history]
        if _varies(norm):
            parts.append(line_chart("norm of R", {"norm": norm}, "step", (WIDTH, 200)))
    if sample is not None:
        parts.append(Image.fromarray(sample).resize((WIDTH, WIDTH), Image.Resampling.LANCZOS))
    card = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), PAPER)
    at = 0
    for part in parts:
        card.paste(part, (0, at))
        at += part.height
    return card


def scatter_chart(title, groups, size=(900, 700)):
    """Named points by group: group -> (names, places [n, 2]). PIL image; the axes have no unit."""
    image = Image.new("RGB", size, PAPER)
    draw, letters, margin = ImageDraw.Draw(image), font(TEXT - 4), 70
    places = np.concatenate([np.asarray(p, dtype=np.float64) for _, p in groups.values()])
    low, high = places.min(0), places.max(0)
    scale = (np.array(size) - 2 * margin - (80, 0)) / np.maximum(high - low, 1e-9)
    draw.text((margin, 6), title, fill=INK, font=font(TEXT))
    at = margin
    for i, (group, (names, points)) in enumerate(groups.items()):
        colour = LINES[i % len(LINES)]
        draw.text((at, TEXT + 12), group, fill=colour, font=letters)
        at += draw.textlength(group, font=letters) + 24
        for name, point in zip(names, points, strict=True):
            x, y = margin + (np.asarray(point) - low) * scale
            draw.ellipse([x - 4, y - 4, x + 4, y + 4], fill=colour)
            draw.text((x + 7, y - 10), name, fill=colour, font=letters)
    return image
