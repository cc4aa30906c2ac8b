// What the scenarios have in common: connecting, expecting, and waiting with a deadline.

import com.rabbitmq.client.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

final class Harness {
    static final long LIMIT_MS = 15_000;
    static final String RUN = Integer.toHexString(new Random().nextInt());
    static String url;

    interface Action { void run() throws Exception; }
    interface Probe<T> { T look() throws Exception; }
    interface Request { void on(Channel channel) throws Exception; }

    static String name(String what) {
        return "java-" + what + "-" + RUN;
    }

    static void expect(Object found, Object wanted) {
        if (!Objects.equals(found, wanted)) {
            throw new AssertionError("expected " + wanted + ", found " + found);
        }
    }

    static ConnectionFactory factory() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(url);
        factory.setRequestedHeartbeat(30);
        factory.setNetworkRecoveryInterval(100);
        // A broker that just starts may take its time.
        factory.setConnectionTimeout(30_000);
        factory.setHandshakeTimeout(60_000);
        return factory;
    }

    static Connection connect() throws Exception {
        Connection connection = factory().newConnection(name("connection"));
        connection.addBlockedListener(
            reason -> { System.err.println("blocked: " + reason); System.exit(1); }, () -> { });
        return connection;
    }

    /** Waits until a probe gives something. */
    static <T> T until(String what, Probe<T> probe) throws Exception {
        for (long end = System.currentTimeMillis() + LIMIT_MS; System.currentTimeMillis() < end; Thread.sleep(5)) {
            T found = probe.look();
            if (found != null) return found;
        }
        throw new AssertionError("waited for " + what);
    }

    static <T> T next(BlockingQueue<T> source, String what) throws Exception {
        T found = source.poll(LIMIT_MS, TimeUnit.MILLISECONDS);
        if (found == null) throw new AssertionError("waited for " + what);
        return found;
    }

    /** Declares an exclusive queue of this run. */
    static String queue(Channel channel, String what, Map<String, Object> arguments) throws Exception {
        return channel.queueDeclare(name(what), false, true, false, arguments).getQueue();
    }

    static void send(Channel channel, String queue, String body) throws Exception {
        channel.basicPublish("", queue, null, bytes(body));
    }

    static GetResponse fetch(Channel channel, String queue, boolean autoAck) throws Exception {
        return until("a message in " + queue, () -> channel.basicGet(queue, autoAck));
    }

    static void empty(Channel channel, String queue) throws Exception {
        expect(channel.basicGet(queue, true), null);
    }

    static BlockingQueue<Delivery> consume(Channel channel, String queue, boolean autoAck) throws Exception {
        BlockingQueue<Delivery> deliveries = new LinkedBlockingQueue<>();
        channel.basicConsume(queue, autoAck, (tag, delivery) -> deliveries.add(delivery), tag -> { });
        return deliveries;
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static String text(byte[] body) {
        return new String(body, StandardCharsets.UTF_8);
    }

    static Map<String, Object> map(Object... pairs) {
        Map<String, Object> map = new HashMap<>();
        for (int at = 0; at < pairs.length; at += 2) map.put((String) pairs[at], pairs[at + 1]);
        return map;
    }

    /** What the client makes of long strings, as plain values. */
    static Object plain(Object value) {
        if (value instanceof LongString) return value.toString();
        if (value instanceof byte[]) return Arrays.toString((byte[]) value);
        if (value instanceof List) {
            List<Object> list = new ArrayList<>();
            for (Object it : (List<?>) value) list.add(plain(it));
            return list;
        }
        if (value instanceof Map) {
            Map<String, Object> map = new HashMap<>();
            for (Map.Entry<?, ?> it : ((Map<?, ?>) value).entrySet()) map.put((String) it.getKey(), plain(it.getValue()));
            return map;
        }
        return value;
    }

    /** The request closes its channel with this code and text, and nothing else. */
    static void refused(Connection connection, int code, String reason, Request request) throws Exception {
        Channel channel = connection.createChannel();
        try {
            request.on(channel);
        } catch (java.io.IOException | AlreadyClosedException error) {
            Throwable cause = error instanceof ShutdownSignalException ? error : error.getCause();
            ShutdownSignalException signal = (ShutdownSignalException) cause;
            AMQP.Channel.Close close = (AMQP.Channel.Close) signal.getReason();
            expect(Arrays.asList(close.getReplyCode(), close.getReplyText()), Arrays.asList(code, reason));
            expect(Arrays.asList(signal.isHardError(), signal.isInitiatedByApplication()), Arrays.asList(false, false));
            expect(channel.isOpen(), false);
            expect(connection.isOpen(), true);
            return;
        }
        throw new AssertionError("no " + code);
    }
}
