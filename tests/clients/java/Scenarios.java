// The scenarios of scenarios.txt with the official Java client.
//
// usage: Scenarios scenarios URL | recover URL | forced URL API
// Prints `ok NAME` after each scenario and ends with 1 at the first wrong observation. The expectations are
// RabbitMQ's.

import com.rabbitmq.client.*;
import com.rabbitmq.client.AMQP.BasicProperties;
import java.math.BigDecimal;
import java.util.*;
import java.util.concurrent.*;

public final class Scenarios {
    interface Scenario { void run(Connection connection, Channel channel) throws Exception; }

    public static void main(String[] arguments) {
        Harness.url = arguments[1];
        try {
            switch (arguments[0]) {
                case "recover": Recovery.recover(); break;
                case "forced": Recovery.forced(arguments[2]); break;
                default: all();
            }
            System.exit(0);
        } catch (Throwable error) {
            error.printStackTrace();
            System.exit(1);
        }
    }

    static void all() throws Exception {
        Map<String, Scenario> scenarios = new LinkedHashMap<>();
        scenarios.put("connect", Scenarios::connect);
        scenarios.put("exchanges", Scenarios::exchanges);
        scenarios.put("properties", Scenarios::properties);
        scenarios.put("confirms", Scenarios::confirms);
        scenarios.put("returns", Scenarios::returns);
        scenarios.put("transactions", Scenarios::transactions);
        scenarios.put("prefetch", Scenarios::prefetch);
        scenarios.put("acknowledgements", Scenarios::acknowledgements);
        scenarios.put("get", Scenarios::get);
        scenarios.put("cancel", Scenarios::cancel);
        scenarios.put("exceptions", Scenarios::exceptions);
        scenarios.put("dead_letters", Scenarios::deadLetters);
        scenarios.put("priorities", Scenarios::priorities);
        scenarios.put("rpc", Scenarios::rpc);
        scenarios.put("heartbeats", Scenarios::heartbeats);
        for (Map.Entry<String, Scenario> it : scenarios.entrySet()) {
            Connection connection = Harness.connect();
            it.getValue().run(connection, connection.createChannel());
            connection.close();
            System.out.println("ok " + it.getKey());
        }
    }

    static void expect(Object found, Object wanted) {
        Harness.expect(found, wanted);
    }

    static List<Object> list(Object... values) {
        return Arrays.asList(values);
    }

    static void connect(Connection connection, Channel channel) throws Exception {
        expect(connection.getServerProperties().get("product").toString(), "RabbitMQ");
        Map<?, ?> able = (Map<?, ?>) connection.getServerProperties().get("capabilities");
        for (Object it : list("publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked")) {
            expect(able.get(it), true);
        }
        ConnectionFactory factory = Harness.factory();
        factory.setRequestedHeartbeat(17);
        factory.setRequestedChannelMax(9);
        factory.setRequestedFrameMax(8192);
        Connection other = factory.newConnection();
        expect(list(other.getHeartbeat(), other.getChannelMax(), other.getFrameMax()), list(17, 9, 8192));
        other.close();
        factory.setPassword("wrong");
        try {
            factory.newConnection();
        } catch (AuthenticationFailureException error) {
            expect(error.getMessage().contains("ACCESS_REFUSED"), true);
            return;
        }
        throw new AssertionError("a wrong password was accepted");
    }

    /** Publishes with a key and expects the message in the wanted queues only. */
    private static void route(
            Channel channel, List<Object> queues, String exchange, String key, Map<String, Object> headers, Object... wanted)
            throws Exception {
        BasicProperties properties = new BasicProperties.Builder().headers(headers).build();
        channel.basicPublish(Harness.name(exchange), key, properties, Harness.bytes(key));
        channel.waitForConfirmsOrDie(Harness.LIMIT_MS);
        List<Object> found = new ArrayList<>();
        for (Object it : queues) {
            GetResponse got = channel.basicGet(Harness.name((String) it), true);
            if (got == null) continue;
            expect(Harness.text(got.getBody()), key);
            found.add(it);
        }
        expect(list(key, found), list(key, list(wanted)));
    }

