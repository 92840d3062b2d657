"""An environment of its own for each peer, made on first use."""

from __future__ import annotations

import subprocess
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

DEFAULT_FOLDER = Path.home() / ".cache" / "lightning_al" / "peers"
_INSTALL_SECONDS = 900


@dataclass(frozen=True)
class Peer:
    """A library to compare with."""

    name: str
    script: str
    requirements: tuple[str, ...]
    strategies: frozenset[str]  # those in its script, known here so that it is only started for them


_UNCERTAINTY = {"Entropy", "Margin", "LeastConfidence"}
PEERS = (
    Peer(
        "bmdal_reg",
        "with_bmdal_reg.py",
        ("bmdal_reg", "numpy<2"),  # it says np.Inf, which NumPy 2 has no more
        frozenset({"CoreSet", "LCMD", "BADGE", "PosteriorVariance", "BAIT"}),
    ),
    Peer("baal", "with_baal.py", ("baal",), frozenset(_UNCERTAINTY | {"BALD", "BatchBALD"})),
    Peer(
        "scikit-activeml",
        "with_scikit_activeml.py",
        ("scikit-activeml",),
        frozenset(
            _UNCERTAINTY | {"BALD", "BatchBALD", "CoreSet", "BADGE", "ProbCover", "MaxHerding", "TypiClust", "KMeans"}
        ),
    ),
    Peer("modAL", "with_modal.py", ("modAL-python",), frozenset(_UNCERTAINTY)),
)


class CannotInstallError(Exception):
    """A peer's environment could not be made; says why."""


def environment(peer: Peer, folder: Path) -> Path:
    """Make the peer's environment unless it is there, and return its interpreter.

    Torch and the like are those of the running interpreter, lent rather than installed twice: what the environment has
    itself comes first.

    Raises:
        CannotInstallError: pip failed; nothing is left behind that would be taken for an environment.
    """
    home = folder / peer.name
    python, done = home / "bin" / "python", home / "installed"
    if done.exists():
        return python
    print(f"making an environment for {peer.name} in {home}", flush=True)
    try:
        venv.create(home, clear=True, with_pip=True)
        own = _output(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (Path(own) / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
        _output(python, "-m", "pip", "install", "--quiet", *peer.requirements)
    except subprocess.CalledProcessError as error:
        raise CannotInstallError(last_line(error.stderr)) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstallError(str(error)) from error
    done.touch()
    return python


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=_INSTALL_SECONDS).stdout


def last_line(text: str) -> str:
    """What a failed program said last, which in Python is the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no message"
