// The scenarios of scenarios.txt with amqplib, the client for Node.
//
// usage: scenarios.js scenarios URL | recover URL, with amqplib found by NODE_PATH
// Prints `ok NAME` after each scenario and fails at the first wrong observation. The expectations are RabbitMQ's.
// amqplib knows no transactions.
'use strict';
const assert = require('node:assert/strict');
const { randomBytes } = require('node:crypto');
const { once } = require('node:events');
const { setTimeout: pause } = require('node:timers/promises');
const amqp = require('amqplib');

const [what, url] = process.argv.slice(2);
const run = randomBytes(4).toString('hex');
const LIMIT = 15_000;
const name = (part) => `node-${part}-${run}`;
const expect = (found, wanted) => assert.deepEqual(found, wanted);

/** Waits for a promise, but not for ever. */
async function within(promise, of) {
  const giveUp = new AbortController();
  const late = pause(LIMIT, undefined, { signal: giveUp.signal }).then(() => {
    throw new Error(`waited for ${of}`);
  });
  late.catch(() => {});
  try {
    return await Promise.race([promise, late]);
  } finally {
    giveUp.abort();
  }
}

/** Waits until a probe gives something. */
async function until(of, probe) {
  for (const end = Date.now() + LIMIT; Date.now() < end; await pause(5)) {
    const found = await probe();
    if (found) return found;
  }
  throw new Error(`waited for ${of}`);
}

async function connect(heartbeat = 30) {
  const connection = await amqp.connect(`${url}?heartbeat=${heartbeat}`, {
    clientProperties: { connection_name: name('connection'), product: 'scenarios' },
  });
  connection.on('blocked', (reason) => {
    throw new Error(`blocked: ${reason}`);
  });
  return connection;
}

/** Declares an exclusive queue of this run. */
const queue = async (channel, part, args = {}) =>
  (await channel.assertQueue(name(part), { exclusive: true, durable: false, arguments: args })).queue;
const send = (channel, to, body, options) => channel.sendToQueue(to, Buffer.from(body), options);
/** Gets a message; dead lettering is asynchronous. */
const fetch = (channel, from, noAck = true) => until(`a message in ${from}`, () => channel.get(from, { noAck }));
const empty = async (channel, from) => expect(await channel.get(from, { noAck: true }), false);
const text = (message) => message.content.toString();

async function consume(channel, from, options) {
  const got = [];
  const { consumerTag } = await channel.consume(from, (message) => got.push(message), options);
  return { got, consumerTag };
}

