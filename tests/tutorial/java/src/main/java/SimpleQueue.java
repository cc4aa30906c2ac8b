import com.rabbitmq.client.AMQP;
import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.DefaultConsumer;
import com.rabbitmq.client.Envelope;
import java.nio.charset.StandardCharsets;

/** One producer, one queue, one consumer: acknowledged by the library (`auto`), or by the program (`manual`). */
public final class SimpleQueue {
    private static final String QUEUE = "queue1";

    private SimpleQueue() {}

    public static void main(String[] arguments) throws Exception {
        boolean auto = arguments[0].equals("auto");
        try (Connection connection = Broker.connect()) {
            Channel channel = connection.createChannel();
            channel.queueDeclare(QUEUE, false, false, false, null);
            channel.queuePurge(QUEUE);
            channel.basicPublish("", QUEUE, null, "hello, world".getBytes(StandardCharsets.UTF_8));
            Inbox inbox = new Inbox();
            String tag = channel.basicConsume(QUEUE, auto, new DefaultConsumer(channel) {
                @Override
                public void handleDelivery(
                        String tag, Envelope envelope, AMQP.BasicProperties properties, byte[] body) {
                    inbox.put(envelope.getDeliveryTag() + " " + new String(body, StandardCharsets.UTF_8));
                }
            });
            String[] received = inbox.next().split(" ", 2);
            System.out.println("received " + received[1]);
            if (!auto) {
                channel.basicAck(Long.parseLong(received[0]), false);
            }
            channel.basicCancel(tag);
            channel.close();
            // What was not acknowledged would be back now.
            try (Channel after = connection.createChannel()) {
                System.out.println("left " + after.queueDeclarePassive(QUEUE).getMessageCount());
            }
        }
    }
}
