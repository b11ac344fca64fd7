"""Every method on the same held-out images: the tables of stage `compare`."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from usae.common.layout import Layout
from usae.common.params import Params
from usae.common.runtime.parallel import side_by_side
from usae.common.tables import Table, no_rows, read_table
from usae.evidence.metrics.contrast.measured import most_bytes
from usae.evidence.metrics.contrast.tables import CONTROL_CONCEPTS
from usae.evidence.metrics.funnel import Thresholds, control_bar
from usae.evidence.metrics.summary import HELD_OUT
from usae.methods.comparison.judging import Judge, MemberTables
from usae.methods.comparison.members import OpenedMethods
from usae.methods.comparison.sharing import sharing_frame
from usae.methods.comparison.tables import METHOD_CONCEPTS, METHOD_FUNNEL, METHOD_SHARING, METHODS


def compare(params: Params, layout: Layout, store_root: Path, device: torch.device) -> dict[Table, pd.DataFrame]:
    """Tables `methods`, `method_concepts`, `method_funnel` and `method_sharing`; without rows in a quick run.

    Raises:
        UserError: an SAE, activations or a table of an earlier stage are missing.
    """
    if params.quick:
        return {table: no_rows(table) for table in (METHODS, METHOD_CONCEPTS, METHOD_FUNNEL, METHOD_SHARING)}
    opened = OpenedMethods.load(params, layout, store_root, device)
    judge = judge_of(opened)
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    with threadpool_limits(1 if threads > 1 else None, user_api="blas"):  # one opens, the others judge
        most = most_bytes(opened.material.held_out, params.train.dictionary)
        found = list(side_by_side(judge.judge, opened.members(), device, most))
    return {**tables(found), METHOD_SHARING: sharing(opened)}


def sharing(opened: OpenedMethods) -> pd.DataFrame:
    """Table `method_sharing`; without rows where no crosscoder has norms of its own."""
    threshold, held_out = opened.params.measure.threshold, opened.material.held_out
    frames = [
        sharing_frame(sae, held_out, threshold, opened.params.seed).assign(method=method, run=run)
        for method, run, sae in opened.crosscoders()
    ]
    return pd.concat(frames, ignore_index=True)[METHOD_SHARING.names] if frames else no_rows(METHOD_SHARING)


def judge_of(opened: OpenedMethods) -> Judge:
    """What all members are asked, by the run's params and its controls."""
    params, layout = opened.params, opened.layout
    controls = read_table(layout.table(CONTROL_CONCEPTS))
    bar = control_bar(controls, len(params.models), Thresholds(params.measure.agreement).bar)
    device, beyond = opened.material.device, float("-inf") if bar is None else bar
    return Judge(
        opened.stores, params.measure, params.seed, device, beyond, opened.material.labelled.get(HELD_OUT)
    )


def tables(judged: Iterable[MemberTables]) -> dict[Table, pd.DataFrame]:
    """The tables, in the order of the members."""
    found = list(judged)
    rows = pd.DataFrame([row for each in found for row in each.rows], columns=METHODS.names)
    concepts = [each.concepts for each in found if each.concepts is not None]
    funnels = [each.funnel for each in found if each.funnel is not None]
    return {
        METHODS: rows,
        METHOD_CONCEPTS: pd.concat(concepts, ignore_index=True)[METHOD_CONCEPTS.names],
        METHOD_FUNNEL: pd.concat(funnels, ignore_index=True)[METHOD_FUNNEL.names],
    }
