// Numbered messages with amqplib, the client for Node, through whatever happens: it makes a new connection itself.
//
// usage: traffic.js publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]
// The record is that of publish.py and consume.py.
'use strict';
const { openSync, writeSync } = require('node:fs');
const { setTimeout: pause } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const amqp = require('amqplib');

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: Object.fromEntries(['url', 'queue', 'out', 'name', 'rate'].map((name) => [name, { type: 'string' }])),
});
const record = openSync(options.out, 'a');
const PATIENCE = 5000;
let number = 0;
let stopped;
const stop = new Promise((resolve) => {
  stopped = resolve;
});
let stopping = false;
for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    stopping = true;
    stopped();
  });
}

function note(event, ident = '-', more = '') {
  const time = (Number(process.hrtime.bigint()) / 1e9).toFixed(6);
  writeSync(record, `${event} ${ident} ${time} ${more}\n`);
}

/** A connection, and a promise that is rejected when it is gone. */
async function connect() {
  const connection = await amqp.connect(`${options.url}?heartbeat=2`, { timeout: PATIENCE });
  const gone = new Promise((_, reject) => {
    connection.on('error', reject);
    connection.on('close', () => reject(new Error('closed')));
  });
  gone.catch(() => {});
  return { connection, gone };
}

/** Waits for a promise, for the end of the connection, or not for ever. */
async function before(gone, promise) {
  const giveUp = new AbortController();
  const late = pause(PATIENCE, undefined, { signal: giveUp.signal }).then(() => {
    throw new Error('no answer');
  });
  late.catch(() => {});
  promise.catch(() => {});
  try {
    return await Promise.race([promise, gone, late]);
  } finally {
    giveUp.abort();
  }
}

async function publish({ connection, gone }) {
  const channel = await before(gone, connection.createConfirmChannel());
  channel.on('error', () => {});
  let returned = false;
  channel.on('return', () => {
    returned = true;
  });
  await before(gone, channel.assertQueue(options.queue, { durable: true }));
  note('connected');
  while (!stopping) {
    const next = pause(1000 / Number(options.rate ?? 100));
    const ident = `${options.name}-${++number}`;
    note('try', ident);
    returned = false;
    const settled = new Promise((resolve) => {
      const settings = { persistent: true, mandatory: true, messageId: ident };
      channel.sendToQueue(options.queue, Buffer.from(ident), settings, (refusal) => resolve(!refusal));
    });
    // A channel that ends settles what waits on it as refused: only a living one has an answer.
    const taken = await before(gone, settled);
    note(taken && !returned ? 'confirm' : 'return', ident);
    await Promise.race([next, stop]);
  }
}

async function consume({ connection, gone }) {
  const channel = await before(gone, connection.createChannel());
  const closed = new Promise((_, reject) => {
    channel.on('error', reject);
    channel.on('close', () => reject(new Error('the channel was closed')));
  });
  closed.catch(() => {});
  await before(gone, channel.assertQueue(options.queue, { durable: true }));
  await before(gone, channel.prefetch(50));
  const cancelled = new Promise((_, reject) => {
    const take = (message) => {
      if (message === null) return reject(new Error('cancelled'));
      note('got', message.content.toString(), Number(message.fields.redelivered));
      channel.ack(message);
    };
    before(gone, channel.consume(options.queue, take)).catch(reject);
  });
  cancelled.catch(() => {});
  await Promise.race([stop, gone, closed, cancelled]);
}

async function main() {
  const act = { publish, consume }[positionals[0]];
  while (!stopping) {
    let open;
    try {
      open = await connect();
      await act(open);
      await Promise.race([open.connection.close(), pause(1000)]);
    } catch (error) {
      note('lost', '-', String(error).replaceAll('\n', ' '));
      // What falls silent is closed without waiting for an answer.
      open?.connection.connection.stream.destroy();
      await Promise.race([pause(50), stop]);
    }
  }
  process.exit(0);
}

main();
