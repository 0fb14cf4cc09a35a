"""The chart of the report: score against size, for a network and a placement that the reader chooses."""

from collections.abc import Iterable

import altair as alt
import pandas

from experiments.analysis.columns import column_of, column_order
from experiments.analysis.figures.scores import score_points
from experiments.analysis.labels import METRICS, activation_width
from experiments.analysis.selection import plain_runs
from experiments.core.record import formatted

# SVG takes colours as CSS does, so that they follow the reader's preference.
INK, QUIET, GRID = "currentColor", "var(--quiet)", "var(--line)"
STAR = "M0,-1L.29,-.4L.95,-.31L.48,.15L.59,.81L0,.5L-.59,.81L-.48,.15L-.95,-.31L-.29,-.4Z"
UNIFORM, MIXED = "uniform", "mixed precision"
# Methods of one size stand side by side, that many pixels apart, or they would hide each other.
APART = 6


def score_chart(points: pandas.DataFrame, controls: str) -> dict:
    """A Vega-Lite specification; the choices stand in the element that the CSS selector ``controls`` finds.

    ``points`` has a row for each network, placement, method and bits, as ``chart_points`` gives them. A click on a
    method of the legend shows it alone, with shift another beside it.
    """
    methods = sorted(set(points.method), key=column_order)
    network = choice("network", points.network, points.groupby("network").size().idxmax(), controls)
    placement = choice("placement", points.placement, points.placement.mode()[0], controls)
    method = alt.selection_point(name="method", fields=["method"], bind="legend")

    legend = {"orient": "bottom", "direction": "horizontal", "symbolStrokeWidth": 2, "titleLimit": 400}
    color = alt.Color(
        "method:N",
        scale=alt.Scale(domain=methods, range=[color_of(name) for name in methods]),
        legend=alt.Legend(
            title="Methods; a click shows one alone, with shift several",
            columns=alt.ExprRef("width < 600 ? 2 : 5"),
            symbolType="circle",
            **legend,
        ),
    )
    shape = alt.Shape(
        "weights:N",
        scale=alt.Scale(domain=[UNIFORM, MIXED], range=["circle", STAR]),
        legend=alt.Legend(title="Bits of the weights", symbolFillColor=INK, symbolStrokeColor=INK, **legend),
    )
    x = alt.X(
        "size_mib:Q",
        title="size of the network (MiB)",
        axis=alt.Axis(tickCount=8),
        scale=alt.Scale(zero=False, nice=False, padding=40),
    )
    y = alt.Y(
        "value:Q",
        title=None,
        axis=alt.Axis(minExtent=36, tickCount=6),
        scale=alt.Scale(zero=False, nice=False, padding=20),
    )
    tooltip = [
        alt.Tooltip(f"{field}:N", title=title)
        for field, title in (
            ("method", "method"),
            ("bits", "bits"),
            ("score", "score"),
            ("full", "FP32"),
            ("size", "size"),
            ("seeds", "seeds"),
            ("granularity", "weight ranges"),
        )
    ]

    wanted = "datum.network == network && datum.placement == placement"
    chosen = alt.Chart(points).transform_filter(wanted)
    shown = chosen.transform_filter(method)
    beside = alt.ExprRef(f"datum.rank * {APART}")
    lines = shown.transform_filter("!datum.mixed").mark_line(strokeWidth=1.5, xOffset=beside)
    lines = lines.encode(x, y, color)
    spread = shown.mark_rule(strokeWidth=1.5, xOffset=beside)
    spread = spread.encode(x, alt.Y("lowest:Q", title=None), alt.Y2("highest:Q"), color)
    area = alt.ExprRef("datum.mixed ? 150 : 50")
    marks = shown.mark_point(filled=True, opacity=1, size=area, xOffset=beside)
    marks = marks.encode(x, y, color, shape, tooltip=tooltip).add_params(network, placement, method)

    full = chosen.transform_aggregate(fp32="max(fp32)", full="max(full)")
    line = full.mark_rule(strokeDash=[4, 4], color=QUIET).encode(alt.Y("fp32:Q", title=None))
    label = full.transform_calculate(label="'FP32\\n' + datum.full")
    label = label.mark_text(align="left", dx=4, lineBreak="\n", baseline="middle", color=QUIET)
    label = label.encode(alt.Y("fp32:Q", title=None), x=alt.value(alt.ExprRef("width")), text="label:N")
    metric = chosen.transform_aggregate(metric="max(metric)").mark_text(align="left", fontWeight="bold", color=INK)
    metric = metric.encode(x=alt.value(0), y=alt.value(-14), text="metric:N")
    widths = chosen.transform_aggregate(size_mib="mean(size_mib)", mixed="max(mixed)", groupby=["bits"])
    # Uniform widths along the lower edge, mixed ones along the upper: MP4/A8 has the size of W4/A8.
    names = [
        widths.transform_filter(kind).mark_text(color=QUIET, fontSize=11).encode(x, y=alt.value(place), text="bits:N")
        for kind, place in (("!datum.mixed", alt.ExprRef("height - 8")), ("datum.mixed", 8))
    ]
    none = alt.Chart(points).transform_calculate(wanted=f"{wanted} ? 1 : 0").transform_aggregate(count="sum(wanted)")
    none = none.transform_filter("datum.count == 0")
    none = none.mark_text(color=QUIET, text="No runs of this network with this placement")
    none = none.encode(x=alt.value(alt.ExprRef("width / 2")), y=alt.value(alt.ExprRef("height / 2")))

    layers = alt.layer(line, lines, spread, marks, label, metric, *names, none)
    specification = styled(layers.properties(width="container", height=380)).to_dict()
    # Vega's, and unknown to Altair: the legends under each other.
    specification["config"]["legend"]["layout"] = {"bottom": {"direction": "vertical", "anchor": "start", "margin": 8}}
    return specification


