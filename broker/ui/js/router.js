// Addresses of pages: RabbitMQ's own, so that bookmarks keep working. `#/queues/%2F/orders?name=x`.

/** The address that is shown: its parts, decoded, and its query. */
export function current() {
  const hash = location.hash.replace(/^#\/?/, "");
  const [route, query = ""] = split(hash, "?");
  const parts = route.split("/").filter((part) => part !== "").map(decode);
  return { parts, query: new URLSearchParams(query) };
}

function split(text, separator) {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** `to("queues", "/", "a")` is `#/queues/%2F/a`. */
export const to = (...parts) => `#/${parts.map(encodeURIComponent).join("/")}`;

export function go(...parts) {
  location.hash = to(...parts);
}

/** Changes the query of the address without opening the page anew. */
export function setQuery(values) {
  const { parts, query } = current();
  for (const [key, value] of Object.entries(values)) {
    if (value === "" || value === null || value === undefined) query.delete(key);
    else query.set(key, String(value));
  }
  const text = query.toString();
  history.replaceState(null, "", to(...parts) + (text === "" ? "" : `?${text}`));
}

/** The first of `routes` (`{ path: "queues/:vhost/:name", … }`) that fits, with what its words stand for. */
export function match(routes, parts) {
  for (const route of routes) {
    const words = route.path === "" ? [] : route.path.split("/");
    if (words.length !== parts.length) continue;
    const params = {};
    const fits = words.every((word, index) => {
      if (!word.startsWith(":")) return word === parts[index];
      params[word.slice(1)] = parts[index];
      return true;
    });
    if (fits) return { route, params };
  }
  return null;
}
