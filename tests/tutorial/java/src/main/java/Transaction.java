import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import java.nio.charset.StandardCharsets;

/** A transaction that commits, and one that rolls back after a failure. */
public final class Transaction {
    private static final String QUEUE = "test_transaction";

    private Transaction() {}

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = Broker.connect()) {
            Channel channel = connection.createChannel();
            channel.queueDeclare(QUEUE, false, false, false, null);
            channel.queuePurge(QUEUE);
            publish(channel, false);
            System.out.println("after the commit " + channel.messageCount(QUEUE));
            try {
                publish(channel, true);
            } catch (IllegalStateException failure) {
                channel.txRollback();
                System.out.println("failed: " + failure.getMessage());
            }
            System.out.println("after the rollback " + channel.messageCount(QUEUE));
        }
    }

    private static void publish(Channel channel, boolean fails) throws Exception {
        channel.txSelect();
        channel.basicPublish("", QUEUE, null, "first".getBytes(StandardCharsets.UTF_8));
        if (fails) {
            throw new IllegalStateException("division by zero");
        }
        channel.basicPublish("", QUEUE, null, "second".getBytes(StandardCharsets.UTF_8));
        channel.txCommit();
    }
}
