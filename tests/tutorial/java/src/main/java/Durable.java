import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.GetResponse;
import com.rabbitmq.client.MessageProperties;
import java.nio.charset.StandardCharsets;

/** A persistent message in a durable queue: published (`publish`), and taken after a restart (`take`). */
public final class Durable {
    private static final String EXCHANGE = "test_exchange_durable";
    private static final String QUEUE = "test_queue_durable";

    private Durable() {}

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = Broker.connect()) {
            Channel channel = connection.createChannel();
            if (arguments[0].equals("publish")) {
                channel.exchangeDeclare(EXCHANGE, "topic", true);
                channel.queueDeclare(QUEUE, true, false, false, null);
                channel.queueBind(QUEUE, EXCHANGE, "order.#");
                channel.queuePurge(QUEUE);
                channel.confirmSelect();
                byte[] body = "order 1".getBytes(StandardCharsets.UTF_8);
                channel.basicPublish(EXCHANGE, "order.down", MessageProperties.PERSISTENT_TEXT_PLAIN, body);
                System.out.println("confirmed " + channel.waitForConfirms(30_000));
            } else {
                GetResponse got = channel.basicGet(QUEUE, true);
                System.out.println("kept " + (got == null ? "nothing" : new String(got.getBody(), StandardCharsets.UTF_8)));
            }
        }
    }
}
