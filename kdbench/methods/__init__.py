"""The registry of methods, and all that a method needs, also one of another package.

The key is the only name that a method has: its file (with `_` for `-`), study files, MLflow
tags, test ids and table rows use it. Other packages add methods through the entry-point group
`kdbench.methods`: the name of the entry is the key, its object a subclass of `Method`.
"""

from kdbench.methods.ab import AB
from kdbench.methods.abkd import ABKD
from kdbench.methods.annealing_kd import AnnealingKD
from kdbench.methods.at import AT
from kdbench.methods.ban import BAN
from kdbench.methods.base import Incompatible, Method, Range, UndeclaredField, hparam
from kdbench.methods.byot import BYOT
from kdbench.methods.cat_kd import CATKD
from kdbench.methods.cc import CC
from kdbench.methods.cc_rbf import CCRBF
from kdbench.methods.ce import CE
from kdbench.methods.common import (
    common,
    cross_entropy,
    first_phase,
    parameter_shape,
    scalar,
    shape,
    stages,
    total,
    weighted,
)
from kdbench.methods.cosine import Cosine
from kdbench.methods.crd import CRD
from kdbench.methods.cs_kd import CSKD
from kdbench.methods.ctkd import CTKD
from kdbench.methods.ddgsd import DDGSD
from kdbench.methods.dhkd import DHKD
from kdbench.methods.dist import DIST
from kdbench.methods.dkd import DKD
from kdbench.methods.dlb import DLB
from kdbench.methods.dml import DML
from kdbench.methods.dot import DOT
from kdbench.methods.ensemble import Ensemble
from kdbench.methods.eskd import ESKD
from kdbench.methods.feature_mse import FeatureMSE
from kdbench.methods.fixmatch import FixMatch
from kdbench.methods.fsp import FSP
from kdbench.methods.ft import FT
from kdbench.methods.function_matching import FunctionMatching
from kdbench.methods.hint import Hint
from kdbench.methods.ickd import ICKD
from kdbench.methods.ikl import IKL
from kdbench.methods.itrd import ITRD
from kdbench.methods.jacobian import Jacobian
from kdbench.methods.kd import KD
from kdbench.methods.kdcl import KDCL
from kdbench.methods.label_smoothing import LabelSmoothing
from kdbench.methods.logit_mse import LogitMSE
from kdbench.methods.ls_kd import LSKD
from kdbench.methods.mean_teacher import MeanTeacher
from kdbench.methods.memory import Memory, Queue
from kdbench.methods.mgd import MGD
from kdbench.methods.mlkd import MLKD
from kdbench.methods.mse import MSE
from kdbench.methods.nd import ND
from kdbench.methods.networks import Average, Frozen, Shared, Snapshot, Stage, Trained
from kdbench.methods.nkd import NKD
from kdbench.methods.noisy_student import NoisyStudent
from kdbench.methods.norm import NORM
from kdbench.methods.norm_kd import NormKD
from kdbench.methods.nst import NST
from kdbench.methods.ofa import OFA
from kdbench.methods.ofd import OFD
from kdbench.methods.okddip import OKDDip
from kdbench.methods.one import ONE
from kdbench.methods.pcl import PCL
from kdbench.methods.pefd import PEFD
from kdbench.methods.pkt import PKT
from kdbench.methods.ps_kd import PSKD
from kdbench.methods.pseudo_label import PseudoLabel
from kdbench.methods.regressor import regressor
from kdbench.methods.reviewkd import ReviewKD
from kdbench.methods.rkd import RKD
from kdbench.methods.rld import RLD
from kdbench.methods.rrd import RRD
from kdbench.methods.sdd_dkd import SDDDKD
from kdbench.methods.sdd_kd import SDDKD
from kdbench.methods.semckd import SemCKD
from kdbench.methods.simkd import SimKD
from kdbench.methods.sp import SP
from kdbench.methods.srd import SRD
from kdbench.methods.srrl import SRRL
from kdbench.methods.takd import TAKD
from kdbench.methods.tf_kd_reg import TfKDReg
from kdbench.methods.tf_kd_self import TfKDSelf
from kdbench.methods.ttm import TTM
from kdbench.methods.types import MIXED, PREVIOUS, SAME_CLASS, STRONG, Batch, Progress, Shapes
from kdbench.methods.vid import VID
from kdbench.methods.vkd import VKD
from kdbench.methods.wkd_f import WKDF
from kdbench.methods.wkd_l import WKDL
from kdbench.methods.wsld import WSLD
from kdbench.methods.wttm import WTTM
from kdbench.models.output import Output
from kdbench.registry import Paper, Registry

