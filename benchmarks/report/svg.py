"""Horizontal bar charts as SVG."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 880, 190, 110
_TOP, _BAR, _GAP, _TITLE, _BOTTOM = 64, 17, 5, 30, 40
_SPAN = _WIDTH - _LEFT - _RIGHT
_TICKS = 6
_ENDS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10)
"""Of an axis, times a power of ten."""
_STEPS = (1, 2, 2.5, 5, 10)
"""Between its marks."""
_STYLE = """\
text { font: 13px sans-serif; fill: #1c2733; }
.title { font-size: 16px; font-weight: bold; }
.group { font-weight: bold; }
.small { font-size: 11px; fill: #4a5a6a; }
.grid { stroke: #dde4ea; }
.bound { stroke: #b3261e; stroke-width: 1.5; stroke-dasharray: 5 4; }
.spread { stroke: #1c2733; stroke-width: 1.2; opacity: 0.6; }"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar.

    Attributes:
        parts: its lengths, one behind the other.
        spread: the least and the greatest of its whole length.
        text: what is written behind it.
    """

    label: str
    parts: Sequence[float]
    colour: str
    spread: tuple[float, float] | None = None
    text: str = ""

    @property
    def length(self) -> float:
        """Of all its parts."""
        return sum(self.parts)

    @property
    def end(self) -> float:
        """As far right as it goes."""
        return max(self.length, self.spread[1] if self.spread else 0.0)


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under a title of their own; "": none."""

    title: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Chart:
    """A whole picture.

    Attributes:
        unit: of the axis, in words.
        bound: where a line is drawn, and what it says.
        logarithmic: whether the axis is; bars then start at a tenth or so of the least.
    """

    title: str
    unit: str
    groups: Sequence[Group]
    bound: tuple[float, str] | None = None
    logarithmic: bool = False


def render(chart: Chart) -> str:
    """The chart as a document of its own. Raises ValueError if it has no bars."""
    bars = [bar for group in chart.groups for bar in group.bars]
    if not bars:
        raise ValueError(f"{chart.title}: nothing to draw")
    ends = [bar.end for bar in bars] + ([chart.bound[0]] if chart.bound else [])
    scale = _Scale(min(bar.length for bar in bars), max(ends), chart.logarithmic)
    height = _TOP + sum(_height(group) for group in chart.groups) + _BOTTOM
    body = [*_axis(scale, height), *_all_bars(chart, scale), *_bound(chart, scale, height)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" role="img">',
            f"<title>{escape(chart.title)}</title>",
            f"<style>\n{_STYLE}\n</style>",
            f'<rect width="{_WIDTH}" height="{height}" rx="10" fill="#ffffff"/>',
            f'<text class="title" x="20" y="30">{escape(chart.title)}</text>',
            f'<text class="small" x="20" y="49">{escape(chart.unit)}</text>',
            *body,
            "</svg>\n",
        ]
    )


class _Scale:
    """From values to places on the axis."""

    def __init__(self, least: float, most: float, logarithmic: bool) -> None:
        self._logarithmic = logarithmic
        if logarithmic:
            self._low = float(math.floor(math.log10(max(least, 1e-9)) - 0.3))
            self._high = max(float(math.ceil(math.log10(max(most, 1e-9)))), self._low + 1)
        else:
            self._low, self._high = 0.0, _round_up(most, _ENDS)

    def place(self, value: float) -> float:
        """The x of a value."""
        if self._logarithmic:
            value = math.log10(max(value, 10.0**self._low))
        return _LEFT + _SPAN * (value - self._low) / (self._high - self._low)

    def ticks(self) -> list[float]:
        """Where the axis is marked."""
        if self._logarithmic:
            return [10.0**power for power in range(int(self._low), int(self._high) + 1)]
        step = _round_up(self._high / _TICKS, _STEPS)
        return [step * number for number in range(int(self._high / step + 1e-9) + 1)]


def _round_up(value: float, steps: Sequence[float]) -> float:
    """To one of the steps, from 1 to 10, times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * step for step in steps if power * step >= value * 0.9999)


def _height(group: Group) -> int:
    return (_TITLE if group.title else 10) + len(group.bars) * (_BAR + _GAP)


def _axis(scale: _Scale, height: int) -> Iterator[str]:
    foot = height - _BOTTOM + 6
    for tick in scale.ticks():
        x = scale.place(tick)
        yield f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{foot}"/>'
        yield (
            f'<text class="small" x="{x:.1f}" y="{foot + 16}" text-anchor="middle">{tick:g}</text>'
        )


def _all_bars(chart: Chart, scale: _Scale) -> Iterator[str]:
    y = _TOP
    for group in chart.groups:
        if group.title:
            yield f'<text class="group" x="20" y="{y + 20}">{escape(group.title)}</text>'
        y += _TITLE if group.title else 10
        for bar in group.bars:
            yield from _one_bar(bar, scale, y)
            y += _BAR + _GAP


def _one_bar(bar: Bar, scale: _Scale, y: int) -> Iterator[str]:
    middle = y + _BAR / 2
    label = f'x="{_LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end"'
    yield f"<text {label}>{escape(bar.label)}</text>"
    begin, reached = float(_LEFT), 0.0
    for number, part in enumerate(bar.parts):
        reached += part
        end = scale.place(reached)
        opacity = 1.0 if number == 0 else 0.55
        yield (
            f'<rect x="{begin:.1f}" y="{y}" width="{max(end - begin, 0.5):.1f}" height="{_BAR}" '
            f'fill="{bar.colour}" opacity="{opacity}"/>'
        )
        begin = end
    if bar.spread and bar.spread[1] > bar.spread[0]:
        low, high = (scale.place(value) for value in bar.spread)
        yield (
            f'<line class="spread" x1="{low:.1f}" x2="{high:.1f}" '
            f'y1="{middle:.1f}" y2="{middle:.1f}"/>'
        )
    x = scale.place(bar.end) + 7
    yield f'<text class="small" x="{x:.1f}" y="{middle + 4:.1f}">{escape(bar.text)}</text>'


def _bound(chart: Chart, scale: _Scale, height: int) -> Iterator[str]:
    if chart.bound is None:
        return
    value, text = chart.bound
    x, foot = scale.place(value), height - _BOTTOM + 6
    yield f'<line class="bound" x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 4}" y2="{foot}"/>'
    yield f'<text class="small" x="{x + 5:.1f}" y="{_TOP - 2}">{escape(text)}</text>'
