"""Users, guests, groups, tags and folders: one set of handlers for all of them, and what is special to each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from fastapi import Response

from airflow_provider_tallyfy.sandbox import listing, model, serializers
from airflow_provider_tallyfy.sandbox.dependencies import (
    ADMIN,
    NO_CONTENT,
    Caller,
    Given,
    SandboxStore,
    need_admin,
    organization_router,
)
from airflow_provider_tallyfy.sandbox.errors import RefusedError, invalid, not_found
from airflow_provider_tallyfy.sandbox.serializers import JSON
from airflow_provider_tallyfy.sandbox.store import Store, associated, association_id
from airflow_provider_tallyfy.sandbox.writes import Writable

router = organization_router()


@dataclass(frozen=True)
class _Kind:
    """One kind of item.

    :param path: where the API has it.
    :param writable: what a client can write of one.
    :param show: makes an item's JSON.
    :param searched: the attributes that ``q`` searches, with spaces between them.
    """

    path: str
    writable: Writable[Any]
    show: Callable[[Store, Any], JSON]
    searched: str

    def items(self, store: Store) -> dict[Any, Any]:
        """Return all items by their ids, guests by the email address."""
        items: dict[Any, Any] = getattr(store, "members" if self is _USERS else self.path)
        return items

    def key(self, item: Any) -> Any:
        """Return the key of an item."""
        return item.email if self is _GUESTS else item.id

    def find(self, store: Store, key: str) -> Any:
        """Return an item by its key in the path, or raise 404."""
        for known, item in self.items(store).items():
            if str(known) == key.casefold():
                return item
        raise not_found()

    def save(self, store: Store, item: Any) -> JSON:
        """Keep a new or changed item and show it, or raise 422."""
        _check(store, item)
        self.items(store)[self.key(item)] = item
        store.changed()
        return self.show(store, item)


_USERS = _Kind(
    "users",
    Writable(
        model.Member,
        "first_name last_name job_title",
        "timezone phone team date_format",
        required="first_name last_name",
        required_on_update="first_name last_name timezone",
    ),
    serializers.member,
    "full_name email",
)
# An update of a guest changes nothing but this, whatever else is sent: Tallyfy's documentation.
_GUESTS = _Kind("guests", Writable(model.Guest, "associated_members"), serializers.guest, "email")
_NEW_GUEST = Writable(
    model.Guest,
    "first_name last_name",
    "company_name company_url contact_url image_url opportunity_url opportunity_name phone_1 phone_2 timezone",
    required="email",
)
_GROUP = Writable(
    model.Group, "name description members guests", required="name description", required_on_update=""
)
_GROUPS = _Kind("groups", _GROUP, serializers.group, "name")
_TAG = Writable(model.Tag, "title color", required="title", required_on_update="")
_TAGS = _Kind("tags", _TAG, serializers.tag, "title")
_FOLDER = Writable(model.Folder, "name parent_id", required="name")
_FOLDERS = _Kind("folders", _FOLDER, serializers.folder, "name")
_WATCHER = Writable(
    model.Watcher,
    "object_type object_id notification_type webhook",
    required="object_type object_id notification_type",
)


def _check(store: Store, item: Any) -> None:
    """Raise 422 if something is wrong with an item."""
    match item:
        case model.Group():
            store.check_owners(model.Owners(users=item.members, guests=item.guests), "", users="members")
        case model.Tag():
            if len(item.title) > 30:
                raise invalid({"title": ["The title may not be greater than 30 characters."]})
            if any(each.title == item.title and each.id != item.id for each in store.tags.values()):
                raise invalid({"title": ["The title has already been taken."]})
        case model.Folder(parent_id=str(parent_id)):
            parent = store.folders.get(parent_id)
            is_valid = parent is not None and parent.folder_type == item.folder_type
            while parent is not None:
                is_valid = is_valid and parent.id != item.id
                parent = store.folders.get(parent.parent_id or "")
            if not is_valid:
                raise invalid({"parent_id": ["The selected parent id is invalid."]})


def _new(store: Store, kind: _Kind, given: JSON) -> JSON:
    """Return the values of a new item that the client does not set."""
    if kind is not _FOLDERS:
        return {"id": store.new_id(), "created_at": store.now()}
    # Anything but "run" is a folder of templates, and that cannot be changed: tallyfy/mcp-public, from the source.
    folder_type = "run" if given.get("folder_type") == "run" else "checklist"
    return {"id": store.new_id(), "folder_type": folder_type, "position": len(store.folders) + 1}


def _add_routes(kind: _Kind) -> None:
    path = f"/{kind.path}"
    # Only an admin changes members.
    guarded = ADMIN if kind is _USERS else []

    async def list_items(store: SandboxStore, query: listing.Pages) -> Response:
        text, folder_type = (query.q or "").casefold(), query.given("folder_type")
        found = list(kind.items(store).values())
        if folder_type is not None and kind is _FOLDERS:
            found = [folder for folder in found if folder.folder_type == folder_type]
        names = kind.searched.split()
        found = [item for item in found if any(text in getattr(item, name).casefold() for name in names)]
        return query.answer(found, lambda item: kind.show(store, item))

    async def list_all(store: SandboxStore) -> list[JSON]:
        return [kind.show(store, item) for item in kind.items(store).values()]

    async def create(store: SandboxStore, given: Given) -> JSON:
        return kind.save(store, kind.writable.create(given, **_new(store, kind, given)))

    async def get(store: SandboxStore, key: str) -> JSON:
        return kind.show(store, kind.find(store, key))

    async def update(store: SandboxStore, key: str, given: Given) -> JSON:
        return kind.save(store, kind.writable.update(kind.find(store, key), given))

    async def enable(store: SandboxStore, key: str) -> JSON:
        return kind.save(store, replace(kind.find(store, key), disabled_at=None))

    async def disable(store: SandboxStore, key: str) -> JSON:
        return _disable(store, kind, key)

    async def delete(store: SandboxStore, key: str) -> Any:
        if kind is _TAGS and key not in store.tags:
            return Response(status_code=204)  # No error: Tallyfy's documentation.
        item = kind.find(store, key)
        del kind.items(store)[kind.key(item)]
        _forget(store, kind.key(item))
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
async def invite_user(store: SandboxStore, caller: Caller, given: Given) -> JSON:
    """Invite a member; to invite again is no error. Only an admin invites admins."""
    email, role = _email(given), _role(given.get("role", "Light"))
    if role == "Admin":
        await need_admin(caller)
    known = next((user for user in store.members.values() if user.email == email), None)
    new = {"id": max(store.members) + 1, "email": email, "role": role}
    return _USERS.save(store, known or _USERS.writable.create(given, **new))


@router.put("/users/{key}/role", dependencies=ADMIN)
async def change_role(store: SandboxStore, key: str, given: Given) -> JSON:
    return _USERS.save(store, replace(_USERS.find(store, key), role=_role(given.get("role"))))


@router.put("/users/{key}/to/guest", dependencies=ADMIN)
async def convert_to_guest(store: SandboxStore, key: str) -> JSON:
    """Disable a member, and make them a guest; their open tasks stay theirs."""
    user = _USERS.find(store, key)
    _disable(store, _USERS, key)
    guest = model.Guest(store.new_increment(), user.email, store.now(), user.first_name, user.last_name)
    return _GUESTS.save(store, guest)


@router.post("/users/{key}/add-watcher", status_code=201)
async def add_watcher(store: SandboxStore, caller: Caller, key: str, given: Given) -> JSON:
    """Subscribe a member to what happens, by webhook or by mail; webhooks need an admin."""
    user = _USERS.find(store, key)
    watcher = _WATCHER.create(given, id=store.new_increment(), user_id=user.id)
    if watcher.notification_type == "webhook":
        await need_admin(caller)
        if not watcher.webhook:
            raise invalid({"webhook": ["The webhook field is required."]})
    store.watchers[watcher.id] = watcher
    return asdict(watcher)


@router.get("/watchers")
async def list_watchers(store: SandboxStore, notification: str | None = None) -> list[JSON]:
    watchers = store.watchers.values()
    return [asdict(each) for each in watchers if notification in (None, each.notification_type)]


@router.delete("/remove-watcher/{watcher_id}", **NO_CONTENT)
async def remove_watcher(store: SandboxStore, watcher_id: int) -> None:
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
    guest = _GUESTS.find(store, key)
    del store.guests[guest.email]
    names = (guest.first_name or "", guest.last_name or "")
    return _USERS.save(store, model.Member(max(store.members) + 1, guest.email, *names, "Light"))


@router.post("/folders/add-object", status_code=201)
async def add_to_folder(store: SandboxStore, caller: Caller, given: Given) -> JSON:
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
    for group in tuple(store.groups.values()):
        store.groups[group.id] = replace(group, guests=_without(key, group.guests))
    for each in tuple(store.checklists.values()):
        store.checklists[each.id] = replace(
            each,
            tags=_without(key, each.tags),
            groups=_without(key, each.groups),
            folder_id=None if each.folder_id == key else each.folder_id,
            steps=[replace(step, owners=_without_owner(key, step.owners)) for step in each.steps],
        )
    items: tuple[model.Run | model.Task, ...] = (*store.runs.values(), *store.tasks.values())
    for item in items:
        new: JSON = {"tags": _without(key, item.tags)}
        if isinstance(item, model.Run):
            new |= {"folders": _without(key, item.folders), "groups": _without(key, item.groups)}
        else:
            new["owners"] = _without_owner(key, item.owners)
        if any(getattr(item, name) != value for name, value in new.items()):
            for name, value in new.items():
                setattr(item, name, value)
            store.changed(item)
    store.changed()


def _without(key: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(each for each in keys if each != key)


def _without_owner(key: str, owners: model.Owners) -> model.Owners:
    return replace(owners, guests=_without(key, owners.guests), groups=_without(key, owners.groups))


def _email(given: JSON) -> str:
    email = str(given.get("email") or "").strip().casefold()
    name, _, domain = email.partition("@")
    if not name or "." not in domain or " " in email:
        raise invalid({"email": ["The email must be a valid email address."]})
    return email


def _role(role: Any) -> Any:
    for known in get_args(model.Role):
        if str(role).casefold() == known.casefold():
            return known
    raise invalid({"role": ["The selected role is invalid."]})


def _disable(store: Store, kind: _Kind, key: str) -> JSON:
    item = kind.find(store, key)
    if kind is _USERS and item.id == min(store.members):
        advice = "Please assign another member as default administrator first."
        raise RefusedError(400, f"Cannot modify the default administrator. {advice}")
    return kind.save(store, replace(item, disabled_at=store.now()))
