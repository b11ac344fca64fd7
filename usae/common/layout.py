"""Where everything lies below the root of a checkout; `dvc.yaml` names the same places."""

from dataclasses import dataclass
from pathlib import Path

from usae.common.tables import Table

START = "start"  # folder, inside an SAE's, of the same before its first step


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
        """The universal SAE, and in START the same before its first step (stage `train`)."""
        return self.root / "data/usae"

    @property
    def controls(self) -> Path:
        """An SAE for each control, by name, and the independent ones (stage `controls`)."""
        return self.root / "data/controls"

    @property
    def methods(self) -> Path:
        """A folder for each method that is trained, in it one for each of its runs (stage `methods`)."""
        return self.root / "data/methods"

    def independent(self, model: str) -> Path:
        """The SAE of one model alone (stage `controls`)."""
        return self.controls / f"independent-{model}"

    def brief(self, model: str) -> Path:
        """The same, its encoder updated as often as in the universal SAE; absent where that is the same SAE."""
        return self.controls / f"brief-{model}"

    @property
    def twin(self) -> Path:
        """The universal SAE trained as little as the controls; absent where they are trained as long as it is."""
        return self.controls / "twin"

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

    @property
    def method_points(self) -> Path:
        """What decides between methods, for `dvc plots` (stage `compare`)."""
        return self.reports / "plots/methods.csv"

    def codes(self, split: str) -> Path:
        """The universal SAE's codes of `train` or `val`, a folder for each model (stage `encode`)."""
        return self.root / "data/codes" / split

    def start_codes(self, split: str) -> Path:
        """Codes of the universal SAE before its first step, likewise."""
        return self.codes(split) / START

    def independent_codes(self, split: str) -> Path:
        """Codes of the independent SAEs, likewise."""
        return self.codes(split) / "independent"

    def brief_codes(self, split: str) -> Path:
        """Codes of those that were trained for fewer steps, likewise; absent where there are none."""
        return self.codes(split) / "brief"

    def twin_codes(self, split: str) -> Path:
        """Codes of the universal SAE's twin, likewise; absent where there is none."""
        return self.codes(split) / "twin"

    def table(self, table: Table) -> Path:
        """The file of a table."""
        return self.reports / f"{table.name}.parquet"
