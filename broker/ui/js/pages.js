// Which pages there are and under which address: RabbitMQ's tabs, words and addresses.

import { channel, channels } from "./pages/channels.js";
import { clusterName } from "./pages/cluster.js";
import { connection, connections } from "./pages/connections.js";
import { exchange } from "./pages/exchange.js";
import { exchanges } from "./pages/exchanges.js";
import { featureFlags } from "./pages/flags.js";
import { limits } from "./pages/limits.js";
import { node } from "./pages/node.js";
import { overview } from "./pages/overview.js";
import { policies, policy } from "./pages/policies.js";
import { queue } from "./pages/queue.js";
import { queues } from "./pages/queues.js";
import { user } from "./pages/user.js";
import { users } from "./pages/users.js";
import { vhost, vhosts } from "./pages/vhosts.js";
import { exchangeName, shortConnection } from "./format.js";

/** The tabs; `letter` opens one after `g`. */
export const TABS = [
  { id: "overview", label: "Overview", href: "#/", letter: "o" },
  { id: "connections", label: "Connections", href: "#/connections", letter: "c" },
  { id: "channels", label: "Channels", href: "#/channels", letter: "h" },
  { id: "exchanges", label: "Exchanges", href: "#/exchanges", letter: "e" },
  { id: "queues", label: "Queues", href: "#/queues", letter: "q" },
  { id: "admin", label: "Admin", href: "#/users", letter: "a", needs: (app) => app.isPolicymaker() || app.isMonitor() },
];

const administrator = (app) => app.isAdministrator();

/** What the Admin tab leads to. */
export const ADMIN = [
  { label: "Users", href: "#/users", needs: administrator },
  { label: "Virtual Hosts", href: "#/vhosts", needs: administrator },
  { label: "Feature Flags", href: "#/feature-flags", needs: administrator },
  { label: "Policies", href: "#/policies", needs: (app) => app.isPolicymaker() },
  { label: "Limits", href: "#/limits", needs: administrator },
  { label: "Cluster", href: "#/cluster-name", needs: administrator },
];

/** `title` names the page; `heading` is drawn instead where words beside names help. */
export const ROUTES = [
  { path: "", tab: "overview", title: () => "Overview", open: overview },
  { path: "nodes/:name", tab: "overview", title: ({ name }) => `Node ${name}`, open: node },
  { path: "connections", tab: "connections", title: () => "Connections", open: connections },
  { path: "connections/:name", tab: "connections", title: ({ name }) => `Connection ${shortConnection(name)}`, open: connection },
  { path: "channels", tab: "channels", title: () => "Channels", open: channels },
  { path: "channels/:name", tab: "channels", title: ({ name }) => `Channel: ${shortConnection(name)}`, open: channel },
  { path: "exchanges", tab: "exchanges", title: () => "Exchanges", open: exchanges },
  { path: "exchanges/:vhost/:name", tab: "exchanges", title: ({ vhost: host, name }) => `Exchange: ${exchangeName(name === "amq.default" ? "" : name)} in virtual host ${host}`, open: exchange },
  { path: "queues", tab: "queues", title: () => "Queues", open: queues },
  { path: "queues/:vhost/:name", tab: "queues", title: ({ vhost: host, name }) => `Queue ${name} in virtual host ${host}`, open: queue },
  { path: "users", tab: "admin", title: () => "Users", open: users },
  { path: "users/:name", tab: "admin", title: ({ name }) => `User: ${name}`, open: user },
  { path: "vhosts", tab: "admin", title: () => "Virtual Hosts", open: vhosts },
  { path: "vhosts/:name", tab: "admin", title: ({ name }) => `Virtual Host: ${name}`, open: vhost },
  { path: "feature-flags", tab: "admin", title: () => "Feature Flags", open: featureFlags },
  { path: "policies", tab: "admin", title: () => "Policies", open: policies },
  { path: "policies/:vhost/:name", tab: "admin", title: ({ name, vhost: host }) => `Policy: ${name} in virtual host ${host}`, open: (root, params, app) => policy(root, params, app, "policies") },
  { path: "operators/:vhost/:name", tab: "admin", title: ({ name, vhost: host }) => `Operator policy: ${name} in virtual host ${host}`, open: (root, params, app) => policy(root, params, app, "operator-policies") },
  { path: "limits", tab: "admin", title: () => "Limits", open: limits },
  { path: "cluster-name", tab: "admin", title: () => "Cluster", open: clusterName },
];
