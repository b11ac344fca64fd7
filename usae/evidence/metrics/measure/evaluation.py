"""All that stage `measure` does: read codes, activations and labels of the held-out images, write the reports.

Universal concepts are measured on split `val`; reconstruction also on the encoded part of `train`, and for the
independent SAEs where `encode` has written their codes (`data/codes/<split>/independent/<model>`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from usae.activations.store.manifests import Manifest
from usae.common.files.whole import write_output
from usae.common.layout import START
from usae.common.numerics.numbers import Numbers
from usae.common.params import MeasureParams
from usae.common.runtime.cluster import Workers, workers
from usae.common.tables import Table, no_rows, read_table, write_table
from usae.evidence.controls.names import TWIN
from usae.evidence.estimators import Saved, contribution_norms, level_ends
from usae.evidence.metrics.alignment.alignment import alignment_frame
from usae.evidence.metrics.alignment.rows import ActivationSource, CodeSource, Source
from usae.evidence.metrics.alignment.tables import ALIGNMENT
from usae.evidence.metrics.dictionaries.consistency import consistency_frame
from usae.evidence.metrics.dictionaries.directions import centred_directions
from usae.evidence.metrics.dictionaries.tables import CONSISTENCY
from usae.evidence.metrics.firing.counts import energy
from usae.evidence.metrics.labels.agreement import fresh_agreement, label_tables
from usae.evidence.metrics.labels.labels import absent_labels
from usae.evidence.metrics.labels.tables import CONCEPT_LABELS, LABEL_CONCEPTS, LABEL_PROBES, PROBES
from usae.evidence.metrics.measure.concept_tables import (
    CONCEPT_MODELS,
    CONCEPT_PAIRS,
    CONCEPTS,
    EXEMPLARS,
    NULLS,
    PATTERNS,
)
from usae.evidence.metrics.measure.counting import ConceptStatistics, concept_statistics
from usae.evidence.metrics.measure.curves import curves
from usae.evidence.metrics.measure.depth import depth_frame
from usae.evidence.metrics.measure.frames import (
    concept_models_frame,
    concept_pairs_frame,
    concepts_frame,
    patterns_frame,
)
from usae.evidence.metrics.measure.funnel_tables import Funnel
from usae.evidence.metrics.measure.nulls_tables import (
    consistency_numbers,
    null_numbers,
    nulls_frame,
    significant_concepts,
    top_sets,
)
from usae.evidence.metrics.measure.opened import Opened
from usae.evidence.metrics.measure.published import paper_frame
from usae.evidence.metrics.measure.tables import DEPTH, FUNNEL, PAPER, RECONSTRUCTION, SUMMARY
from usae.evidence.metrics.reconstruction.passes import Spread, linear_ceilings, reconstruction
from usae.evidence.metrics.reconstruction.r2 import Ceilings, with_ceilings
from usae.evidence.metrics.summary import (
    INDEPENDENT,
    USAE,
    concept_numbers,
    headlines,
    reconstruction_numbers,
    summary_frame,
)
from usae.evidence.verdict.answers import Evidence
from usae.evidence.verdict.levels import level_of, verdict_line
from usae.evidence.verdict.tables import VERDICT
from usae.evidence.verdict.verdict import verdict_frame

OTHERS = ("controls", "training", "planted")  # tables of other stages that the verdict asks for


@dataclass(frozen=True)
class Evaluation:
    """Everything measured: frames by table, flat numbers, and frames of the plot files by stem."""

    tables: Mapping[Table, pd.DataFrame]
    numbers: Numbers
    plots: Mapping[str, pd.DataFrame]

    @property
    def headline(self) -> str:
        """The numbers to read first, in one line, and last the verdict, if there is one."""
        names = ("r2_self_mean", "r2_cross_mean", "cofire_proportion_mean", "lift_median", "alive")
        numbers = ", ".join(f"{name} {self.numbers.get(name)}" for name in names)
        return f"{numbers}. {verdict_line(self.tables[VERDICT])}" if VERDICT in self.tables else numbers

    def judged(self, manifests: Mapping[str, Manifest], reports: Path) -> "Evaluation":
        """The same with table `verdict`, from its tables and those of other stages in `reports`, as far as they
        are there.
        """
        own = {table.name: frame for table, frame in self.tables.items()}
        files = {name: reports / f"{name}.parquet" for name in OTHERS}
        others = {name: read_table(file) for name, file in files.items() if file.is_file()}
        verdict = verdict_frame(Evidence(manifests, own | others))
        return replace(self, tables={**self.tables, VERDICT: verdict})

    def write(self, reports: Path) -> None:
        """Write `*.parquet`, `metrics.json` and `plots/*.csv`; same numbers, same bytes.

        Table `summary` holds every number, `metrics.json` those that `dvc metrics` and `dvc exp show` should list,
        the verdict before them.
        """
        for table, frame in self.tables.items():
            write_table(table, frame, reports / f"{table.name}.parquet")
        for stem, frame in self.plots.items():
            text = frame.to_csv(index=False, float_format="%.6g", lineterminator="\n")
            write_output(reports / "plots" / f"{stem}.csv", text.encode())
        verdict = {"verdict": level_of(self.tables[VERDICT])} if VERDICT in self.tables else {}
        numbers = json.dumps(verdict | headlines(self.numbers), indent=2, allow_nan=False)
        write_output(reports / "metrics.json", f"{numbers}\n".encode())


def evaluate(
    opened: Opened,
    params: MeasureParams,
    seed: int = 0,
    funnel: Funnel | None = None,
    dask: str | None = None,
    quick: bool = False,
) -> Evaluation:
    """Every metric of the universal SAE in `opened`.

    `seed` is that of the permutations and of random baselines; `funnel`: what stage `contrast` says of the
    concepts (None: nothing, and no concept is judged); `dask`: where codes are decoded, linear maps' sums are made
    and concepts are counted, see `runtime.dask`; `quick`: the models' likeness is not asked, which may take longer
    than all else.
    """
    funnel = funnel or Funnel.none(opened.sae.concepts)
    counted = opened.val.codes, opened.labels, params, seed, opened.classes
    with workers(dask) as there:
        table = with_ceilings(_reconstructions(opened, there), _ceilings(opened, there))
        statistics = concept_statistics(*counted, ends=level_ends(opened.sae), workers=there)
    tables, numbers = _concepts(opened, statistics, params.exemplars)
    tables[DEPTH] = depth_frame(statistics.firing, opened.streams, params.agreement)
    tables |= {RECONSTRUCTION: table, PROBES: opened.probes, FUNNEL: funnel.counts}
    tables[CONCEPTS] = tables[CONCEPTS].join(funnel.verdicts)
    tables |= {
        CONSISTENCY: _consistency(opened, seed),
        ALIGNMENT: no_rows(ALIGNMENT) if quick else _alignment(opened, seed),
    }
    of_labels, label_numbers = _labels(opened, statistics, seed)
    tables |= of_labels
    numbers = {
        **reconstruction_numbers(table),
        **numbers,
        **funnel.numbers,
        **label_numbers,
        **consistency_numbers(tables[CONSISTENCY], top_sets(tables[CONCEPTS])),
    }
    tables |= {PAPER: paper_frame(numbers, table), SUMMARY: summary_frame(numbers)}
    return Evaluation(tables, numbers, curves(tables, opened.models, funnel))


def _reconstructions(opened: Opened, there: Workers) -> pd.DataFrame:
    """Table `reconstruction` but for the ceilings: per split the universal SAE, then the independent ones."""
    rows: list[Mapping[str, object]] = []
    for split, stores in opened.splits.items():
        universal = {USAE: (opened.sae, stores.codes), START: (opened.start, stores.start)}
        universal[TWIN] = opened.twin, stores.twin
        for name, (sae, codes) in universal.items():
            if sae is not None and codes:
                spread = Spread(there, Saved(opened.folder(name), sae.device))
                found = reconstruction(sae, codes, stores.activations, name=name, split=split, spread=spread)
                rows += found.rows(opened.models)
        for name, by_model in stores.alone.items():
            for model, own_codes in by_model.items():
                both = {model: own_codes}, {model: stores.activations[model]}
                alone = opened.alone[name][model]
                spread = Spread(there, Saved(opened.folder(name, model), alone.device))
                rows += reconstruction(alone, *both, name=name, split=split, spread=spread).rows([model])
    return pd.DataFrame(rows)


def _ceilings(opened: Opened, there: Workers) -> Ceilings:
    """What linear maps, fitted on all training images, reach on the held-out ones."""
    spread = Spread(there, Saved(opened.folder(USAE), opened.sae.device))
    return linear_ceilings(opened.sae, opened.training, opened.val.activations, opened.val.images, spread)


def _alignment(opened: Opened, seed: int) -> pd.DataFrame:
    """Table `alignment`; without rows for one model alone."""
    if len(opened.models) < 2:
        return no_rows(ALIGNMENT)
    spaces: dict[str, Mapping[str, Source]] = {
        "activations": {model: ActivationSource(store) for model, store in opened.val.activations.items()},
        "codes": {model: CodeSource(store) for model, store in opened.val.codes.items()},
    }
    return alignment_frame(spaces, opened.val.images, seed=seed)


def _consistency(opened: Opened, seed: int) -> pd.DataFrame:
    """Table `consistency`, over the models that have an independent SAE."""
    alone = {
        model: centred_directions(sae, model, opened.means[model])
        for model, sae in opened.alone.get(INDEPENDENT, {}).items()
    }
    saes = {USAE: opened.sae, START: opened.start, TWIN: opened.twin}
    universal = {
        name: {model: centred_directions(sae, model, opened.means[model]) for model in alone}
        for name, sae in saes.items()
        if sae is not None
    }
    return consistency_frame(universal, alone, seed)


def _concepts(
    opened: Opened, statistics: ConceptStatistics, exemplars: int
) -> tuple[dict[Table, pd.DataFrame], Numbers]:
    """Tables and numbers of the concepts; `exemplars`: top images of each."""
    models, concepts = opened.models, opened.sae.concepts
    firing, norms = statistics.firing, contribution_norms(opened.sae, models)
    labels = absent_labels(concepts) if statistics.labels is None else statistics.labels.top_labels()
    nulls = nulls_frame(firing, statistics.nulls, models)
    frame = concepts_frame(firing, norms, labels, models).join(statistics.refinement.columns(firing))
    tables = {
        CONCEPTS: frame.join(significant_concepts(nulls, models, concepts)),
        CONCEPT_MODELS: concept_models_frame(firing, norms, models),
        CONCEPT_PAIRS: concept_pairs_frame(firing, models),
        NULLS: nulls,
        PATTERNS: patterns_frame(firing, models),
        EXEMPLARS: statistics.exemplars.frame(exemplars),
    }
    energies = energy(firing.mean_codes, norms)
    return tables, {
        "images": opened.val.images,
        **concept_numbers(firing, norms, models),
        **null_numbers(firing, statistics.nulls, nulls, energies, models),
    }


def _labels(opened: Opened, statistics: ConceptStatistics, seed: int) -> tuple[dict[Table, pd.DataFrame], Numbers]:
    """Tables and numbers of the labels; without rows and empty for data without labels."""
    fires = statistics.labels
    if fires is None:
        return {table: no_rows(table) for table in (CONCEPT_LABELS, LABEL_CONCEPTS, LABEL_PROBES)}, {}
    floor = fresh_agreement(opened.sae, opened.val.activations, fires.choosing, seed)
    tables, numbers = label_tables(opened.val.codes, fires, floor, statistics.exemplars, seed)
    return tables | {CONCEPT_LABELS: fires.best_labels()}, numbers
