import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.GetResponse;
import java.nio.charset.StandardCharsets;

/** A consumer that forgets to acknowledge: the message is there again, marked, once its channel is gone. */
public final class Unacknowledged {
    private static final String QUEUE = "queue1";

    private Unacknowledged() {}

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = Broker.connect()) {
            Channel channel = connection.createChannel();
            channel.queueDeclare(QUEUE, false, false, false, null);
            channel.queuePurge(QUEUE);
            channel.basicPublish("", QUEUE, null, "not acknowledged".getBytes(StandardCharsets.UTF_8));
            GetResponse first = channel.basicGet(QUEUE, false);
            System.out.println("first redelivered " + first.getEnvelope().isRedeliver());
            channel.close();
            Channel again = connection.createChannel();
            GetResponse second = again.basicGet(QUEUE, true);
            System.out.println("again " + new String(second.getBody(), StandardCharsets.UTF_8));
            System.out.println("again redelivered " + second.getEnvelope().isRedeliver());
        }
    }
}
