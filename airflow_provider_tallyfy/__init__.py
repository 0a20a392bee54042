"""The Apache Airflow provider for Tallyfy."""

from __future__ import annotations

from typing import Any

__version__ = "0.1.0"


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow (entry point ``apache_airflow_provider``)."""
    return {"package-name": "airflow-provider-tallyfy", "name": "Tallyfy", "versions": [__version__]}
