// Numbered messages through whatever happens, with the client's automatic recovery: connection, channel and consumer
// come back by themselves. The record is that of publish.py and consume.py.
//
// usage: Traffic publish|consume --url URL --queue QUEUE --out RECORD [--name NAME] [--rate PER_SECOND]

import com.rabbitmq.client.*;
import java.io.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicInteger;

final class Traffic {
    private static final int PATIENCE_MS = 5_000;
    private final Map<String, String> options = new HashMap<>();
    private final OutputStream record;
    private final CountDownLatch stop = new CountDownLatch(1);
    private final CountDownLatch ended = new CountDownLatch(1);

    public static void main(String[] arguments) throws Exception {
        Traffic traffic = new Traffic(arguments);
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            traffic.stop.countDown();
            try {
                traffic.ended.await(PATIENCE_MS, TimeUnit.MILLISECONDS);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
            // Being asked to stop is no failure.
            Runtime.getRuntime().halt(0);
        }));
        try {
            if (arguments[0].equals("publish")) traffic.publish();
            else traffic.consume();
        } finally {
            traffic.ended.countDown();
        }
    }

    private Traffic(String[] arguments) throws IOException {
        for (int at = 1; at + 1 < arguments.length; at += 2) options.put(arguments[at].substring(2), arguments[at + 1]);
        record = Files.newOutputStream(
            Paths.get(options.get("out")), StandardOpenOption.CREATE, StandardOpenOption.APPEND);
    }

    private synchronized void note(String event, String ident, Object more) {
        String line = String.format(Locale.ROOT, "%s %s %.6f %s%n", event, ident, System.nanoTime() / 1e9, more);
        try {
            record.write(line.getBytes(StandardCharsets.US_ASCII));
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private boolean stopped(long millis) throws InterruptedException {
        return stop.await(millis, TimeUnit.MILLISECONDS);
    }

    /** The first connection; from then on the client sees to it. */
    private Connection connect() throws Exception {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setUri(options.get("url"));
        factory.setRequestedHeartbeat(2);
        factory.setNetworkRecoveryInterval(200);
        factory.setConnectionTimeout(PATIENCE_MS);
        factory.setHandshakeTimeout(PATIENCE_MS);
        factory.setChannelRpcTimeout(PATIENCE_MS);
        factory.setExceptionHandler(new com.rabbitmq.client.impl.ForgivingExceptionHandler());
        while (true) {
            try {
                return factory.newConnection();
            } catch (IOException | TimeoutException error) {
                note("lost", "-", error.getClass().getSimpleName());
                if (stopped(50)) System.exit(0);
            }
        }
    }

    private Channel open(Connection connection) throws Exception {
        Channel channel = connection.createChannel();
        channel.queueDeclare(options.get("queue"), true, false, false, null);
        channel.basicQos(50);
        return channel;
    }

    private void publish() throws Exception {
        Connection connection = connect();
        AtomicBoolean returned = new AtomicBoolean();
        AtomicInteger losses = new AtomicInteger();
        Channel channel = null;
        long pause = (long) (1000 / Double.parseDouble(options.getOrDefault("rate", "100")));
        int number = 0;
        while (!stopped(channel == null ? 20 : pause)) {
            String ident = null;
            try {
                // A channel that was lost with its connection comes back; one that was closed does not.
                if (channel == null || (!channel.isOpen() && connection.isOpen())) {
                    channel = open(connection);
                    channel.confirmSelect();
                    channel.addReturnListener(back -> returned.set(true));
                    channel.addShutdownListener(cause -> losses.incrementAndGet());
                    note("connected", "-", "");
                }
                if (!channel.isOpen()) continue;
                ident = options.get("name") + "-" + ++number;
                returned.set(false);
                int before = losses.get();
                note("try", ident, "");
                AMQP.BasicProperties persistent =
                    MessageProperties.MINIMAL_PERSISTENT_BASIC.builder().messageId(ident).build();
                channel.basicPublish("", options.get("queue"), true, persistent, ident.getBytes(StandardCharsets.UTF_8));
                // A channel that was lost and came back in between has nothing to wait for, and says that all is well.
                boolean taken =
                    channel.waitForConfirms(PATIENCE_MS) && !returned.get() && losses.get() == before;
                note(taken ? "confirm" : "return", ident, "");
            } catch (IOException | ShutdownSignalException | TimeoutException | IllegalStateException error) {
                // The last: the channel is back a moment before its confirms are.
                note("lost", "-", error.getClass().getSimpleName());
                if (error instanceof TimeoutException && channel != null) {
                    channel.abort();
                    channel = null;
                }
            }
        }
        connection.abort(1_000);
    }

    private void consume() throws Exception {
        Connection connection = connect();
        Channel channel = null;
        while (!stopped(100)) {
            try {
                if (channel == null || (!channel.isOpen() && connection.isOpen())) {
                    channel = open(connection);
                    Channel mine = channel;
                    mine.basicConsume(options.get("queue"), false, (tag, delivery) -> {
                        Envelope envelope = delivery.getEnvelope();
                        String body = new String(delivery.getBody(), StandardCharsets.UTF_8);
                        note("got", body, envelope.isRedeliver() ? 1 : 0);
                        try {
                            mine.basicAck(envelope.getDeliveryTag(), false);
                        } catch (IOException | AlreadyClosedException lost) {
                            note("lost", "-", lost.getClass().getSimpleName());
                        }
                    }, tag -> note("lost", "-", "cancelled"));
                }
            } catch (IOException | ShutdownSignalException error) {
                note("lost", "-", error.getClass().getSimpleName());
                channel = null;
            }
        }
        connection.abort(1_000);
    }
}
