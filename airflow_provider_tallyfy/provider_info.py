"""The provider info for Airflow: modules, connection type and its form."""

from __future__ import annotations

from typing import Any

from airflow_provider_tallyfy import __version__


def get_provider_info() -> dict[str, Any]:
    """Describe this provider to Airflow (entry point ``apache_airflow_provider``)."""

    def modules(*kinds: str) -> list[dict[str, Any]]:
        return [
            {
                "integration-name": "Tallyfy",
                "python-modules": [f"airflow_provider_tallyfy.{kind}.tallyfy" for kind in kinds],
            }
        ]

    def field(label: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
        return {"label": label, "description": description, "schema": {"type": [kind, "null"], **schema}}

    asset_uris = [
        {
            "schemes": ["tallyfy"],
            "handler": "airflow_provider_tallyfy.assets.tallyfy.sanitize_uri",
            "factory": "airflow_provider_tallyfy.assets.tallyfy.create_asset",
            "to_openlineage_converter": "airflow_provider_tallyfy.assets.tallyfy.convert_asset_to_openlineage",
        }
    ]
    return {
        "package-name": "airflow-provider-tallyfy",
        "name": "Tallyfy",
        "description": "`Tallyfy <https://tallyfy.com/>`__ runs processes that people carry out.\n",
        "versions": [__version__],
        "integrations": [
            {"integration-name": "Tallyfy", "external-doc-url": "https://tallyfy.com/", "tags": ["service"]}
        ],
        "hooks": modules("hooks"),
        "operators": modules("operators"),
        "sensors": modules("sensors"),
        "triggers": modules("triggers"),
        "notifications": [
            "airflow_provider_tallyfy.notifications.tallyfy.TallyfyLaunchRunNotifier",
            "airflow_provider_tallyfy.notifications.tallyfy.TallyfyCommentNotifier",
            "airflow_provider_tallyfy.notifications.tallyfy.TallyfyIssueNotifier",
        ],
        "asset-uris": asset_uris,
        "dataset-uris": asset_uris,  # what Airflow 2 calls them
        "transfers": [
            {
                "source-integration-name": "Tallyfy",
                "target-integration-name": "Object Storage",
                "python-module": "airflow_provider_tallyfy.transfers.tallyfy_to_object_storage",
            }
        ],
        "extra-links": ["airflow_provider_tallyfy.links.tallyfy.TallyfyProcessLink"],
        "connection-types": [
            {
                "connection-type": "tallyfy",
                "hook-class-name": "airflow_provider_tallyfy.hooks.tallyfy.TallyfyHook",
                "hook-name": "Tallyfy",
                "ui-field-behaviour": {
                    "hidden-fields": ["port", "schema"],
                    "relabeling": {
                        "host": "API URL",
                        "login": "Organization ID",
                        "password": "Access token",
                        # Of Airflow 2 only, and called as in Airflow 3. Hidden, it would take the button Test along,
                        # which fails without it in the form of a saved connection.
                        "extra": "Extra Fields JSON",
                    },
                    "placeholders": {
                        "host": "Default: https://go.tallyfy.com/api",
                        "login": "In Tallyfy: Settings > Organization",
                        "password": "In Tallyfy: Settings > Integrations > REST API",
                    },
                },
                "conn-fields": {
                    "web_url": field(
                        "Web URL",
                        "Where users work in Tallyfy, and where the link 'Tallyfy process' leads. "
                        "Default: https://go.tallyfy.com.",
                    ),
                    "timeout": field(
                        "Timeout (seconds)",
                        "How long to wait for a connection, and for each part of a response. Default: 30.",
                        "integer",
                        minimum=1,
                        maximum=3600,
                    ),
                    "requests_per_hour": field(
                        "Requests per hour",
                        "The most requests that each triggerer, and each export, sends in an hour; 0 for no ceiling. "
                        "Default: 900.",
                        "integer",
                        minimum=0,
                        maximum=1_000_000,
                    ),
                    "verify": field(
                        "Verify certificates", "true, false, or the path of a CA bundle. Default: true."
                    ),
                    "allow_http": field(
                        "Allow plain http",
                        "Let the token go unencrypted to another machine. Only for a network you trust.",
                        "boolean",
                    ),
                    "client_id": field(
                        "Client ID",
                        "An application's id, from Tallyfy's support. It takes the place of the access token.",
                    ),
                    "client_secret": field("Client secret", "The application's secret.", format="password"),
                    "user_email": field(
                        "User e-mail", "The user that the application acts as; most of the API needs one."
                    ),
                    "token_url": field(
                        "Token URL",
                        "Where an application gets its token. Default: /oauth/token of the API's host.",
                    ),
                },
            }
        ],
    }
