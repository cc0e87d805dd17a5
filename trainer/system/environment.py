"""What a worker's children get of its environment: what each needs, and none of the service's own secrets.

A worker has the database's address with its password, the keys of object stores and of trackers, and whatever
else its operator's shell exports; its children load models and libraries. What is not listed here, an
operator names in the setting of that kind of child. A child on another host has that host's environment, and
of this one what is not about the host.
"""

import os
from collections.abc import Collection, Mapping

from trainer.system.guard import MARK

_NAMES = frozenset(
    (
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TERM"),
        *("VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD", "CC", "CXX", "CUDACXX", "CPATH", "LIBRARY_PATH"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    )
)
#: Of the interpreter, of accelerators and what computes on them, and of the libraries of models.
_FAMILIES = (
    *("LC_", "XDG_", "PYTHON", "COVERAGE_", "CUDA_", "NVIDIA_", "NCCL_", "CUBLAS", "CUDNN_", "ROCM_"),
    *("ROCR_", "HIP_", "HSA_", "GLOO_", "UCX_", "FI_", "TORCH", "PYTORCH_", "TRITON_", "OMP_", "GOMP_"),
    *("KMP_", "MKL_", "OPENBLAS_", "MALLOC_", "HF_", "TRANSFORMERS_", "TOKENIZERS_", "SAFETENSORS_"),
    "VLLM_",
)
#: Of a host: where things are on it, and which of its devices are whose.
_OF_A_HOST = (
    *("XDG_", "LD_", "CUDA_VISIBLE_", "CUDA_HOME", "NVIDIA_", "ROCR_VISIBLE_", "HIP_VISIBLE_", "KUBERNETES_"),
    *("PYTHONPATH", "PYTHONHOME", "RAY_", "POLICYSPLIT_RAY_", MARK),
)
_SECRET = ("TOKEN", "SECRET", "PASSWORD", "API_KEY")


def inherited(names: Collection[str] = (), families: tuple[str, ...] = ()) -> dict[str, str]:
    """What every child may have, and the variables of these names and of these families, secrets or not."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in names or name.startswith(families) or _is_plain(name)
    }


def for_another_host(environment: Mapping[str, str]) -> dict[str, str]:
    """What of an environment means something on another host, secrets or not."""
    return {
        name: value
        for name, value in environment.items()
        if name.upper() not in _NAMES and not name.startswith(_OF_A_HOST)
    }


def _is_plain(name: str) -> bool:
    if name.upper() in _NAMES:
        return True
    return name.startswith(_FAMILIES) and not name.endswith(_SECRET)
