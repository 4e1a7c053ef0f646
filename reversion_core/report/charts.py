"""Line charts with Pillow, since matplotlib is not a package that the host has."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, GRID, PAPER = (40, 40, 40), (222, 222, 222), (255, 255, 255)
LINES = ((31, 110, 190), (220, 90, 30), (60, 150, 70), (140, 80, 170))
MARGIN = 46


def line_chart(title, series, x_label, size=(640, 300)):
    """A chart of named series of numbers drawn over 1 .. n: PIL image. Values that are not finite are left out."""
    image = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default()
    left, top, right, bottom = MARGIN + 10, 28, size[0] - 14, size[1] - 34
    values = np.concatenate([np.asarray(v, dtype=np.float64) for v in series.values()])
    values = values[np.isfinite(values)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    longest = max((len(v) for v in series.values()), default=1)
    for i in range(5):
        y = bottom - (bottom - top) * i / 4
        draw.line([(left, y), (right, y)], fill=GRID)
        draw.text((4, y - 6), f"{low + (high - low) * i / 4:.3g}", fill=INK, font=font)
    draw.text((left, 6), title, fill=INK, font=font)
    draw.text((left, bottom + 8), "1", fill=INK, font=font)
    draw.text((right - 60, bottom + 8), f"{x_label} {longest}", fill=INK, font=font)
    for i, (name, line) in enumerate(series.items()):
        colour = LINES[i % len(LINES)]
        points = [
            (left + (right - left) * k / max(longest - 1, 1), bottom - (bottom - top) * (v - low) / (high - low))
            for k, v in enumerate(line)
            if np.isfinite(v)
        ]
        if len(points) > 1:
            draw.line(points, fill=colour, width=2)
        draw.text((right - 110 * (len(series) - i), 6), name, fill=colour, font=font)
    return image


def smoothed(values, share=0.95):
    """Exponential average that starts at the first value."""
    result, mean = [], None
    for value in values:
        mean = value if mean is None else share * mean + (1 - share) * value
        result.append(mean)
    return result


def training_report(history, titles):
    """The numbers of a run over its updates, two charts a row: PIL image.

    history: a record per update; titles: name of a number -> title of its chart, for those that the records have.
    """
    charts = []
    for name, title in titles.items():
        if name in history[0]:
            values = [record[name] for record in history]
            charts.append(line_chart(title, {"raw": values, "smoothed": smoothed(values)}, "step"))
    width, height = charts[0].size
    sheet = Image.new("RGB", (2 * width, (len(charts) + 1) // 2 * height), PAPER)
    for i, chart in enumerate(charts):
        sheet.paste(chart, (i % 2 * width, i // 2 * height))
    return sheet


def progress_card(history, steps, seconds_left, sample):
    """What a training node shows while it runs: PIL image. sample: the latest preview, uint8 [h, w, 3], or None."""
    loss = [record["denoise"] for record in history]
    minutes, seconds = divmod(round(seconds_left), 60)
    title = f"step {len(history)} of {steps}, {minutes}:{seconds:02} left; loss"
    charts = [
        line_chart(title, {"raw": loss, "smoothed": smoothed(loss)}, "step", (640, 240)),
        line_chart("norm of R", {"norm": [record["norm"] for record in history]}, "step", (640, 160)),
    ]
    height = sum(chart.height for chart in charts)
    card = Image.new("RGB", (640 + (height if sample is not None else 0), height), PAPER)
    for i, chart in enumerate(charts):
        card.paste(chart, (0, charts[0].height * i))
    if sample is not None:
        card.paste(Image.fromarray(sample).resize((height, height), Image.Resampling.LANCZOS), (640, 0))
    return card


def scatter_chart(title, groups, size=(760, 620)):
    """Named points by group: group -> (names, places [n, 2]). PIL image; the axes have no unit."""
    image = Image.new("RGB", size, PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default()
    places = np.concatenate([np.asarray(p, dtype=np.float64) for _, p in groups.values()])
    low, high = places.min(0), places.max(0)
    scale = (np.array(size) - 2 * MARGIN - (60, 0)) / np.maximum(high - low, 1e-9)
    draw.text((MARGIN, 6), title, fill=INK, font=font)
    for i, (group, (names, points)) in enumerate(groups.items()):
        colour = LINES[i % len(LINES)]
        draw.text((MARGIN + 120 * i, 20), group, fill=colour, font=font)
        for name, point in zip(names, points, strict=True):
            x, y = MARGIN + (np.asarray(point) - low) * scale
            draw.ellipse([x - 3, y - 3, x + 3, y + 3], fill=colour)
            draw.text((x + 5, y - 6), name, fill=colour, font=font)
    return image
