"""What type checkers say to clients: right code passes in strict mode, and typing errors are found."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typed_client
from sklearn.datasets import load_iris

import skae

pytest.importorskip("mypy")
# Reading torch takes ten times as long as reading skae.
CONFIG = """
[mypy]
[mypy-torch.*]
follow_imports = skip
[mypy-sklearn.*,scipy.*,pandas.*]
ignore_missing_imports = True
"""
# Each line has one error, in a name.
MISTYPED = """
AutoencoderTransformer(2, hidden_layer_size=8)
ae.transfrom(X)
ae.fit(X).transfrom(X)
ae.fit(X, sample_weights=None)
ae.loss_curves_
VAE(2).sample(n_sample=3)
GaussianNoise(scales=2)
AutoencoderOutlierDetector().fit(X).predict_probability(X)
AutoencoderImputer().fit(X).intervals(X)
"""


def test_clients_with_types(tmp_path):
    (tmp_path / "client.py").write_text(Path(typed_client.__file__).read_text(encoding="utf-8"))
    lines = [
        "import numpy as np",
        "from skae import *",
        "X = np.zeros((3, 2))",
        "ae = AutoencoderTransformer()",
        *MISTYPED.split("\n")[1:-1],
    ]
    (tmp_path / "mistyped.py").write_text("\n".join(lines))
    (tmp_path / "mypy.ini").write_text(CONFIG)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--strict", "client.py", "mistyped.py"]
    environment = {"PYTHONPATH": str(Path(skae.__file__).parents[1]), "MYPY_CACHE_DIR": str(tmp_path / "cache")}
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    found = re.findall(r"^(\w+\.py):(\d+): error:", run.stdout, re.MULTILINE)
    expected = [("mistyped.py", str(line)) for line in range(5, len(lines) + 1)]
    assert found == expected, run.stdout + run.stderr


def test_the_client_runs():
    X = load_iris(return_X_y=True)[0][::3]
    assert typed_client.reduced(X, 2).shape == (50, 2)
    assert typed_client.are_suspicious(X).mean() == pytest.approx(0.1, abs=0.02)
    X[::5, 2] = np.nan
    assert np.isfinite(typed_client.filled(X)).all()


def test_the_package_says_that_it_has_types():
    assert (Path(skae.__file__).parent / "py.typed").exists()
