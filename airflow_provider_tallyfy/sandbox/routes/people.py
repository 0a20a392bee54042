"""Users, guests, groups, tags and folders: one set of handlers for all of them, and what is special to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from fastapi import Response

from airflow_provider_tallyfy.sandbox import listing, serializers
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Folder, Group, Guest, Owners, Role, Run, Tag, Task, Watcher
from airflow_provider_tallyfy.sandbox.model import Member as User
from airflow_provider_tallyfy.sandbox.routes.dependencies import (
    ADMIN,
    NO_CONTENT,
    Given,
    Member,
    SandboxStore,
    need_admin,
    organization_router,
)
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store, associated, association_id
from airflow_provider_tallyfy.sandbox.writes import Writable

router = organization_router()


@dataclass(frozen=True)
class _Kind:
    """One kind of item.

    :param items: where the store keeps them, by ``key`` of the path and ``key_of`` the item.
    :param writable: what a client can write of one.
    :param show: makes an item's JSON.
    :param name: what ``q`` searches.
    :param new: returns the values of a new item that the client does not set.
    :param check: returns what is wrong with an item, by field.
    """

    path: str
    items: Callable[[Store], dict[Any, Any]]
    writable: Writable[Any]
    show: Callable[[Store, Any], JSON]
    name: Callable[[Any], str]
    new: Callable[[Store, JSON], JSON] = lambda store, given: {
        "id": store.new_id(),
        "created_at": store.now(),
    }
    check: Callable[[Store, Any], dict[str, list[str]]] = lambda store, item: {}
    key: Callable[[str], Any] = str
    key_of: Callable[[Any], Any] = lambda item: item.id

    def find(self, store: Store, key: str) -> Any:
        """Return an item by its id, a guest by the email address, or raise 404."""
        try:
            return self.items(store)[self.key(key)]
        except (KeyError, ValueError):
            raise not_found() from None

    def save(self, store: Store, item: Any) -> JSON:
        """Keep a new or changed item and show it, or raise 422."""
        if errors := self.check(store, item):
            raise invalid(errors)
        self.items(store)[self.key_of(item)] = item
        store.changed()
        return self.show(store, item)


def _check_group(store: Store, item: Group) -> dict[str, list[str]]:
    errors = store.check_owners(Owners(users=item.members, guests=item.guests))
    return {name.replace("owners.users", "members").replace("owners.", ""): errors[name] for name in errors}


def _check_tag(store: Store, item: Tag) -> dict[str, list[str]]:
    if len(item.title) > 30:
        return {"title": ["The title may not be greater than 30 characters."]}
    if any(each.title == item.title and each.id != item.id for each in store.tags.values()):
        return {"title": ["The title has already been taken."]}
    return {}


def _new_folder(store: Store, given: JSON) -> JSON:
    # Anything but "run" is a folder of templates, and that cannot be changed: tallyfy/mcp-public, from the source.
    folder_type = "run" if given.get("folder_type") == "run" else "checklist"
    return {"id": store.new_id(), "folder_type": folder_type, "position": len(store.folders) + 1}


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
        required=("first_name", "last_name"),
        required_on_update=("first_name", "last_name", "timezone"),
    ),
    serializers.member,
    lambda user: f"{user.full_name} {user.email}",
    key=int,
)
_GUESTS = _Kind(
    "guests",
    lambda store: store.guests,
    # An update changes nothing but this, whatever else is sent: Tallyfy's documentation.
    Writable(Guest, ("associated_members",)),
    lambda store, guest: serializers.guest(guest),
    lambda guest: guest.email,
    key=str.casefold,
    key_of=lambda guest: guest.email,
)
_GROUPS = _Kind(
    "groups",
    lambda store: store.groups,
    Writable(Group, ("name", "description", "members", "guests"), required=("name", "description")),
    lambda store, group: serializers.group(group),
    lambda group: group.name,
    check=_check_group,
)
_TAGS = _Kind(
    "tags",
    lambda store: store.tags,
    Writable(Tag, ("title", "color"), required=("title",)),
    serializers.tag,
    lambda tag: tag.title,
    lambda store, given: {"id": store.new_id(), "created_at": store.now(), "color": "#3498db"},
    _check_tag,
)
_FOLDERS = _Kind(
    "folders",
    lambda store: store.folders,
    Writable(Folder, ("name", "parent_id"), required=("name",), required_on_update=("name",)),
    serializers.folder,
    lambda folder: folder.name,
    _new_folder,
    _check_folder,
)
_NEW_GUEST = Writable(
    Guest,
    ("first_name", "last_name"),
    (
        *("company_name", "company_url", "contact_url", "image_url", "opportunity_url", "opportunity_name"),
        *("phone_1", "phone_2", "timezone"),
    ),
    required=("email",),
)


def _add_routes(kind: _Kind) -> None:
    path = f"/{kind.path}"
    # Only an admin changes members.
    guarded = ADMIN if kind is _USERS else []

    async def list_items(store: SandboxStore, query: listing.Pages) -> Response:
        text, folder_type = (query.q or "").casefold(), query.given("folder_type")
        found = [
            item
            for item in kind.items(store).values()
            if text in kind.name(item).casefold()
            and folder_type in (None, getattr(item, "folder_type", folder_type))
        ]
        return query.answer(found, lambda item: kind.show(store, item))

    async def list_all(store: SandboxStore) -> list[JSON]:
        return [kind.show(store, item) for item in kind.items(store).values()]

    async def create(store: SandboxStore, given: Given) -> JSON:
        return kind.save(store, kind.writable.create(given, **kind.new(store, given)))

    async def get(store: SandboxStore, key: str) -> JSON:
        return kind.show(store, kind.find(store, key))

    async def update(store: SandboxStore, key: str, given: Given) -> JSON:
        return kind.save(store, kind.writable.update(kind.find(store, key), given))

    async def enable(store: SandboxStore, key: str) -> JSON:
        return kind.save(store, replace(kind.find(store, key), disabled_at=None))

    async def disable(store: SandboxStore, key: str) -> JSON:
        return _disable(store, kind, key)

    async def delete(store: SandboxStore, key: str) -> Any:
        # A tag that is not there is no error: Tallyfy's documentation.
        item = None if kind is _TAGS and key not in store.tags else kind.find(store, key)
        kind.items(store).pop(kind.key(key), None)
        _forget(store, kind.key(key))
        return kind.show(store, item) if kind is _GUESTS else Response(status_code=204)

    if kind is _USERS:
        router.put(f"{path}/{{key}}/approve", dependencies=guarded)(enable)
    if kind in (_USERS, _GUESTS):
        router.get(f"{path}-list")(list_all)
        router.put(f"{path}/{{key}}/enable", dependencies=guarded)(enable)
        router.delete(f"{path}/{{key}}/disable", dependencies=guarded)(disable)
    else:
        router.post(path, status_code=201)(create)
    router.get(path)(list_items)
    router.get(f"{path}/{{key}}")(get)
    router.put(f"{path}/{{key}}", dependencies=guarded)(update)
    router.delete(f"{path}/{{key}}", dependencies=guarded)(disable if kind is _USERS else delete)


@router.post("/users/invite", status_code=201)
async def invite_user(store: SandboxStore, caller: Member, given: Given) -> JSON:
    """Invite a member; to invite again is no error. Only an admin invites admins."""
    email, role = _email(given), _role(given.get("role", "Light"))
    if role == "Admin":
        await need_admin(caller)
    known = next((user for user in store.members.values() if user.email == email), None)
    new = {"id": max(store.members) + 1, "email": email, "role": role}
    return _USERS.save(store, known or _USERS.writable.create(given, **new))


@router.put("/users/{key}/role", dependencies=ADMIN)
async def change_role(store: SandboxStore, key: str, given: Given) -> JSON:
    """Change a member's role."""
    return _USERS.save(store, replace(_USERS.find(store, key), role=_role(given.get("role"))))


