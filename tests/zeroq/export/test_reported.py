"""Networks of which a file or a simulation once said something else: each stands for a kind."""

import pytest
import torch
from torch import nn
from torch.nn import functional

import zeroq
from tests.networks import estimate_statistics
from zeroq.export.integer_arithmetic import integer_arithmetic
from zeroq.export.runtime import OnnxNetwork, kernels, session


class Between(nn.Module):
    """What is asked about stands between two convolutions; a Linear layer gives the scores."""

    def __init__(self, between, bias: bool = True):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 8, 3, padding=1, bias=bias), nn.BatchNorm2d(8)
        self.between, self.second, self.head = between, nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.second(self.between(self.norm(self.first(x))))).mean((2, 3)))


class Gathering(nn.Module):
    """Indices that are computed from a constant."""

    def __init__(self):
        super().__init__()
        self.register_buffer("start", torch.arange(14))

    def forward(self, x):
        index = (self.start + 3) % 14 + 0 * x.argmax(1)[:, :1]
        return x.gather(3, index[:, None].expand(x.shape[0], 8, 14, 14))


class Unpooling(nn.Module):
    def forward(self, x):
        values, indices = functional.max_pool2d(torch.relu(x), 2, return_indices=True)
        return functional.max_unpool2d(values, indices, 2)


class Adding(nn.Module):
    """A statement whose result is not bound to a name."""

    def __init__(self):
        super().__init__()
        self.side = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        x = torch.relu(x)
        x.add_(self.side(x))
        return x


class Kept(nn.Module):
    """The sum is seen by its first operand's other name."""

    def __init__(self):
        super().__init__()
        self.side = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        kept, y = [x], self.side(x)
        x += y
        return kept[0]


class Asking(nn.Module):
    """Sizes in Python code."""

    def __init__(self):
        super().__init__()
        self.side = nn.Conv2d(8, 8, 1)

    def forward(self, x):
        assert x.shape[1] == 8
        places = 1
        for side in x.shape[2:]:
            places *= side
        if x.shape[2] % 2:
            x = functional.pad(x, (0, 1, 0, 1))
        total = torch.zeros(x.shape[0], 8, x.shape[2], x.shape[3])
        for channel in range(x.shape[1]):
            total = total + x[:, channel : channel + 1] / places
        return self.side(torch.relu(x + total))


class Blurring(nn.Module):
    """A convolution with a constant filter, called as a function."""

    def __init__(self):
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("filter", (line[:, None] * line / 16).repeat(8, 1, 1, 1))

    def forward(self, x):
        return functional.conv2d(torch.relu(x), self.filter, stride=2, padding=1, groups=8)


class Placed(nn.Module):
    """A buffer that is not contiguous."""

    def __init__(self):
        super().__init__()
        self.register_buffer("places", torch.randn(14, 14, 8).permute(2, 0, 1))

    def forward(self, x):
        return torch.relu(x) + self.places


class Normalizing(nn.Module):
    """A divisor that is nearly 0."""

    def forward(self, x):
        return (x - x.mean((2, 3), keepdim=True)) / (1e-3 * x.std((2, 3), keepdim=True) + 1e-3)


def reflecting(mode: str) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, padding_mode=mode), nn.ReLU())


