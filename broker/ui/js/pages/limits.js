// Limits of virtual hosts and of users.

import { del, get, path, put } from "../api.js";
import { button, fill, h, link } from "../dom.js";
import { count } from "../format.js";
import { field, form, select, setOptions } from "../forms.js";
import { attempt, section, table } from "../parts.js";
import { to } from "../router.js";
import { vhostField } from "../adding.js";

export function limits(root, params, app) {
  const refresh = () => app.refresh();
  const vhost = vhostField(app);
  const user = select([app.user.name]);
  const hosts = half("vhost-limits", "Virtual host", ["max-connections", "max-queues"], "vhost", vhost.choice, refresh);
  const users = half("user-limits", "User", ["max-connections", "max-channels"], "user", user, refresh);
  root.append(
    section("vhost-limits", "Virtual host Limits", hosts.body).element, section("set-vhost-limit", "Set / update a virtual host limit", hosts.form).element,
    section("user-limits", "User Limits", users.body).element, section("set-user-limit", "Set / update a user limit", users.form).element,
  );
  return {
    overview: () => vhost.follow(),
    async refresh() {
      const [ofVhosts, ofUsers, all] = await Promise.all([get(path("vhost-limits")), get(path("user-limits")), get(path("users"), { columns: "name" })]);
      setOptions(user, all.map((it) => it.name));
      hosts.update(ofVhosts);
      users.update(ofUsers);
    },
  };
}

function half(kind, label, names, key, choice, refresh) {
  const body = h("div");
  const limit = select(names);
  const value = h("input", { type: "number", min: -1, step: 1 });
  const page = key === "vhost" ? "vhosts" : "users";
  const clear = (row) => async () => { if (await attempt(() => del(path(kind, row.owner, row.limit)), "Limit cleared.")) refresh(); };
  return {
    body,
    form: form([field(`${label}:`, choice), field("Limit:", limit), field("Value:", value, { required: true, helpText: ["-1 means no limit; 0 allows none."] })], "Set / update limit", async () => {
      await put(path(kind, choice.value, limit.value), { value: Number(value.value) });
      await refresh();
    }, { success: "Limit set." }),
    update(list) {
      const rows = list.flatMap((it) => Object.entries(it.value ?? {}).map(([name, number]) => ({ owner: it[key], limit: name, value: number })));
      fill(body, table(`${label} limits`, [[label, (it) => link(to(page, it.owner), it.owner)], ["Limit", (it) => it.limit], ["Value", (it) => (it.value < 0 ? "none" : count(it.value)), "number"], ["", (it) => button("Clear", clear(it))]], rows, "no limits"));
    },
  };
}
