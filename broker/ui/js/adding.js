// Forms for something new in a virtual host.

import { field, form, select, setOptions } from "./forms.js";

/** The vhost that a form starts with: the chosen one, or the first. */
const firstVhost = (app) => app.vhost || (app.vhosts.includes("/") ? "/" : app.vhosts[0]) || "/";

/** A choice of a vhost that keeps up with the node. */
export function vhostField(app, props = {}) {
  const choice = select([firstVhost(app)], { ...props, dataset: { keep: "" } });
  const follow = () => { if (app.vhosts.length > 0) setOptions(choice, app.vhosts, choice.value || firstVhost(app)); };
  follow();
  choice.addEventListener("focus", follow);
  return { choice, follow };
}

/**
 * A form that starts with the vhost and goes on with `fields`. `save(vhost)` keeps what it says, `emptied()` puts back
 * what a form does not know by itself.
 */
export function vhostForm(app, { fields, label, save, success, emptied }) {
  const vhost = vhostField(app);
  const element = form([field("Virtual host:", vhost.choice), ...fields], label, () => save(vhost.choice.value), { success, reset: true });
  element.addEventListener("emptied", () => { emptied(); vhost.follow(); });
  return { element, vhost: vhost.choice, follow: vhost.follow };
}
