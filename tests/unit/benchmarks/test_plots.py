"""Bar charts, and which are made."""

from xml.etree import ElementTree

import pytest

from benchmarks.report.charts import plots
from benchmarks.report.svg import Bar, Chart, Group, render
from benchmarks.scenarios import SCENARIOS
from tests.unit.benchmarks.samples import a_round, measured

SVG = "{http://www.w3.org/2000/svg}"


def bars_of(chart: Chart) -> list[tuple[float, float]]:
    """Where each part of a bar begins, and how wide it is."""
    rectangles = ElementTree.fromstring(render(chart)).findall(f"{SVG}rect")[1:]
    return [(float(one.attrib["x"]), float(one.attrib["width"])) for one in rectangles]


def a_chart(*bars: Bar, logarithmic: bool = False) -> Chart:
    return Chart("a title", "a unit", [Group("", bars)], logarithmic=logarithmic)


def test_bars_are_as_long_as_their_values() -> None:
    (_, short), (_, long) = bars_of(a_chart(Bar("a", (2.0,), "#000"), Bar("b", (6.0,), "#000")))
    assert long == pytest.approx(3 * short, abs=0.2)


def test_parts_lie_one_behind_the_other() -> None:
    (first, width), (second, _) = bars_of(a_chart(Bar("a", (2.0, 3.0), "#000")))
    assert second == pytest.approx(first + width, abs=0.2)


def test_tenfold_is_as_far_everywhere_on_a_logarithmic_axis() -> None:
    chart = a_chart(*(Bar("a", (v,), "#000") for v in (1.0, 10.0, 100.0)), logarithmic=True)
    (_, one), (_, ten), (_, hundred) = bars_of(chart)
    assert ten - one == pytest.approx(hundred - ten, abs=0.2)


def test_nothing_leaves_the_picture() -> None:
    spread = Bar("a", (5.0,), "#000", spread=(1.0, 99.0), text="5")
    root = ElementTree.fromstring(render(a_chart(spread)))
    right = float(root.attrib["viewBox"].split()[2])
    assert all(float(line.attrib["x2"]) < right for line in root.findall(f"{SVG}line"))


def test_texts_may_hold_anything() -> None:
    chart = Chart("a < b & c", "", [Group("<g>", [Bar("<b>", (1.0,), "#000", text="&")])])
    texts = [one.text for one in ElementTree.fromstring(render(chart)).iter(f"{SVG}text")]
    assert {"a < b & c", "<g>", "<b>", "&"} <= set(texts)


def test_no_chart_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        render(a_chart())


def test_all_plots_once_all_is_measured() -> None:
    taken = [
        a_round(
            *(
                measured(side, 1, 9.0, 10.0, p99=1.0, scenario=scenario.name)
                for side in scenario.sides
            )
        )
        for scenario in SCENARIOS
    ]
    made = plots(taken)
    assert [one.name for one in made] == ["cpu-ratios", "cpu", "clients", "latency", "cache"]
    for one in made:
        assert ElementTree.fromstring(one.svg).tag == f"{SVG}svg"


def test_no_plot_without_figures() -> None:
    assert plots([a_round(measured("direct", 1, 9.0, scenario="copy-in"))]) == []
