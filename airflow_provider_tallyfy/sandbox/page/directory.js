/** The members and groups of the organization, by id and by name. */

import { list } from "./api.js";

export class Directory {
  constructor(users = [], groups = []) {
    this.users = new Map(users.map((user) => [user.id, user]));
    this.groups = new Map(groups.map((group) => [group.id, group]));
  }

  static async load() {
    const [users, groups] = await Promise.all([list("users"), list("groups")]);
    return new Directory(users.items, groups.items);
  }

  /** The name of a member. */
  name(userId) {
    return this.users.get(userId)?.full_name ?? `user ${userId}`;
  }

  /** The assignees of a form field as text that `find` understands. */
  named(assignees) {
    const { users = [], guests = [], groups = [] } = assignees ?? {};
    return [
      ...users.map((id) => this.users.get(Number(id))?.full_name ?? String(id)),
      ...guests,
      ...groups.map((id) => this.groups.get(id)?.name ?? id),
    ].join(", ");
  }

  /** The assignees that were typed; an email address that is no member's is a guest. */
  find(typed) {
    const found = { users: [], guests: [], groups: [] };
    for (const text of typed) {
      const wanted = text.toLowerCase();
      const user = [...this.users.values()].find(
        (each) =>
          [each.full_name, each.email].some((name) => name?.toLowerCase() === wanted) || String(each.id) === text,
      );
      const group = [...this.groups.values()].find((each) => each.name.toLowerCase() === wanted || each.id === text);
      if (user !== undefined) found.users.push(user.id);
      else if (group !== undefined) found.groups.push(group.id);
      else if (text.includes("@")) found.guests.push(text);
      else throw new Error(`No member and no group is called “${text}”. A guest is written as an email address.`);
    }
    return found;
  }
}
