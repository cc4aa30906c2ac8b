// Feature flags, as RabbitMQ lists them. A flag is enabled for the whole cluster and stays so.

import { get, path, put } from "../api.js";
import { button, h } from "../dom.js";
import { count } from "../format.js";
import { List } from "../list.js";
import { attempt, confirm, section, state } from "../parts.js";

export function featureFlags(root) {
  const enable = (it) => async () => {
    if (!await confirm("Enable feature flag", `Enable ${it.name}? It cannot be disabled again.`, { label: "Enable" })) return;
    if (await attempt(() => put(`${path("feature-flags", it.name)}/enable`, { name: it.name }), "Enabled.")) list.refresh();
  };
  const list = new List({
    id: "flags", label: "Feature flags", noun: "feature flags", here: true, key: (it) => it.name, sort: "name",
    columns: [
      { id: "name", label: "Name", sort: "name", cell: (it) => it.name },
      { id: "state", label: "State", sort: "state", cell: (it) => (it.state === "disabled" ? button("Enable", enable(it)) : state(it.state)) },
      { id: "description", label: "Description", cell: (it) => [h("span", {}, it.desc), /^https:\/\//.test(it.doc_url ?? "") ? [" ", h("a", { href: it.doc_url, rel: "noreferrer", target: "_blank" }, "Learn more")] : null] },
    ],
    read: () => get(path("feature-flags")),
    onTotal: (total) => all.setTitle(`All feature flags (${count(total)})`),
  });
  const all = section("flags", "All feature flags", list.element);
  root.append(all.element);
  return { refresh: () => list.refresh() };
}