    private static void bind(Channel channel, String queue, String exchange, String key, Map<String, Object> arguments)
            throws Exception {
        Harness.queue(channel, queue, null);
        channel.queueBind(Harness.name(queue), Harness.name(exchange), key, arguments);
    }

    static void exchanges(Connection connection, Channel channel) throws Exception {
        channel.confirmSelect();
        for (String kind : new String[] {"direct", "fanout", "topic", "headers"}) {
            channel.exchangeDeclare(Harness.name(kind), kind, false, true, null);
        }
        bind(channel, "error", "direct", "error", null);
        bind(channel, "all", "direct", "error", null);
        bind(channel, "all", "direct", "info", null);
        List<Object> two = list("error", "all");
        route(channel, two, "direct", "error", null, "error", "all");
        route(channel, two, "direct", "info", null, "all");
        route(channel, two, "direct", "debug", null);
        bind(channel, "error", "fanout", "", null);
        bind(channel, "all", "fanout", "ignored", null);
        route(channel, two, "fanout", "anything", null, "error", "all");
        bind(channel, "q1", "topic", "*.orange.*", null);
        bind(channel, "q2", "topic", "*.*.rabbit", null);
        bind(channel, "q2", "topic", "lazy.#", null);
        two = list("q1", "q2");
        route(channel, two, "topic", "quick.orange.rabbit", null, "q1", "q2");
        route(channel, two, "topic", "lazy.orange.elephant", null, "q1", "q2");
        route(channel, two, "topic", "quick.orange.fox", null, "q1");
        route(channel, two, "topic", "lazy.brown.fox", null, "q2");
        route(channel, two, "topic", "lazy.pink.rabbit", null, "q2");
        route(channel, two, "topic", "quick.brown.fox", null);
        route(channel, two, "topic", "quick.orange.male.rabbit", null);
        route(channel, two, "topic", "lazy.orange.male.rabbit", null, "q2");
        bind(channel, "both", "headers", "", Harness.map("x-match", "all", "kind", "report", "size", 3));
        bind(channel, "either", "headers", "", Harness.map("x-match", "any", "kind", "report", "size", 3));
        two = list("both", "either");
        route(channel, two, "headers", "1", Harness.map("kind", "report", "size", 3), "both", "either");
        route(channel, two, "headers", "2", Harness.map("kind", "report", "size", 4L), "either");
        route(channel, two, "headers", "3", Harness.map("kind", "other"));
        route(channel, two, "headers", "4", null);
    }

