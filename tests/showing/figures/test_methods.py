"""Figures of methods: the claims equal the tables, labels keep apart, what is missing is left out or said."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from tests.support import compared as tables
from tests.support import contrasted
from usae.showing.figures import method_pictures
from usae.showing.figures.ladder import ladder_picture
from usae.showing.figures.method_funnels import method_funnels_picture
from usae.showing.figures.method_stability import method_stability_picture
from usae.showing.figures.method_style import BLOCK_COLOURS, apart
from usae.showing.figures.methods import costs_picture, modes_picture, translation_picture
from usae.showing.figures.sharing import sharing_counts, sharing_picture
from usae.showing.figures.theme import RC
from usae.showing.results.compared import BLOCKS, Compared
from usae.showing.results.reports import Reports

FEW = [tables.ROWS[0], tables.ROWS[5], *tables.ROWS[11:15]]  # ridge, a hub, and four of the ladder
UNJUDGED = pd.DataFrame()
NAMES = ["translation", "ladder", "modes", "funnels", "sharing", "stability", "costs"]


def opened(rows, seeds=1):
    methods = tables.methods(rows) if seeds == 1 else tables.seeds(tables.methods(rows), seeds, 0.05)
    frames = {"methods": methods, "method_funnel": tables.funnel(rows), "method_sharing": tables.sharing()}
    return Compared.of(Reports(frames, {}))


@pytest.fixture(scope="module")
def few():
    return opened(FEW)


def drawn(figure):
    """A renderer on which everything has its place."""
    with mpl.rc_context(RC):
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    return canvas.get_renderer()


def test_every_figure_is_drawn(few):
    """Twice alike: tests/showing/comparison/test_page.py."""
    pictures = method_pictures(few, UNJUDGED)
    assert [picture.name for picture in pictures] == [f"method_{name}" for name in NAMES]
    assert all(picture.drawn for picture in pictures)


def test_without_methods_every_figure_names_the_command():
    pictures = method_pictures(Compared.of(Reports({}, {})), UNJUDGED)
    assert [picture.name for picture in pictures] == [f"method_{name}" for name in NAMES]
    assert all("dvc repro compare" in picture.note for picture in pictures)


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("rows", [tables.ROWS, FEW, tables.ROWS[:4], tables.ROWS[11:12]])
def test_whatever_was_compared_there_are_figures(rows, seeds):
    assert len(method_pictures(opened(rows, seeds), UNJUDGED)) == 7


def test_one_hue_per_block():
    assert list(BLOCK_COLOURS) == list(BLOCKS)
    assert len(set(BLOCK_COLOURS.values())) == len(BLOCKS)


def test_labels_are_moved_apart_in_their_order():
    np.testing.assert_allclose(apart([0.5, 0.1, 0.12], 0.1, 0, 1), [0.5, 0.1, 0.2])
    np.testing.assert_allclose(apart([1, 1, 1], 0.1, 0, 1), [0.8, 0.9, 1])
    np.testing.assert_allclose(apart([-3, 0, 5], 0.1, 0, 1), [0, 0.1, 1])
    np.testing.assert_allclose(apart([0.5, 0.5, 0.5], 9, 0, 1), [0, 0.5, 1])  # as far as there is room
    assert apart([], 0.1, 0, 1).tolist() == []


@pytest.mark.parametrize("rows", [tables.ROWS, FEW])
def test_no_two_names_of_methods_overlap(rows):
    figure = translation_picture(opened(rows)).figure
    renderer = drawn(figure)
    boxes = [Text.get_window_extent(text, renderer) for text in figure.axes[0].texts if text.get_text()]
    assert len(boxes) == sum(1 for row in rows if row.counts)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def marks(axes, marker):
    return [
        tuple(float(line[0]) for line in each.get_data())
        for each in axes.get_lines()
        if each.get_marker() == marker
    ]


def test_translation_shows_ends_starts_twins_and_the_ceiling(few):
    picture = translation_picture(few)
    assert picture.claim == (
        "Read from one other model, usae_all explains most: 40 % of the variance (the best linear map: 35 %); "
        "sparc shares most concepts: 81, before its first step 24"
    )
    (axes,) = picture.figure.axes
    assert {(40.0, 0.392), (81.0, 0.318), (1.0, -0.08)} <= set(marks(axes, "o"))
    assert set(marks(axes, "x")) == {(71.0, 0.2), (24.0, 0.09)}
    arrows = [(text.xyann, text.xy) for text in axes.texts if not text.get_text()]
    assert ((24, 0.09), (81, 0.318)) in arrows
    assert [line.get_ydata()[0] for line in axes.get_lines() if line.get_linestyle() == "--"] == [0.349]


def test_translation_shows_the_range_of_seeds():
    axes = translation_picture(opened(FEW, 3)).figure.axes[0]
    spans = [line.get_xdata() for line in axes.get_lines() if len(line.get_xdata()) == 2]
    assert any(np.allclose(span, [40, 44]) for span in spans)


def test_modes_have_a_bar_for_what_was_measured(few):
    picture = modes_picture(few)
    assert (
        picture.claim
        == "Looking at the target is worth most to sparc: R² 0.76 with it, 0.32 from one other model alone"
    )
    widths = [patch.get_width() for patch in picture.figure.axes[0].patches]
    assert np.nansum(np.isclose(widths, 0.756)) == 1
    assert np.isnan(widths).sum() == 1  # ridge has no joint mode
    names = [label.get_text() for label in picture.figure.axes[0].get_yticklabels()]
    assert names == ["linear (ridge)", "hub (supervised)", "usae", "usae_all", "sparc_local", "sparc"]


def test_the_ladder_has_the_rungs_that_there_are(few):
    picture = ladder_picture(few)
    assert picture.claim == "Cross R² changes most from sparc_local (0.38) to sparc (0.32): the sum selects"
    rungs = [label.get_text().split("\n")[0] for label in picture.figure.axes[0].get_yticklabels()]
    assert rungs == ["usae", "usae_all", "sparc_local", "sparc"]
    whole = ladder_picture(opened(tables.ROWS))
    rungs = [label.get_text().split("\n")[0] for label in whole.figure.axes[0].get_yticklabels()]
    assert rungs[-2:] == ["crosscoder_unit", "crosscoder (calibrated)"]
    gap = ladder_picture(opened([tables.ROWS[11], tables.ROWS[14]]))
    assert gap.claim.endswith("to sparc (0.32): every model a source, a cross pair weighs less, the sum selects")
    assert "dvc repro compare" in ladder_picture(opened(tables.ROWS[11:12])).note


def test_funnels_stand_beside_their_floors(few):
    picture = method_funnels_picture(few)
    assert (
        picture.claim
        == "4 of 5 methods share more concepts than before training and on re-paired images, sparc most: 81 to 24"
    )
    sparc = picture.figure.axes[4]
    assert sparc.get_title(loc="left") == "sparc"
    lines = {line.get_label(): list(line.get_ydata()) for line in sparc.get_lines()}
    assert lines["joint"] == [256, 254, 230, 155, 81]
    assert lines["before the first step"][-1] == 24
    assert lines["on re-paired images"][-1] == 2
    high = max(each.get_ylim()[1] for each in picture.figure.axes)
    assert high == picture.figure.axes[0].get_ylim()[1] >= 256


def test_stability_is_of_those_with_further_starts_beside_their_own_before_training(few):
    picture = method_stability_picture(few)
    assert picture.claim == (
        "From another start of usae 60 % of 208 concepts come back; before the first step 25 % of 250; training "
        "raises that share in 1 of 2 methods"
    )
    (axes,) = picture.figure.axes
    lines = [list(line.get_ydata()) for line in axes.get_lines() if len(line.get_ydata()) == 2]
    assert lines == [[0.25, 0.6], [0.25, 0.2]]
    names = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert list(names) == ["usae: 60 % of 208, from 25 % of 250", "sparc: 20 % of 180, from 25 % of 250"]
    assert method_stability_picture(opened(tables.ROWS[11:12])).claim.endswith("first step 25 % of 250")
    missing = method_stability_picture(opened(tables.ROWS[:4]))
    assert missing.claim == "No method was trained from another start"
    assert "`methods.seeds`" in missing.note


def test_costs_are_of_those_that_were_trained(few):
    picture = costs_picture(few)
    assert picture.claim == "Single concepts of usae_all say most of labels: AUC 0.87, before its first step 0.79"
    titles = [axes.get_title(loc="left") for axes in picture.figure.axes]
    assert titles == ["label AUC of the best concept", "steps", "encoder updates", "GFLOP"]
    texts = [text.get_text() for text in picture.figure.axes[2].texts]
    assert texts == ["251", "752", "752", "752"]


def test_sharing_counts_latents_by_their_norms():
    """Of three models: one latent shared, one of model a alone (held by c), one of a and b, one in between."""
    norms = [(0.3, 0.3, 0.4), (0.95, 0.03, 0.02), (0.5, 0.45, 0.05), (0.6, 0.25, 0.15)]
    nu = [(1, 1, 1), (1, 0.1, 0.8), (1, 1, 0.2), (1, 1, 1)]
    table = tables.sharing(4)
    run = table[table["run"] == "run"]
    frame = run.assign(relative_norm=np.ravel(norms), nu_eps=np.ravel(nu).astype(float))
    counts = sharing_counts(frame).iloc[0]
    assert counts.drop(["method", "run"]).to_dict() == {
        "latents": 4,
        "shared": 1,
        "exclusive": 2,
        "between": 1,
        "still_there": 1,
    }
    dead = frame.assign(relative_norm=frame["relative_norm"].where(frame["concept_id"] != 0))
    assert sharing_counts(dead).iloc[0]["latents"] == 3


def test_sharing_stands_beside_the_start():
    picture = sharing_picture(tables.sharing())
    assert picture.claim == (
        "By its norms crosscoder shares 56 of 64 latents and keeps 8 to some models, 4 of which the others still "
        "hold; before the first step it shares 64"
    )
    titles = [axes.get_title(loc="left") for axes in picture.figure.axes[:2]]
    assert titles == ["crosscoder, after training", "crosscoder, before the first step"]
    silent = tables.sharing().assign(fires=0)
    assert sharing_picture(silent).claim == picture.claim


def test_no_title_counts_concepts_where_the_run_is_not_readable(few):
    pictures = method_pictures(few, contrasted.verdict("not readable"))
    refused = [picture.name for picture in pictures if picture.claim.startswith("This run is not readable")]
    assert {"method_translation", "method_funnels"} <= set(refused)
    assert not {"method_modes", "method_costs"} & set(refused)
    for picture in pictures:
        if picture.drawn:
            assert picture.claim[:24] in picture.figure.get_suptitle()
