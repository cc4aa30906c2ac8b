import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.springframework.amqp.rabbit.core.RabbitTemplate;
import org.springframework.amqp.rabbit.support.CorrelationData;
import org.springframework.context.support.ClassPathXmlApplicationContext;

/** A map that becomes JSON, a listener that reads it, and the confirms of both: also of one that goes nowhere. */
public final class Sender {
    private Sender() {}

    public static void main(String[] arguments) throws Exception {
        try (ClassPathXmlApplicationContext context = new ClassPathXmlApplicationContext("listener.xml")) {
            RabbitTemplate template = context.getBean(RabbitTemplate.class);
            Confirms confirms = context.getBean(Confirms.class);
            Map<String, String> user = new LinkedHashMap<>();
            user.put("name", "laosun");
            user.put("email", "laosun@example.com");
            template.convertAndSend("spring_topic_exchange", "msg.user", user, new CorrelationData("good"));
            System.out.println("received " + context.getBean(Listener.class).received.poll(30, TimeUnit.SECONDS));
            System.out.println("confirmed " + confirms.next());
            template.convertAndSend("no_such_exchange", "msg.user", user, new CorrelationData("lost"));
            System.out.println("confirmed " + confirms.next());
        }
    }
}