@router.put("/users/{key}/to/guest", dependencies=ADMIN)
async def convert_to_guest(store: SandboxStore, key: str) -> JSON:
    """Disable a member, and make them a guest; their open tasks stay theirs."""
    user = _USERS.find(store, key)
    _disable(store, _USERS, key)
    guest = Guest(store.new_increment(), user.email, store.now(), user.first_name, user.last_name)
    return _GUESTS.save(store, guest)


@router.post("/users/{key}/add-watcher", status_code=201)
async def add_watcher(store: SandboxStore, caller: Member, key: str, given: Given) -> JSON:
    """Subscribe a member to what happens, by webhook or by mail; webhooks need an admin."""
    names = ("object_type", "object_id", "notification_type")
    writable = Writable(Watcher, (*names, "webhook"), required=names)
    watcher = writable.create(given, id=store.new_increment(), user_id=_USERS.find(store, key).id)
    if watcher.notification_type == "webhook":
        await need_admin(caller)
        if not watcher.webhook:
            raise invalid({"webhook": ["The webhook field is required."]})
    store.watchers[watcher.id] = watcher
    return asdict(watcher)


@router.get("/watchers")
async def list_watchers(store: SandboxStore, notification: str | None = None) -> list[JSON]:
    """List the subscriptions."""
    watchers = store.watchers.values()
    return [asdict(each) for each in watchers if notification in (None, each.notification_type)]


