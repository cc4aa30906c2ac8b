// Connections and channels.
"use strict";

const { shot } = require("../stage.js");
const { row, says, section, visit } = require("./helpers.js");

module.exports = {
  async connections(stage) {
    const { page, folder } = stage;
    await visit(stage, "connections");
    await row(page, "browser-test").waitFor();
    await shot(page, folder, "connections");
    await row(page, "browser-test").getByRole("link").click();
    await page.getByRole("heading", { level: 1, name: /^Connection 127\.0\.0\.1:/ }).waitFor();
    await page.getByText("amqplib").first().waitFor();
    await (await section(page, "Channels (1)")).getByRole("link").first().waitFor();
    await shot(page, folder, "connection");
  },

  async channels(stage) {
    const { page, folder } = stage;
    await visit(stage, "channels");
    await row(page, "127.0.0.1").first().waitFor();
    await shot(page, folder, "channels");
    await row(page, "127.0.0.1").first().getByRole("link").click();
    await page.getByRole("heading", { level: 1, name: /^Channel: 127\.0\.0\.1:/ }).waitFor();
    await (await section(page, "Consumers (1)")).getByRole("cell", { name: "worker" }).waitFor();
    await page.getByText("confirms", { exact: true }).waitFor();
    await shot(page, folder, "channel");
  },

  async closing(stage) {
    const { page, amqp, url, V } = stage;
    const other = await amqp.connect(`${url}/${V}`, { clientProperties: { connection_name: "unwanted" } });
    // For this library a close by an operator is no error, only an end with a reason.
    other.on("error", () => {});
    const closed = new Promise((resolve) => { other.on("close", resolve); });
    await visit(stage, "connections");
    await row(page, "unwanted").getByRole("link").click();
    const close = await section(page, "Close this connection");
    await close.getByLabel("Reason:").fill("tidying up");
    await close.getByRole("button", { name: "Force Close" }).click();
    await says(page, "Connection closed.");
    const error = await closed;
    if (!/tidying up/.test(String(error?.message))) throw new Error(`closed with ${error?.message}`);
  },
};
