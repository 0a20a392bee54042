from __future__ import annotations

import pytest
import requests

from airflow_provider_tallyfy.sandbox.server import SandboxServer

HEADERS = {"Authorization": "Bearer sandbox-token", "X-Tallyfy-Client": "APIClient"}
CREDENTIALS = {
    "grant_type": "client_credentials",
    "client_id": "sandbox-client",
    "client_secret": "sandbox-secret",
    "scope": "*",
}


def me(sandbox: SandboxServer, headers: dict[str, str]) -> requests.Response:
    return requests.get(f"{sandbox.base_url}/me", headers=headers, timeout=10)


def bearer(token: str) -> dict[str, str]:
    return {**HEADERS, "Authorization": f"Bearer {token}"}


def test_me_and_organizations(sandbox, client):
    assert me(sandbox, HEADERS).json()["data"]["email"] == "ada@example.com"
    organizations = requests.get(f"{sandbox.base_url}/me/organizations", headers=HEADERS, timeout=10).json()
    assert [organization["id"] for organization in organizations["data"]] == ["sandbox"]
    assert client.data("")["name"] == "Tallyfy sandbox"


def test_the_client_header_is_required_with_any_value(sandbox):
    assert me(sandbox, {**HEADERS, "X-Tallyfy-Client": "SomethingElse"}).status_code == 200
    refused = me(sandbox, {"Authorization": HEADERS["Authorization"]})
    assert refused.status_code == 401
    assert "X-Tallyfy-Client" in refused.json()["message"]


@pytest.mark.parametrize(
    "authorization",
    [None, "", "Bearer", "Bearer wrong", "sandbox-token", "Bearer  sandbox-token", "Basic c2Fu"],
)
def test_a_bad_token_is_refused(sandbox, authorization):
    headers = {"X-Tallyfy-Client": "APIClient"}
    if authorization is not None:
        headers["Authorization"] = authorization
    refused = me(sandbox, headers)
    assert refused.status_code == 401
    assert refused.json() == {"message": "Unauthenticated."}


def test_another_organization_is_refused(sandbox):
    refused = requests.get(f"{sandbox.base_url}/organizations/other/runs", headers=HEADERS, timeout=10)
    assert refused.status_code == 403


def test_each_response_has_a_unique_request_id(sandbox):
    answers = [me(sandbox, HEADERS), me(sandbox, {}), requests.get(f"{sandbox.url}/nothing", timeout=10)]
    assert [answer.status_code for answer in answers] == [200, 401, 404]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == 3


@pytest.mark.parametrize("path", ["/oauth/token", "/api/oauth/token"])
def test_application_token_and_user_token(sandbox, path):
    granted = requests.post(f"{sandbox.url}{path}", data=CREDENTIALS, timeout=10).json()
    assert (granted["token_type"], granted["expires_in"]) == ("Bearer", 604_800)

    # An application is no user, so it cannot call other endpoints.
    assert me(sandbox, bearer(granted["access_token"])).status_code == 403

    url = f"{sandbox.base_url}/applications/sandbox/users/ben@example.com/token"
    person = requests.post(url, headers=bearer(granted["access_token"]), timeout=10).json()
    assert person["expires_in"] == 7_776_000
    assert me(sandbox, bearer(person["access_token"])).json()["data"]["id"] == 1002


def test_tokens_expire_by_the_sandbox_clock(sandbox, client):
    application = requests.post(f"{sandbox.url}/oauth/token", data=CREDENTIALS, timeout=10).json()[
        "access_token"
    ]
    url = f"{sandbox.base_url}/applications/sandbox/users/ben@example.com/token"
    person = requests.post(url, headers=bearer(application), timeout=10).json()["access_token"]

    client.advance(days=7)
    assert requests.post(url, headers=bearer(application), timeout=10).status_code == 401
    assert me(sandbox, bearer(person)).status_code == 200
    client.advance(days=83)
    assert me(sandbox, bearer(person)).status_code == 401
    assert me(sandbox, HEADERS).status_code == 200


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"client_secret": "wrong"}, 401, "invalid_client"),
        ({"client_id": ""}, 401, "invalid_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
    ],
)
def test_refuses_wrong_credentials(sandbox, change, status, code):
    refused = requests.post(f"{sandbox.url}/oauth/token", data={**CREDENTIALS, **change}, timeout=10)
    assert (refused.status_code, refused.json()["code"]) == (status, code)


def test_credentials_must_be_form_encoded(sandbox):
    assert requests.post(f"{sandbox.url}/oauth/token", json=CREDENTIALS, timeout=10).status_code == 400


def test_only_an_application_gets_user_tokens(sandbox):
    url = f"{sandbox.base_url}/applications/sandbox/users/ben@example.com/token"
    assert requests.post(url, headers=HEADERS, timeout=10).status_code == 403
    application = requests.post(f"{sandbox.url}/oauth/token", data=CREDENTIALS, timeout=10).json()[
        "access_token"
    ]
    unknown = url.replace("ben@", "nobody@")
    assert requests.post(unknown, headers=bearer(application), timeout=10).status_code == 404
    other = url.replace("/sandbox/", "/other/")
    assert requests.post(other, headers=bearer(application), timeout=10).status_code == 403


def test_light_member_sees_only_own_work(client, light_client):
    assert {run["name"] for run in client.data("/runs")} > {run["name"] for run in light_client.data("/runs")}
    assert [run["name"] for run in light_client.data("/runs")] == ["Onboarding of Globex"]
    release = next(run for run in client.data("/runs") if run["name"] == "Release 2.4.0")
    assert light_client.call("GET", f"/runs/{release['id']}").status_code == 404
    task_id = client.tasks(release["id"])["approve_release"]["id"]
    assert light_client.call("GET", f"/tasks/{task_id}").status_code == 404
    assert light_client.call("GET", "/activity-feeds").status_code == 403
    assert {task["run_id"] for task in light_client.data("/tasks", per_page=100)} != {release["id"]}