@router.delete("/remove-watcher/{watcher_id}", **NO_CONTENT)
async def remove_watcher(store: SandboxStore, watcher_id: int) -> None:
    """End a subscription."""
    if store.watchers.pop(watcher_id, None) is None:
        raise not_found()


@router.post("/guests", status_code=201)
async def invite_guest(store: SandboxStore, given: Given) -> JSON:
    """Invite a guest; an invitation sends mail, so there is an hourly cap."""
    email = _email(given)
    if any(user.email.casefold() == email and not user.disabled_at for user in store.members.values()):
        raise invalid({"email": ["The email belongs to a member of the organization."]})
    store.spend("Guest Invite")
    new = {"id": store.new_increment(), "email": email, "created_at": store.now()}
    return _GUESTS.save(store, store.guests.get(email) or _NEW_GUEST.create(given, **new))


@router.post("/guests/{key}/to/member", dependencies=ADMIN)
async def convert_to_member(store: SandboxStore, key: str) -> JSON:
    """Make a guest a light member."""
    guest = _GUESTS.find(store, key)
    del store.guests[guest.email]
    names = (guest.first_name or "", guest.last_name or "")
    return _USERS.save(store, User(max(store.members) + 1, guest.email, *names, "Light"))


@router.post("/folders/add-object", status_code=201)
async def add_to_folder(store: SandboxStore, caller: Member, given: Given) -> JSON:
    """Put a process into a folder of processes; a template has a ``folder_id`` instead."""
    if given.get("subject_type") != "Run":
        raise invalid({"subject_type": ["The selected subject type is invalid."]})
    run = store.run(str(given.get("subject_id")), caller)
    folder = store.folders.get(str(given.get("folder_id")))
    if folder is None or folder.folder_type != "run":
        raise invalid({"folder_id": ["The selected folder id is invalid."]})
    run.folders = (*_without(folder.id, run.folders), folder.id)
    store.changed(run)
    number = association_id(run.id, folder.id)
    return {"id": number, "folder_id": folder.id, "subject_id": run.id, "subject_type": "Run"}


@router.delete("/folders-objects/{number}", **NO_CONTENT)
async def remove_from_folder(store: SandboxStore, number: int) -> None:
    """Take a process out of a folder, by the id of their association."""
    run, folder_id = associated(((run, each) for run in store.runs.values() for each in run.folders), number)
    run.folders = _without(folder_id, run.folders)
    store.changed(run)


# After the paths with a word where these have an id.
for _kind in (_USERS, _GUESTS, _GROUPS, _TAGS, _FOLDERS):
    _add_routes(_kind)


def _forget(store: Store, key: str) -> None:
    """Take what was deleted from everything that has it."""
    for folder in tuple(store.folders.values()):
        if folder.parent_id == key:
            store.folders[folder.id] = replace(folder, parent_id=None)
    for each in tuple(store.checklists.values()):
        folder_id = None if each.folder_id == key else each.folder_id
        store.checklists[each.id] = replace(each, tags=_without(key, each.tags), folder_id=folder_id)
    items: tuple[Run | Task, ...] = (*store.runs.values(), *store.tasks.values())
    for item in items:
        if isinstance(item, Run):
            new: JSON = {"folders": _without(key, item.folders), "groups": _without(key, item.groups)}
        else:
            owners = item.owners
            guests, groups = _without(key, owners.guests), _without(key, owners.groups)
            new = {"owners": Owners(owners.users, guests, groups)}
        new["tags"] = _without(key, item.tags)
        if any(getattr(item, name) != value for name, value in new.items()):
            for name, value in new.items():
                setattr(item, name, value)
            store.changed(item)
    store.changed()


def _without(key: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in keys if each != key)


def _email(given: JSON) -> str:
    email = str(given.get("email") or "").strip().casefold()
    name, _, domain = email.partition("@")
    if not name or "." not in domain or " " in email:
        raise invalid({"email": ["The email must be a valid email address."]})
    return email


def _role(role: Any) -> Role:
    for known in get_args(Role):
        if str(role).casefold() == known.casefold():
            found: Role = known
            return found
    raise invalid({"role": ["The selected role is invalid."]})


def _disable(store: Store, kind: _Kind, key: str) -> JSON:
    item = kind.find(store, key)
    if kind is _USERS and item.id == min(store.members):
        raise RefusedError(
            400,
            "Cannot modify the default administrator. "
            "Please assign another member as default administrator first.",
        )
    return kind.save(store, replace(item, disabled_at=store.now()))
