// One exchange: rates, bindings both ways, publish, explain, delete.

import { del, get, path } from "../api.js";
import { fill, h } from "../dom.js";
import { chart, samplesQuery } from "../chart.js";
import { count } from "../format.js";
import { check, form } from "../forms.js";
import { featureList, policyFacts } from "../features.js";
import { confirm, facts, section } from "../parts.js";
import { EXCHANGE } from "../rates.js";
import { go } from "../router.js";
import { arrow, bindFromExchange, bindingTable } from "./bindings.js";
import { explainForm, publishForm } from "./publish.js";

export function exchange(root, { vhost, name }, app) {
  const about = h("div");
  const rates = chart({ title: "Message rates", lines: EXCHANGE, unit: "rate" });
  const isDefault = name === "amq.default";
  const refresh = () => app.refresh();
  const incoming = bindingTable("source", refresh);
  const outgoing = bindingTable("destination", refresh);
  const into = h("div", {}, h("h3", {}, "To this exchange"), incoming.element);
  const bindings = section("exchange-bindings", "Bindings", isDefault
    ? h("p", {}, "Every queue is bound to the default exchange with its name as the routing key. These bindings cannot be changed.")
    : [into, arrow("This exchange"), h("h3", {}, "From this exchange"), outgoing.element, bindFromExchange(vhost, name, refresh)]);
  const unused = check("Only if unused");
  const remove = form([h("p", {}, unused.element)], "Delete", async () => {
    if (!await confirm("Delete exchange", `Delete the exchange ${name} and its bindings? Publishers to it get an error from then on.`, { label: "Delete", typed: name })) return;
    await del(path("exchanges", vhost, name), unused.box.checked ? { "if-unused": true } : null);
    go("exchanges");
  }, { danger: true });
  root.append(
    section("exchange", "Overview", [rates.element, h("h3", {}, "Details"), about]).element,
    bindings.element,
    section("exchange-explain", "Explain routing", explainForm(vhost, name), { open: false }).element,
    section("exchange-publish", "Publish message", publishForm(vhost, name, undefined, refresh), { open: false }).element,
    isDefault || name.startsWith("amq.") ? "" : section("exchange-delete", "Delete this exchange", remove, { open: false }).element,
  );
  return {
    async refresh() {
      const [it, source, destination] = await Promise.all([
        get(path("exchanges", vhost, name), samplesQuery("msg_rates")),
        isDefault ? [] : get(path("exchanges", vhost, name, "bindings", "source")),
        isDefault ? [] : get(path("exchanges", vhost, name, "bindings", "destination")),
      ]);
      rates.update(it.message_stats);
      fill(about, facts([["Type", it.type], ["Features", featureList(it)]]), policyFacts(it));
      into.hidden = destination.length === 0;
      outgoing.update(source);
      incoming.update(destination);
      if (!isDefault) bindings.setTitle(`Bindings (${count(source.length + destination.length)})`);
    },
    close: () => rates.close(),
  };
}
