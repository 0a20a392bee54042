/** Requests to the sandbox's API, with the documented paths and headers, and errors that say what is wrong. */

/** A request that the server refused, with the reason that it gave. */
export class Refusal extends Error {
  constructor(status, message, errors = {}) {
    super(message);
    this.status = status;
    this.errors = errors;
  }
}

/** A request without an answer. */
export class Unreachable extends Error {}

const MAX_PER_PAGE = 100;
let session = null;

/** Fetch how to call the API; that may differ after a restart. */
export async function openSession() {
  session = await request("/_page/session");
  return session;
}

/** Call an endpoint of the organization, or with a leading slash of the API, and return the parsed body. */
export async function call(method, endpoint, { params = {}, body } = {}) {
  // %20 and not + for a space, as the API wants it.
  const query = Object.entries(params)
    .filter(([, value]) => value !== undefined && value !== "")
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  const headers = {
    Authorization: `Bearer ${session.token}`,
    Accept: "application/json",
    "X-Tallyfy-Client": "SandboxPage",
  };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const path = endpoint.startsWith("/") ? endpoint : `/organizations/${session.organization}/${endpoint}`;
  return request(`/api${path}?${query.join("&")}`, { method, headers, body: body && JSON.stringify(body) });
}

/** Get one thing. */
export async function get(endpoint, params) {
  return (await call("GET", endpoint, { params })).data;
}

/** Get the first `most` items of a list and say how many there are. */
export async function list(endpoint, params = {}, most = Infinity) {
  const perPage = Math.min(most, MAX_PER_PAGE);
  const items = [];
  for (let page = 1; ; page += 1) {
    const { data, meta } = await call("GET", endpoint, { params: { ...params, page, per_page: perPage } });
    items.push(...data);
    const { total, total_pages: pages } = meta.pagination;
    if (items.length >= most || page >= pages) return { items: items.slice(0, most), total };
  }
}

/** Take the next task of a run out of any of the documented shapes: a list in `data`, an object, or nothing. */
export function nextTask(run) {
  const found = run.next_task?.data ?? run.next_task;
  const first = Array.isArray(found) ? found[0] : found;
  return first?.id ? first : null;
}

async function request(url, options) {
  let response = null;
  let text = "";
  try {
    response = await fetch(url, { cache: "no-store", ...options });
    text = await response.text();
  } catch {
    throw new Unreachable("The sandbox does not answer.");
  }
  const isJson = response.headers.get("Content-Type")?.startsWith("application/json");
  const body = isJson ? JSON.parse(text) : null;
  if (response.ok) return body;
  const message = body?.message ?? `The sandbox answered ${response.status} ${response.statusText}.`;
  throw new Refusal(response.status, message, body?.errors);
}
