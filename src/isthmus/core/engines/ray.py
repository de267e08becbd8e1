"""Ray: a cluster at an address or started here. The only file that imports ray."""

import os
import shutil
import tempfile
from collections.abc import Sequence
from typing import Any

from isthmus.core.engine import RETRIES, VARIABLE, EngineConfig, killed, processors, run_unit, unreachable
from isthmus.core.errors import ConfigError, MachineError
from isthmus.core.plugins import install_command

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
try:
    import ray
    from ray.exceptions import OutOfMemoryError, WorkerCrashedError
except ImportError as error:
    raise ConfigError(f"ISTHMUS_ENGINE: ray needs '{error.name}': {install_command('ray')}") from None

_RESULTS = 256 * 2**20  # [byte] of results that wait to be read, for each worker


class Engine:
    """See `core/engine.py: Cluster`."""

    def __init__(self, config: EngineConfig) -> None:
        self._folder = ""
        shown: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": True}
        if config.address:
            try:
                ray.init(config.address, **shown)
            except (OSError, RuntimeError, ValueError) as error:
                raise unreachable(config.address, error) from None
        else:
            count = config.workers or processors()
            self._folder = tempfile.mkdtemp(prefix="isthmus-ray-")
            memory = _RESULTS if config.memory is None else int(config.memory * 2**30)
            try:
                ray.init(
                    "local", num_cpus=count, object_store_memory=memory * count, include_dashboard=False,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=self._folder, **shown,
                )  # fmt: skip
            except Exception as error:  # Ray raises no class of its own where its processes take too long
                self.close()
                raise MachineError(
                    f"{VARIABLE}: Ray could not be started on this machine ({' '.join(str(error).split())[:200]})."
                    f" Run the same command again when the machine is less busy, or unset {VARIABLE}"
                ) from None
        self.workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._run = ray.remote(max_retries=RETRIES)(run_unit)

    def submit(self, unit: bytes) -> Any:
        """Sends a unit to the cluster."""
        return self._run.remote(unit)

    def result(self, handle: Any) -> Any:
        """Waits for a unit."""
        try:
            return ray.get(handle)
        except (WorkerCrashedError, OutOfMemoryError):
            raise killed("ray") from None

    def cancel(self, handles: Sequence[Any]) -> None:
        """Drops units."""
        for handle in handles:
            ray.cancel(handle)

    def close(self) -> None:
        """Leaves the cluster; one that was started here ends."""
        ray.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
