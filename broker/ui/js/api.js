// The HTTP API: one function that asks, and the errors it may end with.

/** A request that was answered with a refusal, or not at all (`status` 0). */
export class ApiError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/** Basic authentication in memory, for a node that has no login by form. Gone when the page is. */
let basic = null;
let onLogout = () => {};

/** Who is told when the session ends. */
export function whenLoggedOut(action) {
  onLogout = action;
}

/** `path("queues", "/", "a b")` is `api/queues/%2F/a%20b`. */
export function path(...parts) {
  return ["api", ...parts.map(encodeURIComponent)].join("/");
}

export function withQuery(target, query) {
  const wanted = Object.entries(query ?? {}).filter(([, value]) => value !== undefined && value !== null && value !== "");
  if (wanted.length === 0) return target;
  return `${target}?${new URLSearchParams(wanted.map(([key, value]) => [key, String(value)]))}`;
}

/**
 * Asks and returns what is answered: JSON, or null for an empty body. Times out after `seconds`, so that a node that
 * hangs does not leave a page that seems fine.
 */
export async function request(method, target, { query, body, text, form, headers = {}, seconds = 30 } = {}) {
  const sent = { accept: "application/json", "x-requested-with": "XMLHttpRequest", ...headers };
  if (basic) sent.authorization = basic;
  if (body !== undefined || text !== undefined) sent["content-type"] = "application/json";
  if (form !== undefined) sent["content-type"] = "application/x-www-form-urlencoded";
  let response;
  try {
    response = await fetch(withQuery(target, query), {
      method,
      headers: sent,
      body: text ?? form?.toString() ?? (body === undefined ? undefined : JSON.stringify(body)),
      credentials: "same-origin",
      cache: "no-store",
      signal: AbortSignal.timeout(seconds * 1000),
    });
  } catch (error) {
    throw new ApiError(0, error.name === "TimeoutError" ? `the node did not answer within ${seconds} s` : "the node cannot be reached");
  }
  const answer = await response.text().catch(() => "");
  let json = null;
  try {
    json = answer === "" ? null : JSON.parse(answer);
  } catch {
    // Not JSON: a proxy in between, or a page.
  }
  if (response.ok) return json;
  const reason = json?.reason ?? json?.error ?? `the node answered ${response.status}`;
  if (response.status === 401 && json?.error !== "not_authorised") onLogout();
  throw new ApiError(response.status, typeof reason === "string" ? reason : JSON.stringify(reason));
}

export const get = (target, query, options) => request("GET", target, { query, ...options });
export const put = (target, body = {}) => request("PUT", target, { body });
export const post = (target, body = {}, options) => request("POST", target, { body, ...options });
export const del = (target, query, headers) => request("DELETE", target, { query, headers });

/** Logs in: by a session cookie where the node knows it. Returns who it is. */
export async function login(username, password) {
  basic = null;
  try {
    await request("POST", path("login"), { form: new URLSearchParams({ username, password }) });
  } catch (error) {
    if (error.status !== 404 && error.status !== 405) throw error;
    const octets = new TextEncoder().encode(`${username}:${password}`);
    basic = `Basic ${btoa(String.fromCharCode(...octets))}`;
  }
  try {
    return await whoami();
  } catch (error) {
    basic = null;
    throw error;
  }
}

export const whoami = () => get(path("whoami"));

export async function logout() {
  const ends = basic ? Promise.resolve() : request("POST", path("logout"));
  basic = null;
  await ends.catch(() => {});
}
