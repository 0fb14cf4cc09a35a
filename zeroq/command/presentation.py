"""Tables on the console."""

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from zeroq.command.outcome import Outcome
from zeroq.export.contents import Contents
from zeroq.quantization.affine import FLOAT_BITS

NUMBERS = ("weights", "bits", "Ω", "weight scales", "input scale", "zero point")


WIDE = 160  # columns, where there is no terminal that says


def results() -> Console:
    """Where results go."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)


def mib(size: float) -> str:
    """A size in MiB."""
    return f"{size:.2f}" if size >= 1 else f"{size:.2g}"


def plain(text: object) -> Text:
    """A text of a file's or a user's, with nothing in it that a terminal would act on."""
    return Text("".join(each if each.isprintable() else repr(each)[1:-1] for each in str(text)))


def table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    """A table; numbers stand to the right."""
    made = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        made.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(plain, row))
    return made


def facts(title: str, rows: Iterable[tuple[str, object]]) -> Table:
    """Names and values."""
    made = table(title, ("", ""), rows)
    made.show_header = False
    return made


def plan_rows(outcome: Outcome) -> list[tuple[str, str, str, str, str, str]]:
    """Each layer, as they are called: name, kind, number of weights, bits, Ω at these in nats, and what it runs in."""
    omega, in_float = outcome.result.sensitivity, outcome.file.float_layers
    first = {layer.name: layer for layer in reversed(outcome.file.layers)}
    rows = []
    for name in dict.fromkeys([layer.name for layer in outcome.file.layers] + list(outcome.result.plan)):
        bits, layer = outcome.result.plan[name], first.get(name)
        cost = "–"
        if omega is not None and name in omega.index and bits in omega.columns:
            value: Any = omega.at[name, bits]
            cost = f"{value:.2g}"
        runs = f"float: {in_float[name]}" if name in in_float else "integers" if layer else "not used"
        kind, weights = (layer.kind, f"{layer.weights:,}") if layer else ("–", "–")
        rows.append((name, kind, weights, "float" if bits == FLOAT_BITS else str(bits), cost, runs))
    return rows


PLAN_COLUMNS = ("layer", "kind", "weights", "bits", "Ω", "runs in")


def fact_rows(outcome: Outcome) -> list[tuple[str, str]]:
    """What can be said of the whole network."""
    report, file = outcome.result.report, outcome.file
    slow, fast = outcome.milliseconds
    images = outcome.result.images
    shown = "noise" if images is None else f"{len(images)} images"
    rows = [
        ("method", outcome.method.name),
        ("weights", f"{report['mean_weight_bits']:.2f} bits on average"),
        ("activations", f"{outcome.result.settings.activation_bits} bits, {report['quantized_activations']} quantized"),
        ("parameters", f"{mib(report['size_mib'])} MiB (float {mib(report['fp32_size_mib'])})"),
        (
            "file",
            f"{mib(file.file_mib)} MiB (weights {mib(file.weights_mib)}, biases and scales {mib(file.parameters_mib)}, "
            f"graph {mib(file.graph_mib)})",
        ),
        ("in float", ", ".join(file.float_layers) or "no layer"),
    ]
    if outcome.agreement is not None:
        rows.append(("same class as float", f"{100 * outcome.agreement:.1f} % of {shown}"))
    rows.append(("one image, one thread", f"{fast:.2f} ms (float {slow:.2f} ms, {slow / fast:.2f} ×)"))
    if unreached := report["unreached_activations"]:
        rows.append(("reached by no image", ", ".join(unreached)))
    return rows


def show_outcome(outcome: Outcome, console: Console) -> None:
    """What became of a network."""
    console.print(table("Plan", PLAN_COLUMNS, plan_rows(outcome)))
    console.print()
    console.print(facts(f"{outcome.file.path}", fact_rows(outcome)))


def show_contents(path: object, found: Contents, console: Console) -> None:
    """What a file holds."""

    def shapes(values: dict[str, list[int | str]]) -> str:
        return ", ".join(f"{name} {' × '.join(map(str, shape))}" for name, shape in values.items())

    rows = [
        ("opset", found.opset),
        ("ONNX IR", found.ir_version),
        ("made by", found.producer),
        ("input", shapes(found.inputs)),
        ("output", shapes(found.outputs)),
        *sorted(found.metadata.items()),
    ]
    if bits := sum(layer.weights for layer in found.layers):
        mean = sum(layer.weights * layer.bits for layer in found.layers) / bits
        rows.append(("mean weight bits", f"{mean:.2f}"))
    console.print(facts(str(plain(path)), rows))
    console.print()
    columns = ("layer", "operator", "weights", "bits", "stored as", "weight scales", "input scale", "zero point")
    layers = [
        (
            layer.name,
            layer.operator,
            f"{layer.weights:,}",
            "float" if layer.bits == FLOAT_BITS else layer.bits,
            layer.stored,
            "–" if layer.scales is None else "…".join(f"{each:.2g}" for each in sorted(set(layer.scales))),
            "float" if layer.input_scale is None else f"{layer.input_scale:.3g}",
            "–" if layer.input_zero_point is None else layer.input_zero_point,
        )
        for layer in found.layers
    ]
    console.print(table("Plan", columns, layers))
