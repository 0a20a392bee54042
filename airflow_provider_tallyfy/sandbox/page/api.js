/** Speaking to the sandbox's API: the documented paths and headers, and refusals as errors that say what is wrong. */

/** What the server declined, in its own words. */
export class Refusal extends Error {
  constructor(status, message, errors = {}) {
    super(message);
    this.status = status;
    this.errors = errors;
  }
}

/** Nothing came back. */
export class Unreachable extends Error {}

const MOST_PER_PAGE = 100;
let session = null;

/** Ask the server how to call the API; after a restart it may have other answers. */
export async function openSession() {
  session = await answer(await send("/_page/session", { headers: { Accept: "application/json" } }));
  return session;
}

/** Call an endpoint of the organization, or with a leading slash of the API, and return the parsed body. */
export async function call(method, endpoint, { params = {}, body } = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== "");
  // %20 and not + for a space, as the API wants it.
  const query = given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&");
  const headers = {
    Authorization: `Bearer ${session.token}`,
    Accept: "application/json",
    "X-Tallyfy-Client": "SandboxPage",
  };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const path = endpoint.startsWith("/")
    ? endpoint
    : `/organizations/${encodeURIComponent(session.organization)}/${endpoint}`;
  const url = `/api${path}${query && `?${query}`}`;
  return answer(await send(url, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) }));
}

/** Get one thing. */
export async function get(endpoint, params) {
  return (await call("GET", endpoint, { params })).data;
}

/** Get the first `most` items of a list and say how many there are. */
export async function list(endpoint, params = {}, most = Infinity) {
  const perPage = Math.min(most, MOST_PER_PAGE);
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

async function send(url, options) {
  try {
    return await fetch(url, { cache: "no-store", ...options });
  } catch {
    throw new Unreachable("The sandbox does not answer.");
  }
}

async function answer(response) {
  const text = await response.text().catch(() => {
    throw new Unreachable("The sandbox broke off its answer.");
  });
  const body = parsed(text);
  if (response.ok) return body;
  const message = body?.message ?? `The sandbox answered ${response.status} ${response.statusText}.`;
  throw new Refusal(response.status, message, body?.errors);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
