import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.springframework.amqp.core.Message;
import org.springframework.amqp.core.MessageProperties;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.support.CorrelationData;
import org.springframework.context.support.ClassPathXmlApplicationContext;

/** Messages that live for a time: gone, or in the queue of the dead, with the reason. */
public final class Dead {
    private static final long PATIENCE = 30_000;

    private Dead() {}

    public static void main(String[] arguments) throws Exception {
        try (ClassPathXmlApplicationContext context = new ClassPathXmlApplicationContext("dead.xml")) {
            RabbitTemplate template = context.getBean(RabbitTemplate.class);
            Confirms confirms = context.getBean(Confirms.class);
            send(template, confirms, "", "test_spring_queue_ttl", "of the queue", null);
            System.out.println("in the queue with x-message-ttl " + vanishes(template, "test_spring_queue_ttl"));
            send(template, confirms, "", "test_spring_queue_expiration", "of its own", "300");
            System.out.println("with an expiration of its own "
                    + vanishes(template, "test_spring_queue_expiration"));

            send(template, confirms, "my_exchange", "dlx_ttl", "too old", null);
            System.out.println("dead letter " + dead(template));
            for (String body : new String[] {"first", "second", "third"}) {
                send(template, confirms, "my_exchange", "dlx_max", body, null);
            }
            System.out.println("dead letter " + dead(template));
            template.receive("test_max_queue");
            template.receive("test_max_queue");

            long began = System.nanoTime();
            send(template, confirms, "my_exchange", "order_delay", "order to be cancelled", null);
            String late = dead(template);
            long millis = (System.nanoTime() - began) / 1_000_000;
            System.out.println("after its delay " + late + ", not before " + (millis >= 1500));
        }
    }

    private static void send(RabbitTemplate template, Confirms confirms, String exchange, String key, String body,
            String expiration) throws InterruptedException {
        MessageProperties properties = new MessageProperties();
        properties.setExpiration(expiration);
        Message message = new Message(body.getBytes(StandardCharsets.UTF_8), properties);
        template.send(exchange, key, message, new CorrelationData(body));
        confirms.next();
    }

    /** Whether what was published is gone without anybody having taken it. */
    private static String vanishes(RabbitTemplate template, String queue) throws InterruptedException {
        for (long waited = 0; waited < PATIENCE; waited += 20) {
            Integer left = template.execute(channel -> channel.queueDeclarePassive(queue).getMessageCount());
            if (left == 0) {
                return "gone";
            }
            Thread.sleep(20);
        }
        return "still there";
    }

    private static String dead(RabbitTemplate template) {
        Message message = template.receive("dlx_queue", PATIENCE);
        if (message == null) {
            return "none";
        }
        List<?> deaths = (List<?>) message.getMessageProperties().getHeaders().get("x-death");
        Object reason = ((Map<?, ?>) deaths.get(0)).get("reason");
        return new String(message.getBody(), StandardCharsets.UTF_8) + ", " + reason;
    }
}
