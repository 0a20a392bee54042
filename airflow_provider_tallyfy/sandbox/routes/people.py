"""Users, guests, groups, tags and folders: one set of handlers for all of them, and what is special to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.access import Caller
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import (
    Folder,
    Group,
    Guest,
    Owners,
    Role,
    Run,
    Tag,
    Task,
    Watcher,
)
from airflow_provider_tallyfy.sandbox.model import Member as User
from airflow_provider_tallyfy.sandbox.routes.dependencies import Given, Member, SandboxStore, answer
from airflow_provider_tallyfy.sandbox.store import HourlyCap, Store
from airflow_provider_tallyfy.sandbox.writes import Writable

router = APIRouter(prefix="/organizations/{organization}")


@dataclass(frozen=True)
class _Kind:
    """One kind of item: where it is kept, what a client can write of it, how it is shown, and what ``q`` searches."""

    path: str
    items: Callable[[Store], dict[Any, Any]]
    writable: Writable[Any]
    show: Callable[[Store, Any], serializers.JSON]
    name: Callable[[Any], str]
    key: Callable[[str], Any] = str
    check: Callable[[Store, Any], dict[str, list[str]]] = lambda store, item: {}

    def find(self, store: Store, key: str) -> Any:
        """Return an item by its id (a guest by the email address), or raise 404."""
        try:
            return self.items(store)[self.key(key)]
        except (KeyError, ValueError):
            raise not_found() from None

    def save(self, store: Store, key: Any, item: Any) -> Any:
        """Keep a new or changed item, or raise 422."""
        if errors := self.check(store, item):
            raise invalid(errors)
        self.items(store)[key] = item
        store.changed()
        return item

    def response(self, store: Store, item: Any, status: int = 200) -> JSONResponse:
        """Show an item."""
        return answer(self.show(store, item), status)


def _check_people(store: Store, item: Group) -> dict[str, list[str]]:
    errors = store.check_owners(Owners(users=item.members, guests=item.guests))
    return {name.replace("owners.users", "members").replace("owners.", ""): errors[name] for name in errors}


def _check_tag(store: Store, item: Tag) -> dict[str, list[str]]:
    if len(item.title) > 30:
        return {"title": ["The title may not be greater than 30 characters."]}
    if any(each.title == item.title and each.id != item.id for each in store.tags.values()):
        return {"title": ["The title has already been taken."]}
    return {}


def _check_folder(store: Store, item: Folder) -> dict[str, list[str]]:
    parent = store.folders.get(item.parent_id or "")
    if item.parent_id is not None and (parent is None or parent.folder_type != item.folder_type):
        return {"parent_id": ["The selected parent id is invalid."]}
    return {}


_USERS = _Kind(
    "users",
    lambda store: store.members,
    Writable(
        User,
        ("first_name", "last_name", "job_title"),
        ("timezone", "phone", "team", "date_format"),
        required_on_update=("first_name", "last_name", "timezone"),
    ),
    serializers.member,
    lambda user: f"{user.full_name} {user.email}",
    int,
)
_GUESTS = _Kind(
    "guests",
    lambda store: store.guests,
    # What an update of a guest changes is only this, whatever else is sent: tallyfy/mcp-public, from the source.
    Writable(Guest, ("associated_members",)),
    lambda store, guest: serializers.guest(guest),
    lambda guest: guest.email,
    str.casefold,
)
_GROUPS = _Kind(
    "groups",
    lambda store: store.groups,
    Writable(Group, ("name", "description", "members", "guests"), required=("name", "description")),
    lambda store, group: serializers.group(group),
    lambda group: group.name,
    check=_check_people,
)
_TAGS = _Kind(
    "tags",
    lambda store: store.tags,
    Writable(Tag, ("title", "color"), required=("title",)),
    serializers.tag,
    lambda tag: tag.title,
    check=_check_tag,
)
_FOLDERS = _Kind(
    "folders",
    lambda store: store.folders,
    Writable(Folder, ("name", "parent_id"), required=("name",), required_on_update=("name",)),
    serializers.folder,
    lambda folder: folder.name,
    check=_check_folder,
)
_NEW_GUEST = Writable(
    Guest, ("first_name", "last_name", "company_name", "phone_1", "phone_2"), required=("email",)
)


def _add_routes(kind: _Kind) -> None:
    async def list_items(
        request: Request, store: SandboxStore, caller: Member, query: listing.Pages
    ) -> JSONResponse:
        text, folder_type = (query.q or "").casefold(), query.given("folder_type")
        found = [
            item
            for item in kind.items(store).values()
            if text in kind.name(item).casefold()
            and folder_type in (None, getattr(item, "folder_type", folder_type))
        ]
        return JSONResponse(listing.page(found, lambda item: kind.show(store, item), query, request.url))

    async def list_all(store: SandboxStore, caller: Member) -> JSONResponse:
        return answer([kind.show(store, item) for item in kind.items(store).values()])

    async def get(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
        return kind.response(store, kind.find(store, key))

    async def update(store: SandboxStore, caller: Member, key: str, given: Given) -> JSONResponse:
        item = kind.find(store, key)
        if kind is _USERS:
            _need_admin(caller)
        return kind.response(store, kind.save(store, kind.key(key), kind.writable.update(item, given)))

    router.get(f"/{kind.path}")(list_items)
    if kind.path in ("users", "guests"):
        router.get(f"/{kind.path}-list")(list_all)
    router.get(f"/{kind.path}/{{key}}")(get)
    router.put(f"/{kind.path}/{{key}}")(update)


for _kind in (_USERS, _GUESTS, _GROUPS, _TAGS, _FOLDERS):
    _add_routes(_kind)


@router.post("/users/invite")
async def invite_user(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Invite a member; to invite again is no error."""
    _need_admin(caller)
    email = _email(given)
    known = next((user for user in store.members.values() if user.email == email), None)
    user = known or Writable(User, ("first_name", "last_name"), required=("first_name", "last_name")).create(
        given, id=max(store.members) + 1, email=email, role=_role(given.get("role", Role.LIGHT))
    )
    return _USERS.response(store, _USERS.save(store, user.id, user), 201)


