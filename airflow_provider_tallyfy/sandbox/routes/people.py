"""Users, guests, groups, tags and folders."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from airflow_provider_tallyfy.sandbox import listing, schemas, serializers
from airflow_provider_tallyfy.sandbox.errors import invalid, not_found
from airflow_provider_tallyfy.sandbox.model import Guest
from airflow_provider_tallyfy.sandbox.routes.dependencies import Member, SandboxStore
from airflow_provider_tallyfy.sandbox.store import HourlyCap

router = APIRouter(prefix="/organizations/{organization}")


@router.get("/users")
async def list_users(
    request: Request, store: SandboxStore, caller: Member, query: listing.Pages
) -> JSONResponse:
    """List the members."""
    text = (query.q or "").casefold()
    found = [user for user in store.members.values() if text in f"{user.full_name} {user.email}".casefold()]
    return JSONResponse(listing.page(found, lambda user: serializers.member(store, user), query, request.url))


@router.get("/users-list")
async def list_all_users(store: SandboxStore, caller: Member) -> JSONResponse:
    """List the members on one page."""
    return JSONResponse({"data": [serializers.member(store, user) for user in store.members.values()]})


@router.get("/users/{user_id}")
async def get_user(store: SandboxStore, caller: Member, user_id: int) -> JSONResponse:
    """Show a member."""
    if user_id not in store.members:
        raise not_found()
    return JSONResponse({"data": serializers.member(store, store.members[user_id])})


@router.get("/guests")
async def list_guests(
    request: Request, store: SandboxStore, caller: Member, query: listing.Pages
) -> JSONResponse:
    """List the guests."""
    text = (query.q or "").casefold()
    found = [guest for guest in store.guests.values() if text in guest.email.casefold()]
    return JSONResponse(listing.page(found, serializers.guest, query, request.url))


@router.get("/guests-list")
async def list_all_guests(store: SandboxStore, caller: Member) -> JSONResponse:
    """List the guests on one page."""
    return JSONResponse({"data": [serializers.guest(guest) for guest in store.guests.values()]})


@router.post("/guests")
async def invite_guest(store: SandboxStore, caller: Member, body: schemas.InviteGuest) -> JSONResponse:
    """Invite a guest; an invitation sends mail, so there is an hourly cap."""
    email = body.email.casefold()
    if any(user.email.casefold() == email for user in store.members.values()):
        raise invalid({"email": ["The email belongs to a member of the organization."]})
    store.spend(HourlyCap.GUEST_INVITE)
    guest = store.guests.get(email)
    if guest is None:
        guest = Guest(
            id=store.new_increment(),
            email=email,
            created_at=store.now(),
            first_name=body.first_name,
            last_name=body.last_name,
            company_name=body.company_name,
            phone_1=body.phone_1,
        )
        store.guests[email] = guest
        store.changed()
    return JSONResponse({"data": serializers.guest(guest)}, status_code=201)


@router.get("/guests/{email}")
async def get_guest(store: SandboxStore, caller: Member, email: str) -> JSONResponse:
    """Show a guest."""
    if email.casefold() not in store.guests:
        raise not_found()
    return JSONResponse({"data": serializers.guest(store.guests[email.casefold()])})


@router.get("/groups")
async def list_groups(
    request: Request, store: SandboxStore, caller: Member, query: listing.Pages
) -> JSONResponse:
    """List the groups."""
    text = (query.q or "").casefold()
    found = [group for group in store.groups.values() if text in group.name.casefold()]
    return JSONResponse(listing.page(found, serializers.group, query, request.url))


@router.get("/groups/{group_id}")
async def get_group(store: SandboxStore, caller: Member, group_id: str) -> JSONResponse:
    """Show a group."""
    if group_id not in store.groups:
        raise not_found()
    return JSONResponse({"data": serializers.group(store.groups[group_id])})


@router.get("/tags")
async def list_tags(
    request: Request, store: SandboxStore, caller: Member, query: listing.Pages
) -> JSONResponse:
    """List the tags."""
    text = (query.q or "").casefold()
    found = [tag for tag in store.tags.values() if text in tag.title.casefold()]
    return JSONResponse(listing.page(found, lambda tag: serializers.tag(store, tag), query, request.url))


@router.get("/tags/{tag_id}")
async def get_tag(store: SandboxStore, caller: Member, tag_id: str) -> JSONResponse:
    """Show a tag."""
    if tag_id not in store.tags:
        raise not_found()
    return JSONResponse({"data": serializers.tag(store, store.tags[tag_id])})


@router.get("/folders")
async def list_folders(
    request: Request, store: SandboxStore, caller: Member, query: listing.Pages
) -> JSONResponse:
    """List the folders of templates or of runs."""
    found = listing.folders(store, query)
    return JSONResponse(
        listing.page(found, lambda folder: serializers.folder(store, folder), query, request.url)
    )


@router.get("/folders/{folder_id}")
async def get_folder(store: SandboxStore, caller: Member, folder_id: str) -> JSONResponse:
    """Show a folder."""
    if folder_id not in store.folders:
        raise not_found()
    return JSONResponse({"data": serializers.folder(store, store.folders[folder_id])})
