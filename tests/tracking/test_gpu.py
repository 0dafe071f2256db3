"""What the extra ``gpu`` is for."""

from types import SimpleNamespace

import pynvml
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor


def test_mlflow_reads_a_gpu_by_the_package_of_the_extra(monkeypatch):
    """With a driver that tells of one GPU, half full, three quarters busy, at 300 of 400 watts."""
    driver = {
        "nvmlInit": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": "gpu",
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=5_000_000, total=10_000_000),
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=75),
        "nvmlDeviceGetPowerUsage": 300_000,
        "nvmlDeviceGetEnforcedPowerLimit": 400_000,
    }
    for name, told in driver.items():
        monkeypatch.setattr(pynvml, name, lambda *_, told=told: told)
    monitor = GPUMonitor()
    monitor.collect_metrics()
    assert monitor.aggregate_metrics() == {
        "gpu_0_memory_usage_percentage": 50.0,
        "gpu_0_memory_usage_megabytes": 5.0,
        "gpu_0_utilization_percentage": 75.0,
        "gpu_0_power_usage_watts": 300.0,
        "gpu_0_power_usage_percentage": 75.0,
    }
