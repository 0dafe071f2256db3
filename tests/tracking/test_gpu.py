"""What the extra ``gpu`` is for."""

import pynvml
from mlflow.system_metrics.metrics import gpu_monitor


def test_mlflow_reads_a_gpu_by_the_package_of_the_extra():
    assert gpu_monitor.pynvml is pynvml
