"""To the hub and back, by the hub's own client; the hub is a server on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.support.hub_server import HubServer
from usae.common.errors import UserError
from usae.sae.hub import folder_of
from usae.sae.universal import UniversalSAE

ROOT = Path(__file__).parents[2]
THERE_AND_BACK = """
import sys
from usae.sae.universal import UniversalSAE
from usae.common.errors import UserError

folder, networks = sys.argv[1:]
try:
    UniversalSAE.from_pretrained("some/sae")
except UserError as error:
    print(error)
sae = UniversalSAE.from_pretrained(folder)
print(sae.push_to_hub("some/sae", card="Load USER/NAME.", networks=networks))
UniversalSAE.from_pretrained("some/sae").save_pretrained("copy")
"""


def test_there_and_back(tmp_path):
    hub = HubServer()
    torch.manual_seed(0)
    sae = UniversalSAE({"a": 4, "b": 3}, 8, 2, {"note": "x"}).eval()
    sae.save_pretrained(tmp_path / "sae")
    for model in sae.models:
        (tmp_path / "weights" / model).mkdir(parents=True)
        (tmp_path / "weights" / model / "config.json").write_text(model)
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "hf_of_a_test",
        "HF_HUB_DISABLE_XET": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", THERE_AND_BACK, tmp_path / "sae", tmp_path / "weights"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    hub.shutdown()
    assert done.returncode == 0, done.stderr
    first, address = done.stdout.strip().splitlines()
    assert "There is no folder 'some/sae' here" in first
    assert "could not be fetched from the hub: RepositoryNotFoundError" in first
    assert address == f"{hub.address}/some/sae"
    assert hub.files["README.md"] == b"Load some/sae."
    assert hub.files["networks/b/config.json"] == b"b"
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "sae" / name).read_bytes() == hub.files[name]


@pytest.mark.parametrize("name", ["sae", "data/usae", Path("some/sae"), "/some/sae", "./some/sae"])
def test_what_is_a_folder_here_is_not_sought_on_the_hub(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    assert folder_of(name) == Path(name)
    with pytest.raises(UserError, match="There is no SAE in"):
        UniversalSAE.from_pretrained(name)