const scenarios = {
  async connect(connection) {
    const server = connection.connection.serverProperties;
    expect(server.product, 'RabbitMQ');
    for (const it of ['publisher_confirms', 'basic.nack', 'consumer_cancel_notify', 'connection.blocked']) {
      expect(server.capabilities[it], true);
    }
    const other = await amqp.connect(`${url}?heartbeat=17&channelMax=9&frameMax=8192`);
    const { heartbeat, channelMax, frameMax } = other.connection;
    expect({ heartbeat, channelMax, frameMax }, { heartbeat: 17, channelMax: 9, frameMax: 8192 });
    await other.close();
    await assert.rejects(amqp.connect(url.replace('guest:guest', 'guest:wrong')), /403.*ACCESS[_-]REFUSED/s);
  },

  async exchanges(connection) {
    const channel = await connection.createConfirmChannel();
    for (const kind of ['direct', 'fanout', 'topic', 'headers']) {
      await channel.assertExchange(name(kind), kind, { durable: false, autoDelete: true });
    }
    const bind = async (part, exchange, key, args) => {
      await queue(channel, part);
      await channel.bindQueue(name(part), name(exchange), key, args);
    };
    const route = async (queues, exchange, key, wanted, headers) => {
      channel.publish(name(exchange), key, Buffer.from(key), { headers });
      await channel.waitForConfirms();
      const found = [];
      for (const it of queues) {
        const message = await channel.get(name(it), { noAck: true });
        if (message) {
          expect(text(message), key);
          found.push(it);
        }
      }
      expect([key, found], [key, wanted]);
    };
    await bind('error', 'direct', 'error');
    await bind('all', 'direct', 'error');
    await bind('all', 'direct', 'info');
    await route(['error', 'all'], 'direct', 'error', ['error', 'all']);
    await route(['error', 'all'], 'direct', 'info', ['all']);
    await route(['error', 'all'], 'direct', 'debug', []);
    await bind('error', 'fanout', '');
    await bind('all', 'fanout', 'ignored');
    await route(['error', 'all'], 'fanout', 'anything', ['error', 'all']);
    await bind('q1', 'topic', '*.orange.*');
    await bind('q2', 'topic', '*.*.rabbit');
    await bind('q2', 'topic', 'lazy.#');
    for (const [key, ...wanted] of [
      ['quick.orange.rabbit', 'q1', 'q2'], ['lazy.orange.elephant', 'q1', 'q2'], ['quick.orange.fox', 'q1'],
      ['lazy.brown.fox', 'q2'], ['lazy.pink.rabbit', 'q2'], ['quick.brown.fox'], ['quick.orange.male.rabbit'],
      ['lazy.orange.male.rabbit', 'q2'],
    ]) {
      await route(['q1', 'q2'], 'topic', key, wanted);
    }
    await bind('both', 'headers', '', { 'x-match': 'all', kind: 'report', size: 3 });
    await bind('either', 'headers', '', { 'x-match': 'any', kind: 'report', size: 3 });
    await route(['both', 'either'], 'headers', '1', ['both', 'either'], { kind: 'report', size: 3 });
    await route(['both', 'either'], 'headers', '2', ['either'], { kind: 'report', size: 4000 });
    await route(['both', 'either'], 'headers', '3', [], { kind: 'other' });
    await route(['both', 'either'], 'headers', '4', []);
  },

  async properties(_, channel) {
    const it = await queue(channel, 'properties');
    const headers = {
      text: 'wörter', small: 42, negative: -1, large: 2 ** 40, float: 0.25, yes: true, no: false, nothing: null,
      table: { inner: { deep: 1 } }, array: [1, 'two', { three: 3 }], binary: Buffer.from([0, 255]),
      time: { '!': 'timestamp', value: 1700000000 }, decimal: { '!': 'decimal', value: { digits: 1234, places: 2 } },
    };
    const sent = {
      contentType: 'text/plain', contentEncoding: 'gzip', deliveryMode: 2, priority: 7, correlationId: 'correlation',
      replyTo: 'reply', expiration: '60000', messageId: 'message', timestamp: 1700000000, type: 'type', userId: 'guest',
      appId: 'app',
    };
    for (const body of [Buffer.alloc(0), Buffer.from('small'), Buffer.alloc(512 * 1024, '0123456789abcde')]) {
      channel.sendToQueue(it, body, { ...sent, headers });
      const { content, fields, properties: { headers: gotHeaders, clusterId, ...got } } = await fetch(channel, it);
      expect(content.equals(body), true);
      expect([fields.exchange, fields.routingKey, fields.redelivered], ['', it, false]);
      expect(got, sent);
      expect(clusterId, undefined);
      expect({ ...gotHeaders }, headers);
    }
  },

  async confirms(connection) {
    const channel = await connection.createConfirmChannel();
    const it = await queue(channel, 'confirms', { 'x-max-length': 2, 'x-overflow': 'reject-publish' });
    const sent = ['1', '2', '3'].map(
      (body) => new Promise((done) => channel.sendToQueue(it, Buffer.from(body), {}, (error) => done(error === null))),
    );
    expect(await within(Promise.all(sent), 'confirms'), [true, true, false]);
    expect(text(await fetch(channel, it)), '1');
    expect(text(await fetch(channel, it)), '2');
    await empty(channel, it);
  },

  async returns(connection) {
    const channel = await connection.createConfirmChannel();
    const order = [];
    channel.on('return', (message) => order.push(message));
    const options = { mandatory: true, messageId: 'one' };
    await within(
      new Promise((done) => channel.publish('', name('nowhere'), Buffer.from('back'), options, (error) => done(order.push(error)))),
      'the confirm',
    );
    const [message, error] = order;
    expect([message.fields.replyCode, message.fields.replyText], [312, 'NO_ROUTE']);
    expect([message.properties.messageId, text(message), error], ['one', 'back', null]);
  },

  async prefetch(_, channel) {
    const it = await queue(channel, 'prefetch');
    for (const body of '01234') send(channel, it, body);
    await channel.prefetch(2);
    const { got } = await consume(channel, it);
    await until('two messages', () => got.length === 2);
    await channel.checkQueue(it);
    expect(got.map(text), ['0', '1']);
    channel.ack(got[0]);
    await until('a third', () => got.length === 3);
    await channel.checkQueue(it);
    expect(got.length, 3);
    channel.ack(got[2], true);
    await until('the rest', () => got.length === 5);
    expect(got.map(text), [...'01234']);
  },

  async acknowledgements(connection, channel) {
    const it = await queue(channel, 'acknowledgements');
    const { got } = await consume(channel, it);
    for (const body of ['ack', 'nack', 'reject', 'requeue']) send(channel, it, body);
    await until('four messages', () => got.length === 4);
    expect(got.map((message) => message.fields.redelivered), [false, false, false, false]);
    channel.ack(got[0]);
    channel.nack(got[1], false, false);
    channel.reject(got[2], false);
    channel.nack(got[3], false, true);
    await until('the message again', () => got.length === 5);
    expect([text(got[4]), got[4].fields.redelivered], ['requeue', true]);
    await channel.close();
    const other = await connection.createChannel();
    const back = await fetch(other, it, false);
    expect([text(back), back.fields.redelivered], ['requeue', true]);
    other.ack(back);
    const automatic = await consume(other, it, { noAck: true });
    send(other, it, 'automatic');
    await until('a message', () => automatic.got.length === 1);
    await other.close();
    await empty(await connection.createChannel(), it);
  },

  async get(_, channel) {
    const it = await queue(channel, 'get');
    await empty(channel, it);
    send(channel, it, '1');
    send(channel, it, '2');
    const first = await fetch(channel, it, false);
    expect([text(first), first.fields.messageCount, first.fields.redelivered], ['1', 1, false]);
    channel.reject(first, true);
    const again = await fetch(channel, it);
    expect([text(again), again.fields.messageCount, again.fields.redelivered], ['1', 1, true]);
    expect((await channel.purgeQueue(it)).messageCount, 1);
  },

  async cancel(connection, channel) {
    const it = await queue(channel, 'cancel');
    const { consumerTag } = await consume(channel, it);
    expect((await channel.checkQueue(it)).consumerCount, 1);
    await channel.cancel(consumerTag);
    expect((await channel.checkQueue(it)).consumerCount, 0);
    // The consumer of a queue that goes is called with null.
    const { got } = await consume(channel, it, { consumerTag: 'a-tag-of-mine' });
    await (await connection.createChannel()).deleteQueue(it);
    await until('the notice of cancellation', () => got.length === 1);
    expect(got, [null]);
  },

  async exceptions(connection, channel) {
    const missing = name('missing');
    await refused(connection, 404, `NOT_FOUND - no queue '${missing}' in vhost '/'`, (it) => it.checkQueue(missing));
    await refused(connection, 404, `NOT_FOUND - no exchange '${missing}' in vhost '/'`, (it) => it.checkExchange(missing));
    const shared = name('shared');
    await channel.assertQueue(shared, { durable: false });
    await refused(
      connection, 406,
      `PRECONDITION_FAILED - inequivalent arg 'durable' for queue '${shared}' in vhost '/': received 'true' but current is 'false'`,
      (it) => it.assertQueue(shared, { durable: true }),
    );
    await channel.deleteQueue(shared);
    const mine = await queue(channel, 'mine');
    const other = await connect();
    await refused(
      other, 405,
      `RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '${mine}' in vhost '/'. It could be originally ` +
        'declared on another connection or the exclusive property value does not match that of the original declaration.',
      (it) => it.checkQueue(mine),
    );
    const temporary = await (await other.createChannel()).assertQueue('', { exclusive: true });
    expect(temporary.queue.startsWith('amq.gen-'), true);
    await other.close();
    expect((await channel.checkQueue(mine)).messageCount, 0);
  },

  async dead_letters(_, channel) {
    const dead = await queue(channel, 'dead');
    await channel.assertExchange(name('dlx'), 'fanout', { durable: false, autoDelete: true });
    await channel.bindQueue(dead, name('dlx'), '');
    const full = await queue(channel, 'full', { 'x-dead-letter-exchange': name('dlx'), 'x-max-length': 1 });
    const aging = await queue(channel, 'aging', { 'x-dead-letter-exchange': name('dlx'), 'x-message-ttl': 30 });
    for (const [source, body, reason] of [[full, 'old', 'maxlen'], [aging, 'young', 'expired']]) {
      send(channel, source, body);
      if (source === full) send(channel, source, 'new');
      const message = await fetch(channel, dead);
      const { headers } = message.properties;
      expect([text(message), message.fields.exchange, message.fields.routingKey], [body, name('dlx'), source]);
      expect(headers['x-death'].length, 1);
      const { time, ...death } = headers['x-death'][0];
      expect(time['!'], 'timestamp');
      expect(death, { count: 1, reason, queue: source, exchange: '', 'routing-keys': [source] });
      expect(
        ['reason', 'queue', 'exchange'].map((it) => headers[`x-first-death-${it}`]),
        [reason, source, ''],
      );
    }
    const rejecting = await queue(channel, 'rejecting', {
      'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': dead,
    });
    for (const [expiration, reason] of [['60000', 'rejected'], ['20', 'expired']]) {
      send(channel, rejecting, 'no', { expiration });
      if (reason === 'rejected') channel.reject(await fetch(channel, rejecting, false), false);
      const { properties } = await fetch(channel, dead);
      const death = properties.headers['x-death'][0];
      expect([death.reason, death['original-expiration'], properties.expiration], [reason, expiration, undefined]);
    }
  },

  async priorities(_, channel) {
    const it = await queue(channel, 'priorities', { 'x-max-priority': 5 });
    for (const priority of [0, 3, 1, 9, 3]) send(channel, it, String(priority), { priority });
    let found = '';
    for (let number = 0; number < 5; number++) found += text(await fetch(channel, it));
    expect(found, '93310');
  },

  async rpc(connection, channel) {
    const requests = await queue(channel, 'requests');
    const server = await connection.createChannel();
    await server.consume(requests, (call) => {
      const { replyTo, correlationId } = call.properties;
      assert.match(replyTo, /^amq\.rabbitmq\.reply-to\../);
      send(server, replyTo, text(call).toUpperCase(), { correlationId });
      server.ack(call);
    });
    const { got } = await consume(channel, 'amq.rabbitmq.reply-to', { noAck: true });
    for (const correlationId of '012') {
      send(channel, requests, `call ${correlationId}`, { replyTo: 'amq.rabbitmq.reply-to', correlationId });
    }
    await until('three answers', () => got.length === 3);
    expect(got.map((it) => [it.properties.correlationId, text(it)]), [...'012'].map((it) => [it, `CALL ${it}`]));
    await refused(connection, 406, 'PRECONDITION_FAILED - reply consumer cannot acknowledge', (it) =>
      it.consume('amq.rabbitmq.reply-to', () => {}, { noAck: false }),
    );
  },

  // A quiet connection lives longer than the two heartbeats after which it would be dropped.
  async heartbeats() {
    const quiet = await connect(1);
    const lost = once(quiet, 'close').then(() => 'lost');
    expect(await Promise.race([lost, pause(2500, 'kept')]), 'kept');
    await queue(await quiet.createChannel(), 'quiet');
    await quiet.close();
  },
};

