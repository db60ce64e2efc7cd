"""Whether the machine runs on its battery or is hot."""

from typing import Any

_NEAR = 5.0  # degrees below what the sensor calls high


def strained() -> str:
    """Why the machine should be spared now, in words; empty where nothing tells so.

    Sensors are the system's own (psutil): macOS and Windows tell the battery, Linux and
    FreeBSD temperatures too.
    """
    import psutil

    battery = getattr(psutil, "sensors_battery", lambda: None)()
    if battery is not None and battery.power_plugged is False:
        return "it runs on its battery"
    every: dict[str, list[Any]] = getattr(psutil, "sensors_temperatures", dict)()
    for name, sensors in every.items():
        for sensor in sensors:
            if sensor.high and sensor.current >= sensor.high - _NEAR:
                return f"it is hot ({name}: {sensor.current:.0f} °C)"
    return ""
