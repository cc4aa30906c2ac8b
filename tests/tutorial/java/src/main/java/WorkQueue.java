import com.rabbitmq.client.Channel;
import com.rabbitmq.client.Connection;
import com.rabbitmq.client.DeliverCallback;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/** Two workers at one queue, a slow one and a fast one. With `basicQos(1)` whoever is done gets the next message. */
public final class WorkQueue {
    private static final String QUEUE = "test_work_queue";
    private static final int MESSAGES = 100;

    private WorkQueue() {}

    public static void main(String[] arguments) throws Exception {
        try (Connection connection = Broker.connect()) {
            Channel channel = connection.createChannel();
            channel.queueDeclare(QUEUE, false, false, false, null);
            channel.queuePurge(QUEUE);
            CountDownLatch left = new CountDownLatch(MESSAGES);
            AtomicInteger slow = worker(connection, 20, left);
            AtomicInteger fast = worker(connection, 2, left);
            for (int number = 1; number <= MESSAGES; number++) {
                channel.basicPublish("", QUEUE, null, ("order " + number).getBytes(StandardCharsets.UTF_8));
            }
            System.out.println("all done " + left.await(60, TimeUnit.SECONDS));
            System.out.println("together " + (slow.get() + fast.get()));
            System.out.println("the fast worker did more " + (fast.get() > slow.get()));
        }
    }

    private static AtomicInteger worker(Connection connection, long pause, CountDownLatch left) throws Exception {
        AtomicInteger done = new AtomicInteger();
        Channel channel = connection.createChannel();
        channel.basicQos(1);
        DeliverCallback take = (tag, delivery) -> {
            try {
                Thread.sleep(pause);
            } catch (InterruptedException interrupted) {
                Thread.currentThread().interrupt();
            }
            done.incrementAndGet();
            channel.basicAck(delivery.getEnvelope().getDeliveryTag(), false);
            left.countDown();
        };
        channel.basicConsume(QUEUE, false, take, tag -> {});
        return done;
    }
}