/** The action closes its channel with this code and text, and nothing else. */
async function refused(connection, code, reason, action) {
  const channel = await connection.createChannel();
  const told = once(channel, 'error');
  const error = await within(action(channel).then(() => assert.fail(`no ${code}`), (it) => it), `a ${code}`);
  const [event] = await within(told, 'the event of the error');
  expect([error.code, event.code], [code, code]);
  assert.ok(event.message.includes(reason), `${event.message} instead of ${reason}`);
}

async function all() {
  for (const [title, scenario] of Object.entries(scenarios)) {
    const connection = await connect();
    await scenario(connection, await connection.createChannel());
    await connection.close();
    console.log('ok', title);
  }
}

/** Publishes a message, says `ready`, loses its broker, and finds the message in the next one. */
async function recover() {
  const it = name('recover');
  const confirmed = async (channel, body) => {
    await channel.assertQueue(it, { durable: true });
    channel.sendToQueue(it, Buffer.from(body), { persistent: true });
    await within(channel.waitForConfirms(), 'a confirm');
  };
  const first = await connect();
  first.on('error', () => {});
  const lost = new Promise((done) => first.on('close', done));
  await confirmed(await first.createConfirmChannel(), 'before');
  console.log('ready');
  await lost;
  const second = await amqp.connect(url, { recovery: { initialDelay: 20, maxDelay: 200, maxRetries: 400 } });
  const channel = await second.createConfirmChannel();
  await confirmed(channel, 'after');
  expect([text(await fetch(channel, it)), text(await fetch(channel, it))], ['before', 'after']);
  await channel.deleteQueue(it);
  await second.close();
  console.log('ok recover');
}

({ scenarios: all, recover })[what]().catch((error) => {
  console.error(error);
  process.exit(1);
});
