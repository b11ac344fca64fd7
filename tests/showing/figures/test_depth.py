import numpy as np
import pandas as pd

from usae.showing.figures.depth import depth_claim, depth_course, depth_picture


def depth(networks: dict[str, int], between: float = 0.3) -> pd.DataFrame:
    """All pairs of `layers` of each network; those of different networks agree more, the later they are."""
    models = [(f"{name}-{place}", name, place) for name, layers in networks.items() for place in range(layers)]
    columns = ["model", "network", "place", "other", "other_network", "agreement"]
    rows = [
        (*model, other[0], other[1], between * (model[2] + other[2] + 1) / 8)
        for model in models
        for other in models
        if model != other
    ]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(layer=2 * frame["place"])


def test_the_course_is_a_mean_over_other_networks_and_the_claim_names_its_ends():
    table = depth({"vit": 3, "dino": 2, "siglip": 1})
    course = depth_course(table).set_index("model")["agreement"]
    assert list(course.index) == ["dino-0", "dino-1", "vit-0", "vit-1", "vit-2"]
    assert np.isclose(course["vit-2"], 0.3 * np.mean([3, 4, 3]) / 8)
    assert depth_claim(depth_course(table)).startswith("Other networks agree most with vit-2 (12 % of the fires)")
    alone = depth_course(table[(table["network"] == "vit") & (table["other_network"] == "vit")])
    assert "no other to agree with" in depth_claim(alone)


def test_sixteen_models_stand_in_the_order_of_networks_and_layers():
    picture = depth_picture(depth({"vit": 8, "dino": 8}))
    matrix, lines, _ = picture.figure.axes
    labels = [tick.get_text() for tick in matrix.get_yticklabels()]
    assert labels == [f"{network}-{place}" for network in ("dino", "vit") for place in range(8)]
    assert {tick.get_rotation() for tick in matrix.get_xticklabels()} == {90}
    assert len(lines.get_lines()) == 2
    assert len(depth_picture(depth({"vit": 2})).figure.axes) == 3