BETWEEN = {
    "where": lambda: lambda x: torch.where(x > 0, x, 0.1 * x),
    "mask": lambda: lambda x: x * (x > 0),
    "masked_fill": lambda: lambda x: x.masked_fill(x < 0, 0.0),
    "gather": Gathering,
    "return_indices": Unpooling,
    "average pool over the edge": lambda: nn.AvgPool2d(3, 2, ceil_mode=True),
    "nearest to 16": lambda: nn.Upsample(size=16),
    "nearest by 1.3": lambda: nn.Upsample(scale_factor=1.3),
    "cubic that shrinks": lambda: nn.Upsample(size=9, mode="bicubic"),
    "divisor": Normalizing,
    "statement": Adding,
    "kept": Kept,
    "sizes": Asking,
    "reflect": lambda: reflecting("reflect"),
    "circular": lambda: reflecting("circular"),
    "constant filter": Blurring,
    "not contiguous": Placed,
    "softmax": lambda: lambda x: x * torch.softmax(x, 1),
    "identity": lambda: nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)),
    "dropout": lambda: nn.Sequential(nn.Dropout(inplace=True), nn.ReLU(inplace=True)),
    "pool": lambda: nn.Sequential(nn.MaxPool2d(2), nn.ReLU(inplace=True)),
    "adaptive maxima": lambda: nn.AdaptiveMaxPool2d(5),
}
SHAPE = (3, 14, 14)


def through(network: nn.Module, folder, placement: str = "integer"):
    """(float, simulated, integer arithmetic, file, report) of one network."""
    images = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    quantized = zeroq.quantize(network, 8, 8, placement, input_shape=SHAPE)
    zeroq.calibrate(quantized, images)
    report = zeroq.export_onnx(quantized, folder / "file.onnx", images)
    with torch.no_grad():
        simulated = quantized(images)
        integers = integer_arithmetic(quantized, SHAPE)(images) if placement == "integer" else simulated
        return network(images), simulated, integers, OnnxNetwork(report.path)(images), report


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).abs().max() / other.abs().max()).item()


CHOICES = ("return_indices", "gather")  # of floats that are nearly the same, which another order of sums may turn


@pytest.mark.parametrize(
    ("name", "placement"),
    [(name, "integer") for name in BETWEEN] + [(name, "layer_inputs") for name in BETWEEN if name not in CHOICES],
)
def test_the_file_is_what_was_simulated(name, placement, tmp_path):
    torch.manual_seed(0)
    network = estimate_statistics(Between(BETWEEN[name]()), SHAPE)
    expected, simulated, integers, found, report = through(network, tmp_path, placement)
    assert apart(simulated, expected) < 0.03
    # In float, sums in another order now and then take a value to the next step of a grid.
    assert apart(found, integers) < (1e-5 if placement == "integer" else 0.005) or report.first_difference
    if placement == "integer":
        assert report.float_layers == {}
        assert kernels(report.path)["QLinearConv"] == len(report.layers) - 1  # the filter is no layer


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
def test_every_call_of_a_layer_is_padded(mode, tmp_path):
    torch.manual_seed(0)
    shared = nn.Conv2d(8, 8, 3, padding=1, padding_mode=mode)
    network = estimate_statistics(Between(nn.Sequential(nn.ReLU(), shared, nn.ReLU(), shared, nn.ReLU())), SHAPE)
    expected, _, integers, found, report = through(network, tmp_path)
    assert apart(found, integers) < 1e-5 or report.first_difference
    assert apart(found, expected) < 0.05


def test_a_dead_channel_keeps_its_bias(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    ).eval()
    with torch.no_grad():
        network[0].weight[0], network[1].running_var[0], network[1].bias[0] = 0, 0, 0.5
        network[5].weight[1], network[5].bias[1] = torch.tensor([1.0, 0, 0, 0]), 0
    expected, _, integers, found, _ = through(network, tmp_path)
    assert (expected[:, 1] - 0.5).abs().max() < 1e-6
    assert (integers[:, 1] - 0.5).abs().max() < 0.01
    assert (found[:, 1] - 0.5).abs().max() < 0.01


def test_a_channel_whose_gamma_is_0(tmp_path):
    torch.manual_seed(0)
    network = estimate_statistics(Between(nn.ReLU()), SHAPE)
    with torch.no_grad():
        network.norm.weight[2], network.norm.bias[2] = 0, 0.5
    expected, _, integers, found, _ = through(network, tmp_path)
    assert apart(integers, expected) < 0.03
    assert apart(found, expected) < 0.03


