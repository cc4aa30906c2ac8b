// A cluster in the pages: two brokers, a witness, and a queue whose mirror lacks five messages. Ours first, then
// RabbitMQ's own. `node cluster.js HTTP AMQP FOLDER` prints `ok NAME` for each page.
"use strict";

const assert = require("node:assert/strict");
const { accessible, api, launch, open, play, shot } = require("./stage.js");
const { row, says, section, visit } = require("./pages/helpers.js");
const theirs = require("./theirs.js");

const [base, , folder] = process.argv.slice(2);
const e = encodeURIComponent;

async function main() {
  const ask = api(base);
  const nodes = await ask("GET", "nodes");
  const witness = nodes.find((it) => it.type === "witness").name;
  const { node } = await ask("GET", "overview");
  const other = nodes.find((it) => it.type !== "witness" && it.name !== node).name;
  const browser = await launch();
  const { page, problems } = await open(browser);
  const stage = { base, page, problems, folder };
  const unfold = () => page.evaluate(() => document.querySelectorAll("details.section").forEach((it) => { it.open = true; }));
  const pages = {
    async login() {
      await page.goto(base);
      await page.getByLabel("Username:").fill("guest");
      await page.getByLabel("Password:").fill("guest");
      await page.getByRole("button", { name: "Log in" }).click();
      await page.getByRole("heading", { name: "Overview", level: 1 }).waitFor();
    },
    async overview() {
      await visit(stage, "");
      await page.getByText("2 of 2 nodes up and 1 of 1 witness, no alarms").waitFor();
      const table = await section(page, "Nodes");
      await table.getByRole("row", { name: witness }).getByText("Votes, and has no queues and no clients").waitFor();
      await table.getByRole("row", { name: other }).getByText("disc").waitFor();
      await accessible(page, "overview");
      await shot(page, folder, "cluster-overview");
    },
    async witness() {
      await visit(stage, `nodes/${e(witness)}`);
      await page.getByText("A witness votes with the brokers").waitFor();
      await page.getByText("running", { exact: true }).waitFor();
      assert.equal(await page.getByText("Process statistics").isVisible(), false, "nothing that a witness does not have");
      await accessible(page, "witness");
      await shot(page, folder, "cluster-witness");
    },
    async broker() {
      await visit(stage, `nodes/${e(other)}`);
      await unfold();
      await page.getByText("Process statistics").waitFor();
      assert.equal(await page.getByText("A witness votes").count(), 0);
    },
    async cluster() {
      await visit(stage, "cluster-name");
      await page.getByRole("row", { name: witness }).getByText("witness").waitFor();
    },
    async queues() {
      await visit(stage, "queues");
      const own = row(page, "mirrored");
      await own.getByText("+0").waitFor();
      assert.equal(await own.getByText("+1").getAttribute("title"), `Unsynchronised mirrors: ${other}`);
      const agreed = row(page, "agreed");
      assert.equal(await agreed.getByText("+1").getAttribute("title"), `Synchronised mirrors: ${other}`);
      await page.getByRole("button", { name: "unsynchronised" }).click();
      await page.getByText("1 of 2 queues").waitFor();
      await own.waitFor();
      await page.getByRole("button", { name: "unsynchronised" }).click();
      await page.getByText("2 queues", { exact: true }).waitFor();
      await shot(page, folder, "cluster-queues");
    },
    async queue() {
      await visit(stage, "queues/%2F/mirrored");
      const mirrors = await section(page, "Mirrors (1 of 2 synchronised)");
      await mirrors.getByText("unsynchronised", { exact: true }).waitFor();
      await mirrors.getByText("lacks 5 messages").waitFor();
      await unfold();
      await accessible(page, "queue");
      await shot(page, folder, "cluster-queue");
      const theirPages = await theirs.enter(browser, base, folder);
      await theirs.look(theirPages, {
        cluster_overview: ["", "Overview", "Node statistics not available"], cluster_witness: [`nodes/${e(witness)}`, "Node"], cluster_broker: [`nodes/${e(other)}`, "Node"],
        cluster_queues: ["queues", "Queues", "+1"], cluster_queue: ["queues/%2F/mirrored", "Queue", "(unsynchronised)"],
      });
      await mirrors.getByRole("button", { name: "Synchronise" }).click();
      await says(page, "Mirrors are being filled.");
      const filled = await section(page, "Mirrors (2 of 2 synchronised)");
      await filled.getByText("synchronised", { exact: true }).waitFor();
      assert.equal(await filled.getByText("lacks").count(), 0);
      await visit(stage, "queues");
      assert.equal(await row(page, "mirrored").getByText("+1").getAttribute("title"), `Synchronised mirrors: ${other}`);
    },
  };
  await play(pages, stage, folder);
  await browser.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
