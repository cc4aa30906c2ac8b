// The automatic recovery of the Java client: after a forced close, and after the death of the broker.

import com.rabbitmq.client.*;
import com.rabbitmq.client.impl.NetworkConnection;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.*;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

final class Recovery {
    private final Connection connection = Harness.connect();
    private final Channel channel = connection.createChannel();
    private final CompletableFuture<ShutdownSignalException> lost = new CompletableFuture<>();
    private final CompletableFuture<Void> recovered = new CompletableFuture<>();
    private final BlockingQueue<Delivery> deliveries;

    /** With a topology that the broker forgets and the client makes again: exchange, temporary queue, consumer. */
    private Recovery() throws Exception {
        channel.confirmSelect();
        channel.exchangeDeclare(Harness.name("exchange"), "topic", false, true, null);
        String temporary = channel.queueDeclare().getQueue();
        channel.queueBind(temporary, Harness.name("exchange"), "key.#");
        deliveries = Harness.consume(channel, temporary, true);
        connection.addShutdownListener(lost::complete);
        ((Recoverable) connection).addRecoveryListener(new RecoveryListener() {
            @Override public void handleRecovery(Recoverable it) { recovered.complete(null); }
            @Override public void handleRecoveryStarted(Recoverable it) { }
        });
        roundTrip("first");
    }

    private void roundTrip(String body) throws Exception {
        channel.basicPublish(Harness.name("exchange"), "key.a", null, Harness.bytes(body));
        Harness.expect(channel.waitForConfirms(Harness.LIMIT_MS), true);
        Harness.expect(Harness.text(Harness.next(deliveries, body).getBody()), body);
    }

    private void again() throws Exception {
        recovered.get(60, TimeUnit.SECONDS);
        roundTrip("second");
        connection.close();
    }

    /** An operator closes the connection through the HTTP API. */
    static void forced(String api) throws Exception {
        Recovery it = new Recovery();
        HttpClient client = HttpClient.newHttpClient();
        NetworkConnection ends = (NetworkConnection) it.connection;
        String name = "127.0.0.1:" + ends.getLocalPort() + " -> 127.0.0.1:" + ends.getPort();
        String path = "/api/connections/" + URLEncoder.encode(name, StandardCharsets.UTF_8).replace("+", "%20");
        Harness.until("the connection's page, with the name that the client gave it", () -> {
            String page = client.send(request(api, path).build(), HttpResponse.BodyHandlers.ofString()).body();
            return page.contains(Harness.name("connection")) ? true : null;
        });
        HttpRequest delete = request(api, path).header("X-Reason", "maintenance").DELETE().build();
        Harness.expect(client.send(delete, HttpResponse.BodyHandlers.discarding()).statusCode(), 204);
        ShutdownSignalException signal = it.lost.get(15, TimeUnit.SECONDS);
        AMQP.Connection.Close close = (AMQP.Connection.Close) signal.getReason();
        Harness.expect(
            Arrays.asList(close.getReplyCode(), close.getReplyText()),
            Arrays.asList(320, "CONNECTION_FORCED - maintenance"));
        it.again();
        System.out.println("ok forced");
    }

    private static HttpRequest.Builder request(String api, String path) {
        String login = Base64.getEncoder().encodeToString(Harness.bytes("guest:guest"));
        return HttpRequest.newBuilder(URI.create(api + path)).header("Authorization", "Basic " + login);
    }

    /** Publishes a message, says `ready`, loses its broker, and finds the message in the next one. */
    static void recover() throws Exception {
        Recovery it = new Recovery();
        String durable = Harness.name("recover");
        it.channel.queueDeclare(durable, true, false, false, null);
        it.channel.basicPublish("", durable, MessageProperties.PERSISTENT_BASIC, Harness.bytes("before"));
        Harness.expect(it.channel.waitForConfirms(Harness.LIMIT_MS), true);
        System.out.println("ready");
        it.lost.get(60, TimeUnit.SECONDS);
        it.recovered.get(60, TimeUnit.SECONDS);
        it.channel.basicPublish("", durable, MessageProperties.PERSISTENT_BASIC, Harness.bytes("after"));
        Harness.expect(it.channel.waitForConfirms(Harness.LIMIT_MS), true);
        Harness.expect(Harness.text(Harness.fetch(it.channel, durable, true).getBody()), "before");
        Harness.expect(Harness.text(Harness.fetch(it.channel, durable, true).getBody()), "after");
        it.channel.queueDelete(durable);
        it.again();
        System.out.println("ok recover");
    }
}