class Rows(nn.Module):
    """BatchNorm1d on the axis of rows, of which there are as many as a Linear layer has outputs."""

    def __init__(self):
        super().__init__()
        self.first, self.mixed, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(14, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.mixed(torch.relu(self.first(x)).mean(3)))).mean(2))


@pytest.mark.parametrize("placement", ["integer", "layer_inputs"])
def test_batch_norm_behind_a_linear_layer_is_folded_into_its_own_axis(placement, tmp_path):
    torch.manual_seed(0)
    network = Rows()
    estimate_statistics(network, SHAPE)
    with torch.no_grad():
        network.norm.weight.uniform_(0.2, 3)
    expected, _, integers, found, _ = through(network, tmp_path, placement)
    assert apart(integers, expected) < 0.03
    assert apart(found, expected) < 0.03


def test_a_layer_that_the_runtime_leaves_in_float_is_named(tmp_path):
    torch.manual_seed(0)
    network = estimate_statistics(Between(nn.Hardtanh(-1, 1)), SHAPE)
    *_, report = through(network, tmp_path)
    assert report.float_layers == {"first": "onnxruntime has no integer kernel for it"}
    assert kernels(report.path)["QLinearConv"] == 1


@pytest.mark.parametrize(("end", "kernel"), [(nn.ReLU, "FusedGemm"), (nn.ReLU6, "Gemm")])
def test_an_activation_that_gives_the_output_leaves_its_layer_in_float(end, kernel, tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4), end()).eval()
    *_, report = through(network, tmp_path)
    assert kernels(report.path)[kernel] == 1
    assert report.float_layers == {"2": "it gives the network's output"}


def test_what_the_plan_left_in_float_stays_so_in_every_session(tmp_path):
    torch.manual_seed(0)
    network = estimate_statistics(Between(nn.ReLU()), SHAPE)
    images = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    quantized = zeroq.quantize(network, {"first": 8, "second": 32, "head": 8}, 8, "integer")
    zeroq.calibrate(quantized, images)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    (found,) = session(report.path).run(None, {"images": images.numpy()})
    with torch.no_grad():
        assert apart(torch.from_numpy(found), integer_arithmetic(quantized)(images)) < 1e-5
    assert report.float_layers == {"second": "its weight is float"}
    assert kernels(report.path)["QLinearConv"] == 1


class Heads(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.one, self.other = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x):
        features = torch.relu(self.first(x)).mean((2, 3))
        return (self.one(features) + self.other(features)) / 2


class Pointwise(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.head(functional.adaptive_avg_pool2d(torch.relu(self.first(x)), 1)).flatten(1)


@pytest.mark.parametrize("kind", [Heads, Pointwise])
def test_scores_are_floats_of_integer_layers(kind, tmp_path):
    torch.manual_seed(0)
    network = kind().eval()
    images = torch.randn(200, *SHAPE, generator=torch.Generator().manual_seed(0))
    quantized = zeroq.quantize(network, 8, 8, "integer")
    zeroq.calibrate(quantized, images)
    report = zeroq.export_onnx(quantized, tmp_path / "file.onnx", images[:2])
    assert report.float_layers == {}
    assert kernels(report.path)["QGemm"] == len(report.layers) - 1
    assert len(OnnxNetwork(report.path)(images).unique()) > 700  # of 800


def test_a_file_that_differs_is_not_kept(tmp_path, monkeypatch):
    torch.manual_seed(0)
    network = estimate_statistics(Between(nn.AvgPool2d(3, 2, ceil_mode=True)), SHAPE)
    images = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    quantized = zeroq.quantize(network, 8, 8, "integer")
    zeroq.calibrate(quantized, images)
    monkeypatch.setattr("zeroq.export.lowering.keep_in_float", lambda graph: None)
    with pytest.raises(zeroq.ZeroQError, match=r"would not compute what.* first at between, by \d+ steps"):
        zeroq.export_onnx(quantized, tmp_path / "file.onnx", images)
    assert not list(tmp_path.iterdir())
