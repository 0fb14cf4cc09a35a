"""Settings that change nothing in a run of some method: they would be recorded as if they had.

Told from what a config says of a method, its images, its ranges and whether it is uniform, since a listing does not
wait for PyTorch.
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


def what_it_is_of(key: str, images: str, ranges: str, *, uniform: bool) -> str | None:
    """What a setting is of that a method with these parts does not have; None where it has."""
    group, _, name = key.partition(".")
    if group == "distill" and images != "distilled" and not (name == "count" and images != "none"):
        return "distilled images"
    measures = ranges == "images" and not uniform
    return "sensitivities" if key in OF_SENSITIVITIES and not measures else None


def without_idle(settings: dict[str, str], images: str, ranges: str, *, uniform: bool) -> dict[str, str]:
    """Those settings that a method with these parts uses."""
    idle = {key for key in settings if what_it_is_of(key, images, ranges, uniform=uniform) is not None}
    return {key: value for key, value in settings.items() if key not in idle}
