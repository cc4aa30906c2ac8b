import java.util.concurrent.TimeUnit;
import org.springframework.amqp.rabbit.core.RabbitAdmin;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.support.CorrelationData;
import org.springframework.context.support.ClassPathXmlApplicationContext;

/** A consumer with `prefetch="3"`: of ten messages it holds three, and gets one more for each that it acknowledges. */
public final class Limited {
    private static final int MESSAGES = 10;
    private static final int PREFETCH = 3;

    private Limited() {}

    public static void main(String[] arguments) throws Exception {
        try (ClassPathXmlApplicationContext context = new ClassPathXmlApplicationContext("limited.xml")) {
            RabbitTemplate template = context.getBean(RabbitTemplate.class);
            LimitedListener listener = context.getBean(LimitedListener.class);
            Confirms confirms = context.getBean(Confirms.class);
            for (int number = 1; number <= MESSAGES; number++) {
                template.convertAndSend("spring_topic_exchange", "msg.limit", number, new CorrelationData("x"));
                confirms.next();
            }
            RabbitAdmin admin = context.getBean(RabbitAdmin.class);
            int ready = MESSAGES;
            for (int tries = 0; tries < 300 && ready > MESSAGES - PREFETCH; tries++) {
                Object count = admin.getQueueProperties("test_spring_queue_1").get(RabbitAdmin.QUEUE_MESSAGE_COUNT);
                ready = Integer.parseInt(count.toString());
                Thread.sleep(20);
            }
            System.out.println("left in the queue " + ready);
            int acknowledged = 0;
            while (acknowledged < MESSAGES) {
                LimitedListener.Held held = listener.held.poll(30, TimeUnit.SECONDS);
                held.channel.basicAck(held.message.getMessageProperties().getDeliveryTag(), false);
                acknowledged++;
            }
            System.out.println("acknowledged " + acknowledged);
        }
    }
}
