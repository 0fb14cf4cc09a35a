"""The command line answers each mistake with one sentence, before any work, and leaves nothing."""

import pytest
import torch

from experiments.core import sources
from tests.command_line import COUNT, QUICK, only_runs
from zeroq.networks import zoo
from zeroq.networks.pretrained import PretrainedNetwork


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["model=fashion/resnet81"], "there is no model=fashion/resnet81; did you mean fashion/resnet18"),
        (["method=zero"], "there is no method=zero"),
        (["nothing=3"], "there is no setting nothing; the settings are bits, bits.activation, "),
        (["+nothing=3"], "there is no setting nothing; the settings are bits, bits.activation, "),
        (["++bits.wieght=3"], "there is no setting bits.wieght; did you mean bits.weight?"),
        (["~nothing"], "there is no setting nothing; the settings are bits"),
        (["+bits.weight=4"], "+bits.weight=4: the setting is there already; say bits.weight=4"),
        (["bits.weight"], "bits.weight has no value; say bits.weight=…"),
        (["bits.wieght"], "bits.wieght is neither setting=value nor a flag; did you mean bits.weight?"),
        (["bits.weight=["], "bits.weight=[ cannot be read: brackets, commas, colons, = and quotes have a meaning"),
        (["-m", "seed=range(1,"], "seed=range(1, cannot be read"),
        (["-m", "seed=count(3)"], "seed=count(3) cannot be read: Unknown function 'count'; available: bool,choice"),
        (["seed=${nothing}"], "seed=${nothing} refers to nothing, which is no setting; the settings are bits"),
        (["seed=${seed}"], "Recursive interpolation"),
        (["-m", "method=naive", "seed=${seed}"], "Recursive interpolation"),
        (["hydra.swep.dir=x"], "there is no setting hydra.swep.dir; did you mean hydra.sweep"),
        (["hydra.sweep.dirr=x"], "did you mean hydra.sweep.dir? there are hydra.sweep.dir, hydra.sweep.subdir"),
        (["hydra/launchr=basic"], "there is no hydra/launchr; did you mean hydra/launcher?"),
        (["hydra/launcher=fast"], "there is no hydra/launcher=fast; choices are basic"),
        (["--sweep"], "there is no flag --sweep; did you mean --help? they are --cfg"),
        (["--cfg", "all jobs"], "invalid choice: 'all jobs' (choose from 'job', 'hydra', 'all')"),
        (["--config-name", "mine"], "there is no config mine; the only one is config"),
        (["distill.bounded='true'"], "distill.bounded must be true or false, not 'true'"),
        (["bits=w9a9"], "there is no bits=w9a9"),
        (["bits.weight=1"], "bits must be 2…8"),
        (["bits.activation=9"], "bits must be 2…8"),
        (["bits=mp4a8", "bits.weight=1.5", *QUICK], "below the smallest candidate"),
        (["bits=mp4a8", "bits.size_mib=0.01", *QUICK], "below the smallest candidate"),
        (["bits.weight=four"], "bits.weight"),
        (["~bits.refine"], "bits.refine is missing"),
        (["seed=-1"], "seed must be"),
        (["distill.statistics=both", "method=gaussian"], "statistics must be one of"),
        (["distill.recipe=slow", "method=gaussian"], "recipe must be one of fast, natural, published"),
        (["percentile=50.0000001", *QUICK], "percentile must be at least 75"),
        (["distill.learning_rate=1e-300"], "learning_rate must be at least 1e-08"),
        (["distill.count=1000000000"], "count must be at least 1 and at most 100,000"),
        (["bits=mp4a8", "bits.refine=1000000000"], "refine is a number of plans, 0 for none, at most 10,000"),
        (["bits=w4a8", "bits.refine=8"], "refine chooses among mixed-precision plans"),
        (["bits=mp4a8", "bits.size_mib=0.5", "bits.weight=3"], "bits.weight and bits.size_mib are two budgets"),
        (["symmetric=2"], "symmetric must be true or false, not 2"),
        (["distill.bounded=2"], "distill.bounded must be true or false, not 2"),
        (["model=timm", "model.name=", "data=fashion_mnist"], "model.name is empty"),
        (["data.root="], "data.root= names no place"),
        (["seed='00'"], "seed must be a whole number, not '00'"),
        (["seed=" + 5000 * "9"], "is too long"),
        (["bits.activation=" + 400 * "9"], "a number is too large"),
        (["=1"], "=1 names no setting"),
        (["model.name=a\nb"], "has characters that end a line"),
        (["--resolve"], "--resolve is of a config that is shown; add --cfg job"),
        (["method=gaussian", "distill.learning_rate=0.1"], "distill.learning_rate is of distilled images, and method"),
        (["method=gaussian", "distill=fast"], "distill is of distilled images, and method gaussian has none"),
        (["method=real", "distill.size=10"], "distill.size is of distilled images, and method real has none"),
        (["method=dfq", "distill.count=4"], "distill.count is of distilled images, and method dfq has none"),
        (["method=naive", "bits.candidates=[2,8]"], "bits.candidates is of sensitivities, and method naive measures"),
        (["sensitivity=guessed", *QUICK], "sensitivities are exact or estimated"),
        (["method=dfq", "sensitivity=estimated"], "measures no sensitivities"),
        (["sensitivity_direction=sideways", *QUICK], "direction must be one of"),
        (["frontier=rough", *QUICK], "frontier must be one of exact, grouped"),
        (["frontier=grouped", "bits=w4a8"], "frontier='grouped' chooses a mixed-precision plan"),
        (["bits=mp4a8", "bits.refine=-1", *QUICK], "refine is a number of plans"),
        (["method=real", "distill.count=0"], "count must be at least 1"),
        (["tracker=online"], "log in with `wandb login`"),
        (["data.root=/proc/nowhere"], "cannot create /proc/nowhere"),
        (["outputs=/proc/nowhere"], "cannot write to /proc/nowhere"),
        (["results=elsewhere"], "the setting is called outputs now; say outputs=elsewhere"),
        (["distill.learning_rate=1e30", "distill.iterations=40", "distill.count=2"], "smaller learning rate"),
        (["model=imagenet/resnet18", "data=fashion_mnist", "model.architecture=vgg"], "pytorchcv has no 'vgg'"),
        (["model=imagenet/resnet18", "data.root=/proc"], "/proc/val is no folder"),
        (["model=coco/retinanet_resnet50", "data.root=/proc"], "/proc/val2017 is missing"),
        (["model=fashion/resnet18", "data=cifar10"], "takes images of 1 channels, cifar10 has 3"),
        (["model=fashion/resnet18,fashion/mobilenetv2"], "several values are a sweep: add -m"),
        (
            ["experiment=table_resnet18"],
            "no experiment=table_resnet18; it is called experiment=paper/resnet18",
        ),
        (["experiment=figure_images"], "it is called experiment=paper/images"),
        (["experiment=sweep_images"], "it is called experiment=sweeps/images"),
        (["experiment=search_ranges"], "it is called experiment=search/ranges"),
        (["experiment=table_deployment"], "it is called experiment=extensions/deployment"),
        (["experiment=retinanet"], "it is called experiment=paper/retinanet"),
        (["experiment=search"], "experiment=search is a suite; choose one of search/ranges"),
        (["experiment=paper/images,paper/plans"], "one experiment at a time"),
        (["experiment=paper/resnet81"], "did you mean paper/resnet18?"),
        (["model.source=embedded"], "model.source=embedded is called model.source=bundled now"),
        (["method.equalise=false"], "there is no setting method.equalise; did you mean method.equalize?"),
        (["method.equalize=false"], "method.equalize is a step of DFQ; choose method=dfq"),
        (["method=dfq", "method.images=distilled"], "nothing in method dfq uses images"),
        (["method=dfq", "calibration=quantized"], "calibration is of ranges from images, and method dfq has none"),
        (["calibration=both"], "calibration must be one of float, quantized, not 'both'"),
        (["weight_range=all"], "weight_range must be one of with_zero, min_max, not 'all'"),
        (["placement=integer", "weight_range=min_max"], "as placement integer has them, have no weight_range min_max"),
        (["method=dfq", "percentile=99.9"], "percentile is of ranges from images, and method dfq has none"),
        (["objective=speed"], "objective must be one of divergence, value"),
        (["method=naive", "objective=divergence"], "objective=divergence needs calibration images"),
        (["distill.size=0"], "size is a number of pixels"),
        (["seed=0,1"], "several values are a sweep: add -m"),
        (["bits=mp4a8", "bits.weight=10"], "above the widest candidate"),
        (["model=imagenet/resnet18", "data.root=/nowhere"], "/nowhere is no folder; give the one that holds your copy"),
        (["tracker.mode=loud"], "tracker.mode must be one of"),
        (["placement=everywhere"], "placement must be one of"),
        (["bits.candidates=[1]"], "candidate bits must be a list of widths in 2…8"),
        (["method=naive", "bits=mp4a8", "bits.size_mib=0.1"], "cannot keep a budget in MiB"),
        (["model=imagenet/resnet18"], "data.root is missing"),
        (["bits.weight=nan"], "bits must be 2…8"),
        (["device=toaster"], "device 'toaster' cannot be used"),
        (["experiment=sweeps/size", "+hydra.sweeper.params.seed=3"], "say seed=3"),
        (["experiment=sweeps/size", "experiment=sweeps/images"], "several experiments: one at a time"),
        (["device=meta"], "device meta holds no values"),
        (["+model.classes=10"], "model.classes is the number of classes of your checkpoint"),
        (["model=timm", "model.name=resnet18", "model.classes=0", "data=fashion_mnist"], "model.classes is the number"),
        (["model=pytorchcv", "model.name=resnet18_cub", "data=cifar10"], "is no classifier for ImageNet or CIFAR-10"),
        (["method.ranges=guessed"], "ranges must be one of"),
        (["method.images=none"], "ranges='images' needs images"),
        (["method=dfq", "method.bias_correction=empirical"], "bias_correction='empirical' needs images"),
        (["method.bias_correction=analytic"], "parts of DFQ; choose method='dfq'"),
        (["method.bias_correction=magic"], "bias_correction must be one of"),
        (["method=naive", "method.dfq=true"], "belong to the naive method"),
        (["method=dfq", "bits=mp4a8", "bits.size_mib=0.4"], "cannot keep a budget in MiB"),
        (["method=naive", "bits=mp4a8", "bits.bops_share=0.5"], "cannot keep a budget in bit operations"),
        (
            ["bits=mp4a8", "bits.size_mib=0.4", "bits.latency_ms=2"],
            "leave out one of bits.size_mib and bits.latency_ms",
        ),
        (["bits.bops_share=0.5"], "bits.bops_share is a budget for mixed precision; choose bits=mp4a8"),
        (["bits=mp4a8", "bits.bops_share=0.1"], "0.25 to 1 of W8/A8's bit operations, and 0.1 is below"),
        (["bits=mp4a8", "bits.latency_ms=-1"], "must be a positive finite number, not -1"),
        (["bits=mp4a8", "bits.latency_ms=0.00001", *QUICK], "ms is below"),
        (["bits.activation=5.5"], "bits must be 2…8"),
        (["bits.mixed_activations=true", "bits.activation=1"], "mean activation bits must be at least 2"),
        (["bits=mp4a8", "bits.bops_share=0.5", "placement=after_relu"], "placement after_relu does not give"),
    ],
)
def test_mistakes_get_one_sentence_and_leave_nothing(command, outputs, capsys, arguments, sentence):
    before = only_runs(outputs)
    code = command(*arguments)
    assert code not in (0, None)
    said = capsys.readouterr()
    printed = said.out + str(code)
    assert sentence in printed.replace("\n", " ")
    assert "Traceback" not in printed + said.err
    assert "usage: " not in said.err
    assert only_runs(outputs) == before


