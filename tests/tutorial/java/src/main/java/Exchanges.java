import com.rabbitmq.client.BuiltinExchangeType;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;

/** Publish and subscribe, routing, topics: which of two queues gets a message (`fanout`, `direct` or `topic`). */
public final class Exchanges {
    private Exchanges() {}

    public static void main(String[] arguments) throws Exception {
        String type = arguments[0];
        String exchange = "test_exchange_" + type;
        try (Connection connection = Broker.connect()) {
            Channel channel = connection.createChannel();
            channel.exchangeDelete(exchange);
            channel.exchangeDeclare(exchange, BuiltinExchangeType.valueOf(type.toUpperCase()));
            String[] queues = {"test_q1_" + type, "test_q2_" + type};
            Inbox[] inboxes = new Inbox[queues.length];
            for (int index = 0; index < queues.length; index++) {
                inboxes[index] = consume(channel, exchange, queues[index], bindings(type).get(index));
            }
            for (String key : published(type)) {
                channel.basicPublish(exchange, key, null, key.getBytes(StandardCharsets.UTF_8));
                StringBuilder line = new StringBuilder();
                for (int index = 0; index < queues.length; index++) {
                    // A mark: what has not come before it does not come.
                    channel.basicPublish("", queues[index], null, "mark".getBytes(StandardCharsets.UTF_8));
                    while (!inboxes[index].next().equals("mark")) {
                        line.append(" Q").append(index + 1);
                    }
                }
                System.out.println(key + " ->" + (line.length() > 0 ? line : " nobody"));
            }
        }
    }

    private static Inbox consume(Channel channel, String exchange, String queue, List<String> keys)
            throws Exception {
        channel.queueDelete(queue);
        channel.queueDeclare(queue, false, false, false, null);
        for (String key : keys) {
            channel.queueBind(queue, exchange, key);
        }
        Inbox inbox = new Inbox();
        channel.basicConsume(queue, true,
                (tag, delivery) -> inbox.put(new String(delivery.getBody(), StandardCharsets.UTF_8)), tag -> {});
        return inbox;
    }

    private static List<List<String>> bindings(String type) {
        switch (type) {
            case "fanout":
                return Arrays.asList(Arrays.asList(""), Arrays.asList(""));
            case "direct":
                return Arrays.asList(Arrays.asList("insert", "update"), Arrays.asList("delete", "update"));
            default:
                return Arrays.asList(Arrays.asList("*.orange.*"), Arrays.asList("*.*.rabbit", "lazy.#"));
        }
    }

    private static List<String> published(String type) {
        switch (type) {
            case "fanout":
                return Arrays.asList("anything");
            case "direct":
                return Arrays.asList("insert", "update", "delete", "select");
            default:
                return Arrays.asList("quick.orange.rabbit", "lazy.orange.elephant", "quick.orange.fox",
                        "lazy.brown.fox", "lazy.pink.rabbit", "quick.brown.fox", "orange",
                        "quick.orange.male.rabbit");
        }
    }
}
