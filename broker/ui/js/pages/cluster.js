// The cluster's name, and its nodes.

import { get, path, put } from "../api.js";
import { fill, h, link } from "../dom.js";
import { duration } from "../format.js";
import { field, form, text } from "../forms.js";
import { section, state, table } from "../parts.js";
import { to } from "../router.js";

export function clusterName(root, params, app) {
  const name = text({ maxlength: 255 });
  const nodes = h("div");
  let told = null;
  root.append(
    section("cluster-name", "Cluster name", [
      h("p", {}, "Clients see the name in the AMQP server properties, before they log in: it is no secret. It tells clusters apart in clients, metrics and logs."),
      form([field("Name:", name, { required: true })], "Change name", async () => {
        await put(path("cluster-name"), { name: name.value });
        await app.refresh();
      }, { success: "Name changed." }),
    ]).element,
    section("cluster-nodes", "Nodes", nodes).element,
  );
  return {
    async refresh() {
      const [own, all] = await Promise.all([get(path("cluster-name")), get(path("nodes"))]);
      // What somebody types is not taken away by a refresh.
      if (own.name !== told) {
        told = own.name;
        name.value = told;
      }
      fill(nodes, table("Nodes", [["Name", (it) => link(to("nodes", it.name), it.name)], ["State", (it) => state(it.running === false ? "down" : "running")], ["Type", (it) => it.type], ["Uptime", (it) => duration(it.uptime)]], all));
    },
  };
}