def color_of(method: str) -> str:
    """A method's colour, brighter on a dark page."""
    color = column_of(method).color
    return f"light-dark({color}, color-mix(in oklab, {color} 55%, white))"


def choice(name: str, values: Iterable[str], first: str, controls: str) -> alt.Parameter:
    """A list to choose one of the values from."""
    listed = alt.binding_select(options=sorted(set(values)), name=name.capitalize(), element=controls)
    return alt.param(name=name, value=first, bind=listed)


def styled(chart: alt.LayerChart) -> alt.LayerChart:
    """The chart in the page's colours and letters."""
    letters = {
        "labelFontSize": 12,
        "titleFontSize": 12,
        "labelColor": INK,
        "titleColor": INK,
        "titleFontWeight": "normal",
    }
    chart = chart.configure(
        background="transparent", font="system-ui, sans-serif", padding={"top": 12, "left": 5, "right": 45, "bottom": 5}
    )
    chart = chart.configure_view(stroke=None).configure_text(fontSize=12)
    return chart.configure_axis(gridColor=GRID, domainColor=QUIET, tickColor=QUIET, **letters).configure_legend(
        columnPadding=16, **letters
    )


def chart_points(records: list[dict]) -> pandas.DataFrame:
    """A row for each network, placement, method and bits: the mean score over seeds, and how its tooltip reads.

    Runs of other settings are left out, and of the activation widths of a weight width all but the widest.
    """
    runs = plain_runs(records, besides=("placement",))
    runs["activations"] = runs.a_bits.map(activation_width)
    widest = runs.activations == runs.groupby(["model", "placement", "column", "w_bits"]).activations.transform("max")
    groups = [described(same, *names) for names, same in runs[widest].groupby(["model", "placement"])]
    return pandas.concat(groups, ignore_index=True) if groups else pandas.DataFrame()


def described(runs: pandas.DataFrame, network: str, placement: str) -> pandas.DataFrame:
    """The points of one network and placement."""
    points, first = score_points(runs), runs.iloc[0]
    ranks = {method: rank for rank, method in enumerate(points.method.unique())}
    seeds = runs.groupby(["column", "bits"]).seed.agg(lambda seeds: ", ".join(map(str, sorted(seeds))))
    metric = first.metric
    return points.assign(
        network=network,
        placement=placement,
        rank=points.method.map(ranks) - (len(ranks) - 1) / 2,
        weights=points.mixed.map({False: UNIFORM, True: MIXED}),
        lowest=points.value - points.deviation,
        highest=points.value + points.deviation,
        score=[
            formatted(value, metric) + (f" ± {formatted(deviation, metric)}" if deviation else "")
            for value, deviation in zip(points.value, points.deviation, strict=True)
        ],
        size=points.size_mib.map("{:.2f} MiB".format),
        seeds=[seeds[key] for key in zip(points.method, points.bits, strict=True)],
        fp32=first.fp32_value,
        full=formatted(first.fp32_value, metric),
        metric=METRICS[metric],
    )