    static void properties(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "properties", null);
        Date time = new Date(1_700_000_000_000L);
        Map<String, Object> headers = Harness.map(
            "text", "wörter", "byte", (byte) -3, "short", (short) -2, "number", 42, "large", 1L << 40, "yes", true,
            "nothing", null, "decimal", new BigDecimal("12.34"), "time", time, "float", 0.5f, "double", 0.25,
            "table", Harness.map("inner", Harness.map("deep", 1)), "array", list(1, "two", Harness.map("three", 3)),
            "binary", new byte[] {0, -1});
        BasicProperties sent = new BasicProperties(
            "text/plain", "gzip", headers, 2, 7, "correlation", "reply", "60000", "message", time, "type", "guest", "app",
            "cluster");
        for (int size : new int[] {0, 5, 512 * 1024}) {
            byte[] body = new byte[size];
            new Random(size).nextBytes(body);
            channel.basicPublish("", queue, sent, body);
            GetResponse got = Harness.fetch(channel, queue, true);
            expect(Arrays.equals(got.getBody(), body), true);
            Envelope envelope = got.getEnvelope();
            expect(list(envelope.getExchange(), envelope.getRoutingKey(), envelope.isRedeliver()), list("", queue, false));
            expect(Harness.plain(got.getProps().getHeaders()), Harness.plain(headers));
            expect(got.getProps().builder().headers(null).build(), sent.builder().headers(null).build());
        }
        Harness.send(channel, queue, "none");
        expect(Harness.fetch(channel, queue, true).getProps(), new BasicProperties());
    }

    static void confirms(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "confirms", Harness.map("x-max-length", 2, "x-overflow", "reject-publish"));
        ConcurrentSkipListSet<Long> open = new ConcurrentSkipListSet<>(Arrays.asList(1L, 2L, 3L));
        BlockingQueue<Long> refused = new LinkedBlockingQueue<>();
        ConfirmCallback settle = (tag, multiple) -> {
            if (multiple) open.headSet(tag, true).clear(); else open.remove(tag);
        };
        channel.addConfirmListener(settle, (tag, multiple) -> { refused.add(tag); settle.handle(tag, multiple); });
        channel.confirmSelect();
        expect(channel.getNextPublishSeqNo(), 1L);
        for (String body : new String[] {"1", "2", "3"}) Harness.send(channel, queue, body);
        expect(channel.waitForConfirms(Harness.LIMIT_MS), false);
        Harness.until("every confirm", () -> open.isEmpty() ? true : null);
        expect(new ArrayList<>(refused), list(3L));
        expect(Harness.text(Harness.fetch(channel, queue, true).getBody()), "1");
        expect(Harness.text(Harness.fetch(channel, queue, true).getBody()), "2");
        Harness.empty(channel, queue);
    }

    static void returns(Connection connection, Channel channel) throws Exception {
        BlockingQueue<Object> order = new LinkedBlockingQueue<>();
        channel.addReturnListener(order::add);
        channel.addConfirmListener((tag, multiple) -> order.add(tag), (tag, multiple) -> order.add(-tag));
        channel.confirmSelect();
        BasicProperties properties = new BasicProperties.Builder().messageId("one").build();
        channel.basicPublish("", Harness.name("nowhere"), true, properties, Harness.bytes("back"));
        Return got = (Return) Harness.next(order, "basic.return");
        expect(
            list(got.getReplyCode(), got.getReplyText(), got.getExchange(), got.getRoutingKey()),
            list(312, "NO_ROUTE", "", Harness.name("nowhere")));
        expect(list(got.getProperties().getMessageId(), Harness.text(got.getBody())), list("one", "back"));
        expect(Harness.next(order, "its confirm"), 1L);
    }

    static void transactions(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "transactions", null);
        channel.txSelect();
        Harness.send(channel, queue, "dropped");
        channel.txRollback();
        Harness.send(channel, queue, "kept");
        Channel other = connection.createChannel();
        Harness.empty(other, queue);
        channel.txCommit();
        GetResponse got = Harness.fetch(channel, queue, false);
        expect(Harness.text(got.getBody()), "kept");
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        channel.txRollback();
        channel.basicAck(got.getEnvelope().getDeliveryTag(), false);
        channel.txCommit();
        channel.close();
        Harness.empty(other, queue);
    }

    static void prefetch(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "prefetch", null);
        for (int number = 0; number < 5; number++) Harness.send(channel, queue, String.valueOf(number));
        channel.basicQos(2);
        BlockingQueue<Delivery> got = Harness.consume(channel, queue, false);
        Delivery first = Harness.next(got, "the first");
        Delivery second = Harness.next(got, "the second");
        channel.queueDeclarePassive(queue);
        expect(got.size(), 0);
        channel.basicAck(first.getEnvelope().getDeliveryTag(), false);
        Delivery third = Harness.next(got, "the third");
        channel.queueDeclarePassive(queue);
        expect(got.size(), 0);
        channel.basicAck(third.getEnvelope().getDeliveryTag(), true);
        String bodies = Harness.text(first.getBody()) + Harness.text(second.getBody()) + Harness.text(third.getBody());
        bodies += Harness.text(Harness.next(got, "the fourth").getBody());
        expect(bodies + Harness.text(Harness.next(got, "the fifth").getBody()), "01234");
    }

    static void acknowledgements(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "acknowledgements", null);
        BlockingQueue<Delivery> got = Harness.consume(channel, queue, false);
        for (String body : new String[] {"ack", "nack", "reject", "requeue"}) {
            Harness.send(channel, queue, body);
            Delivery delivery = Harness.next(got, body);
            expect(list(Harness.text(delivery.getBody()), delivery.getEnvelope().isRedeliver()), list(body, false));
            long tag = delivery.getEnvelope().getDeliveryTag();
            switch (body) {
                case "ack": channel.basicAck(tag, false); break;
                case "nack": channel.basicNack(tag, false, false); break;
                case "reject": channel.basicReject(tag, false); break;
                default: channel.basicNack(tag, false, true);
            }
        }
        Delivery again = Harness.next(got, "the message again");
        expect(list(Harness.text(again.getBody()), again.getEnvelope().isRedeliver()), list("requeue", true));
        channel.close();
        Channel other = connection.createChannel();
        GetResponse back = Harness.fetch(other, queue, false);
        expect(list(Harness.text(back.getBody()), back.getEnvelope().isRedeliver()), list("requeue", true));
        other.basicAck(back.getEnvelope().getDeliveryTag(), false);
        BlockingQueue<Delivery> automatic = Harness.consume(other, queue, true);
        Harness.send(other, queue, "automatic");
        expect(Harness.text(Harness.next(automatic, "a message").getBody()), "automatic");
        other.close();
        Harness.empty(connection.createChannel(), queue);
    }

    static void get(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "get", null);
        Harness.empty(channel, queue);
        Harness.send(channel, queue, "1");
        Harness.send(channel, queue, "2");
        GetResponse first = Harness.fetch(channel, queue, false);
        expect(list(Harness.text(first.getBody()), first.getMessageCount()), list("1", 1));
        channel.basicReject(first.getEnvelope().getDeliveryTag(), true);
        GetResponse again = Harness.fetch(channel, queue, true);
        expect(list(Harness.text(again.getBody()), again.getEnvelope().isRedeliver()), list("1", true));
        expect(channel.queuePurge(queue).getMessageCount(), 1);
    }

    static void cancel(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "cancel", null);
        String tag = channel.basicConsume(queue, false, (it, delivery) -> { }, it -> { });
        expect(channel.consumerCount(queue), 1L);
        channel.basicCancel(tag);
        expect(channel.consumerCount(queue), 0L);
        BlockingQueue<String> told = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, false, "a-tag-of-mine", (it, delivery) -> { }, told::add);
        connection.createChannel().queueDelete(queue);
        expect(Harness.next(told, "the notice of cancellation"), "a-tag-of-mine");
    }

    static void exceptions(Connection connection, Channel channel) throws Exception {
        String missing = Harness.name("missing");
        Harness.refused(connection, 404, "NOT_FOUND - no queue '" + missing + "' in vhost '/'",
            it -> it.queueDeclarePassive(missing));
        Harness.refused(connection, 404, "NOT_FOUND - no exchange '" + missing + "' in vhost '/'",
            it -> it.exchangeDeclarePassive(missing));
        String shared = channel.queueDeclare(Harness.name("shared"), false, false, false, null).getQueue();
        Harness.refused(connection, 406, "PRECONDITION_FAILED - inequivalent arg 'durable' for queue '" + shared
            + "' in vhost '/': received 'true' but current is 'false'",
            it -> it.queueDeclare(shared, true, false, false, null));
        channel.queueDelete(shared);
        String mine = Harness.queue(channel, "mine", null);
        Connection other = Harness.connect();
        Harness.refused(other, 405, "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '" + mine
            + "' in vhost '/'. It could be originally declared on another connection or the exclusive property value does "
            + "not match that of the original declaration.", it -> it.queueDeclarePassive(mine));
        expect(other.createChannel().queueDeclare().getQueue().startsWith("amq.gen-"), true);
        other.close();
        expect(connection.createChannel().messageCount(mine), 0L);
    }

    static void deadLetters(Connection connection, Channel channel) throws Exception {
        String dead = Harness.queue(channel, "dead", null);
        String exchange = Harness.name("dlx");
        channel.exchangeDeclare(exchange, "fanout", false, true, null);
        channel.queueBind(dead, exchange, "");
        String full = Harness.queue(channel, "full", Harness.map("x-dead-letter-exchange", exchange, "x-max-length", 1));
        String aging = Harness.queue(channel, "aging", Harness.map("x-dead-letter-exchange", exchange, "x-message-ttl", 30));
        for (String[] it : new String[][] {{full, "old", "maxlen"}, {aging, "young", "expired"}}) {
            Harness.send(channel, it[0], it[1]);
            if (it[0].equals(full)) Harness.send(channel, full, "new");
            GetResponse got = Harness.fetch(channel, dead, true);
            expect(
                list(Harness.text(got.getBody()), got.getEnvelope().getExchange(), got.getEnvelope().getRoutingKey()),
                list(it[1], exchange, it[0]));
            Map<String, Object> headers = got.getProps().getHeaders();
            List<?> deaths = (List<?>) headers.get("x-death");
            expect(deaths.size(), 1);
            Map<?, ?> death = (Map<?, ?>) Harness.plain(deaths.get(0));
            expect(death.remove("time") instanceof Date, true);
            expect(death, Harness.map(
                "count", 1L, "reason", it[2], "queue", it[0], "exchange", "", "routing-keys", list(it[0])));
            expect(headers.get("x-first-death-reason").toString(), it[2]);
            expect(headers.get("x-first-death-queue").toString(), it[0]);
            expect(headers.get("x-first-death-exchange").toString(), "");
        }
        String rejecting = Harness.queue(
            channel, "rejecting", Harness.map("x-dead-letter-exchange", "", "x-dead-letter-routing-key", dead));
        for (String[] it : new String[][] {{"60000", "rejected"}, {"20", "expired"}}) {
            BasicProperties properties = new BasicProperties.Builder().expiration(it[0]).build();
            channel.basicPublish("", rejecting, properties, Harness.bytes("no"));
            if (it[1].equals("rejected")) {
                channel.basicReject(Harness.fetch(channel, rejecting, false).getEnvelope().getDeliveryTag(), false);
            }
            BasicProperties got = Harness.fetch(channel, dead, true).getProps();
            Map<?, ?> death = (Map<?, ?>) Harness.plain(((List<?>) got.getHeaders().get("x-death")).get(0));
            expect(
                list(death.get("reason"), death.get("original-expiration"), got.getExpiration()), list(it[1], it[0], null));
        }
    }

    static void priorities(Connection connection, Channel channel) throws Exception {
        String queue = Harness.queue(channel, "priorities", Harness.map("x-max-priority", 5));
        for (int priority : new int[] {0, 3, 1, 9, 3}) {
            BasicProperties properties = new BasicProperties.Builder().priority(priority).build();
            channel.basicPublish("", queue, properties, Harness.bytes(String.valueOf(priority)));
        }
        StringBuilder found = new StringBuilder();
        for (int number = 0; number < 5; number++) {
            found.append(Harness.text(Harness.fetch(channel, queue, true).getBody()));
        }
        expect(found.toString(), "93310");
    }

    static void rpc(Connection connection, Channel channel) throws Exception {
        String requests = Harness.queue(channel, "requests", null);
        Channel serving = connection.createChannel();
        // The library's own client and server of remote calls; the client uses direct replies when told nothing else.
        RpcServer server = new RpcServer(serving, requests) {
            @Override public byte[] handleCall(byte[] body, BasicProperties reply) {
                return Harness.bytes(Harness.text(body).toUpperCase(Locale.ROOT));
            }
        };
        Thread thread = new Thread(() -> {
            try {
                server.mainloop();
            } catch (ShutdownSignalException | java.io.IOException ended) {
                // The connection is closed at the end of the scenario.
            }
        });
        thread.setDaemon(true);
        thread.start();
        RpcClient client = new RpcClient(new RpcClientParams().channel(channel).exchange("").routingKey(requests)
            .timeout((int) Harness.LIMIT_MS));
        for (int number = 0; number < 3; number++) expect(client.stringCall("call " + number), "CALL " + number);
        server.terminateMainloop();
        Harness.refused(connection, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge",
            it -> it.basicConsume("amq.rabbitmq.reply-to", false, (tag, delivery) -> { }, tag -> { }));
    }

    /** A quiet connection lives longer than the two heartbeats after which it would be dropped. */
    static void heartbeats(Connection connection, Channel channel) throws Exception {
        ConnectionFactory factory = Harness.factory();
        factory.setRequestedHeartbeat(1);
        factory.setAutomaticRecoveryEnabled(false);
        Connection quiet = factory.newConnection();
        CountDownLatch lost = new CountDownLatch(1);
        quiet.addShutdownListener(signal -> lost.countDown());
        expect(lost.await(2_500, TimeUnit.MILLISECONDS), false);
        Harness.queue(quiet.createChannel(), "quiet", null);
        quiet.close();
    }
}
