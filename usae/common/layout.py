"""Where everything lies below the root of a checkout; `dvc.yaml` names the same places."""

from dataclasses import dataclass
from pathlib import Path

from usae.common.tables import Table


@dataclass(frozen=True)
class Layout:
    """The places that stages write to and read from; `Layout()` is the folder that the command runs in."""

    root: Path = Path()

    @property
    def images(self) -> Path:
        """The index of both splits, and the generated world's truth (stage `images`)."""
        return self.root / "data/images"

    @property
    def manifests(self) -> Path:
        """What stands for the activation stores of each model (stage `extract`)."""
        return self.root / "data/manifests"

    @property
    def untrained(self) -> Path:
        """The same of networks with random weights, which lie in `weights` there (stage `untrained`)."""
        return self.root / "data/untrained"

    @property
    def usae(self) -> Path:
        """The universal SAE (stage `train`)."""
        return self.root / "data/usae"

    @property
    def controls(self) -> Path:
        """An SAE for each control, by name (stage `controls`)."""
        return self.root / "data/controls"

    @property
    def baselines(self) -> Path:
        """An independent SAE for each model (stage `baselines`)."""
        return self.root / "data/baselines"

    @property
    def weights(self) -> Path:
        """A pinned network for each model (stage `weights`)."""
        return self.root / "data/weights"

    @property
    def maximised(self) -> Path:
        """Maximised pictures and their curves (stage `maximise`)."""
        return self.root / "data/maximised"

    @property
    def reports(self) -> Path:
        """Tables, figures and the page."""
        return self.root / "reports"

    @property
    def curve(self) -> Path:
        """The loss by source, for `dvc plots` (stage `train`)."""
        return self.reports / "plots/training.csv"

    def codes(self, split: str) -> Path:
        """The universal SAE's codes of `train` or `val`, a folder for each model (stage `encode`)."""
        return self.root / "data/codes" / split

    def independent_codes(self, split: str) -> Path:
        """Codes of the independent SAEs, likewise."""
        return self.codes(split) / "independent"

    def table(self, table: Table) -> Path:
        """The file of a table."""
        return self.reports / f"{table.name}.parquet"
