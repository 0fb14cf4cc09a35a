"""The architectures of the survey, each with the side of the images that it is given, and how they are made."""

from collections.abc import Callable

import timm
import torch
import torchvision
from pytorchcv.model_provider import get_model
from torch import nn
from torch.nn import functional

# library: {side in pixels: names}.
LISTED = {
    "torchvision": {
        64: "resnet18 resnet50 resnext50_32x4d wide_resnet50_2 mobilenet_v2 mobilenet_v3_small "
        "mobilenet_v3_large efficientnet_b0 efficientnet_v2_s shufflenet_v2_x0_5 shufflenet_v2_x1_0 "
        "mnasnet0_5 regnet_x_400mf regnet_y_400mf densenet121 squeezenet1_1 vgg11_bn vgg11 googlenet "
        "convnext_tiny",
        96: "alexnet lraspp_mobilenet_v3_large fcn_resnet50 deeplabv3_mobilenet_v3_large",
        224: "vit_b_32 swin_t",
        320: "inception_v3",
    },
    "timm": {
        64: "resnet18 resnet18d seresnet18 skresnet18 resnest14d res2net50_14w_8s repvgg_a0 mobileone_s0 "
        "efficientnet_lite0 mnasnet_small semnasnet_050 spnasnet_100 fbnetc_100 hardcorenas_a tinynet_e "
        "lcnet_050 mixnet_s ghostnet_050 ghostnetv2_100 repghostnet_050 regnetx_002 regnety_002 "
        "rexnet_100 dla34 hrnet_w18_small selecsls42 ese_vovnet19b_slim gernet_s cspresnet50 cspdarknet53 "
        "dpn48b xception41 eca_resnext26ts tresnet_m nfnet_l0 dm_nfnet_f0 resnetv2_50x1_bit convnext_atto "
        "edgenext_xx_small repvit_m0_9 starnet_s1 fastvit_t8 poolformer_s12 mobilevitv2_050 mobilevit_s "
        "inception_next_atto",
        128: "inception_v4 legacy_seresnet18",
        224: "levit_128s efficientformer_l1 efficientformerv2_s0 coat_lite_tiny visformer_small",
        256: "botnet26t_256 halonet26t",
    },
    "pytorchcv": {
        64: "resnet18_wd4 preresnet18_wd4 sepreresnet18 bam_resnet18 cbam_resnet18 ibn_resnet50 "
        "airnet50_1x64d_r2 sknet50 diaresnet18 diracnet18v2 sharesnet18 peleenet bagnet9 "
        "espnetv2_wd2 vovnet27s hardnet39ds xdensenet121_2 sqnxt23_w1 sqnxt23v5_w1 shufflenet_g1_wd4 "
        "shufflenetv2_wd2 menet108_8x1_g3 mobilenet_wd4 fdmobilenet_wd4 igcv3_wd4 ghostnet "
        "proxylessnas_mobile fbnet_cb condensenet74_c4_g4 isqrtcovresnet18",
        96: "bninception darknet53 nasnet_4a1056 fishnet99",
        224: "resattnet56 dicenet_wd5 dpn68",
        32: "resnet20_cifar10 preresnet20_cifar10 seresnet20_cifar10 xdensenet40_2_k24_bc_cifar10 diaresnet20_cifar10",
    },
}
MAKERS: dict[str, Callable[[str], nn.Module]] = {
    "torchvision": lambda name: (
        torchvision.models.get_model(name, weights=None, weights_backbone=None)
        if name.startswith(("lraspp", "fcn", "deeplab"))
        else torchvision.models.get_model(name, weights=None)
    ),
    "timm": lambda name: timm.create_model(name, pretrained=False),
    "pytorchcv": lambda name: with_global_pool(get_model(name, pretrained=False)),
}
STATISTICS = 12  # batches of 8 images that BatchNorm's are estimated from


def architectures() -> dict[str, int]:
    """All of them as library:name, with the side of their images in pixels."""
    return {
        f"{library}:{name}": side
        for library, sides in LISTED.items()
        for side, names in sides.items()
        for name in names.split()
    }


def with_global_pool(network: nn.Module) -> nn.Module:
    """A network of pytorchcv, whose last pool is of a fixed size, for images of any."""
    features = getattr(network, "features", None)
    if isinstance(getattr(features, "final_pool", None), nn.AvgPool2d):
        features.final_pool = nn.AdaptiveAvgPool2d(1)
    return network


def made(architecture: str, side: int) -> nn.Module:
    """A network with random weights, and BatchNorm's statistics of smooth random images [3, side, side]."""
    library, _, name = architecture.partition(":")
    torch.manual_seed(0)
    network = MAKERS[library](name)
    network.train()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(STATISTICS):
            network(smooth_images(8, side, generator))
    return network.eval()


def smooth_images(count: int, side: int, generator: torch.Generator) -> torch.Tensor:
    """Random images [count, 3, side, side] whose neighbouring pixels go together."""
    coarse = torch.randn(count, 3, side // 4, side // 4, generator=generator)
    return functional.interpolate(coarse, (side, side), mode="bilinear")