@router.put("/users/{key}/role")
async def change_role(store: SandboxStore, caller: Member, key: str, given: Given) -> JSONResponse:
    """Change a member's role."""
    _need_admin(caller)
    user = replace(_USERS.find(store, key), role=_role(given.get("role")))
    return _USERS.response(store, _USERS.save(store, user.id, user))


@router.put("/users/{key}/approve")
@router.put("/users/{key}/enable")
async def enable_user(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Let a member in again."""
    _need_admin(caller)
    user = replace(_USERS.find(store, key), disabled_at=None)
    return _USERS.response(store, _USERS.save(store, user.id, user))


@router.delete("/users/{key}")
@router.delete("/users/{key}/disable")
async def disable_user(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Disable a member, whose tokens are then refused."""
    _need_admin(caller)
    return _USERS.response(store, _disable(store, _USERS.find(store, key)))


@router.put("/users/{key}/to/guest")
async def convert_to_guest(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Disable a member, and make them a guest; their open tasks stay theirs."""
    _need_admin(caller)
    user = _disable(store, _USERS.find(store, key))
    guest = Guest(store.new_increment(), user.email, store.now(), user.first_name, user.last_name)
    return _GUESTS.response(store, _GUESTS.save(store, guest.email, guest))


@router.post("/users/{key}/add-watcher")
async def add_watcher(store: SandboxStore, caller: Member, key: str, given: Given) -> JSONResponse:
    """Subscribe a member to what happens, by webhook or by mail; the organization's webhooks need an admin."""
    watcher = Writable(
        Watcher,
        ("object_type", "object_id", "notification_type", "webhook"),
        required=("object_type", "object_id", "notification_type"),
    ).create(given, id=store.new_increment(), user_id=_USERS.find(store, key).id)
    if watcher.notification_type == "webhook":
        _need_admin(caller)
        if not watcher.webhook:
            raise invalid({"webhook": ["The webhook field is required."]})
    store.watchers[watcher.id] = watcher
    return answer(_watcher(watcher), 201)


@router.get("/watchers")
async def list_watchers(store: SandboxStore, caller: Member, notification: str | None = None) -> JSONResponse:
    """List the subscriptions."""
    found = store.watchers.values()
    return answer([_watcher(each) for each in found if notification in (None, each.notification_type)])


@router.delete("/remove-watcher/{watcher_id}")
async def remove_watcher(store: SandboxStore, caller: Member, watcher_id: int) -> Response:
    """End a subscription."""
    if store.watchers.pop(watcher_id, None) is None:
        raise not_found()
    return Response(status_code=204)


@router.post("/guests")
async def invite_guest(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Invite a guest; an invitation sends mail, so there is an hourly cap."""
    email = _email(given)
    if any(user.email.casefold() == email and not user.disabled_at for user in store.members.values()):
        raise invalid({"email": ["The email belongs to a member of the organization."]})
    store.spend(HourlyCap.GUEST_INVITE)
    guest = store.guests.get(email) or _NEW_GUEST.create(
        given, id=store.new_increment(), email=email, created_at=store.now()
    )
    return _GUESTS.response(store, _GUESTS.save(store, email, guest), 201)


@router.put("/guests/{key}/enable")
async def enable_guest(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Let a guest in again."""
    guest = replace(_GUESTS.find(store, key), disabled_at=None)
    return _GUESTS.response(store, _GUESTS.save(store, guest.email, guest))


@router.delete("/guests/{key}/disable")
async def disable_guest(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Lock a guest out."""
    guest = replace(_GUESTS.find(store, key), disabled_at=store.now())
    return _GUESTS.response(store, _GUESTS.save(store, guest.email, guest))


@router.delete("/guests/{key}")
async def delete_guest(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Delete a guest, and take them off all tasks."""
    guest = _GUESTS.find(store, key)
    del store.guests[guest.email]
    for task in store.tasks.values():
        if guest.email in task.owners.guests:
            left = tuple(each for each in task.owners.guests if each != guest.email)
            task.owners = replace(task.owners, guests=left)
            store.changed(task)
    return _GUESTS.response(store, guest)


@router.post("/guests/{key}/to/member")
async def convert_to_member(store: SandboxStore, caller: Member, key: str) -> JSONResponse:
    """Make a guest a light member."""
    _need_admin(caller)
    guest = _GUESTS.find(store, key)
    del store.guests[guest.email]
    user = User(
        max(store.members) + 1, guest.email, guest.first_name or "", guest.last_name or "", Role.LIGHT
    )
    return _USERS.response(store, _USERS.save(store, user.id, user))


@router.post("/groups")
async def create_group(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Create a group."""
    group = _GROUPS.writable.create(given, id=store.new_id(), created_at=store.now())
    return _GROUPS.response(store, _GROUPS.save(store, group.id, group), 201)


@router.delete("/groups/{key}")
async def delete_group(store: SandboxStore, caller: Member, key: str) -> Response:
    """Delete a group for good; its people stay."""
    del store.groups[_GROUPS.find(store, key).id]
    store.changed()
    return Response(status_code=204)


@router.post("/tags")
async def create_tag(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Create a tag."""
    tag = _TAGS.writable.create({"color": "#3498db", **given}, id=store.new_id(), created_at=store.now())
    return _TAGS.response(store, _TAGS.save(store, tag.id, tag), 201)


@router.delete("/tags/{key}")
async def delete_tag(store: SandboxStore, caller: Member, key: str) -> Response:
    """Delete a tag wherever it is; a tag that is not there is no error."""
    for template in store.checklists.values():
        store.checklists[template.id] = replace(template, tags=_without(key, template.tags))
    items: tuple[Run | Task, ...] = (*store.runs.values(), *store.tasks.values())
    for item in items:
        if key in item.tags:
            item.tags = _without(key, item.tags)
            store.changed(item)
    store.tags.pop(key, None)
    store.changed()
    return Response(status_code=204)


@router.post("/folders")
async def create_folder(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Create a folder, of templates unless ``folder_type`` is ``run``; the type cannot be changed."""
    folder = _FOLDERS.writable.create(
        given,
        id=store.new_id(),
        folder_type="run" if given.get("folder_type") == "run" else "checklist",
        position=len(store.folders) + 1,
    )
    return _FOLDERS.response(store, _FOLDERS.save(store, folder.id, folder), 201)


@router.delete("/folders/{key}")
async def delete_folder(store: SandboxStore, caller: Member, key: str) -> Response:
    """Delete a folder; what is in it stays."""
    del store.folders[_FOLDERS.find(store, key).id]
    for folder in store.folders.values():
        if folder.parent_id == key:
            store.folders[folder.id] = replace(folder, parent_id=None)
    for template in store.checklists.values():
        if template.folder_id == key:
            store.checklists[template.id] = replace(template, folder_id=None)
    for run in store.runs.values():
        if key in run.folders:
            run.folders = _without(key, run.folders)
            store.changed(run)
    store.changed()
    return Response(status_code=204)


@router.post("/folders/add-object")
async def add_to_folder(store: SandboxStore, caller: Member, given: Given) -> JSONResponse:
    """Put a process into a folder of processes; a template has a ``folder_id`` instead."""
    if given.get("subject_type") != "Run":
        raise invalid({"subject_type": ["The selected subject type is invalid."]})
    run = store.run(str(given.get("subject_id")), caller)
    folder = store.folders.get(str(given.get("folder_id")))
    if folder is None or folder.folder_type != "run":
        raise invalid({"folder_id": ["The selected folder id is invalid."]})
    run.folders = (*_without(folder.id, run.folders), folder.id)
    store.changed(run)
    link = store.links.number("Run", run.id, folder.id)
    return answer({"id": link, "folder_id": folder.id, "subject_id": run.id, "subject_type": "Run"}, 201)


@router.delete("/folders-objects/{link}")
async def remove_from_folder(store: SandboxStore, caller: Member, link: int) -> Response:
    """Take a process out of a folder."""
    _, run_id, folder_id = store.links.find(link)
    run = store.run(run_id, caller)
    run.folders = _without(folder_id, run.folders)
    store.changed(run)
    return Response(status_code=204)


def _email(given: dict[str, Any]) -> str:
    email = str(given.get("email") or "").strip().casefold()
    name, _, domain = email.partition("@")
    if not name or "." not in domain or " " in email:
        raise invalid({"email": ["The email must be a valid email address."]})
    return email


def _role(role: Any) -> Role:
    for known in Role:
        if str(role).casefold() == known.casefold():
            return known
    raise invalid({"role": ["The selected role is invalid."]})


def _disable(store: Store, user: User) -> User:
    if user.id == min(store.members):
        raise RefusedError(
            400,
            "Cannot modify the default administrator. "
            "Please assign another member as default administrator first.",
        )
    changed: User = _USERS.save(store, user.id, replace(user, disabled_at=store.now()))
    return changed


def _need_admin(caller: Caller) -> None:
    if caller.member.role is not Role.ADMIN:
        raise RefusedError(403, "You don't have permission to perform this action.")


def _without(key: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in keys if each != key)


def _watcher(item: Watcher) -> dict[str, Any]:
    return {
        "id": item.id,
        "user_id": item.user_id,
        "object_type": item.object_type,
        "object_id": item.object_id,
        "notification_type": item.notification_type,
        "webhook": item.webhook,
    }
