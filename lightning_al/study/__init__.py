"""The feasibility study: will active learning work for this problem?"""

from lightning_al.study.again import make_report
from lightning_al.study.compare import compare_curves
from lightning_al.study.feasibility import FeasibilityStudy
from lightning_al.study.ray_runner import RayRunner
from lightning_al.study.report import FeasibilityReport
from lightning_al.study.runners import LocalRunner
from lightning_al.study.wording import FLAGS

__all__ = [
    "FLAGS",
    "FeasibilityReport",
    "FeasibilityStudy",
    "LocalRunner",
    "RayRunner",
    "compare_curves",
    "make_report",
]