BUILTIN: dict[str, type[Method]] = {
    # labels alone
    "ce": CE,
    "label-smoothing": LabelSmoothing,
    "tf-kd-reg": TfKDReg,
    # soft targets
    "kd": KD,
    "mse": MSE,
    "logit-mse": LogitMSE,
    "dkd": DKD,
    "nkd": NKD,
    "dist": DIST,
    "ls-kd": LSKD,
    "norm-kd": NormKD,
    "ttm": TTM,
    "wttm": WTTM,
    "ikl": IKL,
    "wsld": WSLD,
    "rld": RLD,
    "abkd": ABKD,
    "ctkd": CTKD,
    "annealing-kd": AnnealingKD,
    "ofa": OFA,
    "dhkd": DHKD,
    "pseudo-label": PseudoLabel,
    "noisy-student": NoisyStudent,
    "mlkd": MLKD,
    "wkd-l": WKDL,
    "sdd-kd": SDDKD,
    "sdd-dkd": SDDDKD,
    "function-matching": FunctionMatching,
    "dot": DOT,
    # features
    "cosine": Cosine,
    "hint": Hint,
    "feature-mse": FeatureMSE,
    "at": AT,
    "ab": AB,
    "nst": NST,
    "vid": VID,
    "ft": FT,
    "reviewkd": ReviewKD,
    "semckd": SemCKD,
    "mgd": MGD,
    "vkd": VKD,
    "srd": SRD,
    "nd": ND,
    "wkd-f": WKDF,
    "pefd": PEFD,
    "ofd": OFD,
    "srrl": SRRL,
    "simkd": SimKD,
    "norm": NORM,
    "cat-kd": CATKD,
    "itrd": ITRD,
    "jacobian": Jacobian,
    # relations
    "fsp": FSP,
    "rkd": RKD,
    "sp": SP,
    "pkt": PKT,
    "cc": CC,
    "cc-rbf": CCRBF,
    "ickd": ICKD,
    "crd": CRD,
    "rrd": RRD,
    # peers
    "dml": DML,
    "kdcl": KDCL,
    "okddip": OKDDip,
    "pcl": PCL,
    # the student itself
    "ps-kd": PSKD,
    "byot": BYOT,
    "one": ONE,
    "ban": BAN,
    "tf-kd-self": TfKDSelf,
    "cs-kd": CSKD,
    "ddgsd": DDGSD,
    "dlb": DLB,
    "mean-teacher": MeanTeacher,
    "fixmatch": FixMatch,
    # other teachers than the study's
    "takd": TAKD,
    "eskd": ESKD,
    "ensemble": Ensemble,
}


def _check(entry: object) -> str | None:
    """Why an object is no method, or None if it is one."""
    if not (isinstance(entry, type) and issubclass(entry, Method)):
        return "is no subclass of kdbench.methods.Method"
    if not isinstance(getattr(entry, "paper", None), Paper):
        return "has no attribute `paper`, a kdbench.methods.Paper"
    if not isinstance(entry.title, str):
        return "has a `title` that is no text"
    try:
        entry.hparams()
    except UndeclaredField as error:
        return f"cannot be used: {error}"
    return None


#: All methods by key, those of the entry-point group `kdbench.methods` included.
METHODS = Registry("method", "kdbench.methods", BUILTIN, _check)

__all__ = [
    "BUILTIN",
    "METHODS",
    "MIXED",
    "PREVIOUS",
    "SAME_CLASS",
    "STRONG",
    "Average",
    "Batch",
    "Frozen",
    "Incompatible",
    "Memory",
    "Method",
    "Output",
    "Paper",
    "Progress",
    "Queue",
    "Range",
    "Shapes",
    "Shared",
    "Snapshot",
    "Stage",
    "Trained",
    "common",
    "cross_entropy",
    "first_phase",
    "hparam",
    "parameter_shape",
    "regressor",
    "scalar",
    "shape",
    "stages",
    "total",
    "weighted",
]
