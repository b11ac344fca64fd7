"""Stage `onboarding`: how few images a model needs to join the universal SAE of the others."""

from pipeline import stage
from usae.common.layout import Layout
from usae.common.params import LEFT, Params
from usae.common.tables import write_table
from usae.evidence.onboarding.run import run
from usae.evidence.onboarding.tables import ONBOARDING


@stage
def main(params: Params) -> str:
    """Train the SAE of all models but one, add that one, and write `reports/onboarding.parquet`."""
    newcomer = params.interventions.held_out or params.models[-1]
    with run(params, newcomer) as table:
        write_table(ONBOARDING, table, Layout().table(ONBOARDING))
    if params.quick:
        return LEFT
    if table.empty:
        return "one model alone joins nobody"
    matched = table[(table["dictionary"] == "trained") & (table["setting"] == "matched")]
    cross = matched[matched["source"] != matched["target"]]
    by_images = cross.groupby("images")["r2"].mean()
    return f"cross R2 of {newcomer}: " + ", ".join(f"{r2:.2f} from {n} images" for n, r2 in by_images.items())


if __name__ == "__main__":
    main()
