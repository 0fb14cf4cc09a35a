"""Settings that change nothing in a run of some method: they would be recorded as if they had.

Told from what a config says of a method, its images and its ranges, since a listing does not wait for PyTorch.
"""

# Settings of how sensitivities are measured.
OF_SENSITIVITIES = (
    "bits.candidates",
    "method.candidates",
    "sensitivity",
    "method.sensitivity",
    "sensitivity_direction",
    "frontier",
)


def what_it_is_of(key: str, images: str, ranges: str) -> str | None:
    """What a setting is of that a method with these images and ranges does not have; None where it has."""
    group, _, name = key.partition(".")
    if group == "distill" and images != "distilled" and not (name == "count" and images != "none"):
        return "distilled images"
    return "sensitivities" if key in OF_SENSITIVITIES and ranges != "images" else None


def without_idle(settings: dict[str, str], images: str, ranges: str) -> dict[str, str]:
    """Those settings that a method with these images and ranges uses."""
    return {key: value for key, value in settings.items() if what_it_is_of(key, images, ranges) is None}