def test_a_mistake_in_a_sweep_does_not_stop_it(command, outputs, capsys):
    assert command("-m", "method=naive", "bits.activation=9,7", "tracker=disabled") == 1
    printed = capsys.readouterr()
    assert "bits must be 2…8" in printed.out
    assert "Traceback" not in printed.out + printed.err
    assert (outputs / "runs" / "fashion-resnet18,naive,w8a8,seed=0,bits.activation=7").exists()


def test_wrong_settings_are_refused_before_any_work(command, capsys, monkeypatch):
    monkeypatch.setattr("zeroq.pipeline.calibration_images", lambda *arguments: pytest.fail("work was begun"))
    assert command("bits=mp4a8", "bits.weight=1.5") == 1
    assert command("percentile=40") == 1
    assert "below the smallest candidate" in capsys.readouterr().out


def test_network_without_batch_norm(command, capsys, monkeypatch, no_norm, quick_scores):
    flat = torch.nn.Sequential(torch.nn.Conv2d(1, 3, 1), *no_norm, torch.nn.Linear(5, 10))
    network = PretrainedNetwork(flat, zoo.input_specification("resnet18"))
    monkeypatch.setitem(sources.NETWORKS, "bundled", lambda architecture, checkpoint: network)
    shared = ("model.name=test/no-norm", "tracker=disabled", *COUNT)
    assert command(*shared, "method=zeroq") == 1
    assert "no BatchNorm layer" in capsys.readouterr().out.replace("\n", " ")
    assert command(*shared, "method=gaussian") == 0


def test_truncated_data_and_changed_weights(command, outputs, capsys, monkeypatch, tmp_path):
    before = only_runs(outputs)
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    (raw / "t10k-images-idx3-ubyte").write_bytes(b"0" * 1000)
    assert command("bits=w6a6", f"data.root={tmp_path}") == 1
    assert "truncated or damaged" in capsys.readouterr().out.replace("\n", " ")
    for suffix in ("safetensors", "json"):
        (tmp_path / f"resnet18.{suffix}").write_bytes((zoo.WEIGHTS / f"resnet18.{suffix}").read_bytes())
    (tmp_path / "resnet18.safetensors").write_bytes(b"0" * 1000)
    monkeypatch.setitem(
        sources.NETWORKS, "bundled", lambda architecture, checkpoint: zoo.load(architecture, weights=tmp_path)
    )
    assert command("bits=w6a6") == 1
    assert "has sha256" in capsys.readouterr().out
    assert only_runs(outputs) == before
