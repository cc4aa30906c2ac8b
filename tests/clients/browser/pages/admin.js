// Users, permissions, virtual hosts, policies, limits, feature flags, the cluster's name.
"use strict";

const assert = require("node:assert/strict");
const { shot } = require("../stage.js");
const { argument, confirm, row, says, section, visit } = require("./helpers.js");

module.exports = {
  async users(stage) {
    const { page, folder, vhost, V, ask } = stage;
    await visit(stage, "users");
    const add = await section(page, "Add a user");
    await add.getByLabel("Username:").fill("clerk");
    await add.getByLabel("Password", { exact: true }).fill("one");
    await add.getByLabel("Password again").fill("two");
    await add.getByRole("button", { name: "Add user" }).click();
    await says(page, "The two passwords differ.");
    await add.getByLabel("Password again").fill("one");
    await add.getByRole("button", { name: "Monitoring" }).click();
    await add.getByRole("button", { name: "Add user" }).click();
    await says(page, "User added.");
    await row(page, "clerk").getByText("No access").waitFor();
    await shot(page, folder, "users");
    await row(page, "clerk").getByRole("link").click();
    await page.getByRole("heading", { level: 1, name: "User: clerk" }).waitFor();
    const permissions = await section(page, "Permissions");
    await permissions.getByLabel("Virtual Host:").selectOption(vhost);
    // Which names an expression fits, while it is typed.
    await permissions.getByLabel("Configure regexp:").fill("^work$");
    await permissions.getByText(/Matches 1 of \d+ queues/).first().waitFor();
    await permissions.getByLabel("Write regexp:").fill("^(work|orders)$");
    await permissions.getByText(/Matches 1 of \d+ exchanges/).first().waitFor();
    await shot(page, folder, "permissions");
    await permissions.getByRole("button", { name: "Set permission" }).click();
    await says(page, "Permissions set.");
    await permissions.getByRole("cell", { name: "^work$" }).waitFor();
    const [own] = await ask("GET", "users/clerk/permissions");
    assert.deepEqual([own.vhost, own.configure, own.write, own.read], [vhost, "^work$", "^(work|orders)$", ".*"]);
    const topics = await section(page, "Topic permissions");
    await topics.getByLabel("Virtual Host:").selectOption(vhost);
    await topics.getByLabel("Exchange:").selectOption("orders");
    await topics.getByLabel("Write regexp:").fill("^a");
    await topics.getByRole("button", { name: "Set topic permission" }).click();
    await says(page, "Topic permission set.");
    assert.equal((await ask("GET", "users/clerk/topic-permissions"))[0].write, "^a");
    await topics.getByRole("button", { name: "Clear" }).click();
    await confirm(page, "Clear");
    await says(page, "Topic permissions cleared.");
    const update = await section(page, "Update this user");
    await update.getByLabel("Tags:").fill("management");
    await update.getByRole("button", { name: "Update user" }).click();
    await says(page, "User updated.");
    // The password stayed: the user can still log in with it.
    const clerk = await fetch(`${stage.base}/api/whoami`, { headers: { authorization: `Basic ${Buffer.from("clerk:one").toString("base64")}` } });
    assert.equal(clerk.status, 200);
    await permissions.getByRole("button", { name: "Clear" }).click();
    await confirm(page, "Clear");
    await says(page, "Permissions cleared.");
    const remove = await section(page, "Delete this user");
    await remove.getByRole("button", { name: "Delete" }).click();
    await confirm(page, "Delete", "clerk");
    await page.getByRole("heading", { level: 1, name: "Users" }).waitFor();
    assert.equal(await row(page, "clerk").count(), 0);
    void V;
  },

  async vhosts(stage) {
    const { page, folder } = stage;
    await visit(stage, "vhosts");
    const add = await section(page, "Add a new virtual host");
    await add.getByLabel("Name:").fill("/made");
    await add.getByLabel("Description:").fill("for a while");
    await add.getByRole("button", { name: "Add virtual host" }).click();
    await says(page, "Virtual host added.");
    await row(page, "/made").getByText("for a while").waitFor();
    await shot(page, folder, "vhosts");
    await row(page, "/made").getByRole("link", { name: "/made" }).click();
    const permissions = await section(page, "Permissions");
    await permissions.getByLabel("User:").selectOption("guest");
    await permissions.getByRole("button", { name: "Set permission" }).click();
    await says(page, "Permissions set.");
    await shot(page, folder, "vhost");
    const remove = await section(page, "Delete this vhost");
    await remove.getByRole("button", { name: "Delete this virtual host" }).click();
    await confirm(page, "Delete", "/made");
    await page.getByRole("heading", { level: 1, name: "Virtual Hosts" }).waitFor();
  },

  async policies(stage) {
    const { page, folder, vhost, V, ask } = stage;
    await visit(stage, "policies");
    const add = await section(page, "Add / update a policy");
    await add.getByLabel("Virtual host:").selectOption(vhost);
    await add.getByLabel("Name:").fill("ttl");
    await add.getByLabel("Pattern:").fill("^dead_");
    await add.getByLabel("Apply to:").selectOption("queues");
    await add.getByText(/Matches 1 of \d+ queues: dead_letters/).waitFor();
    await add.getByLabel("Pattern:").fill("^dead_(");
    await add.getByText(/regex/i).first().waitFor();
    await add.getByLabel("Pattern:").fill("^dead_");
    await add.getByRole("button", { name: "Add / update policy" }).click();
    await says(page, "The definition is empty");
    await add.getByRole("button", { name: "Message TTL" }).click();
    await add.locator(".argument-value").first().fill("600000");
    await shot(page, folder, "policies");
    await add.getByRole("button", { name: "Add / update policy" }).click();
    await says(page, "Policy set.");
    assert.equal((await ask("GET", `queues/${V}/dead_letters`)).policy, "ttl");
    await row(page, "ttl").getByRole("button", { name: "Edit" }).click();
    assert.equal(await add.locator(".argument-value").first().inputValue(), "600000");
    await row(page, "ttl").getByRole("link", { name: "ttl" }).click();
    await page.getByText(/Matches 1 of \d+ queues/).waitFor();
    await visit(stage, "policies");
    await row(page, "ttl").getByRole("button", { name: "Clear" }).click();
    await confirm(page, "Clear");
    await says(page, "Policy cleared.");
    const operator = await section(page, "Add / update an operator policy");
    await operator.getByLabel("Virtual host:").selectOption(vhost);
    await operator.getByLabel("Name:").fill("cap");
    await operator.getByLabel("Pattern:").fill("^agreed");
    await argument(operator, "Definition", "max-length", "1000", "number");
    await operator.getByRole("button", { name: "Add / update operator policy" }).click();
    await says(page, "Operator policy set.");
    assert.equal((await ask("GET", `operator-policies/${V}/cap`)).definition["max-length"], 1000);
    await row(page, "cap").getByRole("button", { name: "Clear" }).click();
    await confirm(page, "Clear");
    await says(page, "Policy cleared.");
  },

  async limits(stage) {
    const { page, folder, vhost } = stage;
    await visit(stage, "limits");
    const hosts = await section(page, "Set / update a virtual host limit");
    await hosts.getByLabel("Virtual host:").selectOption(vhost);
    await hosts.getByLabel("Limit:").selectOption("max-connections");
    await hosts.getByLabel("Value:").fill("500");
    await hosts.getByRole("button", { name: "Set / update limit" }).click();
    await says(page, "Limit set.");
    const users = await section(page, "Set / update a user limit");
    await users.getByLabel("Limit:").selectOption("max-channels");
    await users.getByLabel("Value:").fill("400");
    await users.getByRole("button", { name: "Set / update limit" }).click();
    await says(page, "Limit set.");
    await page.getByRole("cell", { name: "400" }).waitFor();
    await shot(page, folder, "limits");
    for (let left = 2; left > 0; left -= 1) {
      await page.getByRole("button", { name: "Clear" }).first().click();
      await says(page, "Limit cleared.");
    }
    await page.getByText("no limits").nth(1).waitFor();
  },

  async flags(stage) {
    const { page, folder } = stage;
    await visit(stage, "feature-flags");
    await row(page, "quorum_queue").getByText("enabled").waitFor();
    await shot(page, folder, "flags");
  },

  async cluster(stage) {
    const { page, folder, ask } = stage;
    await visit(stage, "cluster-name");
    const before = (await ask("GET", "cluster-name")).name;
    await page.getByLabel("Name:").fill("renamed");
    await page.getByRole("button", { name: "Change name" }).click();
    await says(page, "Name changed.");
    assert.equal((await ask("GET", "cluster-name")).name, "renamed");
    await page.locator(".tools", { hasText: "Cluster renamed" }).waitFor();
    await shot(page, folder, "cluster");
    await ask("PUT", "cluster-name", { name: before });
  },
};
